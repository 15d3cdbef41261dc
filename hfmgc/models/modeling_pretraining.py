"""Base class of models for pre-training without genres: they take windows and return the loss of their objective."""

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
    """Base class of each `XForPreTraining`, which trains the encoder `model`, an `XModel`.

    A subclass defines `forward(input_values, seeds=None)`, which returns a [`PreTrainingOutput`]. It takes windows
    [examples, frames, bins] or, if `views` is above 1, [examples, views, frames, bins]. It draws all random numbers by
    `draw_per_example` from `seeds` [examples].
    """

    # Number of differently augmented views of a window in an example.
    views: ClassVar[int] = 1
    # Submodules that are trained beforehand: attribute -> model type. Their config is the field `ATTRIBUTE_config`.
    pretrained_parts: ClassVar[dict[str, str]] = {}
    # Whether the values of windows must be normalised to [0, 1].
    unit_range: ClassVar[bool] = False
    # Submodules that no gradient updates.
    frozen_parts: ClassVar[tuple[str, ...]] = ()

    def post_init(self) -> None:
        """Initialise the weights and freeze `frozen_parts`."""
        super().post_init()
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode and freeze `frozen_parts` again: `from_pretrained` makes all weights trainable."""
        super().train(mode)
        for name in self.frozen_parts:
            getattr(self, name).requires_grad_(False)
        return self

    def check_window(self, frames: int, bins: int) -> None:
        """Raise a ValueError naming the expected size if the model cannot process windows of this size."""
        self.model.check_window(frames, bins)

    def check_data(self, num_examples: int | None, global_batch: int) -> None:
        """Raise a ValueError naming the config field that does not fit the training data.

        Args:
            num_examples: Examples in an epoch; None if the data have not been read yet.
            global_batch: Examples in an optimizer step, over all processes and micro-batches.
        """

    def after_optimizer_step(self, step: int, total_steps: int) -> None:
        """Update state that no gradient updates, such as a moving average or a queue.

        Args:
            step: Number of the optimizer step, from 0.
            total_steps: Number of optimizer steps in the whole training.
        """

    def restore(self, input_values: Tensor, seeds: Tensor | None = None) -> tuple[Tensor, Tensor] | None:
        """Return the model's input and the windows that it restores from it, both [examples, frames, bins], for plots.

        Returns None if the objective does not restore windows.
        """
        return None

    def monitored(self) -> dict[str, float]:
        """Return metrics of the latest step, which are logged with the loss."""
        return {}


def draw_per_example(draw: Callable[[torch.Generator | None], Tensor], count: int, seeds: Tensor | None) -> Tensor:
    """Call `draw` for each example and stack the results, on the CPU so that all devices get the same numbers.

    Args:
        draw: Takes a generator (None for torch's default) and returns the random tensor of one example.
        count: Number of examples.
        seeds: Seed of each example, int64 [examples]. By default torch's generator is used.
    """
    if seeds is None:
        return torch.stack([draw(None) for _ in range(count)])
    return torch.stack([draw(torch.Generator().manual_seed(seed)) for seed in seeds.tolist()])
