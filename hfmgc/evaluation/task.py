"""The two tasks, one genre per track or several: targets, metrics, report, plot and model card."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.special import expit, softmax
from sklearn.metrics import confusion_matrix
from transformers import EvalPrediction

from ..data.collation import TrackCollator
from ..errors import ConfigError, DataError
from .metrics import accuracy_interval, genre_metrics, per_genre_table
from .multi_label_metrics import THRESHOLD, map_interval, multi_label_metrics, multi_label_table
from .plots import plot_average_precision, plot_counts
from .predictions import TrackPredictions


class Measure(NamedTuple):
    """A figure of the report: its key in `results.json`, its name, and the metric and name in the card's model-index."""

    key: str
    name: str
    metric_type: str | None = None
    metric_name: str | None = None


class Task(ABC):
    """One genre per track or several. `task_of` returns the task for a config's `problem_type`."""

    problem_type: ClassVar[str]
    description: ClassVar[str]
    # The first is the main measure, which by default chooses the best checkpoint.
    measures: ClassVar[tuple[Measure, ...]]
    # Keys and titles of the table by genre.
    columns: ClassVar[tuple[tuple[str, str], ...]]
    picture: ClassVar[str]
    # Texts of the model card.
    picture_title: ClassVar[str]
    picture_caption: ClassVar[str]
    answer: ClassVar[str]
    how_many: ClassVar[str]
    limit: ClassVar[str]

    @abstractmethod
    def check_targets(self, genres: list[list[str]], where: str) -> None:
        """Raise a DataError that starts with `where` if the genres of the tracks fit only the other task."""

    @abstractmethod
    def metrics(self, logits: np.ndarray, references: np.ndarray) -> dict[str, float | None]:
        """Return the metrics of logits [tracks, labels]; None for a metric that is undefined for these references."""

    @abstractmethod
    def results(self, predictions: TrackPredictions, genres: Sequence[str]) -> dict[str, Any]:
        """Return the fields of a report that are computed from predictions."""

    @abstractmethod
    def draw(self, results: Mapping[str, Any], path: Path, title: str) -> None:
        """Save the report's plot as PNG; `results` are the fields of the report."""

    def collator(self, label2id: Mapping[str, int]) -> TrackCollator:
        """Return the collator that makes the targets."""
        return TrackCollator(label2id)

    @property
    def best_metrics(self) -> tuple[str, ...]:
        """The validation metrics that can choose the best checkpoint; training does not evaluate single windows."""
        return (*(measure.key for measure in self.measures if not measure.key.startswith("window_")), "loss")

    def best_metric(self, chosen: str | None) -> str | None:
        """Return `metric_for_best_model` with `auto` resolved and without the prefix `eval_`.

        Raises:
            ConfigError: If this task has no such metric.
        """
        if chosen == "auto":
            return self.best_metrics[0]
        chosen = chosen and chosen.removeprefix("eval_")
        if chosen is not None and chosen not in self.best_metrics:
            raise ConfigError(
                f"metric_for_best_model {chosen!r} does not exist for models with {self.description}: choose one of "
                f"{', '.join(self.best_metrics)}"
            )
        return chosen

    def validation_metrics(
        self, prediction: EvalPrediction, *, best: str | None = None, num_experts: int = 0
    ) -> dict[str, float]:
        """Return the defined metrics and, with experts, each expert's share of the windows; for `compute_metrics`.

        Raises:
            DataError: If `best`, the metric that chooses the checkpoint, is undefined.
        """
        metrics = self.metrics(prediction.predictions[0], prediction.label_ids)
        if metrics.get(best, 0.0) is None:
            raise DataError(
                f"metric_for_best_model {best}: undefined, because on the validation side each genre belongs to all tracks "
                "or to none: choose macro_f1 or loss, or a larger validation side"
            )
        if num_experts:
            routing = prediction.predictions[2]
            counts = np.bincount(routing[routing >= 0], minlength=num_experts)  # padding is negative
            metrics |= {f"expert_{expert}": float(share) for expert, share in enumerate(counts / counts.sum())}
        return {name: value for name, value in metrics.items() if value is not None}

    def excluded_genres(self, per_genre: Sequence[Mapping[str, Any]]) -> str:
        """Return a sentence about the genres that the means exclude; empty if there are none."""
        absent = sum(row["tracks"] == 0 for row in per_genre)
        return f"Excluded from the means of genres: {absent} of {len(per_genre)} (no tracks)." if absent else ""


