"""What the report of a model that names several genres a track has in place of accuracies and a confusion matrix."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..text import one_line
from .multi_label_metrics import THRESHOLD, left_out, map_interval, multi_label_metrics, multi_label_table
from .predictions import MultiLabelPredictions


if TYPE_CHECKING:
    from .report import EvaluationReport


def multi_label_figures(predictions: MultiLabelPredictions, genres: Sequence[str]) -> dict[str, Any]:
    """Return the fields of the report that are computed from the predictions."""
    probabilities, references = predictions.probabilities, predictions.references
    interval = map_interval(probabilities, references)
    metrics = {**multi_label_metrics(probabilities, references), **left_out(references)}
    if interval is not None:
        metrics |= {"macro_map_interval": [interval.low, interval.high], "interval_method": interval.method}
    return {
        "metrics": metrics,
        "per_genre": multi_label_table(probabilities, references, genres),
        "predictions": [
            _row(track_id, truth, answer, scores, genres)
            for track_id, truth, answer, scores in zip(
                predictions.track_ids, references, predictions.predictions, probabilities, strict=True
            )
        ],
    }


def multi_label_lines(report: "EvaluationReport") -> list[str]:
    """Return the table and the figures to read."""
    metrics = report.metrics
    left = max(24, 2 + max(len(one_line(row["genre"])) for row in report.per_genre))
    names = ("average_precision", "roc_auc", "precision", "recall", "f1")
    lines = [
        f"{'genre':<{left}}{'tracks':>8}{'average precision':>19}{'roc-auc':>9}{'precision':>11}{'recall':>9}{'f1':>9}",
        *(
            f"{one_line(row['genre']):<{left}}{row['tracks']:>8}"
            + "".join(
                f"{_shown(row[name] if row['tracks'] else None):>{width}}"
                for name, width in zip(names, (19, 9, 11, 9, 9), strict=True)
            )
            for row in report.per_genre
        ),
        "",
    ]
    low, high = metrics.get("macro_map_interval") or (None, None)
    interval = f"  (95 % interval {low:.3f} to {high:.3f})" if low is not None else ""
    lines += [
        f"average precision, mean of genres  {_shown(metrics['macro_map'])}{interval}",
        f"average precision, all decisions   {_shown(metrics['micro_map'])}",
        f"roc-auc, mean of genres            {_shown(metrics['macro_roc_auc'])}",
        f"f1 from {THRESHOLD} on: mean of genres       {_shown(metrics['macro_f1'])}",
        f"f1 from {THRESHOLD} on: all decisions        {_shown(metrics['micro_f1'])}",
        f"tracks with all genres right       {_shown(metrics['exact_match'])}",
    ]
    if metrics["genres_without_both"]:
        lines.append(
            f"left out of the means: {metrics['genres_without_tracks']} genres without tracks; of roc-auc "
            f"{metrics['genres_without_both']}, which all or no tracks have"
        )
    return lines


def _row(
    track_id: str, truth: Sequence[int], answer: Sequence[bool], scores: Sequence[float], genres: Sequence[str]
) -> dict[str, Any]:
    """Return what is listed of a track: its genres, those that were named, and the probabilities of both."""
    listed = [index for index in range(len(genres)) if truth[index] or answer[index]]
    return {
        "track_id": track_id,
        "genres": [genres[index] for index in listed if truth[index]],
        "predicted": [genres[index] for index in listed if answer[index]],
        "probabilities": {genres[index]: round(float(scores[index]), 6) for index in listed},
    }


def _shown(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
