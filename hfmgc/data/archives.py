"""Archives into folders: safely, completely or not at all, and resumed after an interruption."""

import gzip
import hashlib
import json
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import datasets
from huggingface_hub.utils import WeakFileLock

from ..errors import DataError, saving_to


ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".zip")
# Written into a folder before it gets its name: what it was unpacked from, and what has to be in it.
MARKER = ".hfmgc-unpacked.json"
_CHUNK = 1 << 20
# Audio hardly shrinks and tables a few times: what unpacks to more than both of these is a bomb.
MOST_TIMES = 20
MOST_BYTES = 1 << 30
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile, NotImplementedError)


def is_archive(path: str | os.PathLike) -> bool:
    """Tell by its name whether a file is an archive that `unpack` reads."""
    return str(path).lower().endswith(ARCHIVE_SUFFIXES)


def verify_checksum(path: Path, expected: str) -> None:
    """Compare a file with `sha1:...` or `sha256:...`; a beginning of eight digits or more will do.

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


Wanted = Callable[[PurePosixPath], bool]


def unpacked(
    archive: str | os.PathLike, *, checksum: str = "", wanted: Wanted | None = None, selection: str = ""
) -> Path:
    """Return the folder in the cache of datasets that an archive is unpacked into, unpacking it where needed.

    The folder belongs to this path, size and time of change: a replaced archive is unpacked again.

    Args:
        archive: A `.tar.gz`, `.tgz` or `.zip`.
        checksum: As for `unpack`.
        wanted: As for `unpack`.
        selection: A name of what is wanted: another selection has another folder.

    Raises:
        DataError: As `unpack` does.
    """
    path = _existing(Path(archive))
    status = path.stat()
    key = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}|{selection}"
    name = f"hfmgc-unpacked-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    return unpack(path, Path(datasets.config.HF_DATASETS_CACHE) / name, checksum=checksum, wanted=wanted)


def unpack(archive: Path, folder: Path, *, checksum: str = "", wanted: Wanted | None = None) -> Path:
    """Unpack `archive` into `folder`, unless it lies there completely.

    Members are written into a sibling `<folder>.partial`, each under its name only when it is whole; the sibling gets
    the folder's name only when all are there. So an interrupted unpacking is never taken for a whole one, and the next
    call goes on with it. Several processes may call this at once.

    Args:
        archive: A `.tar.gz`, `.tgz` or `.zip`.
        folder: Where its members shall lie.
        checksum: `sha1:...` or `sha256:...` of the archive, verified before anything is unpacked.
        wanted: Tells by its path whether a member is unpacked; all are by default.

    Returns:
        `folder`.

    Raises:
        DataError: If the archive is missing, damaged or of another checksum, or if a member is a link or a device, or
            would lie outside of the folder, or if it unpacks to more than 20 times its size (and 1 GiB). Nothing of it is
            kept then.
        SaveError: If the disk is full.
    """
    archive = _existing(Path(archive))
    if not is_archive(archive):
        raise DataError(
            f"{archive.name} is no archive that can be unpacked: it must end in {', '.join(ARCHIVE_SUFFIXES)}"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(folder.with_name(folder.name + ".lock")), saving_to(folder):
        if _is_complete(folder):
            if checksum and _marker(folder).get("checksum") != checksum:  # unpacked without it, or it is another one
                verify_checksum(archive, checksum)
                _write_marker(folder, {**_marker(folder), "checksum": checksum})
            return folder
        if folder.exists() and not (folder / MARKER).exists():
            raise DataError(f"{folder} exists and was not unpacked by hfmgc: it is left alone; name another folder")
        if checksum:
            verify_checksum(archive, checksum)
        partial = folder.with_name(folder.name + ".partial")
        try:
            sizes = _write_members(archive, partial, wanted)
        except DataError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        size = sum(sizes.values())
        _write_marker(partial, {"archive": archive.name, "files": len(sizes), "bytes": size, "checksum": checksum})
        # What has the folder's name and is not complete was damaged since.
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return folder


def _existing(archive: Path) -> Path:
    if not archive.is_file():
        raise DataError(f"{archive}: no such archive")
    return archive


def _marker(folder: Path) -> dict[str, Any]:
    return json.loads((folder / MARKER).read_text(encoding="utf-8"))


def _write_marker(folder: Path, marker: dict[str, Any]) -> None:
    temporary = folder / f"{MARKER}.part"
    temporary.write_text(json.dumps(marker) + "\n", encoding="utf-8")
    temporary.replace(folder / MARKER)


def _is_complete(folder: Path) -> bool:
    """Tell whether the files are there that the marker counts: caches are cleaned by hand and by other programs."""
    try:
        marker = _marker(folder)
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != MARKER]
        return (len(sizes), sum(sizes)) == (marker["files"], marker["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_members(archive: Path, partial: Path, wanted: Wanted | None) -> dict[PurePosixPath, int]:
    """Write all wanted members that are not yet there; return the size of each."""
    partial.mkdir(exist_ok=True)
    sizes: dict[PurePosixPath, int] = {}
    members = _zip_members if archive.name.lower().endswith(".zip") else _tar_members
    budget = _Budget(archive)
    try:
        for name, size, content in members(archive, wanted or (lambda name: True)):
            budget.spend(size)
            target = partial / name
            # A later member of the same name replaces the earlier one, so only those of an earlier call are passed over.
            if name in sizes or not (target.is_file() and target.stat().st_size == size):
                target.parent.mkdir(parents=True, exist_ok=True)
                _write_whole(content, target, size)
            sizes[name] = size
    except _DAMAGE as error:
        raise DataError(f"{archive.name} is truncated or damaged ({error}): fetch it again") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(f"{archive.name} has a member that is both a file and a folder: it is damaged") from error
    except RuntimeError as error:  # how zipfile says that a member is encrypted
        raise DataError(f"{archive.name} cannot be unpacked ({error})") from error
    if not sizes and wanted is None:
        raise DataError(f"{archive.name} has no files in it")
    return sizes


def _write_whole(content: BinaryIO, target: Path, size: int) -> None:
    beginning = target.with_name(target.name + ".part")
    with beginning.open("wb") as file:
        shutil.copyfileobj(content, file, _CHUNK)
        written = file.tell()
    if written != size:
        raise EOFError(f"{target.name} has {written} of {size} bytes")
    beginning.replace(target)


class _Budget:
    """How many bytes an archive may unpack to."""

    def __init__(self, archive: Path):
        self._archive = archive.name
        self._left = self._most = max(MOST_BYTES, MOST_TIMES * archive.stat().st_size)

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise DataError(
                f"{self._archive} unpacks to more than {self._most / 1e9:.1f} GB, far more than music does: fetch it again, "
                "or unpack it yourself and name the folder"
            )


class _Bounded:
    """The content of a compressed file, as far as a budget reaches: headers of a tar can be bombs too."""

    def __init__(self, stream: BinaryIO, budget: _Budget):
        self._stream, self._budget = stream, budget

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._budget.spend(len(content))
        return content


def _tar_members(archive: Path, wanted: Wanted) -> Iterator[tuple[PurePosixPath, int, BinaryIO]]:
    with gzip.open(archive) as file:
        stream = _Bounded(file, _Budget(archive))
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                name = _safe_name(member.name, archive.name)
                if member.isreg() and wanted(name):
                    yield name, member.size, tar.extractfile(member)
                elif not (member.isreg() or member.isdir()):
                    kind = "a link" if member.issym() or member.islnk() else "a device or a pipe"
                    raise _unsafe(archive.name, member.name, kind)
        # tarfile takes a cut between two members for the end: only gzip's own end tells.
        while stream.read(_CHUNK):
            pass


def _zip_members(archive: Path, wanted: Wanted) -> Iterator[tuple[PurePosixPath, int, BinaryIO]]:
    with zipfile.ZipFile(archive) as file:
        # The directory lies at the end: all names are looked at before anything is written.
        members = [(_safe_name(member.filename, archive.name), member) for member in file.infolist()]
        for _, member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _unsafe(
                    archive.name, member.filename, "a link" if kind == stat.S_IFLNK else "a device or a pipe"
                )
        for name, member in members:
            if not member.is_dir() and wanted(name):
                with file.open(member) as content:
                    yield name, member.file_size, content


def _safe_name(name: str, archive: str) -> PurePosixPath:
    """Return the path of a member below the folder, or refuse it."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or name[1:2] == ":":
        raise _unsafe(archive, name, "an absolute path")
    if ".." in path.parts:
        raise _unsafe(archive, name, "a path with ..")
    if "\0" in name or path.name == MARKER:
        raise _unsafe(archive, name, "a name that is not allowed")
    return path


def _unsafe(archive: str, member: str, kind: str) -> DataError:
    return DataError(
        f"{archive}: member {member!r} is {kind}, so nothing of it is unpacked: take the authors' archive"
    )
