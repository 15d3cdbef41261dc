"""Unpacking archives: all of their files or none, and nothing outside the folder."""

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
# Written into an unpacked folder: the number of files and their bytes.
MARKER = ".hfmgc-unpacked.json"
# An archive that unpacks to more than both limits is a bomb: audio hardly compresses, tables a few times.
MOST_TIMES = 20
MOST_BYTES = 1 << 30
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile)
# What a member that is both a file and a folder raises, and (RuntimeError) an encrypted member of a zip.
_DAMAGE += (FileExistsError, NotADirectoryError, IsADirectoryError, RuntimeError)

Wanted = Callable[[PurePosixPath], bool]


def is_archive(path: str | os.PathLike) -> bool:
    """Return whether a file is, by its name, an archive that `unpack` reads."""
    return str(path).lower().endswith(ARCHIVE_SUFFIXES)


def verify_checksum(path: Path, expected: str) -> None:
    """Refuse a file that differs from `sha1:...` or `sha256:...`, given by at least eight digits."""
    algorithm, _, digits = expected.lower().partition(":")
    if algorithm not in ("sha1", "sha256") or len(digits) < 8 or set(digits) - set("0123456789abcdef"):
        raise DataError(f"checksum {expected!r} of {path.name}: write sha256: or sha1: and at least 8 hex digits")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if not found.startswith(digits):
        raise DataError(
            f"{path.name} has {algorithm} {found}, not the expected {digits}: it is damaged, incomplete or another "
            "edition; download it again"
        )


def folder_or_archive(origin: str, what: str, *, checksum: str, wanted: Wanted, selection: str) -> Path:
    """Return a folder as it is, or the folder of an archive's files (see `unpack`); `what` names the setting in errors."""
    if is_archive(origin):
        return unpack(Path(origin), checksum=checksum, wanted=wanted, selection=selection)
    if not Path(origin).is_dir():
        raise DataError(f"{what} {origin!r} is neither a folder nor a zip")
    return Path(origin)


def unpack(archive: Path, *, checksum: str = "", wanted: Wanted | None = None, selection: str = "") -> Path:
    """Unpack an archive into a folder in the cache of datasets, unless all of its files are there; return the folder.

    Members are written to `<folder>.partial`, which is renamed at the end; after an interruption, only missing members are
    written. Links and devices are skipped. Several processes may call this at once. A replaced archive gets another folder,
    and so does another `selection`, which names the `wanted` members (all by default). The checksum is verified first.

    Raises:
        DataError: If the archive is missing, damaged, empty or of another checksum, has a path that leads out of the
            folder (tar), or unpacks to more than 20 times its size (and 1 GiB). Nothing of it is kept then.
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
        if _is_whole(folder):
            return folder
        if checksum:
            verify_checksum(archive, checksum)
        partial = folder.with_name(f"{name}.partial")
        partial.mkdir(exist_ok=True)
        try:
            _extract(archive, partial, wanted or (lambda name: True))
            contents = _contents(partial)
            if not contents[0] and wanted is None:
                raise DataError(f"{archive.name} has no files in it")
        except DataError:
            shutil.rmtree(partial)
            raise
        write_text(partial / MARKER, json.dumps(contents))
        shutil.rmtree(folder, ignore_errors=True)  # incomplete
        partial.rename(folder)
    return folder


def _is_whole(folder: Path) -> bool:
    """Return whether a folder has all files that were unpacked: cached files can be deleted at any time."""
    try:
        return json.loads((folder / MARKER).read_text(encoding="utf-8")) == _contents(folder)
    except (OSError, ValueError):
        return False


def _contents(folder: Path) -> list[int]:
    """Return the number of files in a folder and their bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != MARKER]
    return [len(sizes), sum(sizes)]


def _extract(archive: Path, folder: Path, wanted: Wanted) -> None:
    """Write the wanted files of an archive that are not in the folder yet."""
    extract = _extract_zip if archive.name.lower().endswith(".zip") else _extract_tar
    try:
        extract(archive, folder, wanted)
    except tarfile.FilterError as error:
        raise DataError(f"{archive.name}: {error}; nothing was unpacked: use the authors' archive") from error
    except _DAMAGE as error:
        raise DataError(f"{archive.name} is truncated or damaged ({error}): download it again") from error


def _extract_tar(archive: Path, folder: Path, wanted: Wanted) -> None:
    with gzip.open(archive) as file:
        stream = _Bounded(file, archive)
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                # A sparse file can be far larger than the bounded stream.
                if not member.isreg() or member.issparse() or not wanted(PurePosixPath(member.name)):
                    continue
                if not _is_complete(folder / member.name, member.size):
                    tar.extract(member, folder, filter="data")
        # tarfile takes a cut between two members for the end; only gzip notices it.
        while stream.read(1 << 20):
            pass


def _extract_zip(archive: Path, folder: Path, wanted: Wanted) -> None:
    unpacked = 0
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            is_link = stat.S_ISLNK(member.external_attr >> 16)
            if member.is_dir() or is_link or not wanted(PurePosixPath(member.filename)):
                continue
            unpacked += member.file_size
            _check_size(archive, unpacked)
            if not _is_complete(folder / member.filename, member.file_size):
                file.extract(member, folder)  # drops roots, drives and .. from the name


def _is_complete(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


class _Bounded:
    """The content of a compressed file, up to the largest size that it may unpack to, headers included."""

    def __init__(self, stream: BinaryIO, archive: Path):
        self._stream, self._archive, self._unpacked = stream, archive, 0

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._unpacked += len(content)
        _check_size(self._archive, self._unpacked)
        return content


def _check_size(archive: Path, unpacked: int) -> None:
    most = max(MOST_BYTES, MOST_TIMES * archive.stat().st_size)
    if unpacked > most:
        raise DataError(
            f"{archive.name} unpacks to more than {most / 1e9:.1f} GB, far more than music does: download it again, or "
            "unpack it yourself and name the folder"
        )