class SingleLabelTask(Task):
    """Each track has one genre; the model's probabilities sum to 1."""

    problem_type = "single_label_classification"
    description = "one genre per track"
    measures = (
        Measure("accuracy", "Accuracy of tracks", "accuracy", "Accuracy (tracks)"),
        Measure("window_accuracy", "Accuracy of single windows"),
        Measure("macro_precision", "Precision, macro", "precision", "Precision (macro)"),
        Measure("macro_recall", "Recall, macro", "recall", "Recall (macro)"),
        Measure("macro_f1", "F1, macro", "f1", "F1 (macro)"),
        Measure("ovr_accuracy", "One-vs-rest accuracy of tracks, mean of genres"),
        Measure("window_ovr_accuracy", "One-vs-rest accuracy of single windows, mean of genres"),
    )
    columns = (
        ("precision", "Precision"),
        ("recall", "Recall"),
        ("f1", "F1"),
        ("ovr_accuracy", "One-vs-rest accuracy"),
    )
    picture = "confusion_matrix.png"
    picture_title = "Confusion matrix"
    picture_caption = "Rows are the true genres, columns the predicted ones"
    answer = "genre"
    how_many = "one"
    limit = (
        "It assigns one of its genres to every input, even to speech or to music of a genre that is not among them."
    )

    def check_targets(self, genres: list[list[str]], where: str) -> None:
        several = sum(len(names) > 1 for names in genres)
        if several:
            raise DataError(
                f"{where}: {several} of {len(genres)} tracks have several genres, but the model predicts one: set "
                f"model.problem_type {MULTI_LABEL.problem_type} and train again, or give each track one genre (fma: labels "
                "top; a manifest: data_options {genres_column: ''})"
            )

    def metrics(self, logits: np.ndarray, references: np.ndarray) -> dict[str, float | None]:
        return genre_metrics(logits.argmax(axis=-1), references, logits.shape[-1])

    def results(self, predictions: TrackPredictions, genres: Sequence[str]) -> dict[str, Any]:
        references, probabilities = predictions.references, softmax(predictions.logits, axis=-1)
        predicted = predictions.logits.argmax(axis=-1)
        window_references = np.repeat(references, list(map(len, predictions.window_logits)))
        windows = self.metrics(np.concatenate(predictions.window_logits), window_references)
        interval = accuracy_interval(predicted, references)
        return {
            "metrics": {
                **self.metrics(predictions.logits, references),
                "accuracy_interval": [interval.low, interval.high],
                "interval_method": interval.method,
                "window_accuracy": windows["accuracy"],
                "window_ovr_accuracy": windows["ovr_accuracy"],
            },
            "per_genre": per_genre_table(predicted, references, genres),
            "confusion_matrix": confusion_matrix(references, predicted, labels=np.arange(len(genres))).tolist(),
            "predictions": [
                {
                    "track_id": track_id,
                    "genre": genres[reference],
                    "predicted": genres[label],
                    "probability": round(float(scores[label]), 6),
                }
                for track_id, reference, label, scores in zip(
                    predictions.track_ids, references, predicted, probabilities, strict=True
                )
            ],
        }

    def draw(self, results: Mapping[str, Any], path: Path, title: str) -> None:
        plot_counts(results["confusion_matrix"], results["genres"], path, title=title)


