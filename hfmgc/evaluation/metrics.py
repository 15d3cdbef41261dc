"""The figures of a classification report, without the network that `evaluate.load` needs."""

from collections.abc import Sequence
from typing import NamedTuple

import datasets
import evaluate
import numpy as np
from scipy.stats import binomtest, bootstrap
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from ..models.losses import IGNORED_LABEL


BOOTSTRAP_RESAMPLES = 10_000
BOOTSTRAP_SEED = 0
INTERVAL_METHOD = f"95 % percentile bootstrap over tracks, {BOOTSTRAP_RESAMPLES:,} resamples, seed {BOOTSTRAP_SEED}"


class GenreMetrics(evaluate.Metric):
    """Top-1 accuracy, macro precision, recall and F1, and one-vs-rest accuracy, as an `evaluate.Metric`.

    Macro figures and `ovr_accuracy` are means over the genres that occur in the references (ours, for test sides that
    lack one; the papers' have all). `ovr_accuracy` is Eq. 10 of the TS-Resformer paper, the mean of (TP + TN) / (TP +
    TN + FP + FN): with many genres it is high for any model, and not to be compared with `accuracy`. Tracks with the
    reference -100 are left out, as the loss leaves them out.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="predictions and references: genre indices; num_labels: how many genres there are",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: Sequence[int], references: Sequence[int], num_labels: int) -> dict[str, float]:
        predictions, references = np.asarray(predictions), np.asarray(references)
        counted = references != IGNORED_LABEL
        predictions, references = predictions[counted], references[counted]
        occurring = np.unique(references)
        precision, recall, f1, _ = precision_recall_fscore_support(
            references, predictions, labels=occurring, average="macro", zero_division=0
        )
        return {
            "accuracy": float(accuracy_score(references, predictions)),
            "macro_precision": float(precision),
            "macro_recall": float(recall),
            "macro_f1": float(f1),
            "ovr_accuracy": float(one_vs_rest_accuracy(predictions, references, num_labels)[occurring].mean()),
        }


def genre_metrics(predictions: Sequence[int], references: Sequence[int], num_labels: int) -> dict[str, float]:
    """Compute `GenreMetrics`, an `evaluate.Metric` that needs no network, in memory.

    Args:
        predictions: Genre indices [tracks].
        references: True genre indices [tracks].
        num_labels: How many genres the model knows.

    Example:

    >>> import hfmgc
    >>> hfmgc.genre_metrics(predictions=[0, 1, 1], references=[0, 1, 2], num_labels=3)["macro_recall"]
    0.6666666666666666
    """
    metric = GenreMetrics(keep_in_memory=True)
    return metric.compute(predictions=predictions, references=references, num_labels=num_labels)


def one_vs_rest_accuracy(predictions: np.ndarray, references: np.ndarray, num_labels: int) -> np.ndarray:
    """Return (TP + TN) / all for each genre, [labels] (TS-Resformer, Eq. 10)."""
    genres = np.arange(num_labels)[:, None]
    return ((predictions == genres) == (references == genres)).mean(axis=1)


class Interval(NamedTuple):
    """A 95 % interval and how it was found."""

    low: float
    high: float
    method: str


def accuracy_interval(predictions: Sequence[int], references: Sequence[int]) -> Interval:
    """Return the 95 % interval of the accuracy.

    By bootstrap over tracks; where all answers are right, or all wrong, every resample is the same, and the exact
    binomial interval (Clopper and Pearson) is given instead.
    """
    correct = (np.asarray(predictions) == np.asarray(references)).astype(float)
    if correct.min() == correct.max():
        exact = binomtest(int(correct.sum()), len(correct)).proportion_ci(0.95, method="exact")
        return Interval(float(exact.low), float(exact.high), "95 % exact binomial (all answers alike)")
    found = bootstrap(
        (correct,),
        np.mean,
        n_resamples=BOOTSTRAP_RESAMPLES,
        batch=max(1, 10_000_000 // len(correct)),
        confidence_level=0.95,
        method="percentile",
        rng=np.random.default_rng(BOOTSTRAP_SEED),
    ).confidence_interval
    return Interval(float(found.low), float(found.high), INTERVAL_METHOD)


def per_genre_table(
    predictions: Sequence[int], references: Sequence[int], genres: Sequence[str]
) -> list[dict[str, float | int | str]]:
    """Return tracks, precision, recall, F1 and one-vs-rest accuracy of each genre."""
    labels = np.arange(len(genres))
    precision, recall, f1, support = precision_recall_fscore_support(
        references, predictions, labels=labels, zero_division=0
    )
    ovr_accuracy = one_vs_rest_accuracy(np.asarray(predictions), np.asarray(references), len(genres))
    return [
        {
            "genre": genre,
            "tracks": int(support[i]),
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "ovr_accuracy": float(ovr_accuracy[i]),
        }
        for i, genre in enumerate(genres)
    ]


def confusion(predictions: Sequence[int], references: Sequence[int], num_labels: int) -> list[list[int]]:
    """Return counts [true genre][predicted genre]."""
    return confusion_matrix(references, predictions, labels=np.arange(num_labels)).tolist()
