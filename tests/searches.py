"""Helpers of the tests that search: the space of a tiny LGNet, commands, and what a search leaves."""

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path

import optuna

from hfmgc.training import fit as fit_module
from recipes import SEARCH, classifier_settings, run_here, write_config


SPACE = {
    "learning_rate": {"low": 1e-4, "high": 0.1, "log": True},
    "per_device_train_batch_size": {"choices": [2, 4]},
    "weight_decay": {"low": 0.0, "high": 0.15},
    "model.expert_hidden_size": {"choices": [4, 8]},
}
SECTION = {
    "trials": 4,
    "startup_trials": 2,
    "pruner_startup_trials": 1,
    "pruner_warmup": 0,
    "heartbeat_interval": 1,
    "grace_period": 3,
    "final_seeds": [0, 1],
}


def search_settings(data: Path, output_dir: Path, *, space: dict | None = None, **more) -> dict:
    """A search over a tiny LGNet; `search` among the rest changes entries of the section."""
    section = {**SECTION, **more.pop("search", {}), "space": space or SPACE}
    return classifier_settings(data, output_dir, search=section, **more)


def search_here(tmp_path: Path, settings: dict, *overrides: str | Path) -> subprocess.CompletedProcess:
    return run_here(SEARCH, write_config(tmp_path / "search.yaml", settings), *overrides)


def refusal(result: subprocess.CompletedProcess) -> str:
    """The one line of a refused command."""
    assert result.returncode == 1, result.stdout
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line


def load(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="search", storage=f"sqlite:///{folder / 'study.db'}")


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def before_each_model(monkeypatch, action: Callable[[], object]) -> None:
    """Call `action` before a trial builds its model."""
    build = fit_module.build_model

    def build_afterwards(*arguments):
        action()
        return build(*arguments)

    monkeypatch.setattr(fit_module, "build_model", build_afterwards)
