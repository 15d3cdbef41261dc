"""Unpacking archives into the cache of `datasets`."""

import gzip
import hashlib
import json
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import datasets

from ..errors import DataError, saving_to
from ..files import file_lock, write_text


ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".zip")
# File in an unpacked folder with the number and the total size of the other files.
MARKER = ".hfmgc-unpacked.json"
# Archives that unpack to more than both limits are refused: audio hardly compresses, and tables only a few times.
MAX_RATIO = 20
MAX_BYTES = 1 << 30
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile)
# Raised for a path that is both a file and a folder, and (RuntimeError) for an encrypted member of a zip.
_DAMAGE += (FileExistsError, NotADirectoryError, IsADirectoryError, RuntimeError)

MemberFilter = Callable[[PurePosixPath], bool]


def is_archive(path: str | os.PathLike) -> bool:
    """Return whether the name of a file is that of an archive that `unpack` reads."""
    return str(path).lower().endswith(ARCHIVE_SUFFIXES)


def verify_checksum(path: Path, expected: str) -> None:
    """Raise a DataError if the checksum of a file is not `expected`, written as `sha1:...` or `sha256:...`."""
    algorithm, _, digest = expected.lower().partition(":")
    if algorithm not in ("sha1", "sha256"):
        raise DataError(f"checksum {expected!r} of {path.name}: write sha256:DIGEST or sha1:DIGEST")
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, algorithm).hexdigest()
    if actual != digest:
        raise DataError(
            f"{path.name} has {algorithm} {actual}, not the expected {digest}: download it again (it is damaged, incomplete "
            "or another edition)"
        )


def folder_or_archive(origin: str, what: str, *, checksum: str, wanted: MemberFilter, selection: str) -> Path:
    """Return the path of a folder, or of the unpacked files of an archive (`unpack`); `what` names the setting in errors."""
    if is_archive(origin):
        return unpack(Path(origin), checksum=checksum, wanted=wanted, selection=selection)
    if not Path(origin).is_dir():
        raise DataError(f"{what} {origin!r} is neither a folder nor a zip")
    return Path(origin)


def unpack(
    archive: Path, *, checksum: str = "", wanted: MemberFilter = lambda member: True, selection: str = ""
) -> Path:
    """Unpack an archive into a folder in the cache of `datasets`, unless it is unpacked already; return the folder.

    Members are written to `<folder>.partial`, which is renamed at the end; an interrupted unpacking resumes there. Links
    and devices are skipped. Several processes may call this at once. Each version of an archive and each `selection`, the
    name of the `wanted` members, has its own folder.

    Raises:
        DataError: If the archive is missing or damaged, has another checksum, has a path that leads out of the folder
            (tar), or unpacks to more than 20 times its size (and 1 GiB). Nothing of it is kept.
        SaveError: If the disk is full.
    """
    if not archive.is_file():
        raise DataError(f"{archive}: no such archive")
    if not is_archive(archive):
        raise DataError(f"{archive.name} cannot be unpacked: its name must end in {', '.join(ARCHIVE_SUFFIXES)}")
    status = archive.stat()
    key = f"{archive.resolve()}|{status.st_size}|{status.st_mtime_ns}|{selection}|{checksum}"
    name = f"hfmgc-unpacked-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    folder = Path(datasets.config.HF_DATASETS_CACHE, name)
    with file_lock(folder.with_name(f"{name}.lock")), saving_to(folder):
        if _is_complete(folder):
            return folder
        if checksum:
            verify_checksum(archive, checksum)
        partial = folder.with_name(f"{name}.partial")
        partial.mkdir(exist_ok=True)
        try:
            _extract(archive, partial, wanted)
        except DataError:
            shutil.rmtree(partial)
            raise
        write_text(partial / MARKER, json.dumps(_contents(partial)))
        shutil.rmtree(folder, ignore_errors=True)  # incomplete
        partial.rename(folder)
    return folder


def _is_complete(folder: Path) -> bool:
    """Return whether a folder still has all unpacked files: files in a cache may be deleted at any time."""
    try:
        return json.loads((folder / MARKER).read_text(encoding="utf-8")) == _contents(folder)
    except (OSError, ValueError):
        return False


def _contents(folder: Path) -> list[int]:
    """Return the number of files in a folder and their total size in bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != MARKER]
    return [len(sizes), sum(sizes)]


def _extract(archive: Path, folder: Path, wanted: MemberFilter) -> None:
    """Unpack the wanted members that are not in the folder yet."""
    extract = _extract_zip if archive.name.lower().endswith(".zip") else _extract_tar
    try:
        extract(archive, folder, wanted)
    except tarfile.FilterError as error:
        raise DataError(f"{archive.name}: {error}: nothing was unpacked: use the authors' archive") from error
    except _DAMAGE as error:
        raise DataError(f"{archive.name}: truncated or damaged ({error}): download it again") from error


def _extract_tar(archive: Path, folder: Path, wanted: MemberFilter) -> None:
    with gzip.open(archive) as file:
        stream = _BoundedReader(file, archive)
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                # A sparse file can be far larger than the limit of the stream.
                if not member.isreg() or member.issparse() or not wanted(PurePosixPath(member.name)):
                    continue
                if not _has_size(folder / member.name, member.size):
                    tar.extract(member, folder, filter="data")
        # Read to the end: tarfile does not notice a truncation between two members, but gzip does.
        while stream.read(1 << 20):
            pass


def _extract_zip(archive: Path, folder: Path, wanted: MemberFilter) -> None:
    unpacked = 0
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            is_link = stat.S_ISLNK(member.external_attr >> 16)
            if member.is_dir() or is_link or not wanted(PurePosixPath(member.filename)):
                continue
            unpacked += member.file_size
            _check_size(archive, unpacked)
            if not _has_size(folder / member.filename, member.file_size):
                file.extract(member, folder)  # removes roots, drives and .. from the name


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


class _BoundedReader:
    """Reads a compressed file up to the size that it may unpack to, including the headers of members."""

    def __init__(self, stream: BinaryIO, archive: Path):
        self._stream, self._archive, self._unpacked = stream, archive, 0

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._unpacked += len(content)
        _check_size(self._archive, self._unpacked)
        return content


def _check_size(archive: Path, unpacked: int) -> None:
    limit = max(MAX_BYTES, MAX_RATIO * archive.stat().st_size)
    if unpacked > limit:
        raise DataError(
            f"{archive.name}: unpacks to more than {limit / 1e9:.1f} GB, which is too much for music: download it again, or "
            "unpack it yourself and name the folder"
        )
