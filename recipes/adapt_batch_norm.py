"""Adapt the batch norms of a network to recordings that differ from its training data.

    python recipes/adapt_batch_norm.py [CONFIG.yaml] --data DATA --output_dir FOLDER [--field value ...]

The default network is MusiCNN (recipes/configs/musicnn/folder.yaml). The means and variances of all batch norms are
re-estimated on random windows of the training side (adaptive batch normalization, Li et al. 2017); the weights do not change.
FOLDER gets the encoder without a head, its front end, run.yaml and split.json. Use it with

    python recipes/probe.py [CONFIG.yaml] --data DATA --model_name_or_path FOLDER ...
    hfmgc embed DATA OUT.parquet --checkpoint FOLDER
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch.optim.swa_utils import update_bn
from tqdm.auto import tqdm

from hfmgc.errors import ConfigError, saving_to
from hfmgc.settings import read_settings
from hfmgc.training import stages
from hfmgc.training.arguments import RECIPE_GROUPS
from hfmgc.training.build import build_model
from hfmgc.training.check import check_recipe
from hfmgc.training.preparation import prepare_data
from hfmgc.training.probe import PROBE_SETTINGS
from hfmgc.training.run_folder import RunRecord, begin_run


DEFAULT_CONFIG = Path(__file__).parent / "configs" / "musicnn" / "folder.yaml"
BATCHES, BATCH_SIZE = 40, 32


def main() -> None:
    """Run all stages."""
    # Settings
    recipe = check_recipe(read_settings(sys.argv[1:], RECIPE_GROUPS, DEFAULT_CONFIG, defaults=PROBE_SETTINGS))
    model_arguments, data_arguments, run = recipe.groups
    record = RunRecord.from_settings(recipe.groups, run)
    folder = Path(run.output_dir)
    if (folder / "config.json").exists() and not run.overwrite:
        raise ConfigError(
            f"output_dir {folder}: already holds a checkpoint: add --overwrite to replace it, or choose another folder"
        )
    begin_run(run, record)

    # Data
    data = prepare_data(data_arguments, run, recipe.extractor)
    stages.announce(run, data)
    stages.record_start(run, data, record, None)

    # Statistics of random training windows
    encoder = build_model(model_arguments, data.corpus.genres, run).base_model.to(run.device)
    if not any(name.endswith("running_mean") for name, _ in encoder.named_buffers()):
        raise ConfigError(
            f"model_type {model_arguments.model_type}: has no batch norm to adapt: choose another network"
        )
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # train() updates the batch norms, but must not drop activations
    windows = data.train.windows
    if len(windows) < 2:
        raise ConfigError(f"data {data_arguments.data}: the training side has only one window: add tracks")
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(run.seed))
    # Leave out a last batch of one window, which may have no variance.
    batches = [rows for rows in order[: BATCHES * BATCH_SIZE].split(BATCH_SIZE) if len(rows) > 1]
    update_bn(
        (
            torch.from_numpy(np.stack([windows[index] for index in rows])).to(run.device)
            for rows in tqdm(batches, desc="batch norm", unit="batch", disable=run.disable_tqdm)
        ),
        encoder.train(),
    )

    # Save
    with saving_to(folder):
        encoder.eval().save_pretrained(folder)
        stages.make_readable(folder)
        recipe.extractor.save_pretrained(folder)
    print(f"\nbatch norms adapted to {sum(map(len, batches))} windows of the training side: {folder}")


if __name__ == "__main__":
    stages.run_recipe(main, resume_hint="run it again with --overwrite")
