"""The evaluation report that the recipes, `hfmgc evaluate` and the model card share."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..files import write_text
from ..text import one_line
from .plots import plot_counts
from .predictions import TrackPredictions
from .task import Task, task_of


EXPERT_USAGE_PICTURE = "expert_usage.png"
MAX_SKIPPED = 20  # skipped tracks that the text lists


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """The content of `results.json`.

    With several genres per track there is no confusion matrix. For architectures with experts, `expert_usage` is the number
    of windows of each genre that were routed to each expert [genre][expert].
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
        cls, predictions: TrackPredictions, genres: Sequence[str], task: Task, **fields: Any
    ) -> "EvaluationReport":
        """Compute the figures from predictions; `fields` are the other fields of the report."""
        return cls(
            genres=list(genres),
            tracks=len(predictions.track_ids),
            windows=sum(map(len, predictions.window_logits)),
            expert_usage=None if predictions.expert_usage is None else predictions.expert_usage.tolist(),
            problem_type=task.problem_type,
            **task.results(predictions, genres),
            **fields,
        )

    @property
    def task(self) -> Task:
        """The task of the report's `problem_type`."""
        return task_of(self.problem_type)

    @property
    def heading(self) -> str:
        """Model and data, for the titles of plots."""
        architecture = f" ({self.model_type})" if self.model_type else ""
        return f"{self.checkpoint}{architecture} on {self.data['name']}"

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `results.json`, without fields that are None."""
        return {"hfmgc_version": __version__, **{key: value for key, value in vars(self).items() if value is not None}}

    def to_text(self) -> str:
        """Return the report as text: the table by genre, the figures, skipped tracks and notes."""
        synthetic = ", synthetic" if self.data.get("synthetic") else ""
        lines = [
            f"{self.data['name']} ({one_line(self.data['location'])}{synthetic}), side: {self.side}, "
            f"{self.tracks} tracks in {self.windows} windows",
            "",
            *self._table(),
            "",
            *self._figures(),
            *filter(None, [self.task.excluded_genres(self.per_genre)]),
        ]
        if self.expert_usage is not None:
            counts = [sum(column) for column in zip(*self.expert_usage, strict=True)]
            shares = ", ".join(f"{count / max(sum(counts), 1):.2f}" for count in counts)
            lines.append(f"Share of the windows routed to each expert: {shares}")
        lines += [one_line(f"skipped: {row['track_id']}: {row['reason']}") for row in self.skipped[:MAX_SKIPPED]]
        if len(self.skipped) > MAX_SKIPPED:
            lines.append(f"skipped: {len(self.skipped) - MAX_SKIPPED} more, all listed in the JSON report")
        lines += [one_line(f"note: {note}") for note in self.notes]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        names = [one_line(row["genre"]) for row in self.per_genre]
        name_width = 2 + max(map(len, ["Genre", *names]))
        widths = {key: max(9, 2 + len(title)) for key, title in self.task.columns}
        lines = [
            f"{'Genre':<{name_width}}{'Tracks':>8}"
            + "".join(f"{title:>{widths[key]}}" for key, title in self.task.columns)
        ]
        for name, row in zip(names, self.per_genre, strict=True):
            cells = (f"{_format(row[key] if row['tracks'] else None):>{width}}" for key, width in widths.items())
            lines.append(f"{name:<{name_width}}{row['tracks']:>8}{''.join(cells)}")
        return lines

    def _figures(self) -> list[str]:
        width = 2 + max(len(measure.name) for measure in self.task.measures)
        lines = []
        for measure in self.task.measures:
            low, high = self.metrics.get(f"{measure.key}_interval", (None, None))
            interval = "" if low is None else f"  (95 % interval {low:.3f} to {high:.3f})"
            lines.append(f"{measure.name:<{width}}{_format(self.metrics[measure.key])}{interval}")
        return lines

    def save(self, folder: Path) -> list[Path]:
        """Write `results.json`, the plots and, with one genre per track, `confusion_matrix.json`; return their paths."""
        results, picture, where = folder / "results.json", folder / self.task.picture, f"{self.heading}, {self.side}"
        write_text(results, json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        measure = self.task.measures[0]
        title = f"{where}: {measure.name} {_format(self.metrics[measure.key])} ({self.tracks} tracks)"
        self.task.draw(self.to_dict(), picture, title)
        written = [results, picture]
        if self.confusion_matrix is not None:
            matrix = {
                "genres": self.genres,
                "counts": self.confusion_matrix,
                "rows": "true genre",
                "columns": "predicted",
            }
            written.append(folder / "confusion_matrix.json")
            write_text(written[-1], json.dumps(matrix, ensure_ascii=False) + "\n")
        if self.expert_usage is not None:
            written.append(folder / EXPERT_USAGE_PICTURE)
            plot_counts(
                self.expert_usage,
                self.genres,
                written[-1],
                title=f"{where}: windows routed to each expert",
                columns=[str(expert) for expert in range(len(self.expert_usage[0]))],
                column="expert",
                unit="windows",
            )
        return written


def _format(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
