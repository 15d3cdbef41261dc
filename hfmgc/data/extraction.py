"""`hfmgc extract`: the features that training caches (`features.py`), written to a folder of parquet shards.

The folder is a feature set (`sources/features.py`) for training and evaluation: un-normalised features of whole tracks,
cut and normalised as if they came from audio. A worker holds one track in memory.

The extracting process locks the folder. If it is killed, its workers may outlive it: the name of a worker's temporary file
contains its process id, and the file is kept while that process lives.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .. import __version__
from ..errors import AudioError, ConfigError, DataError, saving_to
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from ..files import hold, temporary_path, write_text
from .caching import code_identity, reading_cache, table_fingerprint, use_one_thread_in_workers
from .corpus import decode_track
from .features import check_front_end, front_end_fields, track_features
from .identity import track_identity
from .sources.contract import TrackSource
from .sources.features import EXTRACTED_BY, EXTRACTION


_SCHEMA = {
    "track_id": pa.string(),
    "genre": pa.string(),
    "genres": pa.list_(pa.string()),
    "artist": pa.string(),
    "split": pa.string(),
    # Identity of the sound, by which stored features are recognised; see `track_identity`.
    "digest": pa.string(),
    "fingerprint": pa.list_(pa.uint32()),
    "truncation": pa.string(),
}
DTYPES = ("float32", "float16")
LOCK_FILE = ".hfmgc.lock"


@dataclass(frozen=True)
class _Extraction:
    """What a worker needs to write a shard."""

    tracks: datasets.Dataset
    extractor: WindowedFeatureExtractor
    folder: Path
    known_problems: dict[str, str]
    dtype: str
    shard_size: int
    shortest_seconds: float

    def identity(self) -> dict[str, Any]:
        """Return what an extraction must share with another to resume it."""
        return {
            "tracks_digest": _digest([self.tracks["track_id"][:], table_fingerprint(self.tracks)]),
            "excluded_digest": _digest(sorted(self.known_problems.items())),
            "front_end": front_end_fields(self.extractor),
            "code": code_identity(*EXTRACTED_BY),
            "dtype": self.dtype,
            "shard_size": self.shard_size,
            "shortest_seconds": self.shortest_seconds,
        }

    def row(self, index: int) -> pa.Table:
        """Return the table of one track.

        Raises:
            AudioError: If the track cannot be used.
        """
        track = self.tracks[index]
        name = track["track_id"]
        problem = self.known_problems.get(name)
        decoded = {} if problem else decode_track(track, self.extractor.sampling_rate, self.shortest_seconds)
        if problem := problem or decoded["problem"]:
            raise AudioError(name, problem)
        with np.errstate(over="ignore"):
            features = track_features(decoded, self.extractor).astype(self.dtype, copy=False)
        if not np.isfinite(features).all():
            raise ConfigError(f"the features of {name} are beyond the range of {self.dtype}: choose float32")
        identity = track_identity(decoded["waveform"], self.extractor.sampling_rate)
        return _table({**track, **identity, "truncation": decoded["truncation"]}, features)


@reading_cache()
def extract_corpus(
    source: TrackSource,
    extractor: WindowedFeatureExtractor,
    folder: Path,
    *,
    dtype: str = "float32",
    shard_size: int = 64,
    num_proc: int | None = None,
    shortest_seconds: float = 0.0,
) -> dict[str, Any]:
    """Write the features of all tracks of a source to `folder`; return the description that is saved with them.

    An interrupted extraction resumes when it is repeated with the same source and front end. `float16` takes half the
    space of `float32` and has 11 bits of precision (over 80 dB, steps of 0.06 dB). Audio below `shortest_seconds` is
    skipped.

    Raises:
        ConfigError: If `folder` holds the features of another source, front end or exclusion list, or if another process
            is writing to it.
        DataError: If no track could be used.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    if shard_size < 1:
        raise ConfigError(f"shard_size must be at least 1, not {shard_size}")
    check_front_end(source, extractor)
    tracks = source.tracks()
    if "features" in tracks.column_names:
        raise ConfigError(f"{source.location} holds features, not audio: use them as they are")
    # Libraries load parts of themselves on first use: once here instead of in every worker.
    extractor.track_features(np.zeros(extractor.sampling_rate, dtype=np.float32))
    known_problems = {
        track_id: problem for track_id in tracks["track_id"][:] if (problem := source.reason_to_skip(track_id))
    }
    extraction = _Extraction(tracks, extractor, folder, known_problems, dtype, shard_size, shortest_seconds)
    identity = json.loads(json.dumps(extraction.identity()))  # lists instead of tuples, as in the saved description
    description = {"hfmgc_version": __version__, "data": source.describe(), **identity, "complete": False}
    shards = -(-len(tracks) // shard_size)
    with held(folder):
        with saving_to(folder):
            _claim(folder, description, identity)
        written = datasets.Dataset.from_dict({"shard": list(range(shards))}).map(
            _write_shard,
            fn_kwargs={"extraction": extraction},
            num_proc=num_proc if num_proc and num_proc > 1 else None,
            load_from_cache_file=False,  # finished shards are found in the folder
            desc=f"extracting {len(tracks)} tracks in {shards} shards",
        )
        skipped = [row for shard in written["skipped"][:] for row in json.loads(shard)]
        if len(skipped) == len(tracks):
            first = f"the first: {skipped[0]['track_id']}: {skipped[0]['reason']}" if skipped else "it is empty"
            raise DataError(f"{source.card.name} ({source.location}): no track could be used; {first}")
        result = {**description, "complete": True, "tracks": len(tracks) - len(skipped), "skipped": skipped}
        with saving_to(folder):
            write_text(folder / EXTRACTION, json.dumps(result, indent=1, ensure_ascii=False))
    return result


def _digest(content: list) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(content).encode()).hexdigest()}"


