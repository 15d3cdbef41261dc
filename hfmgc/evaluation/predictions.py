"""What a model says of tracks, gathered over all processes, each track once."""

from collections.abc import Sequence
from dataclasses import dataclass

import datasets
import numpy as np
from scipy.special import log_softmax
from transformers import Trainer

from ..errors import HfmgcError


@dataclass(frozen=True)
class TrackPredictions:
    """Answers for tracks, in the order of the dataset.

    Args:
        track_ids: Their names.
        references: True genre indices [tracks].
        log_probabilities: Voted [tracks, labels].
        window_logits: For each track [windows, labels].
    """

    track_ids: list[str]
    references: np.ndarray
    log_probabilities: np.ndarray
    window_logits: list[np.ndarray]

    @property
    def predictions(self) -> np.ndarray:
        """Answers for tracks [tracks]."""
        return self.log_probabilities.argmax(axis=-1)

    @property
    def probabilities(self) -> np.ndarray:
        """Voted probabilities [tracks, labels]."""
        return np.exp(self.log_probabilities)

    @property
    def window_accuracy(self) -> float:
        """Share of all windows whose own answer is the genre of their track."""
        right = [
            logits.argmax(axis=-1) == reference
            for logits, reference in zip(self.window_logits, self.references, strict=True)
        ]
        return float(np.concatenate(right).mean())

    @property
    def num_windows(self) -> int:
        """Number of windows of all tracks."""
        return sum(len(logits) for logits in self.window_logits)


def predict_tracks(trainer: Trainer, tracks: datasets.Dataset) -> TrackPredictions:
    """Run a model over extracted tracks (`extract_windows`), on however many processes `trainer` has."""
    output = trainer.predict(tracks, metric_key_prefix="predict")
    logits, window_logits = output.predictions[:2]
    # The Trainer fills up to the longest stack of all; how many windows a track really has is known from its features.
    counts = _window_counts(tracks)
    if len(logits) != len(counts):
        raise RuntimeError(f"{len(logits)} predictions for {len(counts)} tracks: gathering lost or repeated tracks")
    if not np.isfinite(logits).all():
        raise HfmgcError(
            "the model answers NaN: the training diverged (lower learning_rate), or its weights are damaged"
        )
    return TrackPredictions(
        track_ids=list(tracks["track_id"]),
        references=np.asarray(output.label_ids),
        log_probabilities=log_softmax(np.asarray(logits, dtype=np.float64), axis=-1),
        window_logits=[stack[:count] for stack, count in zip(window_logits, counts, strict=True)],
    )


def _window_counts(tracks: datasets.Dataset) -> Sequence[int]:
    # Lengths come from Arrow's offsets: no feature is read.
    column = tracks.with_format("arrow").select_columns(["input_values"])
    return [
        length.as_py()
        for batch in column.iter(batch_size=1000)
        for length in batch["input_values"].combine_chunks().value_lengths()
    ]
