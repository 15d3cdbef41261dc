"""What depends on whether a track has one genre or several: targets, metrics, report, picture and card."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from scipy.special import expit
from transformers import EvalPrediction

from ..data.collation import TrackCollator
from ..errors import ConfigError, DataError
from .metrics import genre_metrics
from .multi_label_metrics import multi_label_metrics


class Task(ABC):
    """One genre or several genres per track. `task_of` returns the task of a config's `problem_type`.

    Attributes:
        problem_type: As in the configs of transformers.
        description: Its name in messages.
        best_metrics: The metrics by which a best checkpoint can be chosen; the first is the default.
    """

    problem_type: ClassVar[str]
    description: ClassVar[str]
    best_metrics: ClassVar[tuple[str, ...]]

    @abstractmethod
    def check_targets(self, genres: list[list[str]], where: str) -> None:
        """Raise a DataError that starts with `where` if the genres of the tracks are those of the other task."""

    @abstractmethod
    def metrics(self, logits: np.ndarray, references: np.ndarray) -> dict[str, float | None]:
        """Return the metrics of logits [tracks, labels]; None for a metric that is undefined for these references."""

    def collator(self, label2id: Mapping[str, int]) -> TrackCollator:
        """Return the collator that makes the targets."""
        return TrackCollator(label2id)

    def best_metric(self, chosen: str | None) -> str | None:
        """Return `metric_for_best_model` with `auto` resolved.

        Raises:
            ConfigError: If it is a metric of the other task.
        """
        if chosen == "auto":
            return self.best_metrics[0]
        if chosen is not None and chosen.removeprefix("eval_") not in self.best_metrics:
            raise ConfigError(
                f"metric_for_best_model {chosen!r} does not exist for models with {self.description}: choose one of "
                f"{', '.join(self.best_metrics)}"
            )
        return chosen

    def validation_metrics(
        self, prediction: EvalPrediction, *, best: str | None = None, num_experts: int = 0
    ) -> dict[str, float]:
        """Return the defined metrics and, with experts, the share of windows that each expert got (`compute_metrics`).

        Raises:
            DataError: If `best`, the metric that chooses the checkpoint, is undefined.
        """
        metrics = self.metrics(prediction.predictions[0], prediction.label_ids)
        if metrics.get((best or "").removeprefix("eval_"), 0.0) is None:
            raise DataError(
                f"metric_for_best_model {best}: undefined, because no genre has both tracks with it and tracks without "
                "it on the validation side; choose macro_f1 or loss, or a larger validation side"
            )
        if num_experts:
            routing = prediction.predictions[2]
            counts = np.bincount(routing[routing >= 0], minlength=num_experts)  # padding is negative
            metrics |= {f"expert_{expert}": float(share) for expert, share in enumerate(counts / counts.sum())}
        return {name: value for name, value in metrics.items() if value is not None}


class SingleLabelTask(Task):
    """Each track has one genre; the model's probabilities sum to 1."""

    problem_type = "single_label_classification"
    description = "one genre per track"
    best_metrics = ("accuracy", "macro_precision", "macro_recall", "macro_f1", "ovr_accuracy", "loss")

    def check_targets(self, genres: list[list[str]], where: str) -> None:
        several = sum(len(names) > 1 for names in genres)
        if several:
            raise DataError(
                f"{where}: {several} of {len(genres)} tracks have several genres, and the model names one: use a model "
                "with problem_type multi_label_classification (in a recipe model: {problem_type: "
                "multi_label_classification}), or give each track one genre (of fma labels: top, in a manifest "
                "data_options {genres_column: ''})"
            )

    def metrics(self, logits: np.ndarray, references: np.ndarray) -> dict[str, float | None]:
        return genre_metrics(logits.argmax(axis=-1), references, logits.shape[-1])


class MultiLabelTask(Task):
    """A track has any number of genres; each genre has an independent probability."""

    problem_type = "multi_label_classification"
    description = "several genres per track"
    best_metrics = ("macro_map", "micro_map", "macro_roc_auc", "macro_f1", "micro_f1", "exact_match", "loss")

    def check_targets(self, genres: list[list[str]], where: str) -> None:
        if genres and all(len(names) <= 1 for names in genres):
            raise DataError(
                f"{where}: each of the {len(genres)} tracks has one genre, and the model names several (problem_type "
                "multi_label_classification): give the tracks all of their genres (in a manifest a column genres, of "
                "fma labels: all), or use a model without that problem_type"
            )

    def collator(self, label2id: Mapping[str, int]) -> TrackCollator:
        return TrackCollator(label2id, multi_label=True)

    def metrics(self, logits: np.ndarray, references: np.ndarray) -> dict[str, float | None]:
        return multi_label_metrics(expit(logits), references)


SINGLE_LABEL, MULTI_LABEL = SingleLabelTask(), MultiLabelTask()


def task_of(problem_type: str | None) -> Task:
    """Return the task of a config's `problem_type`; None is one genre per track, as in transformers."""
    return MULTI_LABEL if problem_type == MULTI_LABEL.problem_type else SINGLE_LABEL
