"""The report of a model on data: one object for the recipe, the command and the card."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..text import one_line
from .metrics import (
    accuracy_interval,
    confusion,
    genre_metrics,
    per_genre_table,
)
from .multi_label_report import multi_label_figures, multi_label_lines
from .plots import plot_average_precision, plot_confusion_matrix, plot_expert_usage
from .predictions import MultiLabelPredictions, TrackPredictions
from .task import MULTI_LABEL


EXPERT_USAGE_PICTURE = "expert_usage.png"


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """What `results.json` holds.

    With several genres a track `problem_type` says so, and there is no confusion matrix. `expert_usage` is there for
    architectures with experts: windows of each genre that went to each of them [genre][expert].
    """

    checkpoint: str
    data: dict[str, Any]
    side: str
    genres: list[str]
    metrics: dict[str, Any]
    per_genre: list[dict[str, Any]]
    confusion_matrix: list[list[int]] | None = None
    expert_usage: list[list[int]] | None = None
    tracks: int
    windows: int
    skipped: list[dict[str, str]] = field(default_factory=list)
    split: dict[str, Any] | None = None
    validation: dict[str, float] | None = None
    notes: list[str] = field(default_factory=list)
    predictions: list[dict[str, Any]] = field(default_factory=list)
    problem_type: str | None = None
    model_type: str | None = None

    @classmethod
    def from_predictions(
        cls,
        predictions: TrackPredictions | MultiLabelPredictions,
        genres: list[str],
        *,
        checkpoint: str,
        data: dict[str, Any],
        side: str,
        **more,
    ) -> "EvaluationReport":
        """Compute all figures; `more` are further fields."""
        if isinstance(predictions, MultiLabelPredictions):
            figures = {**multi_label_figures(predictions, genres), "problem_type": MULTI_LABEL.problem_type}
        else:
            figures = _single_label_figures(predictions, genres)
        return cls(
            checkpoint=checkpoint,
            data=data,
            side=side,
            genres=list(genres),
            tracks=len(predictions.track_ids),
            windows=predictions.num_windows,
            expert_usage=None if predictions.expert_usage is None else predictions.expert_usage.tolist(),
            **figures,
            **more,
        )

    @property
    def multi_label(self) -> bool:
        """Whether tracks have several genres."""
        return self.problem_type == MULTI_LABEL.problem_type

    @property
    def picture(self) -> str:
        """Name of the picture that `save` writes."""
        return "average_precision.png" if self.multi_label else "confusion_matrix.png"

    @property
    def heading(self) -> str:
        """Model and data, as every picture names them."""
        architecture = f" ({self.model_type})" if self.model_type else ""
        return f"{self.checkpoint}{architecture} on {self.data['name']}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"hfmgc_version": __version__, **{key: value for key, value in vars(self).items() if value is not None}}

    def to_text(self) -> str:
        """Return the report as a table to read."""
        synthetic = ", synthetic" if self.data.get("synthetic") else ""
        lines = [
            f"{self.data['name']} ({one_line(self.data['location'])}{synthetic}), side: {self.side}, "
            f"{self.tracks} tracks in {self.windows} windows",
            "",
            *(multi_label_lines(self) if self.multi_label else _single_label_lines(self)),
            *self._expert_lines(),
        ]
        lines += [one_line(f"skipped: {row['track_id']}: {row['reason']}") for row in self.skipped[:20]]
        if len(self.skipped) > 20:
            lines.append(f"skipped: {len(self.skipped) - 20} more, all listed in the JSON report")
        lines += [one_line(f"note: {note}") for note in self.notes]
        return "\n".join(lines)

    def _expert_lines(self) -> list[str]:
        if self.expert_usage is None:
            return []
        counts = [sum(column) for column in zip(*self.expert_usage, strict=True)]
        shares = ", ".join(f"{count / max(sum(counts), 1):.2f}" for count in counts)
        return [f"windows of each expert    {shares}"]

    def save(self, folder: Path) -> list[Path]:
        """Write `results.json`, the pictures and, with one genre a track, `confusion_matrix.json`; return their paths."""
        results, picture = folder / "results.json", folder / self.picture
        results.write_text(
            json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )
        written, where = [results, picture], f"{self.heading}, {self.side}"
        if self.multi_label:
            title = f"{where}: mean average precision {self.metrics['macro_map'] or 0:.3f} of {self.tracks} tracks"
            plot_average_precision(self.per_genre, self.tracks, picture, title=title)
        else:
            title = f"{where}: accuracy {self.metrics['accuracy']:.3f} of {self.tracks} tracks"
            plot_confusion_matrix(self.confusion_matrix, self.genres, picture, title=title)
            written.insert(1, self._save_confusion_matrix(folder / "confusion_matrix.json"))
        if self.expert_usage is not None:
            written.append(folder / EXPERT_USAGE_PICTURE)
            plot_expert_usage(self.expert_usage, self.genres, written[-1], title=f"{where}: windows of each expert")
        return written

    def _save_confusion_matrix(self, path: Path) -> Path:
        content = {
            "genres": self.genres,
            "counts": self.confusion_matrix,
            "rows": "true genre",
            "columns": "predicted",
        }
        path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
        return path


def _single_label_figures(predictions: TrackPredictions, genres: list[str]) -> dict[str, Any]:
    """Return the fields of the report that are computed from the predictions."""
    answers, references = predictions.predictions, predictions.references
    of_windows = genre_metrics(predictions.window_predictions, predictions.window_references, len(genres))
    interval = accuracy_interval(answers, references)
    return {
        "metrics": {
            **genre_metrics(answers, references, len(genres)),
            "accuracy_interval": [interval.low, interval.high],
            "interval_method": interval.method,
            "window_accuracy": of_windows["accuracy"],
            "window_ovr_accuracy": of_windows["ovr_accuracy"],
        },
        "per_genre": per_genre_table(answers, references, genres),
        "confusion_matrix": confusion(answers, references, len(genres)),
        "predictions": [
            {
                "track_id": track_id,
                "genre": genres[reference],
                "predicted": genres[answer],
                "probability": round(float(probabilities[answer]), 6),
            }
            for track_id, reference, answer, probabilities in zip(
                predictions.track_ids, references, answers, predictions.probabilities, strict=True
            )
        ],
    }


def _single_label_lines(report: EvaluationReport) -> list[str]:
    """Return the table and the figures to read."""
    metrics = report.metrics
    low, high = metrics["accuracy_interval"]
    absent = sum(row["tracks"] == 0 for row in report.per_genre)
    names = [one_line(row["genre"]) for row in report.per_genre]
    width = max(16, 2 + max(map(len, names)))
    return [
        f"{'genre':<{width}}{'tracks':>8}{'precision':>11}{'recall':>9}{'f1':>9}{'one-vs-rest':>13}",
        *(
            f"{name:<{width}}{row['tracks']:>8}"
            + (
                f"{row['precision']:>11.3f}{row['recall']:>9.3f}{row['f1']:>9.3f}{row['ovr_accuracy']:>13.3f}"
                if row["tracks"]
                else f"{'n/a':>11}{'n/a':>9}{'n/a':>9}{'n/a':>13}"
            )
            for name, row in zip(names, report.per_genre, strict=True)
        ),
        f"{'macro mean':<{width}}{report.tracks:>8}{metrics['macro_precision']:>11.3f}{metrics['macro_recall']:>9.3f}"
        f"{metrics['macro_f1']:>9.3f}{metrics['ovr_accuracy']:>13.3f}",
        "",
        f"accuracy, whole tracks    {metrics['accuracy']:.3f}  (95 % interval {low:.3f} to {high:.3f})",
        f"accuracy, single windows  {metrics['window_accuracy']:.3f}  (one-vs-rest {metrics['window_ovr_accuracy']:.3f})",
        *([f"left out of the macro means: {absent} genres without tracks"] if absent else []),
    ]
