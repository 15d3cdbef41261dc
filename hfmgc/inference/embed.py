"""Embeddings of the tracks of a dataset, in a parquet file: `hfmgc embed`."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm.auto import tqdm
from transformers import AutoModel, PreTrainedModel

from ..data.audio import SHORTEST_SECONDS
from ..data.caching import code_identity, reading_cache, table_fingerprint
from ..data.corpus import decode_track
from ..data.features import check_front_end, track_windows
from ..data.sources import open_source
from ..data.sources.contract import TrackSource
from ..data.sources.feature_rows import feature_problems
from ..errors import ConfigError, DataError, first_line
from ..evaluation.checkpoints import load_checkpoint, network_digest, weights_digest
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from .parts import write_in_parts, write_table
from .songs import BATCH_SIZES


TRACKS_PER_PART = 32
_ROW = {
    "track_id": pa.string(),
    "genre": pa.string(),
    "genres": pa.list_(pa.string()),
    "artist": pa.string(),
    "split": pa.string(),
}
# Keys in the metadata of the parquet file.
_DIGEST = b"hfmgc_digest"  # digest of everything that the rows depend on
_SKIPPED = b"hfmgc_skipped"  # tracks that could not be used
CHECKPOINT = b"hfmgc_checkpoint"  # name and revision of the checkpoint, as given
NETWORK = b"hfmgc_network"  # its `network_digest`


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
    """Write the embeddings of all usable tracks to a parquet file.

    It has a row per track with the columns `track_id`, `genre`, `genres`, `artist`, `split` and `embedding`, the mean
    over the windows of the track (float32 [hidden]).

    Args:
        checkpoint: The checkpoint, for `load_checkpoint`.
        data: The dataset, for `open_source`, as are `data_options` and `exclude`.
        output: Parquet file to write.
        data_options: Options of the dataset.
        exclude: Path of a list of tracks to exclude.
        revision: Commit of the checkpoint's repository.
        windows: Write a row per window, with the index of the window in the track as column `window`.
        batch_size: Windows per batch; by default from `BATCH_SIZES`.
        shortest_seconds: Skip shorter audio.

    Returns:
        The number of `rows`, the size of an embedding (`hidden`) and the `skipped` tracks.

    Raises:
        CheckpointError: If the checkpoint cannot be used.
        ConfigError: If `output` does not end in .parquet, or exists and holds other results.
        DataError: If no track can be used.
        SaveError: If `output` cannot be written.
    """
    if output.suffix.lower() != ".parquet":
        raise ConfigError(f"output {output}: not a parquet file: name a file that ends in .parquet")
    model, extractor = load_checkpoint(checkpoint, revision, auto_class=AutoModel)
    source = open_source(data, data_options, exclude=exclude)
    check_front_end(source, extractor)
    tracks = source.tracks()
    options = {"windows": windows, "shortest_seconds": shortest_seconds}
    network = network_digest(model, extractor)
    inputs = [network, table_fingerprint(tracks), source.card.name, options, sorted(source.excluded or ())]
    digest = weights_digest([*inputs, code_identity("decoding", "features"), TRACKS_PER_PART])
    metadata = {_DIGEST: digest, CHECKPOINT: json.dumps([checkpoint, revision]), NETWORK: network}

    def compute(missing: list[range]) -> Iterator[pa.Table]:
        problems = _find_problems(source, tracks)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        for rows in tqdm(missing, desc=f"embedding {len(tracks)} tracks", unit="part"):
            yield _embed_rows(model, extractor, tracks, rows, problems, batch_size, **options)

    write_in_parts(output, digest, len(tracks), TRACKS_PER_PART, compute, partial(_join, metadata), _read_digest)
    file = pq.ParquetFile(output)
    return {
        "rows": file.metadata.num_rows,
        "hidden": model.embedding_size,
        "skipped": json.loads(file.schema_arrow.metadata[_SKIPPED]),
    }


class Embeddings(NamedTuple):
    """The content of a file that `embed_tracks` wrote.

    Args:
        rows: The columns apart from the embeddings.
        values: The embeddings [rows, hidden].
        checkpoint: Name or path of the checkpoint, as given.
        revision: Commit of the checkpoint's repository, as given.
        network: The `network_digest` of the checkpoint.
    """

    rows: pa.Table
    values: np.ndarray
    checkpoint: str
    revision: str | None
    network: str


def read_embeddings(path: Path) -> Embeddings:
    """Read a parquet file that `embed_tracks` wrote.

    Raises:
        DataError: If it is another file, or is damaged.
    """
    try:
        table = pq.read_table(path)
        metadata = table.schema.metadata or {}
        checkpoint, network = json.loads(metadata[CHECKPOINT]), metadata[NETWORK].decode()
        values = np.stack(table["embedding"].to_numpy(zero_copy_only=False))
        broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(broken):
            raise ValueError(f"the embedding of {table['track_id'][int(broken[0])]} has NaN or infinite values")
        return Embeddings(table.drop_columns("embedding"), values, *checkpoint, network)
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        problem = first_line(error) if path.is_file() else "no such file"
        raise DataError(f"{path}: not embeddings ({problem}): give a file that `hfmgc embed` wrote") from error


def _find_problems(source: TrackSource, tracks: datasets.Dataset) -> list[str | None]:
    """Return for each track the problem that is known before decoding, or None."""
    reasons = [source.reason_to_skip(track_id) for track_id in tracks["track_id"][:]]
    if "features" not in tracks.column_names:
        return reasons
    return [reason or problem for reason, problem in zip(reasons, feature_problems(tracks), strict=True)]


def _embed_rows(
    model: PreTrainedModel,
    extractor: WindowedFeatureExtractor,
    tracks: datasets.Dataset,
    rows: Sequence[int],
    problems: Sequence[str | None],
    batch_size: int | None,
    *,
    windows: bool,
    shortest_seconds: float,
) -> pa.Table:
    """Return the table for some of the tracks; its metadata lists the tracks that cannot be used."""
    stacks, skipped, used = [], [], []
    for row in rows:
        track, problem = tracks[row], problems[row]
        if not problem and "features" not in track:
            track |= decode_track(track, extractor.sampling_rate, shortest_seconds)
            problem = track["problem"]
        if problem:
            skipped.append({"track_id": track["track_id"], "reason": problem})
        else:
            stacks.append(np.asarray(track_windows(track, extractor)))
            used.append({name: track[name] for name in _ROW})
    ends = np.cumsum([len(stack) for stack in stacks])
    stacks = np.split(embed_windows(model, stacks, batch_size), ends[:-1]) if stacks else []
    if not windows:
        stacks = [stack.mean(axis=0, keepdims=True) for stack in stacks]
    embedded = [
        {**track, "window": window, "embedding": embedding}
        for track, stack in zip(used, stacks, strict=True)
        for window, embedding in enumerate(stack)
    ]
    columns = {**_ROW, **({"window": pa.int32()} if windows else {})}
    columns["embedding"] = pa.list_(pa.float32(), model.embedding_size)
    metadata = {_SKIPPED: json.dumps(skipped, ensure_ascii=False)}
    return pa.Table.from_pylist(embedded, pa.schema(columns, metadata))


@torch.inference_mode()
def embed_windows(model: PreTrainedModel, stacks: list[np.ndarray], batch_size: int | None = None) -> np.ndarray:
    """Return the embeddings of the windows of all stacks, float32 [windows, hidden]."""
    batches = torch.from_numpy(np.concatenate(stacks)).split(batch_size or BATCH_SIZES[model.device.type])
    batches = [model(batch.to(model.device)).pooler_output.float().cpu() for batch in batches]
    return torch.cat(batches).numpy()


def _join(metadata: dict[bytes, str], output: Path, tables: list[pa.Table]) -> None:
    """Write the parts to one file with this metadata and a list of the skipped tracks."""
    skipped = [row for table in tables for row in json.loads(table.schema.metadata[_SKIPPED])]
    if not sum(map(len, tables)):
        first = f" (the first: {skipped[0]['track_id']}: {skipped[0]['reason']})" if skipped else ""
        raise DataError(f"no track can be used{first}: check the data with hfmgc check")
    metadata = {**metadata, _SKIPPED: json.dumps(skipped, ensure_ascii=False)}
    write_table(output, pa.concat_tables(tables).replace_schema_metadata(metadata))


def _read_digest(path: Path) -> str | None:
    """Return the digest in the metadata of a parquet file, or None."""
    try:
        return (pq.read_schema(path).metadata or {}).get(_DIGEST, b"").decode()
    except (OSError, pa.ArrowException):
        return None
