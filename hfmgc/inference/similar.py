"""The songs whose embeddings are nearest to a song's: `hfmgc similar`."""

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
    """Return the `top_k` songs of a parquet file by `hfmgc embed` that are most similar to a song.

    Args:
        song: Audio file.
        embeddings: The parquet file.
        checkpoint: New path of the checkpoint that computed the embeddings, if it was moved.
        top_k: Number of songs to return.

    Returns:
        The columns of the nearest rows without the embedding, and `similarity` (cosine), the most similar song first.

    Raises:
        AudioError: If the song cannot be used.
        CheckpointError: If the checkpoint cannot be used.
        ConfigError: If another checkpoint computed the embeddings.
        DataError: If `hfmgc embed` did not write the file.
    """
    table = read_embeddings(embeddings)
    name, revision = (checkpoint, None) if checkpoint else (table.checkpoint, table.revision)
    model, extractor = load_checkpoint(name, revision, auto_class=AutoModel)
    require_audio(name, extractor)
    if network_digest(model, extractor) != table.network or table.values.shape[1] != model.embedding_size:
        raise ConfigError(
            f"{embeddings}: not computed by {name}: name the --checkpoint that did, or rerun `hfmgc embed`"
        )
    windows = extractor.track_windows(load_audio(song, extractor.sampling_rate))
    embedding = embed_windows(model, [windows]).mean(axis=0)
    nearest = NearestNeighbors(n_neighbors=min(top_k, len(table.values)), metric="cosine").fit(table.values)
    distances, rows = nearest.kneighbors(embedding[None])
    songs = table.rows.take(rows[0]).to_pylist()
    return [row | {"similarity": 1 - float(distance)} for row, distance in zip(songs, distances[0], strict=True)]
