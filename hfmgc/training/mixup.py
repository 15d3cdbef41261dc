"""Mixup: training on weighted sums of two tracks and of their genres."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from ..data.collation import TrackCollator
from ..randomness import example_generator


@dataclass(frozen=True)
class MixupCollator:
    """Mixes each example of a batch with another one (Zhang et al., 2018).

    What is drawn depends on the examples of the batch alone (`mixing_key` of each, which comes from seed, epoch and
    track), so that a run repeats whatever its workers are.

    Args:
        collator: Makes the batch that is mixed.
        alpha: Of the Beta distribution from which a batch's weight is drawn.
        num_labels: Genres.
    """

    collator: TrackCollator
    alpha: float
    num_labels: int

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_values` [tracks, frames, bins] and soft `labels` [tracks, labels]."""
        batch = self.collator(examples)
        generator = example_generator("mixup", *(example["mixing_key"] for example in examples))
        weight = float(generator.beta(self.alpha, self.alpha))
        partners = torch.from_numpy(generator.permutation(len(examples)))
        labels = batch["labels"]
        if not labels.is_floating_point():
            labels = F.one_hot(labels, self.num_labels).float()
        values = batch["input_values"]
        return {
            **batch,
            "input_values": values.lerp(values[partners], 1 - weight),
            "labels": labels.lerp(labels[partners], 1 - weight),
        }
