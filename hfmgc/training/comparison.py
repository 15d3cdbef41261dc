"""A table that compares settings on the same tracks: accuracy over several seeds, its interval, and times."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import saving_to
from ..evaluation.metrics import interval_of_shares
from ..evaluation.plots import plot_accuracy_by_size
from ..files import write_text


@dataclass(frozen=True)
class ComparedRow:
    """A row of the table.

    Args:
        settings: The first columns.
        line: Name of the line in the picture.
        size: Position of the row on this line; without a size, the line is horizontal and dashed.
        correct: Whether each track was classified correctly with each seed, bool [seeds, tracks].
        train_seconds: Duration of one training.
        predict_seconds: Duration of the prediction of all tracks.
    """

    settings: dict[str, Any]
    line: str
    size: int | str | None
    correct: np.ndarray
    train_seconds: float
    predict_seconds: float

    @property
    def accuracies(self) -> np.ndarray:
        """The accuracies of the seeds [seeds]."""
        return self.correct.mean(axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Return the cells of the row. The interval of the mean over the seeds is a bootstrap over tracks."""
        low, high, _ = interval_of_shares(self.correct.mean(axis=0))
        return {
            **self.settings,
            "accuracy": self.correct.mean(),
            "low": low,
            "high": high,
            "accuracy_by_seed": " ".join(f"{accuracy:.4f}" for accuracy in self.accuracies),
            "tracks": self.correct.shape[1],
            "train_seconds": self.train_seconds,
            "predict_seconds": self.predict_seconds,
        }


def save_comparison(rows: Sequence[ComparedRow], folder: Path, name: str, *, label: str, title: str) -> str:
    """Write the table as `NAME.csv` and `NAME.png`, and return it as text; `label` is that of the axis of sizes."""
    table = pd.DataFrame([row.to_dict() for row in rows])
    points = [
        {"name": row.line, "size": row.size, "accuracies": row.accuracies, **cells}
        for row, cells in zip(rows, table.to_dict("records"), strict=True)
    ]
    with saving_to(folder):
        write_text(folder / f"{name}.csv", table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))
        plot_accuracy_by_size(points, folder / f"{name}.png", label=label, title=title)
    return table.to_string(index=False, float_format="{:.4f}".format)
