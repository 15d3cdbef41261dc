"""The output of a training: one line per evaluation instead of the Trainer's dictionaries."""

import time
from collections.abc import Mapping
from typing import Any

from tqdm.auto import tqdm
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.utils import logging


def print_lines_only(trainer: Trainer) -> None:
    """Keep a Trainer from printing dictionaries, because callbacks print lines. Its progress bar stays."""
    logging.disable_progress_bar()  # the bars that transformers draws while it writes a checkpoint
    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(_ProgressBar)


class _ProgressBar(ProgressCallback):
    def on_log(self, *arguments: Any, **keywords: Any) -> None:
        """Print nothing, because `EpochLines` prints the logs."""


# Entries of the Trainer's logs; all others are figures that the model monitors.
_TRAINER_LOGS = ("loss", "grad_norm", "learning_rate", "epoch", "num_input_tokens_seen")


class EpochLines(TrainerCallback):
    """Prints a line for each evaluation, or for each log if the training has no evaluations.

    It shows the train loss, monitored figures, the validation loss and the measure that chooses the checkpoint.
    """

    def __init__(self):
        self.train_loss: float | None = None
        self.monitored = ""
        self.began = time.monotonic()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        self.began = time.monotonic()

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        """Log at the end of each epoch too, so each line has a train loss."""
        control.should_log = True

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        """Keep the latest train loss (the mean since the previous log) and the monitored figures."""
        logs: Mapping[str, float] = kwargs["logs"]
        if "loss" in logs:
            self.train_loss = logs["loss"]
            monitored = (f", {name} {value:.4f}" for name, value in logs.items() if name not in _TRAINER_LOGS)
            self.monitored = "".join(monitored)
            if args.eval_strategy == "no":
                self._print(args, state, {})

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        self._print(args, state, kwargs["metrics"])

    def _print(self, args: TrainingArguments, state: TrainerState, metrics: Mapping[str, float]) -> None:
        seconds, self.began = time.monotonic() - self.began, time.monotonic()
        if state.is_world_process_zero:
            tqdm.write(f"{epoch_line(args, state, self.train_loss, metrics)}{self.monitored}, {seconds:.0f} s")
        self.train_loss, self.monitored = None, ""


def epoch_line(
    args: TrainingArguments, state: TrainerState, train_loss: float | None, metrics: Mapping[str, float]
) -> str:
    """Return one line about the epoch that ended; `metrics` holds the validation metrics as `eval_NAME`."""
    chosen = args.metric_for_best_model or "loss"
    figures = [f"train loss {train_loss:.4f}"] if train_loss is not None else []
    for name in dict.fromkeys(("loss", chosen)):
        if (value := metrics.get(f"eval_{name}")) is not None:
            better = state.best_metric is None or (
                value > state.best_metric if args.greater_is_better else value < state.best_metric
            )
            # The Trainer updates `state.best_metric` after this callback.
            figures.append(f"validation {name} {value:.4f}{' (best so far)' if name == chosen and better else ''}")
    total = f"{state.num_train_epochs:g}"
    return f"epoch {round(state.epoch or 0, 2):>{len(total)}g} of {total}: {', '.join(figures)}"