def _write_shard(row: dict[str, Any], extraction: _Extraction) -> dict[str, str]:
    """Write one shard, whole or not at all; return the tracks that were skipped in it as JSON."""
    use_one_thread_in_workers()
    folder, size = extraction.folder, extraction.shard_size
    path = folder / f"part-{row['shard']:05d}.parquet"
    rows = range(row["shard"] * size, min((row["shard"] + 1) * size, len(extraction.tracks)))
    skipped = _finished_shard(path, len(rows))
    if skipped is None:
        skipped, writer, temporary = [], None, temporary_path(path)
        try:
            for index in rows:
                try:
                    table = extraction.row(index)
                except AudioError as error:
                    skipped.append({"track_id": error.name, "reason": error.reason})
                    continue
                with saving_to(folder):
                    writer = writer or _writer(temporary, table.schema)
                    writer.write_table(table)
            with saving_to(folder):
                if writer is not None:
                    writer.close()
                    temporary.replace(path)
                else:  # no track is usable, but a damaged shard may exist
                    path.unlink(missing_ok=True)
        finally:
            temporary.unlink(missing_ok=True)
        with saving_to(folder):
            write_text(_skipped_path(path), json.dumps(skipped, ensure_ascii=False))
    return {"skipped": json.dumps(skipped, ensure_ascii=False)}


def _table(track: dict[str, Any], features: np.ndarray) -> pa.Table:
    values = pa.array(features.reshape(-1))
    for size in reversed(features.shape[1:]):
        offsets = pa.array(np.arange(0, len(values) + 1, size, dtype=np.int32))
        values = pa.ListArray.from_arrays(offsets, values)
    columns = {name: pa.array([track[name]], kind) for name, kind in _SCHEMA.items()}
    columns["features"] = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
    return pa.table(columns)


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Dictionaries and statistics of random-like floats cost six times the writing itself.
    return pq.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=False, write_statistics=False, write_page_checksum=True
    )


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Create a folder for an extraction and lock it.

    Raises:
        ConfigError: If it holds something else, or another process has locked it.
        SaveError: If it cannot be written to.
    """
    with saving_to(folder):
        others = folder.is_dir() and any(path.name != LOCK_FILE for path in folder.iterdir())
    if others and not (folder / EXTRACTION).is_file():
        raise ConfigError(f"{folder} is not empty, and not an extraction: choose another folder")
    in_use = f"{folder}: another hfmgc extract is writing to it: wait until it has ended, or choose another folder"
    with hold(folder / LOCK_FILE, in_use=in_use):
        yield


def _claim(folder: Path, description: dict[str, Any], identity: dict[str, Any]) -> None:
    """Save the description of this extraction in a locked folder, and remove temporary files of killed processes.

    The description of another extraction is replaced if it has no shard and no worker of it is still writing.
    """
    path = folder / EXTRACTION
    try:
        earlier = dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else identity
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged; extract the features again into another folder") from error
    changed = [key for key, value in identity.items() if earlier.get(key) != value]
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


def _skipped_path(shard: Path) -> Path:
    """Return the path of the list of a shard's skipped tracks, which is written after the shard."""
    return shard.with_suffix(".skipped.json")


def _finished_shard(shard: Path, tracks: int) -> list[dict[str, str]] | None:
    """Return the tracks that were skipped in a shard of `tracks` tracks, or None if it must be written."""
    try:
        skipped = json.loads(_skipped_path(shard).read_text(encoding="utf-8"))
        if not all(row.keys() == {"track_id", "reason"} for row in skipped):
            return None
        written = tracks - len(skipped)
        if written:
            with pq.ParquetFile(shard, page_checksum_verification=True) as file:
                written -= sum(batch.num_rows for batch in file.iter_batches(batch_size=1))
    except (OSError, ValueError, TypeError, AttributeError, pa.ArrowException):  # missing or damaged
        return None
    return None if written else skipped


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
