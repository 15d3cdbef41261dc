"""Results as pictures."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..text import one_line


def plot_confusion_matrix(counts: Sequence[Sequence[int]], genres: Sequence[str], path: Path, *, title: str) -> None:
    """Draw counts [true][predicted], coloured by the share of the true genre's tracks, and save them as PNG."""
    _plot_counts(counts, genres, genres, path, title=title, of_columns="predicted genre")


def plot_expert_usage(counts: Sequence[Sequence[int]], genres: Sequence[str], path: Path, *, title: str) -> None:
    """Draw the windows of each genre that went to each expert [genre][expert], coloured by share, and save them as PNG."""
    experts = [str(index) for index in range(len(counts[0]))]
    _plot_counts(counts, genres, experts, path, title=title, of_columns="expert")


def _plot_counts(
    counts: Sequence[Sequence[int]],
    genres: Sequence[str],
    columns: Sequence[str],
    path: Path,
    *,
    title: str,
    of_columns: str,
) -> None:
    matrix = np.asarray(counts)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    height, width = (max(4.5, 0.62 * len(names) + 2) for names in (genres, columns))
    # Without pyplot: no global state, and no display is looked for.
    figure = Figure(figsize=(width, height * 0.92))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(np.arange(len(columns)), map(one_line, columns), rotation=45, ha="right", parse_math=False)
    axes.set_yticks(np.arange(len(genres)), map(one_line, genres), parse_math=False)
    axes.set_xlabel(of_columns)
    axes.set_ylabel("true genre")
    axes.set_title(textwrap.fill(title, 70), fontsize="medium", parse_math=False)
    for row, column in np.argwhere(matrix > 0):
        colour = "white" if shares[row, column] > 0.55 else "black"
        axes.text(column, row, matrix[row, column], ha="center", va="center", color=colour)
    _save(figure, path)


def plot_average_precision(rows: Sequence[Mapping[str, Any]], tracks: int, path: Path, *, title: str) -> None:
    """Draw the average precision of each genre as a bar, with what chance would give (its share), and save them as PNG.

    Args:
        rows: Of each genre `genre`, `tracks` and `average_precision` (None: no bar).
        tracks: How many there are in all.
        path: Of the PNG.
        title: Above it.
    """
    figure = Figure(figsize=(7, max(3.5, min(60.0, 0.26 * len(rows) + 1.4))))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = np.arange(len(rows))
    axes.barh(places, [row["average_precision"] or 0.0 for row in rows], color="tab:blue", label="model")
    shares = [row["tracks"] / max(tracks, 1) for row in rows]
    axes.scatter(shares, places, marker="|", s=90, color="black", zorder=3, label="chance (share of the tracks)")
    axes.set_yticks(places, [one_line(f"{row['genre']} ({row['tracks']})") for row in rows], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("average precision")
    axes.legend(loc="lower right", fontsize="small")
    axes.set_title(textwrap.fill(title, 70), fontsize="medium", parse_math=False)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Write a PNG that is as large as the labels need: a layout within the figure's size would shrink the axes to nothing."""
    figure.savefig(path, format="png", dpi=150, bbox_inches="tight", pad_inches=0.1)
