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
    """Mixes each training example of a batch with another one (Zhang et al., 2018).

    Partners and weight are drawn from the `mixing_key` of the examples, which follows from seed, epoch and track, so that
    they do not depend on the number of workers. Examples without it, those of evaluation, are not mixed.
    """

    collator: TrackCollator  # builds the batch before mixing
    alpha: float  # of the Beta distribution of a batch's weight
    num_labels: int

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return a batch of `collator`; in training with mixed `input_values` and soft `labels` [tracks, labels]."""
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
