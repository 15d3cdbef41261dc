"""`hfmgc extract`: write the features of a source to a folder of parquet shards.

The folder is a feature set (`sources/features.py`) for training and evaluation. It holds the un-normalised features of
whole tracks that training would cache (`features.py`), so windows and normalisation can still be chosen. A worker holds one
track in memory.
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
# Key in the metadata of a shard; the value is a JSON list of its skipped tracks.
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
        """The columns of a shard. Digest and fingerprint of the audio identify tracks of stored features."""
        labels = datasets.Features(LABEL_FEATURES).arrow_schema
        identity = {"digest": pa.string(), "fingerprint": pa.list_(pa.uint32()), "truncation": pa.string()}
        features = {"features": pa.list_(pa.list_(pa.from_numpy_dtype(self.dtype)))}
        return pa.schema([*labels, *pa.schema(identity | features)])

    def identity(self) -> dict[str, Any]:
        """Return the part of the description that must be equal for an extraction to be resumed."""
        identity = {
            "tracks_digest": _digest([self.tracks["track_id"][:], table_fingerprint(self.tracks)]),
            "excluded_digest": _digest(sorted(self.known_problems.items())),
            "front_end": front_end_fields(self.extractor),
            "code": code_identity(*EXTRACTED_BY),
            "dtype": self.dtype,
            "shard_size": self.shard_size,
            "shortest_seconds": self.shortest_seconds,
        }
        return json.loads(json.dumps(identity))  # lists instead of tuples, as in the saved description

    def row(self, index: int) -> pa.Table:
        """Return a track as a table of one row.

        Raises:
            AudioError: If the track cannot be used.
            ConfigError: If its features exceed the range of the dtype.
        """
        track = self.tracks[index]
        track_id = track["track_id"]
        if problem := self.known_problems.get(track_id):
            raise AudioError(track_id, problem)
        decoded = decode_track(track, self.extractor.sampling_rate, self.shortest_seconds)
        if decoded["problem"]:
            raise AudioError(track_id, decoded["problem"])
        with np.errstate(over="ignore"):
            features = track_features(decoded, self.extractor).astype(self.dtype, copy=False)
        if not np.isfinite(features).all():
            raise ConfigError(f"dtype: the features of {track_id} exceed the range of {self.dtype}: choose float32")
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

    To resume an interrupted extraction, call this again with the same source and front end. `float16` takes half the space
    of `float32` and has 11 bits of precision (over a range of 80 dB, steps of 0.06 dB). Audio shorter than
    `shortest_seconds` is skipped.

    Raises:
        ConfigError: If `folder` holds something else or an extraction with other settings, or if another process is writing
            to it.
        DataError: If no track can be used.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    check_front_end(source, extractor)
    tracks = source.tracks()
    if "features" in tracks.column_names:
        raise ConfigError(f"{source.location}: these are features already: use them without extracting")
    # Libraries load parts of themselves on first use; do that once here instead of in every worker.
    extractor.track_features(np.zeros(extractor.sampling_rate, dtype=np.float32))
    known_problems = {
        track_id: problem for track_id in tracks["track_id"][:] if (problem := source.reason_to_skip(track_id))
    }
    extraction = _Extraction(tracks, extractor, folder, known_problems, dtype, shard_size, shortest_seconds)
    identity = extraction.identity()
    description = {"hfmgc_version": __version__, "data": source.describe(), **identity, "complete": False}
    shards = -(-len(tracks) // shard_size)
    with _claim(folder, description, identity):
        shards_table = datasets.Dataset.from_dict({"shard": list(range(shards))}).map(
            _write_shard,
            fn_kwargs={"extraction": extraction},
            num_proc=num_proc if num_proc and num_proc > 1 else None,
            load_from_cache_file=False,  # complete shards are recognised in the folder
            desc=f"extracting {len(tracks)} tracks in {shards} shards",
        )
        skipped = [row for shard in shards_table[_SKIPPED][:] for row in json.loads(shard)]
        if len(skipped) == len(tracks):
            first = f"the first: {skipped[0]['track_id']}: {skipped[0]['reason']}" if skipped else "it is empty"
            raise DataError(f"{source.title}: no track can be used; {first}")
        result = {**description, "complete": True, "tracks": len(tracks) - len(skipped), "skipped": skipped}
        with saving_to(folder):
            write_text(folder / EXTRACTION, json.dumps(result, indent=1, ensure_ascii=False))
    return result


def _digest(content: list) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(content).encode()).hexdigest()}"


def _write_shard(row: dict[str, Any], extraction: _Extraction) -> dict[str, str]:
    """Write a shard unless it is complete; return its skipped tracks as JSON."""
    use_one_thread_in_workers()
    folder, size = extraction.folder, extraction.shard_size
    path = folder / f"part-{row['shard']:05d}.parquet"
    rows = range(row["shard"] * size, min((row["shard"] + 1) * size, len(extraction.tracks)))
    skipped = _read_skipped(path, len(rows))
    if skipped is None:
        skipped = []
        # Dictionaries and statistics of noise-like floats would take six times as long as the writing itself.
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
            # This worker may have outlived a killed extraction, and another extraction may use the folder by now.
            if _changed_fields(folder / EXTRACTION, extraction.identity()):
                raise ConfigError(f"{folder}: another extraction has taken over this folder: choose another folder")
    return {_SKIPPED: json.dumps(skipped)}


def _read_skipped(shard: Path, tracks: int) -> list[dict[str, str]] | None:
    """Return the skipped tracks of a shard, or None if it is missing or damaged or does not hold `tracks` tracks."""
    try:
        with pq.ParquetFile(shard, page_checksum_verification=True) as file:
            skipped = json.loads(file.metadata.metadata[_SKIPPED.encode()])
            rows = sum(batch.num_rows for batch in file.iter_batches(batch_size=1))
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException):
        return None
    return skipped if rows + len(skipped) == tracks else None


@contextmanager
def _claim(folder: Path, description: dict[str, Any], identity: dict[str, Any]) -> Iterator[None]:
    """Lock the folder of an extraction, creating it if needed, and save the description in it.

    Raises:
        ConfigError: If the folder holds something else or another extraction, or another process has locked it.
        SaveError: If it cannot be written.
    """
    path = folder / EXTRACTION
    with saving_to(folder):
        has_files = folder.is_dir() and any(file.name != LOCK_FILE for file in folder.iterdir())
    if has_files and not path.is_file():
        raise ConfigError(f"{folder} is not empty and not an extraction: choose another folder")
    in_use = f"{folder}: another hfmgc extract is writing to it: wait until it has ended, or choose another folder"
    with file_lock(folder / LOCK_FILE, in_use=in_use):
        with saving_to(folder):
            changed = _changed_fields(path, identity)
            if changed and any(folder.glob("part-*.parquet")):
                raise ConfigError(
                    f"{folder} holds another extraction ({', '.join(changed)} differ): choose another folder, or remove it"
                )
            # Remove files of killed processes. A worker that outlived its parent then fails when it renames its file.
            for temporary in folder.glob("part-*.tmp"):
                temporary.unlink()
            write_text(path, json.dumps(description, indent=1, ensure_ascii=False))
        yield


def _changed_fields(description: Path, identity: dict[str, Any]) -> list[str]:
    """Return the fields of an extraction that differ from the saved description; none if there is no description."""
    try:
        saved = dict(json.loads(description.read_text(encoding="utf-8"))) if description.is_file() else identity
    except (ValueError, TypeError) as error:
        raise DataError(f"{description}: damaged: extract the features again into another folder") from error
    return [key for key, value in identity.items() if saved.get(key) != value]
