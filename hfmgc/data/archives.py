"""Unpacking archives: all of their files or none, and nothing outside of the folder."""

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
from typing import Any, BinaryIO

import datasets

from ..errors import DataError, saving_to
from ..files import hold, write_text


ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".zip")
# Written into an unpacked folder: its archive, the number of files and their bytes.
MARKER = ".hfmgc-unpacked.json"
_CHUNK = 1 << 20
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
    """Compare a file with `sha1:...` or `sha256:...`, given by at least eight digits.

    Raises:
        DataError: If they differ, or if `expected` has another form.
    """
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


def folder_or_archive(place: str, what: str, **options: Any) -> Path:
    """Return a folder as it is, and for an archive the folder of its files (`unpack` takes the options).

    Raises:
        DataError: If it is neither; `what` names the setting.
    """
    if is_archive(place):
        return unpack(Path(place), **options)
    if not Path(place).is_dir():
        raise DataError(f"{what} {place!r} is neither a folder nor a zip")
    return Path(place)


def unpack(
    archive: Path, folder: Path | None = None, *, checksum: str = "", wanted: Wanted | None = None, selection: str = ""
) -> Path:
    """Unpack an archive into a folder, unless all of its files are there, and return the folder.

    Members are written to `<folder>.partial`, which is renamed at the end; after an interruption, complete members are
    not written again. Links and devices are skipped. Several processes may call this at once.

    Args:
        archive: A `.tar.gz`, `.tgz` or `.zip`.
        folder: The folder for its members; by default one in the cache of datasets, which depends on the archive's path,
            size and modification time: a replaced archive is unpacked again.
        checksum: `sha1:...` or `sha256:...` of the archive, verified first.
        wanted: Which members to unpack, by their paths; all by default.
        selection: A name for what is wanted; part of the name of the default folder.

    Raises:
        DataError: If the archive is missing, damaged, empty or of another checksum, has a path that leads out of the
            folder (tar), or unpacks to more than 20 times its size (and 1 GiB). Nothing of it is kept then.
        SaveError: If the disk is full.
    """
    if not archive.is_file():
        raise DataError(f"{archive}: no such archive")
    if not is_archive(archive):
        raise DataError(f"{archive.name} cannot be unpacked: its name must end in {', '.join(ARCHIVE_SUFFIXES)}")
    if folder is None:
        status = archive.stat()
        key = f"{archive.resolve()}|{status.st_size}|{status.st_mtime_ns}|{selection}"
        name = f"hfmgc-unpacked-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        folder = Path(datasets.config.HF_DATASETS_CACHE) / name
    with hold(folder.with_name(f"{folder.name}.lock")), saving_to(folder):
        marker = _marker(folder)
        complete = bool(marker) and _contents(folder) == (marker.get("files"), marker.get("bytes"))
        if complete and checksum in ("", marker.get("checksum")):
            return folder
        if folder.exists() and not (folder / MARKER).exists():
            raise DataError(f"{folder} exists and was not unpacked by hfmgc: name another folder")
        if checksum:
            verify_checksum(archive, checksum)
        if complete:
            write_text(folder / MARKER, json.dumps({**marker, "checksum": checksum}) + "\n")
            return folder
        partial = folder.with_name(f"{folder.name}.partial")
        partial.mkdir(exist_ok=True)
        try:
            _extract(archive, partial, wanted or (lambda name: True))
            files, size = _contents(partial)
            if not files and wanted is None:
                raise DataError(f"{archive.name} has no files in it")
        except DataError:
            shutil.rmtree(partial)
            raise
        marker = {"archive": archive.name, "files": files, "bytes": size, "checksum": checksum}
        write_text(partial / MARKER, json.dumps(marker) + "\n")
        shutil.rmtree(folder, ignore_errors=True)  # incomplete
        partial.rename(folder)
    return folder


def _marker(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's marker; nothing if it is missing or damaged."""
    try:
        return dict(json.loads((folder / MARKER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _contents(folder: Path) -> tuple[int, int]:
    """Return the number of files in a folder and their bytes: cached files can be deleted at any time."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != MARKER]
    return len(sizes), sum(sizes)


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
                is_file = member.isreg() and not member.issparse()
                if (
                    is_file
                    and wanted(PurePosixPath(member.name))
                    and not _is_complete(folder, member.name, member.size)
                ):
                    tar.extract(member, folder, filter="data")
        # tarfile takes a cut between two members for the end; only gzip notices it.
        while stream.read(_CHUNK):
            pass


def _extract_zip(archive: Path, folder: Path, wanted: Wanted) -> None:
    left = _most(archive)
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            name = PurePosixPath(member.filename)
            if member.is_dir() or stat.S_ISLNK(member.external_attr >> 16) or not wanted(name):
                continue
            left -= member.file_size
            if left < 0:
                raise _too_large(archive)
            if not _is_complete(folder, member.filename, member.file_size):
                file.extract(member, folder)  # drops roots, drives and .. from the name


def _is_complete(folder: Path, name: str, size: int) -> bool:
    path = folder / name
    return path.is_file() and path.stat().st_size == size


class _Bounded:
    """The content of a compressed file, up to the largest size that it may unpack to, headers included."""

    def __init__(self, stream: BinaryIO, archive: Path):
        self._stream, self._archive, self._left = stream, archive, _most(archive)

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise _too_large(self._archive)
        return content


def _most(archive: Path) -> int:
    """Return how many bytes an archive may unpack to."""
    return max(MOST_BYTES, MOST_TIMES * archive.stat().st_size)


def _too_large(archive: Path) -> DataError:
    return DataError(
        f"{archive.name} unpacks to more than {_most(archive) / 1e9:.1f} GB, far more than music does: download it again, "
        "or unpack it yourself and name the folder"
    )
