"""Compare latent sizes of the feature autoencoder: one run for each size and seed (divide-and-conquer paper, Table III)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.features import TrackWindows
from ..errors import ConfigError
from ..evaluation.checkpoints import load_checkpoint
from ..settings import read_settings, read_values
from .arguments import RECIPE_GROUPS, Groups, setting
from .base_recipe import BaseRecipe
from .comparison import ComparedRow
from .run_folder import read_record


@dataclass
class LatentSizes:
    """The autoencoders to train."""

    latent_sizes: list[int | None] = setting(
        lambda: [10, 50, 100, 200, 400, None], "Latent sizes; null: no autoencoder, a classifier of the features."
    )
    seeds: list[int] = setting(lambda: [0, 1, 2], "Seeds of the trainings; the split stays the same.")

    def __post_init__(self):
        for name, values in vars(self).items():
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} {values}: give at least one number, and each only once")


def read_latent_sizes(argv: Sequence[str], default_config: Path) -> tuple[BaseRecipe, LatentSizes]:
    """Return the recipe in a config, and the latent sizes and seeds to train it with.

    Raises:
        ConfigError: As `read_settings`, or if the recipe has another architecture.
        SystemExit: After printing the fields, for `--help`.
    """
    groups = (*RECIPE_GROUPS, LatentSizes)
    model, *_, sizes = read_settings(argv, groups, default_config)
    values, where = read_values(argv, groups, default_config)
    if model.model_type != "hfmgc-feature-autoencoder":
        raise ConfigError(f"{where}: model_type must be hfmgc-feature-autoencoder, not {model.model_type}")
    return BaseRecipe({name: value for name, value in values.items() if name not in vars(sizes)}, where), sizes


def fit_latent_sizes(
    recipe: BaseRecipe, sizes: LatentSizes, fit: Callable[[Groups], Any], test: TrackWindows
) -> list[ComparedRow]:
    """Train every latent size with every seed, and return a row of the table for each size.

    Each run has its own folder, `latent_SIZE/seed_N`. Finished runs are not repeated, and unfinished runs resume.
    """
    folder, rows = Path(recipe.groups()[2].output_dir), []
    for size in sizes.latent_sizes:
        name = f"latent_{size}" if size else "no_bottleneck"
        folders = [folder / name / f"seed_{seed}" for seed in sizes.seeds]
        results = [
            recipe.fit_once(
                {"model.latent_size": size, "seed": seed}, run_folder, fit, title=f"{name}, {run_folder.name}"
            )
            for seed, run_folder in zip(sizes.seeds, folders, strict=True)
        ]
        rows.append(
            ComparedRow(
                settings={"latent_size": size or "none"},
                line="feature autoencoder (dashes: single runs)",
                size=size or "none",
                correct=np.array(
                    [[row["genre"] == row["predicted"] for row in result["predictions"]] for result in results]
                ),
                train_seconds=float(np.mean([read_record(path, "training")["train_seconds"] for path in folders])),
                predict_seconds=_prediction_seconds(folders[0], test),
            )
        )
    return rows


@torch.inference_mode()
def _prediction_seconds(folder: Path, tracks: TrackWindows) -> float:
    """Return the processor time in which the network classifies the features of all tracks."""
    model, _ = load_checkpoint(str(folder))
    values = torch.from_numpy(np.stack([tracks.stack(row)[0] for row in range(len(tracks))]))
    start = time.process_time()
    model(values)
    return time.process_time() - start
