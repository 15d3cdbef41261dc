"""Results as pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def plot_confusion_matrix(counts: Sequence[Sequence[int]], genres: Sequence[str], path: Path, *, title: str) -> None:
    """Draw counts [true][predicted], coloured by the share of the true genre's tracks, and save them as PNG."""
    matrix = np.asarray(counts)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    size = max(4.5, 0.62 * len(genres) + 2)
    # Without pyplot: no global state, and no display is looked for.
    figure = Figure(figsize=(size, size * 0.92), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = np.arange(len(genres))
    axes.set_xticks(ticks, genres, rotation=45, ha="right")
    axes.set_yticks(ticks, genres)
    axes.set_xlabel("predicted genre")
    axes.set_ylabel("true genre")
    axes.set_title(title, fontsize="medium")
    for row, column in np.argwhere(matrix > 0):
        colour = "white" if shares[row, column] > 0.55 else "black"
        axes.text(column, row, matrix[row, column], ha="center", va="center", color=colour)
    figure.savefig(path, dpi=150)
