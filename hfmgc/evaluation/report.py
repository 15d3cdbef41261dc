"""The report of a model on data: one object for the recipe, the command and the card."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from .metrics import (
    accuracy_interval,
    confusion,
    genre_metrics,
    per_genre_table,
)
from .plots import plot_confusion_matrix
from .predictions import TrackPredictions


@dataclass(frozen=True)
class EvaluationReport:
    """What `results.json` holds."""

    checkpoint: str
    data: dict[str, Any]
    side: str
    genres: list[str]
    metrics: dict[str, Any]
    per_genre: list[dict[str, Any]]
    confusion_matrix: list[list[int]]
    tracks: int
    windows: int
    skipped: list[dict[str, str]] = field(default_factory=list)
    split: dict[str, Any] | None = None
    validation: dict[str, float] | None = None
    notes: list[str] = field(default_factory=list)
    predictions: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def from_predictions(
        cls,
        predictions: TrackPredictions,
        genres: list[str],
        *,
        checkpoint: str,
        data: dict[str, Any],
        side: str,
        **more,
    ) -> "EvaluationReport":
        """Compute all figures; `more` are further fields."""
        answers, references = predictions.predictions, predictions.references
        interval = accuracy_interval(answers, references)
        metrics = {
            **genre_metrics(answers, references, len(genres)),
            "accuracy_interval": [interval.low, interval.high],
            "interval_method": interval.method,
            "window_accuracy": predictions.window_accuracy,
        }
        rows = [
            {
                "track_id": track_id,
                "genre": genres[reference],
                "predicted": genres[answer],
                "probability": round(float(probabilities[answer]), 6),
            }
            for track_id, reference, answer, probabilities in zip(
                predictions.track_ids, references, answers, predictions.probabilities, strict=True
            )
        ]
        return cls(
            checkpoint=checkpoint,
            data=data,
            side=side,
            genres=list(genres),
            metrics=metrics,
            per_genre=per_genre_table(answers, references, genres),
            confusion_matrix=confusion(answers, references, len(genres)),
            tracks=len(rows),
            windows=predictions.num_windows,
            predictions=rows,
            **more,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"hfmgc_version": __version__, **{key: value for key, value in vars(self).items() if value is not None}}

    def to_text(self) -> str:
        """Return the report as a table to read."""
        metrics = self.metrics
        low, high = metrics["accuracy_interval"]
        synthetic = ", synthetic" if self.data.get("synthetic") else ""
        lines = [
            f"{self.data['name']} ({self.data['location']}{synthetic}), side: {self.side}, "
            f"{self.tracks} tracks in {self.windows} windows",
            "",
            f"{'genre':<16}{'tracks':>8}{'precision':>11}{'recall':>9}{'f1':>9}{'one-vs-rest':>13}",
        ]
        lines += [
            f"{row['genre']:<16}{row['tracks']:>8}{row['precision']:>11.3f}{row['recall']:>9.3f}{row['f1']:>9.3f}"
            f"{row['ovr_accuracy']:>13.3f}"
            for row in self.per_genre
        ]
        lines += [
            f"{'macro mean':<16}{self.tracks:>8}{metrics['macro_precision']:>11.3f}{metrics['macro_recall']:>9.3f}"
            f"{metrics['macro_f1']:>9.3f}{metrics['ovr_accuracy']:>13.3f}",
            "",
            f"accuracy, whole tracks    {metrics['accuracy']:.3f}  (95 % interval {low:.3f} to {high:.3f})",
            f"accuracy, single windows  {metrics['window_accuracy']:.3f}",
        ]
        lines += [f"skipped: {row['track_id']}: {row['reason']}" for row in self.skipped[:20]]
        if len(self.skipped) > 20:
            lines.append(f"skipped: {len(self.skipped) - 20} more, all listed in the JSON report")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def save(self, folder: Path) -> list[Path]:
        """Write `results.json`, `confusion_matrix.json` and `confusion_matrix.png`; return their paths."""
        results, matrix, picture = (
            folder / name for name in ("results.json", "confusion_matrix.json", "confusion_matrix.png")
        )
        results.write_text(
            json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )
        content = {
            "genres": self.genres,
            "counts": self.confusion_matrix,
            "rows": "true genre",
            "columns": "predicted",
        }
        matrix.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
        plot_confusion_matrix(
            self.confusion_matrix,
            self.genres,
            picture,
            title=f"{self.data['name']}, {self.side}: accuracy {self.metrics['accuracy']:.3f} of {self.tracks} tracks",
        )
        return [results, matrix, picture]
