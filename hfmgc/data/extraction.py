"""Extracting the features of a corpus once, in shards that are written as it goes: `hfmgc extract`.

The folder that results is a feature set (`sources/features.py`): training and evaluation start from it. What is stored
are the un-normalised features of whole tracks, so that windows are cut and normalised as if they came from audio. Memory
stays flat as the corpus grows: a worker holds one track, and a shard is written row by row.
"""

import hashlib
import json
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
from .audio import decode_audio
from .caching import code_identity, reading_cache, table_fingerprint, use_one_thread_in_workers
from .extraction_folder import DESCRIPTION, claim, finished_shard, held, skipped_path
from .features import front_end_fields
from .identity import track_identity
from .sources.contract import TrackSource
from .sources.features import EXTRACTED_BY


_SCHEMA = {
    "track_id": pa.string(),
    "genre": pa.string(),
    "genres": pa.list_(pa.string()),
    "artist": pa.string(),
    "split": pa.string(),
    # Of the sound, by which a track is known again when there are only its features; see `track_identity`.
    "digest": pa.string(),
    "fingerprint": pa.list_(pa.uint32()),
    "truncation": pa.string(),
}
DTYPES = ("float32", "float16")


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
    """Write the features of all tracks of a source to `folder`; return what was done.

    Called again with the same source and front end it resumes where it was interrupted.

    Args:
        source: Where the tracks come from.
        extractor: The front end.
        folder: Where the shards are written (parquet).
        dtype: `float32`, or `float16`: half the size, 11 bits of precision (of 80 dB steps of 0.06 dB).
        shard_size: Tracks of a shard.
        num_proc: Processes that extract.
        shortest_seconds: Audio that is shorter is skipped.

    Raises:
        ConfigError: If `folder` holds the features of another source or front end, or of this one with another
            exclusion list; or if another process extracts to it.
        DataError: If no track could be used.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    if shard_size < 1:
        raise ConfigError(f"shard_size must be at least 1, not {shard_size}")
    tracks = source.tracks()
    if "features" in tracks.column_names:
        raise ConfigError(f"{source.location} holds features already")
    # Libraries load their parts when they are first used: once here, and not in every worker.
    extractor.track_features(np.zeros(extractor.sampling_rate, dtype=np.float32))
    known_problems = {
        track_id: problem for track_id in tracks["track_id"] if (problem := source.reason_to_skip(track_id))
    }
    description = _describe(source, extractor, tracks, known_problems, dtype, shard_size, shortest_seconds)
    with held(folder):
        with saving_to(folder):
            claim(folder, description)
        skipped = _write_shards(
            tracks, extractor, folder, known_problems, dtype, shard_size, shortest_seconds, num_proc
        )
        written = len(tracks) - len(skipped)
        if not written:
            raise DataError(f"{source.card.name} ({source.location}): no track could be used; {_first(skipped)}")
        result = {**description, "complete": True, "tracks": written, "skipped": skipped}
        with saving_to(folder):
            write_text(folder / DESCRIPTION, json.dumps(result, indent=1, ensure_ascii=False))
    return result


def _write_shards(
    tracks: datasets.Dataset,
    extractor: WindowedFeatureExtractor,
    folder: Path,
    known_problems: dict[str, str],
    dtype: str,
    shard_size: int,
    shortest_seconds: float,
    num_proc: int | None,
) -> list[dict[str, str]]:
    """Write the shards that are not there yet; return the tracks that were skipped, with their reasons."""
    shards = -(-len(tracks) // shard_size)
    done = datasets.Dataset.from_dict({"shard": list(range(shards))}).map(
        _write_shard,
        fn_kwargs={
            "tracks": tracks,
            "extractor": extractor,
            "folder": str(folder),
            "dtype": dtype,
            "shard_size": shard_size,
            "known_problems": known_problems,
            "shortest_seconds": shortest_seconds,
        },
        num_proc=num_proc if num_proc and num_proc > 1 else None,
        load_from_cache_file=False,  # what is done is known by the shards themselves
        desc=f"extracting {len(tracks)} tracks in {shards} shards",
    )
    return [row for shard in done["skipped"] for row in json.loads(shard)]


def _describe(
    source: TrackSource,
    extractor: WindowedFeatureExtractor,
    tracks: datasets.Dataset,
    known_problems: dict[str, str],
    dtype: str,
    shard_size: int,
    shortest_seconds: float,
) -> dict[str, Any]:
    return {
        "hfmgc_version": __version__,
        "data": source.describe(),
        "tracks_digest": _digest([list(tracks["track_id"]), table_fingerprint(tracks)]),
        "excluded_digest": _digest(sorted(known_problems.items())),
        "front_end": front_end_fields(extractor),
        "code": code_identity(*EXTRACTED_BY),
        "dtype": dtype,
        "shard_size": shard_size,
        "shortest_seconds": shortest_seconds,
        "complete": False,
    }


def _digest(content: list) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(content).encode()).hexdigest()}"


def _write_shard(
    row: dict[str, Any],
    tracks: datasets.Dataset,
    extractor: WindowedFeatureExtractor,
    folder: str,
    dtype: str,
    shard_size: int,
    known_problems: dict[str, str],
    shortest_seconds: float,
) -> dict[str, str]:
    """Write one shard, whole or not at all; return what was skipped in it as JSON."""
    use_one_thread_in_workers()
    shard = row["shard"]
    path = Path(folder) / f"part-{shard:05d}.parquet"
    rows = range(shard * shard_size, min((shard + 1) * shard_size, len(tracks)))
    earlier = finished_shard(path, len(rows))
    if earlier is not None:
        return {"skipped": json.dumps(earlier, ensure_ascii=False)}
    skipped: list[dict[str, str]] = []
    temporary = temporary_path(path)
    writer = None
    try:
        for index in rows:
            track = tracks[index]
            try:
                if track["track_id"] in known_problems:
                    raise AudioError(track["track_id"], known_problems[track["track_id"]])
                audio = track["audio"]
                decoded = decode_audio(
                    audio["bytes"] or audio["path"],
                    extractor.sampling_rate,
                    name=track["track_id"],
                    shortest_seconds=shortest_seconds,
                )
            except AudioError as error:
                skipped.append({"track_id": track["track_id"], "reason": error.reason})
                continue
            known_by = track_identity(decoded.waveform, extractor.sampling_rate)
            features = _features(decoded.waveform, extractor, dtype, track["track_id"])
            table = _table({**track, **known_by, "truncation": decoded.truncation}, features)
            with saving_to(folder):
                writer = writer or _writer(temporary, table.schema)
                writer.write_table(table)
        with saving_to(folder):
            if writer is not None:
                writer.close()
                temporary.replace(path)
            else:  # a damaged one may lie there
                path.unlink(missing_ok=True)
    finally:
        temporary.unlink(missing_ok=True)
    with saving_to(folder):
        write_text(skipped_path(path), json.dumps(skipped, ensure_ascii=False))
    return {"skipped": json.dumps(skipped, ensure_ascii=False)}


def _features(waveform: np.ndarray, extractor: WindowedFeatureExtractor, dtype: str, name: str) -> np.ndarray:
    """Return the un-normalised features [frames, bins] of a track."""
    with np.errstate(over="ignore"):
        features = extractor.track_features(waveform).astype(dtype, copy=False)
    if not np.isfinite(features).all():
        raise ConfigError(f"the features of {name} are beyond the range of {dtype}: choose float32")
    return features


def _table(track: dict[str, Any], features: np.ndarray) -> pa.Table:
    values = pa.array(features.reshape(-1))
    for size in reversed(features.shape[1:]):
        offsets = pa.array(np.arange(0, len(values) + 1, size, dtype=np.int32))
        values = pa.ListArray.from_arrays(offsets, values)
    columns = {name: pa.array([track[name]], kind) for name, kind in _SCHEMA.items()}
    columns["features"] = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
    return pa.table(columns)


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Dictionaries and statistics of random-like floats cost six times the writing itself, and help nobody.
    return pq.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=False, write_statistics=False, write_page_checksum=True
    )


def _first(skipped: list[dict[str, str]]) -> str:
    return f"the first: {skipped[0]['track_id']}: {skipped[0]['reason']}" if skipped else "it is empty"
