"""transformers' Trainer with what it lacks here: averaged weights, a decay by epochs, a collator for training alone."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from ..errors import CheckpointError, ConfigError
from ..evaluation.predictions import UNUSED_OUTPUTS
from ..models.modeling_windowed import WindowedForAudioClassification


AVERAGED_WEIGHTS = "averaged_weights.safetensors"


class TrackTrainer(Trainer):
    """Trains a classifier of tracks.

    With `weight_averaging`, it is the averaged weights that are evaluated, by which the best checkpoint is chosen, and
    with which the training ends; each checkpoint keeps both kinds, so that a resumed run goes on exactly.

    Args:
        train_collator: Makes the batches of training; `data_collator` those of evaluation.
        keywords: See `transformers.Trainer`.
    """

    def __init__(self, *, train_collator: Callable | None = None, **keywords):
        super().__init__(**keywords)
        self.train_collator = train_collator or self.data_collator
        self.averaged: AveragedModel | None = None
        self._averaged_are_in_use = False
        self._resumed_from: str | None = None
        self._steps_per_epoch = 1
        if self.args.weight_averaging:
            if self.is_fsdp_enabled or self.is_deepspeed_enabled:
                raise ConfigError("weight_averaging: not with DeepSpeed or FSDP, which divide the weights")
            self.add_callback(_AverageAfterStep(self))

    def train(self, resume_from_checkpoint: str | None = None, **keywords) -> TrainOutput:
        """As the Trainer's; the model ends with the averaged weights where there are any."""
        self._resumed_from = resume_from_checkpoint
        output = super().train(resume_from_checkpoint=resume_from_checkpoint, **keywords)
        if self.averaged is not None:
            self.accelerator.unwrap_model(self.model).load_state_dict(self.averaged.module.state_dict())
            self.averaged = None
        return output

    def get_train_dataloader(self) -> DataLoader:
        """Return the batches of training."""
        self.data_collator, kept = self.train_collator, self.data_collator
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = kept

    def set_initial_training_values(self, args: TrainingArguments, dataloader: DataLoader) -> tuple:
        """As the Trainer's; a schedule by epochs must know how many steps one has, whatever the training's length is."""
        values = super().set_initial_training_values(args, dataloader)
        self._steps_per_epoch = values[1]
        return values

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        """Return the schedule; `decay_from_epoch` stands in place of `lr_scheduler_type`."""
        if self.args.decay_from_epoch is None or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        rate = partial(
            epoch_decay,
            steps_per_epoch=self._steps_per_epoch,
            first_epoch=self.args.decay_from_epoch,
            decay=self.args.epoch_decay,
        )
        self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, rate)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def evaluation_loop(self, *arguments, **keywords) -> EvalLoopOutput:
        """As the Trainer's, with the averaged weights where there are any, and on all processes with the first one's buffers.

        Each process keeps batch norm's running statistics of its own tracks; those of the first are what is saved.
        """
        with self.averaged_weights():
            if self.args.world_size > 1 and torch.distributed.is_initialized():
                for buffer in self.accelerator.unwrap_model(self.model).buffers():
                    torch.distributed.broadcast(buffer, src=0)
            return super().evaluation_loop(*arguments, **keywords)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, ...]:
        """As the Trainer's; by default the metrics get what a report gets, the experts' routing among it."""
        ignore_keys = UNUSED_OUTPUTS if ignore_keys is None else ignore_keys
        return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Put the averaged weights into the model for a while."""
        if self.averaged is None or self._averaged_are_in_use:
            yield
            return
        model = self.accelerator.unwrap_model(self.model)
        own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(self.averaged.module.state_dict())
        self._averaged_are_in_use = True
        try:
            yield
        finally:
            model.load_state_dict(own)
            self._averaged_are_in_use = False

    def begin_averaging(self) -> None:
        """Start the average from the weights of now, or from what the checkpoint keeps of it that was resumed from."""
        model = self.accelerator.unwrap_model(self.model)
        average = partial(_average, decay=self.args.weight_averaging)
        # Batch norm's running statistics belong to the weights, so they are averaged with them.
        self.averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
        self.averaged.requires_grad_(False)
        if self._resumed_from is not None:
            self._load_averaged(self._resumed_from)

    def _save_checkpoint(self, *arguments, **keywords) -> None:
        # Before the Trainer's own, whose last file marks a checkpoint as complete.
        if self.averaged is not None and self.args.should_save:
            folder = Path(self._get_output_dir(trial=None)) / f"checkpoint-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            tensors = {name: tensor.contiguous() for name, tensor in self.averaged.state_dict().items()}
            save_file(tensors, folder / AVERAGED_WEIGHTS)
        super()._save_checkpoint(*arguments, **keywords)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self.averaged is not None:
            self._load_averaged(self.state.best_model_checkpoint)

    def _load_averaged(self, checkpoint: str) -> None:
        path = Path(checkpoint) / AVERAGED_WEIGHTS
        if not path.is_file():
            raise CheckpointError(f"{checkpoint} keeps no averaged weights: its run had no weight_averaging")
        self.averaged.load_state_dict(load_file(path))


class _AverageAfterStep(TrainerCallback):
    """Keeps the average; a callback, because the Trainer has no other moment between step and evaluation."""

    def __init__(self, trainer: TrackTrainer):
        self.trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        self.trainer.begin_averaging()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        self.trainer.averaged.update_parameters(self.trainer.accelerator.unwrap_model(self.trainer.model))


class EpochCallback(TrainerCallback):
    """Tells the examples and the model which epoch it is (accelerate tells only some samplers)."""

    def __init__(self, examples: object):
        self.examples = examples

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs,
    ) -> None:
        """Set the epoch; after a resume in mid-epoch `state.epoch` is a fraction within it."""
        epoch = int(state.epoch or 0)
        self.examples.set_epoch(epoch)
        for module in model.modules() if model is not None else ():
            if isinstance(module, WindowedForAudioClassification):
                module.begin_epoch(epoch)


def epoch_decay(step: int, *, steps_per_epoch: int, first_epoch: int, decay: float) -> float:
    """Return the factor of the learning rate at a step: 1 before `first_epoch`, then exp(-decay) less with each epoch.

    The schedule of the divide-and-conquer paper (LRS): constant to epoch 8, then times exp(-0.1) an epoch. Epochs count
    from 0; the first that is slower is `first_epoch`.
    """
    return math.exp(-decay * max(0, step // steps_per_epoch - first_epoch + 1))


@torch.no_grad()
def _average(averaged: list[Tensor], current: list[Tensor], count: Tensor | int, *, decay: float) -> None:
    """Move the average towards the current weights, faster while it has seen little of them (TensorFlow's rule)."""
    count = int(count)
    step = 1 - min(decay, (1 + count) / (10 + count))
    for mean, value in zip(averaged, current, strict=True):
        if mean.is_floating_point():
            mean.lerp_(value.to(mean.dtype), step)
        else:  # batch norm's count of batches
            mean.copy_(value)
