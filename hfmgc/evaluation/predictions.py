"""Predictions for whole tracks, gathered from all processes."""

from dataclasses import dataclass

import numpy as np
from transformers import Trainer

from ..data.features import TrackWindows
from ..errors import HfmgcError


# Passed as `ignore_keys`. By default the Trainer would also drop the windows' logits and routing, which a report needs.
UNUSED_OUTPUTS = ["hidden_states", "attentions"]


@dataclass(frozen=True)
class TrackPredictions:
    """A model's outputs for tracks, in the order of the dataset.

    Args:
        track_ids: Identifiers [tracks].
        references: True genre indices [tracks], or zeros and ones [tracks, labels] with several genres per track.
        logits: Logits after the vote of the windows, float64 [tracks, labels].
        window_logits: Logits of the windows, for each track [windows, labels].
        expert_usage: Number of windows of each genre that were routed to each expert [labels, experts]; None without
            experts. A track with several genres counts for each of them.
    """

    track_ids: list[str]
    references: np.ndarray
    logits: np.ndarray
    window_logits: list[np.ndarray]
    expert_usage: np.ndarray | None = None


def predict_tracks(trainer: Trainer, tracks: TrackWindows) -> TrackPredictions:
    """Run a model over extracted tracks, on all processes of `trainer`.

    Raises:
        HfmgcError: If the model returns NaN.
    """
    output = trainer.predict(tracks, ignore_keys=UNUSED_OUTPUTS, metric_key_prefix="predict")
    logits, window_logits = output.predictions[:2]
    # The Trainer pads all tracks to the most windows; `counts` are the true numbers.
    counts = tracks.counts
    if not np.isfinite(logits).all():
        raise HfmgcError(
            "the model returns NaN: its training diverged or its weights are damaged: lower learning_rate and train again, "
            "or restore the weights"
        )
    references = np.asarray(output.label_ids)
    usage = None
    if len(output.predictions) > 2:
        routing = [stack[:count] for stack, count in zip(output.predictions[2], counts, strict=True)]
        usage = _expert_usage(routing, references, logits.shape[-1], trainer.model.config.num_experts)
    return TrackPredictions(
        track_ids=tracks["track_id"][:],
        references=references,
        logits=np.asarray(logits, dtype=np.float64),
        window_logits=[stack[:count] for stack, count in zip(window_logits, counts, strict=True)],
        expert_usage=usage,
    )


def _expert_usage(routing: list[np.ndarray], references: np.ndarray, num_labels: int, num_experts: int) -> np.ndarray:
    """Return the number of windows of each genre that were routed to each expert [labels, experts]."""
    targets = references if references.ndim == 2 else np.eye(num_labels, dtype=np.int64)[references]
    windows = np.stack([np.bincount(experts, minlength=num_experts) for experts in routing])
    return targets.astype(np.int64).T @ windows