class MultiLabelTask(Task):
    """A track has any number of genres; each genre has an independent probability."""

    problem_type = "multi_label_classification"
    description = "several genres per track"
    measures = (
        Measure(
            "macro_map", "Average precision, mean of genres", "average_precision", "Mean average precision (macro)"
        ),
        Measure("micro_map", "Average precision, all decisions together"),
        Measure("macro_roc_auc", "ROC-AUC, mean of genres", "roc_auc", "ROC-AUC (macro)"),
        Measure("macro_f1", "F1, macro", "f1", "F1 (macro)"),
        Measure("micro_f1", "F1, micro"),
        Measure("exact_match", "Tracks with all genres right"),
    )
    columns = (
        ("average_precision", "Average precision"),
        ("roc_auc", "ROC-AUC"),
        ("precision", "Precision"),
        ("recall", "Recall"),
        ("f1", "F1"),
    )
    picture = "average_precision.png"
    picture_title = "Average precision by genre"
    picture_caption = "Average precision of each genre, with the share of tracks that have it (chance level)"
    answer = "genres"
    how_many = "any number"
    limit = (
        "It gives each of its genres an independent probability, even for speech, and has no other genres. "
        f"In precision, recall, F1 and exact matches, a genre counts as predicted if its probability is at least {THRESHOLD}."
    )

    def check_targets(self, genres: list[list[str]], where: str) -> None:
        if genres and all(len(names) <= 1 for names in genres):
            raise DataError(
                f"{where}: each of the {len(genres)} tracks has one genre, but the model predicts several (problem_type "
                f"{self.problem_type}): give the tracks all of their genres (fma: labels all; a manifest: a column genres), "
                "or use a model without that problem_type"
            )

    def collator(self, label2id: Mapping[str, int]) -> TrackCollator:
        return TrackCollator(label2id, multi_label=True)

    def metrics(self, logits: np.ndarray, references: np.ndarray) -> dict[str, float | None]:
        return multi_label_metrics(expit(logits), references)

    def results(self, predictions: TrackPredictions, genres: Sequence[str]) -> dict[str, Any]:
        references, probabilities = predictions.references.astype(int), expit(predictions.logits)
        metrics: dict[str, Any] = self.metrics(predictions.logits, references)
        interval = map_interval(probabilities, references)
        if interval is not None:
            metrics |= {"macro_map_interval": [interval.low, interval.high], "interval_method": interval.method}
        rows = []
        for track_id, truth, scores in zip(predictions.track_ids, references, probabilities, strict=True):
            relevant = np.flatnonzero(truth | (scores >= THRESHOLD))
            rows.append(
                {
                    "track_id": track_id,
                    "genres": [genres[index] for index in relevant if truth[index]],
                    "predicted": [genres[index] for index in relevant if scores[index] >= THRESHOLD],
                    "probabilities": {genres[index]: round(float(scores[index]), 6) for index in relevant},
                }
            )
        return {
            "metrics": metrics,
            "per_genre": multi_label_table(probabilities, references, genres),
            "predictions": rows,
        }

    def draw(self, results: Mapping[str, Any], path: Path, title: str) -> None:
        plot_average_precision(results["per_genre"], results["tracks"], path, title=title)

    def excluded_genres(self, per_genre: Sequence[Mapping[str, Any]]) -> str:
        undefined = sum(row.get("roc_auc") is None for row in per_genre)
        share = f"{undefined} of {len(per_genre)} (all tracks have the genre, or none has it)"
        more = f"Excluded from the mean of ROC-AUC: {share}." if undefined else ""
        return f"{super().excluded_genres(per_genre)} {more}".strip()


SINGLE_LABEL, MULTI_LABEL = SingleLabelTask(), MultiLabelTask()


def task_of(problem_type: str | None) -> Task:
    """Return the task for a config's `problem_type`; None means one genre per track."""
    return MULTI_LABEL if problem_type == MULTI_LABEL.problem_type else SINGLE_LABEL
