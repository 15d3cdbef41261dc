"""The Trainer of a pre-training run. The model returns the loss."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ...errors import ConfigError, TrainingError
from ...models.modeling_pretraining import PreTrainingModel
from ..fit import check_shapes
from ..trainer import TrackTrainer
from .arguments import PretrainingGroups, build_pretraining_model
from .data import PretrainingData


class PretrainingTrainer(TrackTrainer):
    """Trains a [`PreTrainingModel`]; stops if the loss is not finite, and logs the figures that the model monitors."""

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *arguments: Any, **keywords: Any) -> Tensor:
        """Run a step as transformers' Trainer does.

        Raises:
            TrainingError: If the loss is NaN or infinite; the message names step and learning rate.
        """
        loss = super().training_step(model, inputs, *arguments, **keywords)
        if not torch.isfinite(loss).all():
            raise TrainingError(
                f"the loss is {float(loss):g} in step {self.state.global_step + 1}, at a learning rate of "
                f"{self.lr_scheduler.get_last_lr()[0]:g}: lower learning_rate, raise warmup_steps, or set max_grad_norm; "
                "earlier checkpoints stay in output_dir"
            )
        return loss

    def log(self, logs: dict[str, float], *arguments: Any, **keywords: Any) -> None:
        """Log as transformers' Trainer does, with the model's monitored figures next to the train loss."""
        if "loss" in logs:
            logs = {**logs, **self.accelerator.unwrap_model(self.model).monitored()}
        super().log(logs, *arguments, **keywords)


class AfterOptimizerStep(TrainerCallback):
    """Calls `after_optimizer_step` of the model once after each optimizer step."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        for module in kwargs["model"].modules():  # the model can be inside DistributedDataParallel
            if isinstance(module, PreTrainingModel):
                module.after_optimizer_step(state.global_step - 1, state.max_steps)
                return


def fit_pretraining(
    groups: PretrainingGroups,
    data: PretrainingData,
    callbacks: Sequence[TrainerCallback] = (),
    *,
    checkpoint: Path | None = None,
) -> PretrainingTrainer:
    """Pre-train; return the Trainer with its trained model.

    Raises:
        ConfigError: If the model does not fit the data, fsdp or deepspeed.
        CheckpointError: If `checkpoint` belongs to another model.
        TrainingError: If the loss is not finite.
        SaveError: If the run's folder cannot be written to.
    """
    arguments, _, run = groups
    model = build_pretraining_model(arguments, run)
    if checkpoint is not None:
        check_shapes(model, checkpoint)
    if (run.fsdp or run.deepspeed) and type(model).after_optimizer_step is not PreTrainingModel.after_optimizer_step:
        raise ConfigError(
            f"fsdp, deepspeed: they shard the weights that {type(model).__name__} averages after each step: use DDP"
        )
    try:
        model.check_data(len(data.train), data.train.global_batch)
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error
    trainer = PretrainingTrainer(
        model=model,
        args=run,
        train_dataset=data.train,
        eval_dataset=data.validation,
        data_collator=default_collate,
        callbacks=[AfterOptimizerStep(), *callbacks],
    )
    trainer.train(checkpoint)
    return trainer


def summarize_losses(trainer: PretrainingTrainer) -> dict[str, float]:
    """Return the first and last logged train loss, and the last validation loss, without those that are not finite."""
    history = trainer.state.log_history
    train = [entry["loss"] for entry in history if "loss" in entry]
    held_out = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    logged = {"first_train_loss": train[:1], "train_loss": train[-1:], "validation_loss": held_out[-1:]}
    return {name: values[0] for name, values in logged.items() if values and math.isfinite(values[0])}
