"""Plots of embeddings in two dimensions, coloured by genre: `hfmgc project`."""

from pathlib import Path
from typing import Any

from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

from ..errors import ConfigError, DataError, saving_to
from ..evaluation.plots import plot_projection
from .embed import read_embeddings


METHODS = {"tsne": "t-SNE", "pca": "PCA"}
NO_GENRE = "(no genre)"
PERPLEXITY = 30.0
FEWEST_POINTS = 4


def project_embeddings(embeddings: Path, output: Path, *, method: str = "tsne", seed: int = 0) -> dict[str, Any]:
    """Plot the rows of a file by `hfmgc embed` in two dimensions; return the number of points and genres.

    `tsne` reproduces Figure 2 of Divide and Conquer; the perplexity of 30 is ours. Each dimension of the embeddings is
    standardised first, because the scales of hand-made features differ.

    Raises:
        DataError: If `hfmgc embed` did not write the file, or the file is too small.
        ConfigError: If `output` is not a PNG.
        SaveError: If `output` cannot be written.
    """
    if output.suffix.lower() != ".png":
        raise ConfigError(f"output {output}: not a PNG: name a file that ends in .png")
    table = read_embeddings(embeddings)
    rows, dimensions = table.values.shape
    if rows < FEWEST_POINTS or dimensions < 2:
        raise DataError(
            f"{embeddings}: {rows} rows of {dimensions} values: give a file with at least {FEWEST_POINTS} rows of 2 values"
        )
    genres = [genre or NO_GENRE for genre in table.rows["genre"].to_pylist()]
    values = StandardScaler().fit_transform(table.values)
    if method == "pca":
        pca = PCA(2).fit(values)
        points, shares = pca.transform(values), pca.explained_variance_ratio_
        axis_names = [f"component {number} ({share:.0%})" for number, share in enumerate(shares, start=1)]
    else:
        points = TSNE(perplexity=min(PERPLEXITY, (rows - 1) / 3), random_state=seed).fit_transform(values)
        axis_names = ["t-SNE 1", "t-SNE 2"]
    checkpoint = Path(table.checkpoint)
    name = checkpoint.resolve().name if checkpoint.exists() else table.checkpoint
    title = f"{METHODS[method]} of {rows} embeddings by {name} ({embeddings.name})"
    with saving_to(output.parent):
        output.parent.mkdir(parents=True, exist_ok=True)
        plot_projection(points, genres, output, title=title, axis_names=axis_names)
    return {"points": len(points), "genres": len(set(genres)), "method": method}
