"""Metrics for several genres per track, from scikit-learn, and the interval of the mAP."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from .metrics import Interval, bootstrap_interval


# A genre with at least this probability counts as predicted.
THRESHOLD = 0.5
# Fewer resamples than for the accuracy, because each takes a pass over all tracks and genres.
MAP_RESAMPLES = 1_000


def multi_label_metrics(probabilities: np.ndarray, references: np.ndarray) -> dict[str, float | None]:
    """Return ranking and decision metrics of several genres per track.

    Macro metrics are means over genres. Average precision and F1 leave out genres without tracks; ROC-AUC also leaves out
    genres that all tracks have. Micro metrics count all decisions together. Undefined metrics are None.

    Args:
        probabilities: [tracks, labels].
        references: Zeros and ones [tracks, labels].

    Returns:
        macro_map and micro_map (mean average precision), macro_roc_auc, and, with a threshold of 0.5, macro_f1, micro_f1
        and exact_match (share of tracks with all genres right).
    """
    references = np.asarray(references).astype(int)
    predictions = (np.asarray(probabilities) >= THRESHOLD).astype(int)
    table = multi_label_table(probabilities, references, range(references.shape[1]))
    occurs = references.any()
    return {
        "macro_map": _mean([row["average_precision"] for row in table]),
        "micro_map": float(average_precision_score(references, probabilities, average="micro")) if occurs else None,
        "macro_roc_auc": _mean([row["roc_auc"] for row in table]),
        "macro_f1": _mean([row["f1"] for row in table if row["tracks"]]),
        "micro_f1": float(f1_score(references, predictions, average="micro", zero_division=0)),
        "exact_match": float(accuracy_score(references, predictions)),
    }


def map_interval(probabilities: np.ndarray, references: np.ndarray) -> Interval | None:
    """Return the 95 % interval of the macro mAP by bootstrap over tracks; None for a single track.

    In each resample, the mean leaves out the genres that no track has.
    """
    probabilities, references = np.asarray(probabilities), np.asarray(references).astype(int)
    if len(references) < 2:
        return None
    # scikit-learn would sort the tracks for each genre of each resample. Here they are sorted once; a resample only counts.
    order = np.argsort(-probabilities, axis=0, kind="stable")
    ranked = np.take_along_axis(references, order, axis=0)
    # Tracks with equal probabilities all get the precision at the last of them.
    scores = np.take_along_axis(probabilities, order, axis=0)
    ends = np.where(
        np.vstack([scores[:-1] != scores[1:], np.ones_like(scores[:1], bool)]),
        np.arange(len(scores))[:, None],
        len(scores),
    )
    ends = np.minimum.accumulate(ends[::-1], axis=0)[::-1]

    def macro_map(rows: np.ndarray) -> float:
        counts = np.bincount(rows, minlength=len(references))[order]
        hits = counts * ranked
        precision = hits.cumsum(axis=0) / np.maximum(counts.cumsum(axis=0), 1)
        total = hits.sum(axis=0)
        summed = (hits * np.take_along_axis(precision, ends, axis=0)).sum(axis=0)
        return float((summed[total > 0] / total[total > 0]).mean()) if total.any() else 0.0

    interval = bootstrap_interval(np.arange(len(references)), macro_map, MAP_RESAMPLES, vectorized=False)
    if interval.low == interval.high:
        method = f"{interval.method}; all resamples are equal: the tracks are too few or too easy for an interval"
        return interval._replace(method=method)
    return interval


def multi_label_table(
    probabilities: np.ndarray, references: np.ndarray, genres: Sequence[Any]
) -> list[dict[str, Any]]:
    """Return tracks (positives), average precision, ROC-AUC, precision, recall and F1 of each genre; None if undefined."""
    references = np.asarray(references).astype(int)
    predictions = (np.asarray(probabilities) >= THRESHOLD).astype(int)
    precision, recall, f1, support = precision_recall_fscore_support(
        references, predictions, average=None, zero_division=0
    )
    columns = {
        "genre": genres,
        "tracks": support.tolist(),
        "average_precision": _by_genre(average_precision_score, probabilities, references, references.any(axis=0)),
        "roc_auc": _by_genre(
            roc_auc_score, probabilities, references, references.any(axis=0) & ~references.all(axis=0)
        ),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _by_genre(
    score: Callable, probabilities: np.ndarray, references: np.ndarray, defined: np.ndarray
) -> list[float | None]:
    """Return the score of each genre [labels], None where `defined` [labels] is false."""
    return [
        float(score(truth, scores)) if is_defined else None
        for truth, scores, is_defined in zip(references.T, np.asarray(probabilities).T, defined, strict=True)
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
