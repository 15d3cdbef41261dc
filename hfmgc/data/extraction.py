"""Extracting the features of a corpus once, in shards that are written as it goes: `hfmgc extract`.

The folder that results is a feature set (`sources/features.py`): training and evaluation start from it. Memory stays
flat as the corpus grows: a worker holds one track, and a shard is written row by row.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from .. import __version__
from ..errors import AudioError, ConfigError, DataError, saving_to
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from .audio import load_audio
from .check import set_aside_by_check
from .sources.contract import TrackSource
from .sources.features import EXTRACTION


DESCRIPTION = EXTRACTION
_SCHEMA = {"track_id": pa.string(), "genre": pa.string(), "artist": pa.string(), "split": pa.string()}
DTYPES = ("float32", "uint8")


def extract_corpus(
    source: TrackSource,
    extractor: WindowedFeatureExtractor,
    folder: Path,
    *,
    dtype: str = "float32",
    shard_size: int = 64,
    num_proc: int | None = None,
) -> dict[str, Any]:
    """Write the features of all tracks of a source to `folder`; return what was done.

    Where the front end normalises over the track, the spectrogram of the whole track is kept, else its windows. Called
    again with the same source and front end it goes on where it was interrupted.

    Args:
        source: Where the tracks come from.
        extractor: The front end.
        folder: Where the shards are written (parquet).
        dtype: `float32`, or `uint8` for spectrograms in [0, 1] (a quarter of the size, steps of 1 / 255).
        shard_size: Tracks of a shard.
        num_proc: Processes that extract.

    Raises:
        ConfigError: If `folder` holds the features of another source or front end, or uint8 does not fit the front end.
        DataError: If no track could be used.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    if shard_size < 1:
        raise ConfigError(f"shard_size must be at least 1, not {shard_size}")
    tracks = source.tracks()
    if "features" in tracks.column_names:
        raise ConfigError(f"{source.location} holds features already")
    description = _describe(source, extractor, tracks, dtype, shard_size)
    with saving_to(folder):
        _claim(folder, description)
    known_problems = set_aside_by_check(tracks)
    known_problems |= {
        track_id: problem for track_id in tracks["track_id"] if (problem := source.known_problem(track_id))
    }
    # Libraries load their parts when they are first used: once here, and not in every worker.
    extractor.track_windows(np.sin(np.arange(extractor.sampling_rate, dtype=np.float32)))
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
            "alone": num_proc is None or num_proc == 1,
        },
        num_proc=num_proc if num_proc and num_proc > 1 else None,
        load_from_cache_file=False,  # what is done is known by the shards themselves
        desc=f"extracting {len(tracks)} tracks in {shards} shards",
    )
    skipped = [row for shard in done["skipped"] for row in json.loads(shard)]
    written = len(tracks) - len(skipped)
    if not written:
        raise DataError(f"{source.card.name} ({source.location}): no track could be used; {_first(skipped)}")
    result = {**description, "complete": True, "tracks": written, "skipped": skipped}
    with saving_to(folder):
        _write_text(folder / DESCRIPTION, json.dumps(result, indent=1, ensure_ascii=False))
    return result


def _describe(
    source: TrackSource, extractor: WindowedFeatureExtractor, tracks: datasets.Dataset, dtype: str, shard_size: int
) -> dict[str, Any]:
    table = hashlib.sha256(json.dumps([list(tracks["track_id"]), tracks._fingerprint]).encode()).hexdigest()
    return {
        "hfmgc_version": __version__,
        "data": source.describe(),
        "tracks_digest": f"sha256:{table}",
        "front_end": extractor.to_dict(),
        "dtype": dtype,
        "shard_size": shard_size,
        "complete": False,
    }


