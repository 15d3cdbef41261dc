"""Mixup: train on weighted sums of two tracks and of their genres."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from ..data.collation import TrackCollator
from ..randomness import example_generator


@dataclass(frozen=True)
class MixupCollator:
    """Mixes each training example of a batch with another one (Zhang et al., 2018).

    Partners and weight are drawn from the examples' `mixing_key`, which depends on seed, epoch and track, but not on the
    number of workers. Examples for evaluation have no `mixing_key` and are not mixed.

    Args:
        collator: Builds the batch before mixing.
        alpha: Parameter of the Beta distribution from which the weight of a batch is drawn.
        num_labels: Number of genres.
    """

    collator: TrackCollator
    alpha: float
    num_labels: int

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch of `collator`, in training with mixed `input_values` and soft `labels` [tracks, labels]."""
        batch = self.collator(examples)
        if "mixing_key" not in examples[0]:
            return batch
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
