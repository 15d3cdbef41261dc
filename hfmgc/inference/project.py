"""Embeddings in two dimensions, coloured by genre: `hfmgc project`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

from ..errors import ConfigError, DataError, saving_to
from ..evaluation.plots import plot_projection
from .embed import CHECKPOINT, read_embeddings


METHODS = {"tsne": "t-SNE", "pca": "PCA"}
NO_GENRE = "(no genre)"
PERPLEXITY = 30.0
FEWEST_POINTS = 4


def project_embeddings(embeddings: Path, output: Path, *, method: str = "tsne", seed: int = 0) -> dict[str, Any]:
    """Draw the rows of a file by `hfmgc embed` in two dimensions; return the number of points and genres.

    Each dimension of the embeddings is standardised first, because the scales of hand-made features differ.

    Args:
        embeddings: The parquet file.
        output: PNG to write.
        method: `tsne` (Divide and Conquer, Figure 2; its perplexity of 30 is ours) or `pca`.
        seed: Of t-SNE.

    Raises:
        DataError: If the file is not one by `hfmgc embed`, or has too few rows.
        ConfigError: If the output is not a PNG.
        SaveError: If it cannot be written.
    """
    if output.suffix.lower() != ".png":
        raise ConfigError(f"output {output}: its name must end in .png")
    table = read_embeddings(embeddings)
    values = np.stack(table["embedding"].to_numpy(zero_copy_only=False))
    if len(values) < FEWEST_POINTS:
        raise DataError(f"{embeddings}: {len(values)} rows are too few: a projection needs {FEWEST_POINTS}")
    genres = [genre or NO_GENRE for genre in table["genre"].to_pylist()]
    values = StandardScaler().fit_transform(values)
    if method == "pca":
        pca = PCA(min(2, values.shape[1])).fit(values)
        points = pca.transform(values)
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))  # of a single dimension
        axis_names = [f"component {i + 1} ({share:.0%})" for i, share in enumerate(pca.explained_variance_ratio_)]
        axis_names += [""] * (2 - len(axis_names))
    else:
        perplexity = min(PERPLEXITY, (len(values) - 1) / 3)
        points = TSNE(perplexity=perplexity, init="pca" if values.shape[1] > 1 else "random", random_state=seed)
        points, axis_names = points.fit_transform(values), ["t-SNE 1", "t-SNE 2"]
    checkpoint, _ = json.loads(table.schema.metadata[CHECKPOINT])
    name = Path(checkpoint).resolve().name if Path(checkpoint).exists() else checkpoint
    title = f"{METHODS[method]} of {len(points)} embeddings by {name}"
    with saving_to(output.parent):
        output.parent.mkdir(parents=True, exist_ok=True)
        plot_projection(points, genres, output, title=title, axis_names=axis_names)
    return {"points": len(points), "genres": len(set(genres)), "method": method}
