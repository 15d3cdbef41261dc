"""Helpers of the tests that run recipes: tiny settings, and the commands that run them."""

import contextlib
import io
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import datasets
import numpy as np
import yaml
from forked import Forked
from matplotlib.figure import Figure
from sketches import save_sketch

from hfmgc.cli import main as hfmgc_main


ROOT = Path(__file__).resolve().parents[1]
FINETUNE_AST = ROOT / "recipes" / "finetune_ast.py"
TRAIN_CLASSIFIER = ROOT / "recipes" / "train_classifier.py"
SEARCH = ROOT / "recipes" / "search.py"
PRETRAIN = ROOT / "recipes" / "pretrain.py"


FRONT_END = {
    "sampling_rate": 16000,
    "n_fft": 512,
    "hop_length": 256,
    "num_bins": 32,
    "window_frames": 32,
    "window_policy": "all",
    "scale": "db",
    "normalization": "z_score",
}


def tiny_settings(data: Path, output_dir: Path, **more) -> dict:
    """Return settings of a run that takes seconds: a two-layer AST from random weights, two epochs."""
    settings = {
        "model": {
            "head_hidden_size": 16,
            "backbone_config": {
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 64,
                "max_length": 64,
                "frequency_stride": 16,
                "time_stride": 16,
            },
        },
        "front_end": {"max_length": 64, "max_windows": 3},
        "data": str(data),
        "shortest_seconds": 0.0,
        "split_ratios": "2:1:1",
        "augmentation": "none",
        "output_dir": str(output_dir),
        "num_train_epochs": 2,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return {**settings, **more}


def write_features(path: Path, genres=("blues", "metal", "pop"), *, tracks: int = 6, slices: bool = False) -> Path:
    """A table of spectrograms [frames, bins], or of slices [slices, 32, 32], that differ by genre; the last has fewer tracks."""
    generator = np.random.default_rng(0)
    rows = {"track_id": [], "genre": [], "features": []}
    for index, genre in enumerate(genres):
        for number in range(tracks - 2 * (index == len(genres) - 1)):
            shape = (3, 32, 32) if slices else (70 + 10 * number, 32)
            values = generator.standard_normal(shape).astype(np.float32)
            values[..., 10 * index : 10 * index + 8] += 1.0
            rows["track_id"].append(f"{genre}.{number}")
            rows["genre"].append(genre)
            rows["features"].append(values.tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(rows).to_parquet(str(path))
    return path


def classifier_settings(data: Path, output_dir: Path, **more) -> dict:
    """A tiny LGNet, for which an epoch takes a blink."""
    return {
        "model_type": "hfmgc-lgnet",
        "model": {
            "backbone_config": {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]},
            "num_experts": 2,
            "expert_hidden_size": 4,
            "router_frozen_after_epochs": 1,
            "dropout": 0.1,
        },
        "front_end": FRONT_END,
        "data": str(data),
        "shortest_seconds": 0.0,
        "split_ratios": "2:1:1",
        "augmentation": "none",
        "output_dir": str(output_dir),
        "num_train_epochs": 3,
        "learning_rate": 0.02,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 3,
        "per_device_eval_batch_size": 2,
        "use_cpu": True,
        "disable_tqdm": True,
        **more,
    }


def write_config(path: Path, settings: dict) -> Path:
    """Write settings as the YAML of a recipe."""
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def python(*arguments: str | Path, environment: dict | None = None, **options) -> subprocess.CompletedProcess:
    """Run this Python with the arguments and return what it printed; one thread, so that sums have one order."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def run_here(recipe: Path, *arguments: str | Path) -> subprocess.CompletedProcess:
    """Run a recipe within this process: starting Python anew takes longer."""
    out, err = io.StringIO(), io.StringIO()
    argv = [str(recipe), *map(str, arguments)]
    code = 0
    path = [str(recipe.parent), *sys.path]  # as Python has it for a script
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", argv),
        mock.patch.object(sys, "path", path),
        mock.patch.object(Figure, "savefig", save_sketch),
    ):
        try:
            runpy.run_path(str(recipe), run_name="__main__")
        except SystemExit as exit_:
            code = exit_.code or 0
            if isinstance(code, str):  # as Python does
                print(code, file=err)
                code = 1
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


def hfmgc_here(*arguments: str | Path) -> subprocess.CompletedProcess:
    """Run the command line within this process."""
    out, err = io.StringIO(), io.StringIO()
    argv = list(map(str, arguments))
    sketches = mock.patch.object(Figure, "savefig", save_sketch)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), sketches:
        code = hfmgc_main(argv)
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


def finetune_here(*arguments: str | Path) -> subprocess.CompletedProcess:
    """Run recipes/finetune_ast.py within this process."""
    return run_here(FINETUNE_AST, *arguments)


class Hold:
    """Makes recipes in processes of their own stand still after an event of their Trainer, until they are released.

    So that a test stops or kills them there however fast or slow the machine is.
    """

    def __init__(self, folder: Path, event: str, step: int = 0):
        self.file = folder / "hold"
        self.file.touch()
        self._held = (event, str(step), str(self.file))

    def start(self, script: Path, *arguments: str | Path) -> Forked:
        """Start a recipe."""
        return Forked(ROOT / "tests" / "held_run.py", *self._held, script, *arguments)

    def wait_for(self, process: Forked) -> None:
        """Wait until a recipe stands still."""
        standing = self.file.with_name(f"{self.file.name}.{process.pid}")
        while not standing.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)

    def release(self) -> None:
        """Let all of them go on."""
        self.file.unlink()


def run_and_kill(script: Path, *arguments: str | Path, folder: Path, step: int) -> None:
    """Run a recipe that saves checkpoints, and SIGKILL it when that of a step is written."""
    hold = Hold(folder, "on_save", step)
    process = hold.start(script, *arguments)
    hold.wait_for(process)
    process.kill()
    process.communicate()
