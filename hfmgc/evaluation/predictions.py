"""What a model says of tracks, gathered over all processes, each track once."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, log_softmax
from transformers import Trainer

from ..data.features import TrackWindows
from ..errors import HfmgcError
from .multi_label_metrics import THRESHOLD


# A report needs the windows' logits and routing too, which a plain Trainer leaves out (`keys_to_ignore_at_inference`).
UNUSED_OUTPUTS = ["hidden_states", "attentions"]


@dataclass(frozen=True)
class TrackPredictions:
    """Answers for tracks, in the order of the dataset.

    Args:
        track_ids: Their names.
        references: True genre indices [tracks].
        log_probabilities: Voted [tracks, labels].
        window_logits: For each track [windows, labels].
        expert_usage: Windows of each genre that went to each expert [labels, experts]; None without experts.
    """

    track_ids: list[str]
    references: np.ndarray
    log_probabilities: np.ndarray
    window_logits: list[np.ndarray]
    expert_usage: np.ndarray | None = None

    @property
    def predictions(self) -> np.ndarray:
        """Answers for tracks [tracks]."""
        return self.log_probabilities.argmax(axis=-1)

    @property
    def probabilities(self) -> np.ndarray:
        """Voted probabilities [tracks, labels]."""
        return np.exp(self.log_probabilities)

    @property
    def window_predictions(self) -> np.ndarray:
        """Answers for the windows of all tracks [windows]."""
        return np.concatenate([logits.argmax(axis=-1) for logits in self.window_logits])

    @property
    def window_references(self) -> np.ndarray:
        """The genre index of each window's track [windows]."""
        return np.repeat(self.references, [len(logits) for logits in self.window_logits])

    @property
    def num_windows(self) -> int:
        """Number of windows of all tracks."""
        return sum(len(logits) for logits in self.window_logits)


@dataclass(frozen=True)
class MultiLabelPredictions:
    """Answers with several genres a track, in the order of the dataset.

    Args:
        track_ids: Their names.
        references: True genres, zeros and ones [tracks, labels].
        probabilities: Voted [tracks, labels].
        num_windows: Number of windows of all tracks.
        expert_usage: As `TrackPredictions`; a track with several genres counts for each of them.
    """

    track_ids: list[str]
    references: np.ndarray
    probabilities: np.ndarray
    num_windows: int
    expert_usage: np.ndarray | None = None

    @property
    def predictions(self) -> np.ndarray:
        """Which genres are named, booleans [tracks, labels]."""
        return self.probabilities >= THRESHOLD


def predict_tracks(trainer: Trainer, tracks: TrackWindows) -> TrackPredictions | MultiLabelPredictions:
    """Run a model over extracted tracks (`extract_windows`), on however many processes `trainer` has.

    The targets that its collator makes say whether a track has one genre or several.
    """
    output = trainer.predict(tracks, ignore_keys=UNUSED_OUTPUTS, metric_key_prefix="predict")
    logits, window_logits = output.predictions[:2]
    # The Trainer fills up to the longest stack of all; how many windows a track really has is known from its features.
    counts = tracks.counts
    if len(logits) != len(counts):
        raise RuntimeError(f"{len(logits)} predictions for {len(counts)} tracks: gathering lost or repeated tracks")
    if not np.isfinite(logits).all():
        raise HfmgcError(
            "the model answers NaN: the training diverged (lower learning_rate), or its weights are damaged"
        )
    track_ids, references = list(tracks["track_id"]), np.asarray(output.label_ids)
    usage = None
    if len(output.predictions) > 2:
        routing = [stack[:count] for stack, count in zip(output.predictions[2], counts, strict=True)]
        usage = _expert_usage(routing, references, logits.shape[-1], trainer.model.config.num_experts)
    if references.ndim == 2:
        return MultiLabelPredictions(
            track_ids=track_ids,
            references=references.astype(np.int64),
            probabilities=expit(np.asarray(logits, dtype=np.float64)),
            num_windows=sum(counts),
            expert_usage=usage,
        )
    return TrackPredictions(
        track_ids=track_ids,
        references=references,
        log_probabilities=log_softmax(np.asarray(logits, dtype=np.float64), axis=-1),
        window_logits=[stack[:count] for stack, count in zip(window_logits, counts, strict=True)],
        expert_usage=usage,
    )


def _expert_usage(routing: list[np.ndarray], references: np.ndarray, num_labels: int, num_experts: int) -> np.ndarray:
    """Return how many windows of each genre went to each expert, [labels, experts], from those of each track."""
    usage = np.zeros((num_labels, num_experts), dtype=np.int64)
    for experts, reference in zip(routing, references, strict=True):
        genres = np.flatnonzero(reference) if references.ndim == 2 else [reference]
        usage[genres] += np.bincount(experts, minlength=num_experts)
    return usage
