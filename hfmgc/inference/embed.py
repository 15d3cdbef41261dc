"""Embeddings of a dataset's tracks by a trained network, in one parquet file: `hfmgc embed`."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm.auto import tqdm
from transformers import AutoModel, PreTrainedModel

from ..data.audio import SHORTEST_SECONDS, load_audio
from ..data.caching import code_identity, reading_cache, table_fingerprint
from ..data.features import check_front_end, track_windows
from ..data.sources import open_source
from ..data.sources.contract import TrackSource
from ..data.sources.feature_rows import feature_problems
from ..errors import AudioError, DataError, first_line
from ..evaluation.checkpoints import load_checkpoint, network_fields, weights_digest
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from .parts import DIGEST, parquet_digest, write_in_parts, write_table
from .songs import BATCH_SIZES


TRACKS_PER_PART = 32
_ROW = {
    "track_id": pa.string(),
    "genre": pa.string(),
    "genres": pa.list_(pa.string()),
    "artist": pa.string(),
    "split": pa.string(),
}
# In the metadata of the parquet file: the skipped tracks; the checkpoint, as given, and a digest of its network and front end.
_SKIPPED, CHECKPOINT, NETWORK = b"hfmgc_skipped", b"hfmgc_checkpoint", b"hfmgc_network"


@reading_cache()
def embed_tracks(
    checkpoint: str,
    data: str,
    output: Path,
    *,
    data_options: dict[str, Any] | None = None,
    exclude: str | None = None,
    revision: str | None = None,
    windows: bool = False,
    batch_size: int | None = None,
    shortest_seconds: float = SHORTEST_SECONDS,
) -> dict[str, Any]:
    """Write the embeddings of all usable tracks; return what was written and skipped.

    Args:
        checkpoint: Folder of a finished run or of an encoder, a repository on the Hub, or `package:NAME`.
        data: A folder of genres, a manifest, stored features, or a dataset's name.
        output: Parquet file with a row for each track: the columns `track_id`, `genre`, `genres`, `artist` and `split`, and
            `embedding`, the mean over the track's windows, float32 [hidden].
        data_options: Options of the dataset.
        exclude: List of tracks to leave out.
        revision: Commit of the repository.
        windows: Write a row for each window instead, with its index in the track as `window`.
        batch_size: Windows per batch; by default that of `BATCH_SIZES`.
        shortest_seconds: Shorter audio is skipped.

    Raises:
        CheckpointError: If the checkpoint cannot be used.
        ConfigError: If `output` exists and has other content.
        DataError: If no track can be used.
        SaveError: If `output` cannot be written.
    """
    model, extractor = load_checkpoint(checkpoint, revision, auto_class=AutoModel)
    source = open_source(data, data_options, exclude=exclude)
    check_front_end(source, extractor)
    tracks = source.tracks()
    options = {"windows": windows, "shortest_seconds": shortest_seconds}
    network = network_digest(model, extractor)
    described = [network, table_fingerprint(tracks), source.describe(), options, sorted(source.excluded or ())]
    digest = weights_digest([*described, code_identity("decoding", "features"), TRACKS_PER_PART], {})
    recorded = {DIGEST: digest, CHECKPOINT: json.dumps([checkpoint, revision]), NETWORK: network}

    def compute(missing: list[range]) -> Iterator[pa.Table]:
        problems = _problems(source, tracks)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        for rows in tqdm(missing, desc=f"embedding {len(tracks)} tracks", unit="part"):
            yield _embed_rows(model, extractor, tracks, rows, problems, batch_size, **options)

    def join(parts: list[Path]) -> None:
        _join(parts, output, recorded)

    write_in_parts(output, digest, len(tracks), TRACKS_PER_PART, compute, join, parquet_digest)
    file = pq.ParquetFile(output)
    return {
        "rows": file.metadata.num_rows,
        "hidden": model.embedding_size,
        "skipped": json.loads(file.schema_arrow.metadata[_SKIPPED]),
    }


def read_embeddings(path: Path) -> pa.Table:
    """Return the table in a parquet file by `embed_tracks`.

    Raises:
        DataError: If it is another file.
    """
    try:
        table = pq.read_table(path)
        metadata = table.schema.metadata or {}
        json.loads(metadata[CHECKPOINT]), metadata[NETWORK].decode()
        embeddings = np.stack(table["embedding"].to_numpy(zero_copy_only=False))
        broken = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
        if len(broken):
            raise ValueError(f"the embedding of {table['track_id'][int(broken[0])]} has NaN or infinite values")
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        problem = first_line(error) if path.is_file() else "no such file"
        raise DataError(f"{path}: not an embeddings file by `hfmgc embed` ({problem})") from error
    return table


def network_digest(model: PreTrainedModel, extractor: WindowedFeatureExtractor) -> str:
    """Return a digest of what decides the embedding of a waveform."""
    return weights_digest([extractor.to_dict(), network_fields(model.config)], model.state_dict())


def _problems(source: TrackSource, tracks: datasets.Dataset) -> dict[str, str]:
    """Return why tracks cannot be used, by id, as far as this is known before decoding."""
    problems = [source.reason_to_skip(track_id) for track_id in tracks["track_id"][:]]
    if "features" in tracks.column_names:
        problems = [known or found for known, found in zip(problems, feature_problems(tracks), strict=True)]
    return {track_id: problem for track_id, problem in zip(tracks["track_id"][:], problems, strict=True) if problem}


def _embed_rows(
    model: PreTrainedModel,
    extractor: WindowedFeatureExtractor,
    tracks: datasets.Dataset,
    rows: Sequence[int],
    problems: dict[str, str],
    batch_size: int | None,
    *,
    windows: bool,
    shortest_seconds: float,
) -> pa.Table:
    """Return the table of some tracks; its metadata lists those that cannot be used."""
    stacks, skipped, used = [], [], []
    for row in rows:
        track = tracks[row]
        try:
            if track["track_id"] in problems:
                raise AudioError(track["track_id"], problems[track["track_id"]])
            if "features" not in track:
                audio = track["audio"]["bytes"] or track["audio"]["path"]
                track["waveform"] = load_audio(
                    audio, extractor.sampling_rate, name=track["track_id"], shortest_seconds=shortest_seconds
                )
        except AudioError as error:
            skipped.append({"track_id": track["track_id"], "reason": error.reason})
            continue
        stacks.append(np.asarray(track_windows(track, extractor)))
        used.append({name: track[name] for name in _ROW})
    counts = [len(stack) for stack in stacks]
    embeddings = np.split(embed_windows(model, stacks, batch_size), np.cumsum(counts)[:-1]) if stacks else []
    if not windows:
        embeddings = [embedding.mean(axis=0, keepdims=True) for embedding in embeddings]
    columns = {
        name: pa.array([track[name] for track, stack in zip(used, embeddings, strict=True) for _ in stack], kind)
        for name, kind in _ROW.items()
    }
    if windows:
        columns["window"] = pa.array([window for count in counts for window in range(count)], pa.int32())
    flat = np.concatenate(embeddings).reshape(-1) if embeddings else np.zeros(0, np.float32)
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), model.embedding_size)
    return pa.table(columns).replace_schema_metadata({_SKIPPED: json.dumps(skipped, ensure_ascii=False)})


@torch.inference_mode()
def embed_windows(model: PreTrainedModel, stacks: list[np.ndarray], batch_size: int | None = None) -> np.ndarray:
    """Return the embeddings of the windows of all stacks, float32 [windows, hidden]."""
    batches = torch.from_numpy(np.concatenate(stacks)).split(batch_size or BATCH_SIZES[model.device.type])
    batches = [model(batch.to(model.device)).pooler_output.float().cpu() for batch in batches]
    return torch.cat(batches).numpy()


def _join(files: list[Path], output: Path, recorded: dict[bytes, str]) -> None:
    """Join the parts in one file with `recorded` in its metadata."""
    tables = [pq.read_table(file) for file in files]
    skipped = [row for table in tables for row in json.loads(table.schema.metadata[_SKIPPED])]
    if not sum(map(len, tables)):
        first = f"; the first: {skipped[0]['track_id']}: {skipped[0]['reason']}" if skipped else ""
        raise DataError(f"no track can be used{first}")
    metadata = {**recorded, _SKIPPED: json.dumps(skipped, ensure_ascii=False)}
    write_table(output, tables, tables[0].schema.with_metadata(metadata))
