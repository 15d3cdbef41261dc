"""The figures of models that name several genres a track, all by scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import sklearn
from scipy.stats import bootstrap
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from .metrics import BOOTSTRAP_SEED, Interval


# A genre is named from this probability on.
THRESHOLD = 0.5
# Fewer than for the accuracy: each sorts the tracks once for each genre.
MAP_RESAMPLES = 1_000


def multi_label_metrics(probabilities: np.ndarray, references: np.ndarray) -> dict[str, float | None]:
    """Return ranking and decision figures of several genres a track.

    Macro figures are means over the genres: of average precision and F1 over those that some track has, of ROC-AUC over
    those that some track has and some lacks. Micro figures count all decisions of all genres together. A figure that is
    not defined (no such genre) is None.

    Args:
        probabilities: [tracks, labels].
        references: Zeros and ones [tracks, labels].

    Returns:
        macro_map, micro_map (mean average precision), macro_roc_auc, macro_f1, micro_f1 and exact_match (share of the
        tracks with all genres right), the last three with genres named from a probability of 0.5 on.
    """
    references = np.asarray(references).astype(int)
    predictions = (np.asarray(probabilities) >= THRESHOLD).astype(int)
    occurring = np.flatnonzero(references.any(axis=0))
    figures = {
        "macro_map": _mean(_average_precisions(probabilities, references)),
        "micro_map": average_precision_score(references.ravel(), np.ravel(probabilities)) if len(occurring) else None,
        "macro_roc_auc": _mean(_roc_aucs(probabilities, references)),
        "macro_f1": f1_score(references, predictions, labels=occurring, average="macro", zero_division=0)
        if len(occurring)
        else None,
        "micro_f1": f1_score(references, predictions, average="micro", zero_division=0),
        "exact_match": accuracy_score(references, predictions),
    }
    return {name: None if value is None else float(value) for name, value in figures.items()}


def left_out(references: np.ndarray) -> dict[str, int]:
    """Return how many genres the macro figures leave out: those without tracks, and those that all or no tracks have."""
    counts = np.asarray(references).astype(int).sum(axis=0)
    return {
        "genres_without_tracks": int((counts == 0).sum()),
        "genres_without_both": int(((counts == 0) | (counts == len(references))).sum()),
    }


def map_interval(probabilities: np.ndarray, references: np.ndarray) -> Interval | None:
    """Return the 95 % interval of the macro mAP by bootstrap over tracks; None for a single track.

    A genre that no track of a resample has is left out of that resample's mean.
    """
    probabilities, references = np.asarray(probabilities), np.asarray(references).astype(int)
    if len(references) < 2:
        return None

    def resampled(rows: np.ndarray) -> float:
        with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):  # checked once is enough
            return _mean(_average_precisions(probabilities[rows], references[rows])) or 0.0

    found = bootstrap(
        (np.arange(len(references)),),
        resampled,
        n_resamples=MAP_RESAMPLES,
        vectorized=False,
        confidence_level=0.95,
        method="percentile",
        rng=np.random.default_rng(BOOTSTRAP_SEED),
    )
    method = f"95 % percentile bootstrap over tracks, {MAP_RESAMPLES:,} resamples, seed {BOOTSTRAP_SEED}"
    low, high = (float(value) for value in found.confidence_interval)
    if low == high:
        method += "; all resamples are alike: there are too few tracks, or they are too easy, to say how sure this is"
    return Interval(low, high, method)


def multi_label_table(
    probabilities: np.ndarray, references: np.ndarray, genres: Sequence[str]
) -> list[dict[str, Any]]:
    """Return tracks (positives), average precision, ROC-AUC, precision, recall and F1 of each genre; None: undefined."""
    references = np.asarray(references).astype(int)
    predictions = (np.asarray(probabilities) >= THRESHOLD).astype(int)
    precision, recall, f1, support = precision_recall_fscore_support(
        references, predictions, average=None, zero_division=0
    )
    columns = zip(
        genres,
        support,
        _average_precisions(probabilities, references),
        _roc_aucs(probabilities, references),
        precision,
        recall,
        f1,
        strict=True,
    )
    names = ("genre", "tracks", "average_precision", "roc_auc", "precision", "recall", "f1")
    return [
        {
            name: value if value is None or name == "genre" else value.item()
            for name, value in zip(names, row, strict=True)
        }
        for row in columns
    ]


def _average_precisions(probabilities: np.ndarray, references: np.ndarray) -> list[np.float64 | None]:
    """Return the average precision of each label, None for one that no track has."""
    return [
        np.float64(average_precision_score(truth, scores)) if truth.any() else None
        for truth, scores in zip(references.T, np.asarray(probabilities).T, strict=True)
    ]


def _roc_aucs(probabilities: np.ndarray, references: np.ndarray) -> list[np.float64 | None]:
    """Return the area under the ROC curve of each label, None for one that all or no tracks have."""
    return [
        np.float64(roc_auc_score(truth, scores)) if truth.any() and not truth.all() else None
        for truth, scores in zip(references.T, np.asarray(probabilities).T, strict=True)
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
