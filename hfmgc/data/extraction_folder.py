"""The folder of `hfmgc extract`: which extraction it belongs to, and which of its shards are complete.

The extracting process holds a lock, which ends with it. If it is killed, its workers may outlive it: a worker's temporary
file has the worker's process id in its name, and is kept while that process lives.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ConfigError, DataError, saving_to
from ..files import hold, write_text
from .sources.features import EXTRACTION


DESCRIPTION = EXTRACTION
LOCK_FILE = ".hfmgc.lock"
# What two extractions must share for one to resume the other.
IDENTITY = ("tracks_digest", "excluded_digest", "front_end", "code", "dtype", "shard_size", "shortest_seconds")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Create a folder for an extraction and lock it.

    Raises:
        ConfigError: If it holds something else, or another process has locked it.
        SaveError: If it cannot be written to.
    """
    with saving_to(folder):
        others = folder.is_dir() and any(path.name != LOCK_FILE for path in folder.iterdir())
    if others and not (folder / DESCRIPTION).is_file():
        raise ConfigError(f"{folder} is not empty, and not an extraction: choose another folder")
    in_use = f"{folder}: another hfmgc extract is writing to it: wait until it has ended, or choose another folder"
    with hold(folder / LOCK_FILE, in_use=in_use):
        yield


def claim(folder: Path, description: dict[str, Any]) -> None:
    """Save the description of this extraction in a locked folder, and remove temporary files of killed processes.

    The description of another extraction is replaced if it has no shard.

    Raises:
        ConfigError: If the folder holds shards of another extraction, or a worker of another one is still writing.
        DataError: If its description is damaged.
    """
    path = folder / DESCRIPTION
    changed = _changed(path, description) if path.is_file() else []
    if changed and any(folder.glob("part-*.parquet")):
        raise ConfigError(
            f"{folder} holds another extraction ({', '.join(changed)} differ): choose another folder, or "
            "remove this one"
        )
    writing = _remove_stale(folder)
    if changed and writing:
        raise ConfigError(
            f"{folder}: process {writing[0]} is still writing to it for another extraction: wait until it has ended, or "
            "choose another folder"
        )
    if changed:
        for skipped in folder.glob("part-*.skipped.json"):
            skipped.unlink()
    write_text(path, json.dumps(description, indent=1, ensure_ascii=False))


def skipped_path(shard: Path) -> Path:
    """Return the path of the list of a shard's skipped tracks, which is written last."""
    return shard.with_suffix(".skipped.json")


def finished_shard(shard: Path, tracks: int) -> list[dict[str, str]] | None:
    """Return the tracks that were skipped in a shard of `tracks` tracks, or None if it must be written."""
    try:
        skipped = json.loads(skipped_path(shard).read_text(encoding="utf-8"))
        if not all(row.keys() == {"track_id", "reason"} for row in skipped):
            return None
        written = tracks - len(skipped)
        whole = not written or _count_rows(shard) == written
    except (OSError, ValueError, TypeError, AttributeError, pa.ArrowException):  # missing or damaged
        return None
    return skipped if whole else None


def _count_rows(shard: Path) -> int:
    """Return the number of rows of a shard, whose pages are all read and verified."""
    with pq.ParquetFile(shard, page_checksum_verification=True) as file:
        return sum(batch.num_rows for batch in file.iter_batches(batch_size=1))


def _changed(path: Path, description: dict[str, Any]) -> list[str]:
    """Return the parts of an extraction's identity that differ from the description in a file."""
    try:
        earlier = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged; extract the features again into another folder") from error
    plain = json.loads(json.dumps(description))
    return [key for key in IDENTITY if earlier.get(key) != plain.get(key)]


def _remove_stale(folder: Path) -> list[int]:
    """Remove temporary files of processes that have ended; return the processes that are still writing."""
    writing = []
    for path in sorted(folder.glob("part-*.tmp")):
        writer = path.stem.rpartition(".")[2]
        if writer.isdecimal() and _is_alive(int(writer)):
            writing.append(int(writer))
        else:
            path.unlink(missing_ok=True)
    return writing


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except PermissionError:  # of another user
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
