"""Compare a search that shares the frozen layers of an AST with the same trials as separate runs.

    python benchmarks/search_ast.py [--quick]

The space is that of the AST report (DoRA from layer 10 or 11 of 12), the network an AST of reduced width with random weights,
the data random features on disk. One side is `recipes/search.py` with `reuse_frozen_prefix`, including the time to fill its
stores. It does not prune, so all trials are complete. The other side runs `recipes/finetune_ast.py` without reuse for each
trial, with the trial's values and the same seed.

Whole commands are timed, with start-up, evaluation and files. The search keeps no checkpoints; its time includes plots and
table. The backbone has no dropout, so both sides must find the same validation losses; the largest difference is printed. The
last line, `ratio search_vs_separate_runs VALUE`, is the time of the separate runs divided by that of the search.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import optuna
import yaml

from hfmgc.training.base_recipe import BaseRecipe
from hfmgc.training.search.space import read_space, recipe_fields


RECIPES = Path(__file__).resolve().parents[1] / "recipes"
BINS = 128
GENRES = [f"genre {index}" for index in range(5)]
SPACE = {
    "learning_rate": {"low": 5e-6, "high": 5e-4, "log": True},
    "per_device_train_batch_size": {"choices": [2, 4, 8, 16]},
    "warmup_steps": {"low": 0.01, "high": 0.1},
    "weight_decay": {"low": 0.0, "high": 0.15},
    "adapter_min_layer": {"choices": [10, 11]},
    "adapter_rank": {"choices": [1, 2, 3]},
    "adapter_alpha": {"low": 0.1, "high": 10.0, "log": True, "times": "adapter_rank"},
    "model.head_hidden_size": {"choices": [50, 100, 200]},
}


def main() -> None:
    """Run both sides and print their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer tracks and shorter trainings, for a smoke test")
    arguments = parser.parse_args()
    tracks, frames, trials = (6, 128, 10) if arguments.quick else (20, 256, 10)
    low, high = (2, 3) if arguments.quick else (7, 20)
    with tempfile.TemporaryDirectory() as name:
        workdir = Path(name)
        base = recipe(write_features(workdir / "features.parquet", tracks, frames), frames)
        space = {**SPACE, "num_train_epochs": {"low": low, "high": high, "int": True}}
        print(
            f"{trials} trials of {low} to {high} epochs, {tracks * len(GENRES)} tracks of {frames} x {BINS}",
            flush=True,
        )
        seconds, study = search(workdir, base, space, trials)
        print(f"search with shared frozen layers {seconds:8.1f} s", flush=True)
        separate, difference = separate_runs(workdir, base, space, study)
        print(f"separate plain runs              {separate:8.1f} s")
        print(f"largest difference between the best validation losses of a trial: {difference:.2e}")
        if difference > 1e-3:
            raise SystemExit("the losses of the two sides differ, so their times cannot be compared")
        print(f"ratio search_vs_separate_runs {separate / seconds:.3f}")


def write_features(path: Path, tracks: int, frames: int) -> Path:
    """Write a table with `tracks` random windows [1, frames, bins] of each genre; genres differ slightly."""
    generator = np.random.default_rng(0)
    rows: dict[str, list[Any]] = {"track_id": [], "genre": [], "features": []}
    for index, genre in enumerate(GENRES):
        for number in range(tracks):
            window = 0.5 * generator.standard_normal((1, frames, BINS), dtype=np.float32)
            window[..., 20 * index : 20 * index + 20] += 0.2
            rows["track_id"].append(f"{genre} {number}")
            rows["genre"].append(genre)
            rows["features"].append(window.tolist())
    datasets.Dataset.from_dict(rows).to_parquet(str(path))
    return path


def recipe(data: Path, frames: int) -> dict[str, Any]:
    """Return the settings of both sides."""
    return {
        "model": {
            "head_input_dropout": 0.0,
            "head_hidden_dropout": 0.0,
            "backbone_config": {
                "hidden_size": 192,
                "num_hidden_layers": 12,
                "num_attention_heads": 3,
                "intermediate_size": 768,
                "max_length": frames,
                "num_mel_bins": BINS,
            },
        },
        "front_end": {"max_length": frames},
        "adapter": "dora",
        "adapter_targets": ["fc2"],
        "data": str(data),
        "split_ratios": "4:1:1",
        "augmentation": "none",
        "training_windows": "fixed",
        "per_device_eval_batch_size": 8,
        "metric_for_best_model": "loss",
        "seed": 0,
        "disable_tqdm": True,
    }


def search(workdir: Path, base: dict[str, Any], space: dict[str, Any], trials: int) -> tuple[float, optuna.Study]:
    """Return the seconds of the search and its study."""
    folder = workdir / "search"
    settings = {
        **base,
        "output_dir": str(folder),
        "reuse_frozen_prefix": True,
        "prefix_store": str(workdir / "store"),
        "search": {"trials": trials, "pruner": "none", "space": space},
    }
    seconds = run("search.py", settings, workdir)
    return seconds, optuna.load_study(study_name="search", storage=f"sqlite:///{folder / 'study.db'}")


def separate_runs(
    workdir: Path, base: dict[str, Any], space: dict[str, Any], study: optuna.Study
) -> tuple[float, float]:
    """Return the seconds of all runs, and the largest difference between the best validation losses of run and trial."""
    plain = BaseRecipe(base, "benchmark")
    parameters = read_space(space, BaseRecipe({**base, "output_dir": str(workdir)}, "benchmark"))
    seconds, difference = 0.0, 0.0
    for trial in study.trials:
        if trial.value is None:
            raise SystemExit(f"trial {trial.number} did not finish: {trial.user_attrs}")
        folder = workdir / f"run_{trial.number}"
        settings = {**plain.with_fields(recipe_fields(parameters, trial.params, plain)), "output_dir": str(folder)}
        run_seconds = run("finetune_ast.py", settings, workdir)
        training = yaml.safe_load((folder / "run.yaml").read_text(encoding="utf-8"))["training"]
        print(
            f"  trial {trial.number}: {trial.duration.total_seconds():6.1f} s in the search, {run_seconds:6.1f} s as a separate "
            f"run, validation loss {trial.value:.5f}",
            flush=True,
        )
        seconds += run_seconds
        difference = max(difference, abs(training["best_validation_loss"] - trial.value))
    return seconds, difference


def run(script: str, settings: dict[str, Any], workdir: Path) -> float:
    """Run a recipe with caches in `workdir`, and return its seconds."""
    config = workdir / "config.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    environment = {**os.environ, "HF_HOME": str(workdir / "cache"), "HF_HUB_OFFLINE": "1"}
    began = time.monotonic()
    process = subprocess.run(
        [sys.executable, RECIPES / script, config], env=environment, capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise SystemExit(f"{script} failed:\n{process.stderr}\n{json.dumps(settings, indent=2)}")
    return time.monotonic() - began


if __name__ == "__main__":
    main()
