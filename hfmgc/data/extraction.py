"""`hfmgc extract`: the features that training caches (`features.py`), written to a folder of parquet shards.

The folder is a feature set (`sources/features.py`) for training and evaluation: un-normalised features of whole tracks,
cut and normalised as if they came from audio. A worker holds one track in memory.
"""

import hashlib
import json
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
from ..files import temporary_path, write_text
from .caching import code_identity, reading_cache, table_fingerprint, use_one_thread_in_workers
from .corpus import decode_track
from .extraction_folder import DESCRIPTION, claim, finished_shard, held, skipped_path
from .features import front_end_fields, track_features
from .identity import track_identity
from .sources.contract import TrackSource
from .sources.features import EXTRACTED_BY


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


@dataclass(frozen=True)
class _Extraction:
    """What every worker needs to write a shard."""

    tracks: datasets.Dataset
    extractor: WindowedFeatureExtractor
    folder: Path
    known_problems: dict[str, str]
    dtype: str
    shard_size: int
    shortest_seconds: float

    def identity(self) -> dict[str, Any]:
        """Return what two extractions must share for one to resume the other."""
        return {
            "tracks_digest": _digest([list(self.tracks["track_id"]), table_fingerprint(self.tracks)]),
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

    An interrupted extraction resumes when it is called again with the same source and front end.

    Args:
        source: The tracks.
        extractor: The front end.
        folder: Folder of the shards (parquet).
        dtype: `float32`, or `float16`: half the size, 11 bits of precision (of 80 dB steps of 0.06 dB).
        shard_size: Tracks of a shard.
        num_proc: Worker processes.
        shortest_seconds: Shorter audio is skipped.

    Raises:
        ConfigError: If `folder` holds the features of another source, front end or exclusion list, or if another process
            is writing to it.
        DataError: If no track could be used.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    if shard_size < 1:
        raise ConfigError(f"shard_size must be at least 1, not {shard_size}")
    tracks = source.tracks()
    if "features" in tracks.column_names:
        raise ConfigError(f"{source.location} holds features already")
    # Libraries load their parts on first use: once here, and not in every worker.
    extractor.track_features(np.zeros(extractor.sampling_rate, dtype=np.float32))
    known_problems = {
        track_id: problem for track_id in tracks["track_id"] if (problem := source.reason_to_skip(track_id))
    }
    extraction = _Extraction(tracks, extractor, folder, known_problems, dtype, shard_size, shortest_seconds)
    description = {"hfmgc_version": __version__, "data": source.describe(), **extraction.identity(), "complete": False}
    shards = -(-len(tracks) // shard_size)
    with held(folder):
        with saving_to(folder):
            claim(folder, description)
        written = datasets.Dataset.from_dict({"shard": list(range(shards))}).map(
            _write_shard,
            fn_kwargs={"extraction": extraction},
            num_proc=num_proc if num_proc and num_proc > 1 else None,
            load_from_cache_file=False,  # finished shards are found in the folder
            desc=f"extracting {len(tracks)} tracks in {shards} shards",
        )
        skipped = [row for shard in written["skipped"] for row in json.loads(shard)]
        if len(skipped) == len(tracks):
            first = f"the first: {skipped[0]['track_id']}: {skipped[0]['reason']}" if skipped else "it is empty"
            raise DataError(f"{source.card.name} ({source.location}): no track could be used; {first}")
        result = {**description, "complete": True, "tracks": len(tracks) - len(skipped), "skipped": skipped}
        with saving_to(folder):
            write_text(folder / DESCRIPTION, json.dumps(result, indent=1, ensure_ascii=False))
    return result


def _digest(content: list) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(content).encode()).hexdigest()}"


def _write_shard(row: dict[str, Any], extraction: _Extraction) -> dict[str, str]:
    """Write one shard, whole or not at all; return the tracks that were skipped in it as JSON."""
    use_one_thread_in_workers()
    folder, size = extraction.folder, extraction.shard_size
    path = folder / f"part-{row['shard']:05d}.parquet"
    rows = range(row["shard"] * size, min((row["shard"] + 1) * size, len(extraction.tracks)))
    skipped = finished_shard(path, len(rows))
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
                else:  # there may be a damaged one
                    path.unlink(missing_ok=True)
        finally:
            temporary.unlink(missing_ok=True)
        with saving_to(folder):
            write_text(skipped_path(path), json.dumps(skipped, ensure_ascii=False))
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