def _claim(folder: Path, description: dict[str, Any]) -> None:
    """Mark a folder as that of this extraction, or refuse one that belongs to another."""
    path = folder / DESCRIPTION
    if path.is_file():
        try:
            earlier = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}: damaged; extract the features again into another folder") from error
        plain = json.loads(json.dumps(description))
        changed = [
            key for key in ("tracks_digest", "front_end", "dtype", "shard_size") if earlier.get(key) != plain.get(key)
        ]
        if changed:
            raise ConfigError(
                f"{folder} holds another extraction ({', '.join(changed)} differ): choose another folder"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty, and no extraction: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    _write_text(path, json.dumps(description, indent=1, ensure_ascii=False))


def _write_shard(
    row: dict[str, Any],
    tracks: datasets.Dataset,
    extractor: WindowedFeatureExtractor,
    folder: str,
    dtype: str,
    shard_size: int,
    known_problems: dict[str, str],
    alone: bool,
) -> dict[str, str]:
    """Write one shard, whole or not at all; return what was skipped in it as JSON."""
    if not alone:  # a process for each core: threads of their own would stand in each other's way
        torch.set_num_threads(1)
    shard = row["shard"]
    path = Path(folder) / f"part-{shard:05d}.parquet"
    skipped_path = path.with_suffix(".skipped.json")
    rows = range(shard * shard_size, min((shard + 1) * shard_size, len(tracks)))
    if skipped_path.is_file():  # written last: the shard is whole, unless it was taken away since
        text = skipped_path.read_text(encoding="utf-8")
        if _is_whole(path) or len(json.loads(text)) == len(rows):
            return {"skipped": text}
    skipped: list[dict[str, str]] = []
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    writer = None
    try:
        for index in rows:
            track = tracks[index]
            try:
                if track["track_id"] in known_problems:
                    raise AudioError(track["track_id"], known_problems[track["track_id"]])
                audio = track["audio"]
                waveform = load_audio(audio["bytes"] or audio["path"], extractor.sampling_rate, name=track["track_id"])
            except AudioError as error:
                skipped.append({"track_id": track["track_id"], "reason": error.reason})
                continue
            table = _table(track, _features(waveform, extractor, dtype))
            with saving_to(folder):
                writer = writer or _writer(temporary, table.schema)
                writer.write_table(table)
        if writer is not None:
            with saving_to(folder):
                writer.close()
                temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    with saving_to(folder):
        _write_text(skipped_path, json.dumps(skipped, ensure_ascii=False))
    return {"skipped": json.dumps(skipped, ensure_ascii=False)}


def _features(waveform: np.ndarray, extractor: WindowedFeatureExtractor, dtype: str) -> np.ndarray:
    """Return the spectrogram [frames, bins] (uint8: [bins, frames]), or slices [slices, frames, bins]."""
    if getattr(extractor, "normalize_over", "window") != "track":
        features = extractor.track_windows(waveform)
        if dtype == "uint8":
            raise ConfigError("uint8 is for spectrograms that are normalised over the track (normalize_over: track)")
        return features
    features = extractor.track_features(waveform)
    if dtype == "float32":
        return features
    if features.min() < 0 or features.max() > 1:
        raise ConfigError("uint8 is for spectrograms in [0, 1] (normalization: min_max)")
    return np.round(features.T * 255).astype(np.uint8)


def _table(track: dict[str, Any], features: np.ndarray) -> pa.Table:
    values = pa.array(features.reshape(-1))
    for size in reversed(features.shape[1:]):
        offsets = pa.array(np.arange(0, len(values) + 1, size, dtype=np.int32))
        values = pa.ListArray.from_arrays(offsets, values)
    columns = {name: pa.array([track[name]], kind) for name, kind in _SCHEMA.items()}
    columns["features"] = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
    return pa.table(columns)


def _is_whole(path: Path) -> bool:
    """Return whether a shard can be read: its footer is written last."""
    try:
        pq.read_metadata(path)
    except (OSError, pa.ArrowException):
        return False
    return True


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Dictionaries and statistics of random-like floats cost six times the writing itself, and help nobody.
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False, write_statistics=False)


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _first(skipped: list[dict[str, str]]) -> str:
    return f"the first: {skipped[0]['track_id']}: {skipped[0]['reason']}" if skipped else "it is empty"
