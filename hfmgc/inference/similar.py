"""The songs of an embeddings file that are nearest to a song: `hfmgc similar`."""

from pathlib import Path
from typing import Any

from sklearn.neighbors import NearestNeighbors
from transformers import AutoModel

from ..data.audio import load_audio
from ..errors import ConfigError
from ..evaluation.checkpoints import load_checkpoint, network_digest, require_audio
from .embed import embed_windows, read_embeddings


def similar_songs(
    song: str, embeddings: Path, *, checkpoint: str | None = None, top_k: int = 10
) -> list[dict[str, Any]]:
    """Return the nearest rows of a parquet file by `hfmgc embed`: its columns without the embedding, and `similarity`.

    The song is embedded as those of the file were. `checkpoint` says where their checkpoint is now, if it was moved.

    Raises:
        AudioError: If the song cannot be used.
        CheckpointError: If the checkpoint cannot be used.
        ConfigError: If it is not the checkpoint of the embeddings.
        DataError: If the file is not one by `hfmgc embed`.
    """
    table = read_embeddings(embeddings)
    name, revision = (checkpoint, None) if checkpoint else (table.checkpoint, table.revision)
    model, extractor = load_checkpoint(name, revision, auto_class=AutoModel)
    require_audio(name, extractor)
    if network_digest(model, extractor) != table.network or table.values.shape[1] != model.embedding_size:
        raise ConfigError(f"{embeddings} was not embedded with {name}: name its --checkpoint, or rerun `hfmgc embed`")
    windows = extractor.track_windows(load_audio(song, extractor.sampling_rate))
    embedding = embed_windows(model, [windows]).mean(axis=0)
    nearest = NearestNeighbors(n_neighbors=min(top_k, len(table.values)), metric="cosine").fit(table.values)
    distances, rows = nearest.kneighbors(embedding[None])
    found = zip(table.rows.take(rows[0]).to_pylist(), distances[0], strict=True)
    return [row | {"similarity": 1 - float(distance)} for row, distance in found]
