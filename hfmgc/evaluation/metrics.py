"""Metrics for one genre per track; unlike `evaluate.load`, they need no network."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import datasets
import evaluate
import numpy as np
from scipy.stats import binomtest, bootstrap
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from ..models.losses import IGNORED_LABEL


ACCURACY_RESAMPLES = 10_000
BOOTSTRAP_SEED = 0
MACRO_METRICS = ("macro_precision", "macro_recall", "macro_f1", "ovr_accuracy")


class GenreMetrics(evaluate.Metric):
    """Top-1 accuracy, macro precision, recall and F1, and one-vs-rest accuracy, as an `evaluate.Metric`.

    Macro metrics and `ovr_accuracy` are means over the genres that occur in the references (in the papers, all occur).
    `ovr_accuracy` is Eq. 10 of the TS-Resformer paper, the mean of (TP + TN) / (TP + TN + FP + FN). With many genres it
    is high for any model and cannot be compared with `accuracy`. Tracks with the reference -100 are ignored, as in the
    loss.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="predictions and references: genre indices; num_labels: number of genres",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: Sequence[int], references: Sequence[int], num_labels: int) -> dict[str, float]:
        predictions, references = np.asarray(predictions), np.asarray(references)
        labelled = references != IGNORED_LABEL
        predictions, references = predictions[labelled], references[labelled]
        table = per_genre_table(predictions, references, range(num_labels))
        columns = {name: name.removeprefix("macro_") for name in MACRO_METRICS}
        means = {
            name: float(np.mean([row[column] for row in table if row["tracks"]])) for name, column in columns.items()
        }
        return {"accuracy": float(accuracy_score(references, predictions)), **means}


def genre_metrics(predictions: Sequence[int], references: Sequence[int], num_labels: int) -> dict[str, float]:
    """Compute `GenreMetrics`, an `evaluate.Metric` that needs no network, in memory.

    Args:
        predictions: Genre indices [tracks].
        references: True genre indices [tracks].
        num_labels: Number of the model's genres.

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
    return ((np.asarray(predictions) == genres) == (np.asarray(references) == genres)).mean(axis=1)


class Interval(NamedTuple):
    """A 95 % interval and the method that gave it."""

    low: float
    high: float
    method: str


def bootstrap_interval(values: np.ndarray, statistic: Callable, resamples: int, **options: Any) -> Interval:
    """Return the 95 % interval of a statistic of `values` [tracks]; `options` are passed to SciPy's `bootstrap`."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    result = bootstrap((values,), statistic, n_resamples=resamples, method="percentile", rng=generator, **options)
    low, high = map(float, result.confidence_interval)
    return Interval(
        low, high, f"95 % percentile bootstrap over tracks, {resamples:,} resamples, seed {BOOTSTRAP_SEED}"
    )


def accuracy_interval(predictions: Sequence[int], references: Sequence[int]) -> Interval:
    """Return the 95 % interval of the accuracy, see `interval_of_shares`."""
    return interval_of_shares((np.asarray(predictions) == np.asarray(references)).astype(float))


def interval_of_shares(correct: np.ndarray) -> Interval:
    """Return the 95 % interval of the mean of `correct` [tracks]: 0 or 1, or the share of runs that are right for a track.

    The method is the bootstrap over tracks. If all predictions are right or all are wrong, every resample is the same; the
    interval is then exact binomial (Clopper and Pearson).
    """
    if correct.min() == correct.max() and correct[0] in (0, 1):
        exact = binomtest(int(correct.sum()), len(correct)).proportion_ci(0.95, method="exact")
        return Interval(
            float(exact.low), float(exact.high), "95 % exact binomial (all predictions right or all wrong)"
        )
    batch = max(1, 10_000_000 // len(correct))  # bounds the memory
    return bootstrap_interval(correct, np.mean, ACCURACY_RESAMPLES, batch=batch)


def per_genre_table(
    predictions: Sequence[int], references: Sequence[int], genres: Sequence[Any]
) -> list[dict[str, Any]]:
    """Return tracks, precision, recall, F1 and one-vs-rest accuracy of each genre."""
    precision, recall, f1, support = precision_recall_fscore_support(
        references, predictions, labels=np.arange(len(genres)), zero_division=0
    )
    columns = {
        "genre": genres,
        "tracks": support.astype(int).tolist(),  # scikit-learn returns floats if nothing is predicted right
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
        "ovr_accuracy": one_vs_rest_accuracy(predictions, references, len(genres)).tolist(),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
