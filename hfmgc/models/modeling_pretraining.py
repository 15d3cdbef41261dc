"""The interface of models that are pre-trained without genres: windows in, the loss of their objective out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from .modeling_windowed import WindowedPreTrainedModel


@dataclass
class PreTrainingOutput(ModelOutput):
    """Output of a pre-training step.

    Args:
        loss: Mean over the batch.
    """

    loss: Tensor | None = None


class PreTrainingModel(WindowedPreTrainedModel):
    """Base of each `XForPreTraining`, which has the encoder, an `XModel`, as `model`, and returns the loss itself.

    `forward(input_values, seeds=None)` takes windows [examples, frames, bins], or with `views` above 1 several views of each
    window [examples, views, frames, bins]. Everything random is drawn by `draw_per_example` from `seeds` [examples].
    """

    # Augmented views of a window that an example consists of.
    views: ClassVar[int] = 1
    # Parts that are trained first: attribute -> model type; the config's field is `ATTRIBUTE_config`.
    pretrained_parts: ClassVar[dict[str, str]] = {}
    # Whether the objective restores values in [0, 1], so that windows must be normalised to them.
    unit_range: ClassVar[bool] = False
    # Parts that no gradient trains.
    frozen_parts: ClassVar[tuple[str, ...]] = ()

    def post_init(self) -> None:
        """Initialise as transformers does, and freeze the frozen parts."""
        super().post_init()
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode and freeze the frozen parts, because `from_pretrained` makes all weights trainable."""
        super().train(mode)
        for name in self.frozen_parts:
            getattr(self, name).requires_grad_(False)
        return self

    def check_window(self, frames: int, bins: int) -> None:
        """Raise a ValueError that names the expected size if windows of this size cannot be processed."""
        self.model.check_window(frames, bins)

    def check_data(self, num_examples: int | None, global_batch: int) -> None:
        """Raise a ValueError that names the field of the config which does not fit the data of a training.

        Args:
            num_examples: Of an epoch; None before the data are read.
            global_batch: Examples of an optimizer step, of all processes and micro-batches together.
        """

    def after_optimizer_step(self, step: int, total_steps: int) -> None:
        """Update what no gradient updates (a moving average, a queue), once after each optimizer step.

        Args:
            step: Number of the optimizer step, from 0.
            total_steps: Of the whole training.
        """

    def restore(self, input_values: Tensor, seeds: Tensor | None = None) -> tuple[Tensor, Tensor] | None:
        """Return the input that the model gets for windows, and the windows that it restores, both [examples, frames, bins].

        None, the default, if the objective restores no windows. The run's picture and `hfmgc restore` show them.
        """
        return None

    def monitored(self) -> dict[str, float]:
        """Return figures of the latest step to log with the loss."""
        return {}


def draw_per_example(draw: Callable[[torch.Generator | None], Tensor], count: int, seeds: Tensor | None) -> Tensor:
    """Return `draw(generator)` for each of `count` examples, stacked; on the CPU, so that devices draw the same.

    Args:
        draw: Returns the random tensor of one example.
        count: Number of examples.
        seeds: Of the examples, int64 [examples]; None: torch's generator.
    """
    if seeds is None:
        return torch.stack([draw(None) for _ in range(count)])
    return torch.stack([draw(torch.Generator().manual_seed(seed)) for seed in seeds.tolist()])
