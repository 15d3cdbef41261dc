"""transformers' Trainer with averaged weights and a learning rate that decays per epoch."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from ..errors import CheckpointError, ConfigError, first_line, saving_to
from ..evaluation.predictions import UNUSED_OUTPUTS
from ..models.modeling_windowed import WindowedForAudioClassification
from .arguments import RunArguments
from .progress import print_lines_only
from .run_folder import RESUME


AVERAGED_WEIGHTS = "averaged_weights.safetensors"


class TrackTrainer(Trainer):
    """Trains a classifier of tracks, or a model for pre-training.

    With `weight_averaging`, the averaged weights are evaluated, choose the best checkpoint, and are the result of the
    training. Each checkpoint holds both the current and the averaged weights, so a resumed run equals an uninterrupted one.
    The arguments are those of `transformers.Trainer`; `train_dataset` must have the method `set_epoch`.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        args: RunArguments,
        train_dataset: Dataset | None = None,
        callbacks: Sequence[TrainerCallback] = (),
        **keywords,
    ):
        find_unused = args.ddp_find_unused_parameters
        if find_unused is None and args.world_size > 1:
            find_unused = not getattr(model, "uses_all_parameters", True)
        try:
            super().__init__(
                model=model,
                # `stages.publish` pushes the finished folder in one commit.
                args=args.with_values(ddp_find_unused_parameters=find_unused, push_to_hub=False),
                train_dataset=train_dataset,
                callbacks=[EpochCallback(train_dataset), *callbacks],
                **keywords,
            )
        except ValueError as error:
            raise ConfigError(first_line(error)) from error
        print_lines_only(self)
        self.notes: list[str] = []  # for the report
        self.record: dict[str, Any] = {}  # for `run.yaml`, in place of the figures of a training
        self.averaged: AveragedModel | None = None
        self._resumed_from: str | None = None
        self._steps_per_epoch = 1
        if self.args.weight_averaging:
            if self.is_fsdp_enabled or self.is_deepspeed_enabled:
                raise ConfigError("weight_averaging does not work with DeepSpeed or FSDP: leave it out")
            self.add_callback(_AverageAfterStep(self))

    def train(self, resume_from_checkpoint: str | Path | None = None, **keywords) -> TrainOutput:
        """Train as transformers' Trainer does; with `weight_averaging`, the model ends with the averaged weights."""
        self._resumed_from = str(resume_from_checkpoint) if resume_from_checkpoint else None
        with saving_to(self.args.output_dir, RESUME):
            output = super().train(resume_from_checkpoint=self._resumed_from, **keywords)
        if self.averaged is not None:
            if self.args.load_best_model_at_end and self.state.best_model_checkpoint:
                self._load_averaged(self.state.best_model_checkpoint)
            self.accelerator.unwrap_model(self.model).load_state_dict(self.averaged.module.state_dict())
            self.averaged = None
        return output

    def set_initial_training_values(self, args: TrainingArguments, dataloader: DataLoader) -> tuple:
        """Set the values as transformers' Trainer does, and store the steps per epoch for `create_scheduler`."""
        values = super().set_initial_training_values(args, dataloader)
        self._steps_per_epoch = values[1]
        return values

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        """Return the schedule; `decay_from_epoch` replaces `lr_scheduler_type`."""
        if self.args.decay_from_epoch is None:
            return super().create_scheduler(num_training_steps, optimizer)
        rate = partial(
            epoch_decay,
            steps_per_epoch=self._steps_per_epoch,
            first_epoch=self.args.decay_from_epoch,
            decay=self.args.epoch_decay,
        )
        self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, rate)
        return self.lr_scheduler

    def evaluation_loop(self, *arguments, **keywords) -> EvalLoopOutput:
        """Evaluate the averaged weights, if there are any, with the first process's buffers on all processes.

        The processes compute batch norm's running statistics from different tracks; checkpoints hold the first process's.
        """
        with self._averaged_weights():
            if self.args.world_size > 1 and torch.distributed.is_initialized():
                for buffer in self.accelerator.unwrap_model(self.model).buffers():
                    torch.distributed.broadcast(buffer, src=0)
            return super().evaluation_loop(*arguments, **keywords)

    def prediction_step(self, *arguments, ignore_keys: list[str] | None = None) -> tuple[Tensor | None, ...]:
        """Predict as transformers' Trainer does, and keep all outputs that a report uses."""
        return super().prediction_step(*arguments, ignore_keys=UNUSED_OUTPUTS if ignore_keys is None else ignore_keys)

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """Use the averaged weights within the context."""
        if self.averaged is None:
            yield
            return
        model = self.accelerator.unwrap_model(self.model)
        raw = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(self.averaged.module.state_dict())
        try:
            yield
        finally:
            model.load_state_dict(raw)

    def begin_averaging(self) -> None:
        """Start the average at the current weights, or at the average of the checkpoint that the run resumes from."""
        model = self.accelerator.unwrap_model(self.model)
        average = partial(_average, decay=self.args.weight_averaging)
        # Batch norm's running statistics must match the weights, so they are averaged too.
        self.averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
        self.averaged.requires_grad_(False)
        if self._resumed_from is not None:
            self._load_averaged(self._resumed_from)

    def save_model(self, output_dir: str | None = None, **keywords) -> None:
        """Save as transformers' Trainer does, with the averaged weights beside the model."""
        super().save_model(output_dir, **keywords)
        if self.averaged is not None and self.args.should_save:
            tensors = {name: tensor.contiguous() for name, tensor in self.averaged.state_dict().items()}
            save_file(tensors, Path(output_dir or self.args.output_dir) / AVERAGED_WEIGHTS)

    def _load_averaged(self, checkpoint: str) -> None:
        path = Path(checkpoint) / AVERAGED_WEIGHTS
        if not path.is_file():
            raise CheckpointError(
                f"{checkpoint} has no {AVERAGED_WEIGHTS}, because its run had no weight_averaging: leave out weight_averaging, "
                "or restart with --overwrite"
            )
        self.averaged.load_state_dict(load_file(path))


