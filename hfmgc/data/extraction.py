"""`hfmgc extract`: the features that training caches (`features.py`), written to a folder of parquet shards.

The folder is a feature set (`sources/features.py`) for training and evaluation: un-normalised features of whole tracks,
cut and normalised as if they came from audio. A worker holds one track in memory.
"""

import hashlib
import json
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
from ..files import atomic_write, file_lock, write_text
from .caching import code_identity, reading_cache, table_fingerprint, use_one_thread_in_workers
from .corpus import decode_track
from .features import check_front_end, front_end_fields, track_features
from .identity import track_identity
from .sources.contract import LABEL_FEATURES, TrackSource
from .sources.features import EXTRACTED_BY, EXTRACTION


DTYPES = ("float32", "float16")
LOCK_FILE = ".hfmgc.lock"
# Metadata of a shard: its skipped tracks as JSON.
_SKIPPED = "skipped"


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

    @property
    def schema(self) -> pa.Schema:
        """The columns of a shard; by digest and fingerprint of the sound, stored features are recognised."""
        labels = datasets.Features(LABEL_FEATURES).arrow_schema
        sound = {"digest": pa.string(), "fingerprint": pa.list_(pa.uint32()), "truncation": pa.string()}
        features = {"features": pa.list_(pa.list_(pa.from_numpy_dtype(self.dtype)))}
        return pa.schema([*labels, *pa.schema(sound | features)])

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

    def saved_identity(self) -> dict[str, Any]:
        """Return the identity as the description has it, with lists instead of tuples."""
        return json.loads(json.dumps(self.identity()))

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
        row = {**track, **identity, "truncation": decoded["truncation"], "features": list(features)}
        return pa.Table.from_pylist([row], schema=self.schema)


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
    identity = extraction.saved_identity()
    description = {"hfmgc_version": __version__, "data": source.describe(), **identity, "complete": False}
    shards = -(-len(tracks) // shard_size)
    with lock_folder(folder):
        with saving_to(folder):
            _claim(folder, description, identity)
        written = datasets.Dataset.from_dict({"shard": list(range(shards))}).map(
            _write_shard,
            fn_kwargs={"extraction": extraction},
            num_proc=num_proc if num_proc and num_proc > 1 else None,
            load_from_cache_file=False,  # finished shards are found in the folder
            desc=f"extracting {len(tracks)} tracks in {shards} shards",
        )
        skipped = [row for shard in written[_SKIPPED][:] for row in json.loads(shard)]
        if len(skipped) == len(tracks):
            first = f"the first: {skipped[0]['track_id']}: {skipped[0]['reason']}" if skipped else "it is empty"
            raise DataError(f"{source.title}: no track could be used; {first}")
        result = {**description, "complete": True, "tracks": len(tracks) - len(skipped), "skipped": skipped}
        with saving_to(folder):
            write_text(folder / EXTRACTION, json.dumps(result, indent=1, ensure_ascii=False))
    return result


def _digest(content: list) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(content).encode()).hexdigest()}"


def _write_shard(row: dict[str, Any], extraction: _Extraction) -> dict[str, str]:
    """Write one shard, unless it is complete; return the tracks that were skipped in it as JSON."""
    use_one_thread_in_workers()
    folder, size = extraction.folder, extraction.shard_size
    path = folder / f"part-{row['shard']:05d}.parquet"
    rows = range(row["shard"] * size, min((row["shard"] + 1) * size, len(extraction.tracks)))
    skipped = _skipped_in(path, len(rows))
    if skipped is None:
        skipped = []
        # Dictionaries and statistics of random-like floats cost six times the writing itself.
        options = {"use_dictionary": False, "write_statistics": False, "write_page_checksum": True}
        with (
            saving_to(folder),
            atomic_write(path) as temporary,
            pq.ParquetWriter(temporary, extraction.schema, compression="zstd", **options) as writer,
        ):
            for index in rows:
                try:
                    writer.write_table(extraction.row(index))
                except AudioError as error:
                    skipped.append({"track_id": error.name, "reason": error.reason})
            writer.add_key_value_metadata({_SKIPPED: json.dumps(skipped)})
            # Of a killed extraction: the folder may have another one since.
            if _changes(folder / EXTRACTION, extraction.saved_identity()):
                raise ConfigError(f"{folder}: another extraction has taken this folder: choose another folder")
    return {_SKIPPED: json.dumps(skipped)}


def _skipped_in(shard: Path, tracks: int) -> list[dict[str, str]] | None:
    """Return the skipped tracks of a complete shard of `tracks` tracks; None if it is missing or damaged."""
    try:
        with pq.ParquetFile(shard, page_checksum_verification=True) as file:
            skipped = json.loads(file.metadata.metadata[_SKIPPED.encode()])
            written = sum(batch.num_rows for batch in file.iter_batches(batch_size=1))
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException):
        return None
    return skipped if written + len(skipped) == tracks else None


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
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
    with file_lock(folder / LOCK_FILE, in_use=in_use):
        yield


def _claim(folder: Path, description: dict[str, Any], identity: dict[str, Any]) -> None:
    """Save the description of this extraction in a locked folder, unless it holds shards of another extraction."""
    path = folder / EXTRACTION
    changed = _changes(path, identity)
    if changed and any(folder.glob("part-*.parquet")):
        raise ConfigError(
            f"{folder} holds another extraction ({', '.join(changed)} differ): choose another folder, or "
            "remove this one"
        )
    # Of killed processes. A worker that outlived its parent fails when it renames its file, or finds another description.
    for temporary in folder.glob("part-*.tmp"):
        temporary.unlink()
    write_text(path, json.dumps(description, indent=1, ensure_ascii=False))


def _changes(description: Path, identity: dict[str, Any]) -> list[str]:
    """Return in what an extraction differs from the one that the folder is of, if there is one."""
    try:
        earlier = dict(json.loads(description.read_text(encoding="utf-8"))) if description.is_file() else identity
    except (ValueError, TypeError) as error:
        raise DataError(f"{description}: damaged; extract the features again into another folder") from error
    return [key for key, value in identity.items() if earlier.get(key) != value]
