"""Archives into folders: completely or not at all, and never outside of the folder."""

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
# Written into a folder before it gets its name: the archive that it came from, and how much it has to hold.
MARKER = ".hfmgc-unpacked.json"
_CHUNK = 1 << 20
# Audio hardly shrinks and tables a few times: what unpacks to more than both of these is a bomb.
MOST_TIMES = 20
MOST_BYTES = 1 << 30
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile, NotImplementedError)

Wanted = Callable[[PurePosixPath], bool]


def is_archive(path: str | os.PathLike) -> bool:
    """Return whether a file is, by its name, an archive that `unpack` reads."""
    return str(path).lower().endswith(ARCHIVE_SUFFIXES)


def verify_checksum(path: Path, expected: str) -> None:
    """Compare a file with `sha1:...` or `sha256:...`; the first eight digits or more will do.

    Raises:
        DataError: If they differ, naming both, or if `expected` is written in another way.
    """
    algorithm, _, digits = expected.lower().partition(":")
    if algorithm not in ("sha1", "sha256") or len(digits) < 8 or set(digits) - set("0123456789abcdef"):
        raise DataError(f"checksum {expected!r} of {path.name}: write sha256: or sha1: and at least 8 hex digits")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if not found.startswith(digits):
        raise DataError(
            f"{path.name} has {algorithm} {found}, not the expected {digits}: it is damaged, incomplete or another "
            "edition; fetch it again"
        )


def unpacked(
    archive: str | os.PathLike, *, checksum: str = "", wanted: Wanted | None = None, selection: str = ""
) -> Path:
    """Return the folder in the cache of datasets that holds an archive's files, unpacking it where needed.

    The folder belongs to this path, size and time of change: a replaced archive is unpacked again.

    Args:
        archive: A `.tar.gz`, `.tgz` or `.zip`.
        checksum: As for `unpack`.
        wanted: As for `unpack`.
        selection: A name for what is wanted: each selection has a folder of its own.

    Raises:
        DataError: As `unpack` does.
    """
    path = _existing(Path(archive))
    status = path.stat()
    key = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}|{selection}"
    name = f"hfmgc-unpacked-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    return unpack(path, Path(datasets.config.HF_DATASETS_CACHE) / name, checksum=checksum, wanted=wanted)


def unpack(archive: Path, folder: Path, *, checksum: str = "", wanted: Wanted | None = None) -> Path:
    """Unpack `archive` into `folder`, unless it is complete there.

    Members are written to `<folder>.partial`, which is renamed at the end. After an interruption the next call resumes:
    members that have their full size there are not written again. Only files are unpacked; links and devices are
    skipped. Several processes may call this at once.

    Args:
        archive: A `.tar.gz`, `.tgz` or `.zip`.
        folder: The folder for its members.
        checksum: `sha1:...` or `sha256:...` of the archive, verified before anything is unpacked.
        wanted: Tells by its path whether a member is unpacked; all are by default.

    Returns:
        `folder`.

    Raises:
        DataError: If the archive is missing, damaged, has another checksum or no files, is a tar with a path that leads outside
            of the folder, or unpacks to more than 20 times its size (and 1 GiB). Nothing of it is kept then.
        SaveError: If the disk is full.
    """
    archive = _existing(Path(archive))
    if not is_archive(archive):
        raise DataError(f"{archive.name} cannot be unpacked: its name must end in {', '.join(ARCHIVE_SUFFIXES)}")
    with hold(folder.with_name(f"{folder.name}.lock")), saving_to(folder):
        marker = _marker(folder)
        if marker and _contents(folder) == (marker.get("files"), marker.get("bytes")):
            if checksum and marker.get("checksum") != checksum:  # unpacked without it, or with another one
                verify_checksum(archive, checksum)
                write_text(folder / MARKER, json.dumps({**marker, "checksum": checksum}) + "\n")
            return folder
        if folder.exists() and not (folder / MARKER).exists():
            raise DataError(f"{folder} exists and was not unpacked by hfmgc: name another folder")
        if checksum:
            verify_checksum(archive, checksum)
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
        shutil.rmtree(folder, ignore_errors=True)  # no longer complete
        partial.rename(folder)
    return folder


def _existing(archive: Path) -> Path:
    if not archive.is_file():
        raise DataError(f"{archive}: no such archive")
    return archive


def _marker(folder: Path) -> dict[str, Any]:
    """Return what a folder's marker says; nothing where it is missing or damaged."""
    try:
        return dict(json.loads((folder / MARKER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _contents(folder: Path) -> tuple[int, int]:
    """Return how many files a folder holds, and their bytes: caches are cleaned by hand and by other programs."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != MARKER]
    return len(sizes), sum(sizes)


def _extract(archive: Path, folder: Path, wanted: Wanted) -> None:
    """Write the wanted files of an archive that are not in the folder yet."""
    extract = _extract_zip if archive.name.lower().endswith(".zip") else _extract_tar
    try:
        extract(archive, folder, wanted)
    except tarfile.FilterError as error:
        raise DataError(f"{archive.name}: {error}; nothing of it is unpacked: take the authors' archive") from error
    except _DAMAGE as error:
        raise DataError(f"{archive.name} is truncated or damaged ({error}): fetch it again") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(f"{archive.name} has a member that is both a file and a folder: it is damaged") from error
    except RuntimeError as error:  # how zipfile says that a member is encrypted
        raise DataError(f"{archive.name} cannot be unpacked ({error})") from error


def _extract_tar(archive: Path, folder: Path, wanted: Wanted) -> None:
    with gzip.open(archive) as file:
        stream = _Bounded(file, archive)
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                # A sparse file may be far larger than the stream that is bounded.
                is_file = member.isreg() and not member.issparse()
                if is_file and wanted(PurePosixPath(member.name)) and not _is_there(folder, member.name, member.size):
                    tar.extract(member, folder, filter="data")
        # tarfile takes a cut between two members for the end: only gzip notices it.
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
            if not _is_there(folder, member.filename, member.file_size):
                file.extract(member, folder)  # leaves out what would lead outside: a root, a drive, ..


def _is_there(folder: Path, name: str, size: int) -> bool:
    path = folder / name
    return path.is_file() and path.stat().st_size == size


class _Bounded:
    """The content of a compressed file up to the most that it may unpack to, headers included."""

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
        f"{archive.name} unpacks to more than {_most(archive) / 1e9:.1f} GB, far more than music does: fetch it again, "
        "or unpack it yourself and name the folder"
    )
