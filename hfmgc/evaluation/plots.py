"""Plots of results. matplotlib is imported when something is drawn, because many commands draw nothing."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import atomic_write
from ..text import one_line


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D


TRAINING_CURVE, IMPORTANCES, RESTORED = "training_curve.png", "importances.png", "restored.png"
MAX_FEATURES = 30  # in the plot of importances
MAX_GENRES = 10  # in the plot of a timeline
# The legend is below the axes, where it covers nothing.
_LEGEND = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "borderaxespad": 4, "ncols": 2, "fontsize": "small"}


def plot_counts(
    counts: Sequence[Sequence[int]],
    genres: Sequence[str],
    path: Path,
    *,
    title: str,
    columns: Sequence[str] | None = None,
    column: str = "predicted genre",
    unit: str = "tracks",
) -> None:
    """Save counts [true genre][column] as PNG, coloured by their share of the genre's total.

    By default they are a confusion matrix. Otherwise `columns` are the names of the columns, `column` is the label of their
    axis, and `unit` is what is counted.
    """
    columns = genres if columns is None else columns
    matrix = np.asarray(counts)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(totals, 1)
    height, width = (max(4.5, 0.62 * len(names) + 2) for names in (genres, columns))
    figure, axes = _figure(width, height * 0.92, title, xlabel=column, ylabel="true genre")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    # An inset is as high as the matrix; a plain colour bar can be higher.
    bar = axes.inset_axes([1 + 0.15 / width, 0, 0.3 / width, 1])
    figure.colorbar(image, cax=bar, label=f"share of the true genre's {unit}")
    axes.set_xticks(np.arange(len(columns)), map(one_line, columns), rotation=45, ha="right", parse_math=False)
    axes.set_yticks(np.arange(len(genres)), map(one_line, genres), parse_math=False)
    for row, position in np.argwhere(matrix > 0):
        colour = "white" if shares[row, position] > 0.55 else "black"
        axes.text(position, row, matrix[row, position], ha="center", va="center", color=colour)
    for row in np.flatnonzero(totals == 0):
        axes.axhspan(row - 0.5, row + 0.5, facecolor="none", edgecolor="silver", hatch="///", linewidth=0)
        axes.text((len(columns) - 1) / 2, row, f"no {unit}", ha="center", va="center", color="dimgray")
    _save(figure, path)


def plot_average_precision(rows: Sequence[Mapping[str, Any]], tracks: int, path: Path, *, title: str) -> None:
    """Save a bar chart of the average precision of each genre as PNG, with chance: the genre's share of all `tracks`.

    Each row has `genre`, `tracks` and `average_precision` (None: no bar).
    """
    figure, axes = _figure(7, max(3.5, min(60.0, 0.26 * len(rows) + 1.4)), title, xlabel="average precision")
    names = [f"{row['genre']} ({row['tracks']})" for row in rows]
    positions = _plot_bars(axes, [row["average_precision"] or 0.0 for row in rows], names, label="model")
    shares = [row["tracks"] / max(tracks, 1) for row in rows]
    axes.scatter(shares, positions, marker="|", s=90, color="black", zorder=3, label="chance (share of the tracks)")
    for position, row in zip(positions, rows, strict=True):
        if row["average_precision"] is None:
            axes.text(0.01, position, "n/a", va="center", fontsize="small", color="dimgray")
    axes.set_xlim(0, 1)
    axes.legend(**_LEGEND)
    _save(figure, path)


def plot_accuracy_by_size(rows: Sequence[Mapping[str, Any]], path: Path, *, label: str, title: str) -> None:
    """Save the accuracy by size as PNG, with intervals and a dash for each run; `label` names the size.

    Each row has `name` (of its line), `size` (None: a horizontal line), `accuracy`, `low`, `high` and `accuracies` (one per
    run).
    """
    figure, axes = _figure(7, 4.5, title, xlabel=label, ylabel="accuracy, with the 95 % interval over tracks")
    sizes = list(dict.fromkeys(row["size"] for row in rows if row["size"] is not None))
    for number, name in enumerate(dict.fromkeys(row["name"] for row in rows)):
        line, colour = [row for row in rows if row["name"] == name], f"C{number}"
        if line[0]["size"] is None:
            axes.axhline(line[0]["accuracy"], color=colour, linestyle="--", label=name)
            continue
        offset = 0.08 * len(axes.containers)  # intervals of several lines are side by side
        positions = [sizes.index(row["size"]) + offset for row in line]
        means = np.array([row["accuracy"] for row in line])
        spread = np.abs(np.array([[row["low"], row["high"]] for row in line]).T - means)
        axes.errorbar(positions, means, yerr=spread, fmt="o-", capsize=4, color=colour, label=name)
        for position, row in zip(positions, line, strict=True):
            values = row["accuracies"]
            axes.scatter([position] * len(values), values, marker="_", s=120, color=colour, zorder=3)
    axes.set_xticks(range(len(sizes)), map(str, sizes))
    axes.legend(**_LEGEND)
    _save(figure, path)


def plot_training_curve(
    history: Sequence[Mapping[str, Any]], path: Path, *, measure: str, best: float | None, title: str
) -> None:
    """Save the losses and the validation metric `measure` in a Trainer's `log_history` by epoch as PNG.

    `best`, the value of the metric that chose the checkpoint, is marked.
    """
    figure, axes = _figure(7, 4.5, title, xlabel="epoch", ylabel="loss")
    axes.xaxis.get_major_locator().set_params(integer=True)
    lines = [*_plot_logged(axes, history, "loss", "train loss", color="tab:blue")]
    lines += _plot_logged(axes, history, "eval_loss", "validation loss", color="tab:orange", marker=".")
    if measure != "loss":
        axes = axes.twinx()
        axes.set_ylabel(measure)
        lines += _plot_logged(axes, history, f"eval_{measure}", f"validation {measure}", color="tab:green", marker=".")
    best_epochs = [row["epoch"] for row in history if best is not None and row.get(f"eval_{measure}") == best]
    if best_epochs:
        lines += axes.plot(best_epochs[:1], [best], "*", color="black", markersize=11, label="best checkpoint")
    axes.legend(handles=lines, **_LEGEND)
    _save(figure, path)


def plot_importances(names: Sequence[str], importances: np.ndarray, path: Path, *, title: str) -> None:
    """Save a bar chart of the most important features as PNG; the importances of all features sum to 1."""
    best = np.argsort(-importances, kind="stable")[:MAX_FEATURES]
    figure, axes = _figure(7, 0.22 * len(best) + 1.4, title, xlabel="importance (mean decrease of impurity)")
    _plot_bars(axes, importances[best], [names[index] for index in best])
    _save(figure, path)


def plot_losses(histories: Mapping[str, Sequence[Mapping[str, Any]]], path: Path, *, title: str) -> None:
    """Save the train losses (solid) and validation losses (dashed) of runs by step as PNG; `histories`: name -> `log_history`."""
    figure, axes = _figure(7, 4.5, title, xlabel="step", ylabel="loss")
    for name, history in histories.items():
        (line,) = _plot_logged(axes, history, "loss", f"{name}, train", x="step") or axes.plot([], [])
        style = {"color": line.get_color(), "linestyle": "--"}
        _plot_logged(axes, history, "eval_loss", f"{name}, validation", x="step", **style)
    axes.legend(**_LEGEND)
    _save(figure, path)


def plot_projection(
    points: np.ndarray, genres: Sequence[str], path: Path, *, title: str, axis_names: Sequence[str]
) -> None:
    """Save points [tracks, 2] coloured by genre as PNG."""
    from matplotlib import colormaps

    figure, axes = _figure(8, 6.5, title, xlabel=axis_names[0], ylabel=axis_names[1])
    names = sorted(set(genres))
    # 20 colours, then the next marker.
    colours, markers = colormaps["tab10" if len(names) <= 10 else "tab20"].colors, "osD^vP*X"
    size = float(np.clip(4000 / len(points), 4, 40))
    for number, name in enumerate(names):
        group = points[[genre == name for genre in genres]]
        axes.scatter(
            group[:, 0], group[:, 1], s=size, linewidths=0, alpha=0.8, label=one_line(name),
            color=colours[number % len(colours)], marker=markers[number // len(colours) % len(markers)],
        )  # fmt: skip
    legend = axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize="small", markerscale=1.5)
    for text in legend.get_texts():
        text.set_parse_math(False)
    _save(figure, path)


def plot_restored(originals: np.ndarray, inputs: np.ndarray, restored: np.ndarray, path: Path, *, title: str) -> None:
    """Save spectrograms [windows, frames, bins], the inputs of a model and its restored spectrograms side by side as PNG.

    The colours of a row are scaled to the original.
    """
    figure = _empty_figure(9, 2.6 * len(originals) + 0.6)
    grid = figure.subplots(len(originals), 3, squeeze=False)
    for row, pictures in zip(grid, zip(originals, inputs, restored, strict=True), strict=True):
        low, high = float(pictures[0].min()), float(pictures[0].max())
        for axes, picture in zip(row, pictures, strict=True):
            axes.imshow(np.asarray(picture).T, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high)
            axes.set_xticks([])
            axes.set_yticks([])
        row[0].set_ylabel("bins")
    for axes, name in zip(grid[0], ("original", "input", "restored"), strict=True):
        axes.set_title(name)
    for axes in grid[-1]:
        axes.set_xlabel("time")
    # Above the titles of the first row.
    figure.suptitle(_wrap(title), fontsize="medium", parse_math=False, y=1, va="bottom")
    _save(figure, path)


def plot_timeline(
    probabilities: np.ndarray, genres: Sequence[str], starts: np.ndarray, ends: np.ndarray, path: Path, *, title: str
) -> None:
    """Save the probabilities [windows, genres] of a song's likeliest genres over time as PNG; gaps stay white.

    `starts` and `ends` [windows] are in seconds.
    """
    figure, axes = _figure(10, 4, title, xlabel="seconds")
    likeliest = probabilities.mean(axis=0).argsort()[::-1][:MAX_GENRES]
    axes.set_yticks(range(len(likeliest)), [one_line(genres[index]) for index in likeliest], parse_math=False)
    axes.invert_yaxis()
    edges = np.stack([starts, np.minimum(ends, np.append(starts[1:], np.inf))], axis=1)
    values = np.full((len(likeliest), 2 * len(edges) - 1), np.nan)
    values[:, ::2] = probabilities[:, likeliest].T
    mesh = axes.pcolormesh(edges.ravel(), np.arange(len(likeliest) + 1) - 0.5, values, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(mesh, label="probability")
    _save(figure, path)


def _plot_logged(
    axes: "Axes", history: Sequence[Mapping[str, Any]], key: str, label: str, *, x: str = "epoch", **style: Any
) -> "list[Line2D]":
    points = [(row[x], row[key]) for row in history if key in row]
    return axes.plot(*zip(*points, strict=True), label=label, **style) if points else []


def _plot_bars(axes: "Axes", values: Sequence[float], names: Sequence[str], label: str | None = None) -> np.ndarray:
    """Draw horizontal bars, the first at the top; return their positions."""
    positions = np.arange(len(values))
    axes.barh(positions, values, color="tab:blue", label=label)
    axes.set_yticks(positions, map(one_line, names), fontsize="small", parse_math=False)
    axes.invert_yaxis()
    return positions


def _empty_figure(width: float, height: float) -> "Figure":
    """Return a figure (size in inches). Unlike pyplot, `Figure` needs no global state and no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def _figure(width: float, height: float, title: str, **labels: str) -> "tuple[Figure, Axes]":
    """Return a figure and its labelled axes."""
    figure = _empty_figure(width, height)
    axes = figure.add_subplot(**labels)
    axes.set_title(_wrap(title), fontsize="medium", parse_math=False)
    return figure, axes


def _wrap(title: str) -> str:
    return textwrap.fill(one_line(title), 70)


def _save(figure: "Figure", path: Path) -> None:
    """Write a PNG that grows with the labels: a layout of fixed size would shrink the axes to nothing."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, bbox_inches="tight", pad_inches=0.1)
