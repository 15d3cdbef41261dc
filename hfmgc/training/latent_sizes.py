"""The feature autoencoder by latent size: many runs on the same data, as one table (divide-and-conquer paper, Table III)."""

import csv
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.features import TrackWindows
from ..errors import ConfigError, saving_to
from ..evaluation.checkpoints import load_checkpoint
from ..evaluation.metrics import interval_of_shares
from ..evaluation.plots import plot_accuracy_by_size
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from ..files import write_text
from ..settings import describe_fields, read_values, settings_from
from .arguments import RECIPE_GROUPS, DataArguments, Groups, RunArguments, setting
from .preparation import PreparedData
from .run_folder import recorded
from .search.arguments import BaseRecipe
from .search.final_fit import fit_once, read_results


TABLE, PICTURE = "latent_sizes.csv", "latent_sizes.png"


@dataclass
class LatentSizes:
    """Which autoencoders are trained."""

    latent_sizes: list[int | None] = setting(
        lambda: [10, 50, 100, 200, 400, None], "Latent sizes; null: the classifier of the features themselves."
    )
    seeds: list[int] = setting(lambda: [0, 1, 2], "Seeds of each latent size; the split stays the same.")

    def __post_init__(self):
        for name in ("latent_sizes", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} {values}: give one or more different numbers")


def read_latent_sizes(argv: Sequence[str], default_config: Path) -> tuple[BaseRecipe, LatentSizes]:
    """Return the recipe in a config, and with which latent sizes and seeds to train it.

    Raises:
        ConfigError: As `read_settings`, or if the recipe is of another architecture.
        SystemExit: After printing the fields, for `--help`.
    """
    groups = (*RECIPE_GROUPS, LatentSizes)
    if "--help" in argv or "-h" in argv:
        print(describe_fields(groups))
        raise SystemExit(0)
    values, where = read_values(argv, groups, default_config)
    own = {name: values.pop(name) for name in ("latent_sizes", "seeds") if name in values}
    (sizes,) = settings_from(own, [LatentSizes], where=where)
    recipe = BaseRecipe(values, where)
    model_type = recipe.groups()[0].model_type
    if model_type != "hfmgc-feature-autoencoder":
        raise ConfigError(f"{where}: model_type must be hfmgc-feature-autoencoder, not {model_type}")
    return recipe, sizes


@dataclass(frozen=True)
class SharedPreparation:
    """Returns the same data for every run, with the statistics of the training side in its front end."""

    data: PreparedData
    extractor: WindowedFeatureExtractor

    def __call__(
        self, arguments: DataArguments, run: RunArguments, extractor: WindowedFeatureExtractor
    ) -> PreparedData:
        """Return the data; their examples are drawn with the seed of the run."""
        vars(extractor).update(vars(self.extractor))
        self.data.train.seed = run.seed
        return self.data


def fit_latent_sizes(
    recipe: BaseRecipe, sizes: LatentSizes, fit: Callable[[Groups], Any], test: TrackWindows
) -> list[dict[str, Any]]:
    """Train every latent size with every seed, and return a row of the table for each size.

    Each run has its own folder, `latent_SIZE/seed_N`; finished ones are not repeated, unfinished ones are resumed.
    """
    folder, rows = Path(recipe.groups()[2].output_dir), []
    for size in sizes.latent_sizes:
        name = f"latent_{size}" if size else "no_bottleneck"
        folders = [folder / name / f"seed_{seed}" for seed in sizes.seeds]
        for seed, run_folder in zip(sizes.seeds, folders, strict=True):
            chosen = {"model.latent_size": size, "seed": seed}
            fit_once(recipe, chosen, run_folder, fit, title=f"{name}, seed {seed}")
        rows.append({"size": size or "none", **_summary(folders, test)})
    return rows


def _summary(folders: Sequence[Path], test: TrackWindows) -> dict[str, Any]:
    """Return the mean accuracy of runs that differ in their seed, its interval over the tracks, and their times."""
    correct = []
    for folder in folders:
        predictions = read_results(folder)["predictions"]
        correct.append([row["genre"] == row["predicted"] for row in predictions])
    # Of each track, the share of the runs that are right.
    share = np.mean(correct, axis=0)
    interval = interval_of_shares(share)
    seconds = [recorded(folder, "training")["train_seconds"] for folder in folders]
    return {
        "accuracy": float(share.mean()),
        "deviation": float(np.std(np.mean(correct, axis=1), ddof=1)) if len(folders) > 1 else None,
        "low": interval.low,
        "high": interval.high,
        "accuracies": [float(np.mean(of_run)) for of_run in correct],
        "tracks": len(share),
        "train_seconds": float(np.mean(seconds)),
        "prediction_seconds": _prediction_seconds(folders[0], test),
    }


@torch.inference_mode()
def _prediction_seconds(folder: Path, tracks: TrackWindows) -> float:
    """Return the processor time that the network needs for the features of all tracks."""
    model, _ = load_checkpoint(str(folder))
    values = torch.from_numpy(np.stack([tracks.stack(row)[0] for row in range(len(tracks))]))
    start = time.process_time()
    model(values)
    return time.process_time() - start


def save_latent_sizes(rows: Sequence[dict[str, Any]], folder: Path, *, title: str) -> None:
    """Write the table as CSV, and its picture."""
    content = io.StringIO()
    writer = csv.DictWriter(content, ["latent_size", *list(rows[0])[1:]], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cells = {
            "latent_size": row["size"],
            **row,
            "accuracies": " ".join(f"{value:.4f}" for value in row["accuracies"]),
        }
        writer.writerow(
            {
                name: f"{cells[name]:.4f}" if isinstance(cells[name], float) else cells[name]
                for name in writer.fieldnames
            }
        )
    with saving_to(folder):
        write_text(folder / TABLE, content.getvalue())
        named = [{"name": "feature autoencoder (dashes: single runs)", **row} for row in rows]
        plot_accuracy_by_size(named, folder / PICTURE, label="latent size (none: no bottleneck)", title=title)


def latent_sizes_text(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table as text."""
    lines = [
        f"{'latent size':<13}{'accuracy':>9}{'95 % interval':>18}{'deviation':>11}{'training':>11}{'prediction':>12}  runs"
    ]
    for row in rows:
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        deviation = "" if row["deviation"] is None else f"{row['deviation']:.3f}"
        runs = ", ".join(f"{value:.3f}" for value in row["accuracies"])
        lines.append(
            f"{row['size']!s:<13}{row['accuracy']:>9.3f}{interval:>18}{deviation:>11}{row['train_seconds']:>9.0f} s"
            f"{row['prediction_seconds']:>10.3f} s  {runs}"
        )
    return "\n".join(lines)