class _AverageAfterStep(TrainerCallback):
    """Updates the average after each step, before an evaluation."""

    def __init__(self, trainer: TrackTrainer):
        self.trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        self.trainer.begin_averaging()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        self.trainer.averaged.update_parameters(self.trainer.accelerator.unwrap_model(self.trainer.model))


class EpochCallback(TrainerCallback):
    """Sets the epoch of the examples and the model; accelerate sets only that of some samplers."""

    def __init__(self, examples: object):
        self.examples = examples

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        """Set the epoch; if a run resumes within an epoch, `state.epoch` is a fraction."""
        epoch = int(state.epoch or 0)
        self.examples.set_epoch(epoch)
        for module in kwargs["model"].modules():
            if isinstance(module, WindowedForAudioClassification):
                module.begin_epoch(epoch)


def epoch_decay(step: int, *, steps_per_epoch: int, first_epoch: int, decay: float) -> float:
    """Return the factor of the learning rate at a step: 1 before `first_epoch` (from 0), then times exp(-decay) per epoch.

    The schedule (LRS) of the divide-and-conquer paper: constant to epoch 8, then times exp(-0.1) per epoch.
    """
    return math.exp(-decay * max(0, step // steps_per_epoch - first_epoch + 1))


@torch.no_grad()
def _average(averaged: list[Tensor], current: list[Tensor], count: Tensor | int, *, decay: float) -> None:
    """Move the average towards the current weights, faster in the first steps (as TensorFlow's moving average)."""
    count = int(count)
    step = 1 - min(decay, (1 + count) / (10 + count))
    for mean, value in zip(averaged, current, strict=True):
        if mean.is_floating_point():
            mean.lerp_(value.to(mean.dtype), step)
        else:  # batch norm's number of batches
            mean.copy_(value)
