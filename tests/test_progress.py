"""What a training prints: lines to read, with or without a progress bar."""

import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.utils import logging

from hfmgc.training.progress import EpochLines, epoch_line, print_lines_only


class Line(nn.Module):
    """y = w x with a squared error."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        values = self.weight * x
        return {"loss": ((values - labels) ** 2).mean(), "logits": values}


@pytest.fixture(autouse=True)
def progress_bars():
    """Restore the setting of transformers that `print_lines_only` changes."""
    yield
    logging.enable_progress_bar()


def trained(folder, **more) -> Trainer:
    rows = [{"x": torch.tensor([1.0]), "labels": torch.tensor([2.0])}] * 4
    arguments = TrainingArguments(
        **{
            "output_dir": str(folder),
            "num_train_epochs": 2,
            "learning_rate": 0.1,
            "per_device_train_batch_size": 2,
            "eval_strategy": "epoch",
            "save_strategy": "epoch",
            "metric_for_best_model": "accuracy",
            "load_best_model_at_end": True,
            "use_cpu": True,
            "report_to": "none",
            **more,
        }
    )
    accuracies = iter([0.5, 0.25])
    trainer = Trainer(
        Line(),
        arguments,
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=lambda _: {"accuracy": next(accuracies)},
        callbacks=[EpochLines()],
    )
    print_lines_only(trainer)
    trainer.train()
    return trainer


@pytest.mark.parametrize("disable_tqdm", [True, False])
def test_an_evaluation_is_one_line_to_read(tmp_path, capsys, disable_tqdm):
    trained(tmp_path, disable_tqdm=disable_tqdm)
    shown = capsys.readouterr().out
    assert "'" not in shown  # no dictionary
    lines = [line for line in shown.splitlines() if line.startswith("epoch")]
    number = r"\d+\.\d{4}"
    assert len(lines) == 2
    assert re.fullmatch(
        rf"epoch 1 of 2: train loss {number}, validation loss {number}, validation accuracy 0\.5000 \(best so far\), \d+ s",
        lines[0],
    )
    assert re.fullmatch(
        rf"epoch 2 of 2: train loss {number}, validation loss {number}, validation accuracy 0\.2500, \d+ s", lines[1]
    )


def test_without_evaluations_the_train_loss_is_printed(tmp_path, capsys):
    trained(tmp_path, disable_tqdm=True, eval_strategy="no", load_best_model_at_end=False, metric_for_best_model=None)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [re.sub(r"\d\.\d{4}", "N", line).rpartition(",")[0] for line in lines] == [
        "epoch 1 of 2: train loss N",
        "epoch 2 of 2: train loss N",
    ]


def test_figures_that_a_model_monitors_are_printed(capsys):
    arguments = SimpleNamespace(eval_strategy="no", metric_for_best_model="loss")
    state = SimpleNamespace(best_metric=None, epoch=1.0, num_train_epochs=2, is_world_process_zero=True)
    logs = {"loss": 0.5, "learning_rate": 1e-3, "grad_norm": 2.0, "target_deviation": 0.43, "epoch": 1.0}
    EpochLines().on_log(arguments, state, None, logs=logs)
    assert capsys.readouterr().out.startswith("epoch 1 of 2: train loss 0.5000, target_deviation 0.4300, ")


@pytest.mark.parametrize(("loss", "said"), [(0.4, True), (0.5, False), (0.6, False)])
def test_a_lower_loss_is_better_where_loss_chooses(loss, said):
    arguments = SimpleNamespace(metric_for_best_model="loss", greater_is_better=False)
    state = SimpleNamespace(best_metric=0.5, epoch=2.5, num_train_epochs=10)
    line = epoch_line(arguments, state, None, {"eval_loss": loss, "eval_accuracy": 0.9})
    assert line == f"epoch 2.5 of 10: validation loss {loss:.4f}{' (best so far)' * said}"
