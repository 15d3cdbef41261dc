"""Fit a classifier to the representations of a frozen encoder: a few songs of each genre are enough.

    python recipes/probe.py [CONFIG.yaml] [--field value ...]

By default: logistic regression on MusiCNN, whose checkpoint comes with the package (recipes/configs/musicnn/folder.yaml):

    python recipes/probe.py --data MUSIC --output_dir runs/mine

`CONFIG --model_name_or_path CHECKPOINT`, with a config of the checkpoint's architecture, takes the encoder of one of our
checkpoints, and recipes/configs/audio_encoder.yaml any audio encoder of the Hub. Each window's representation is computed once
and stored; a cross-validation of the training tracks chooses the strength. With `--probe_head torch` the validation side
chooses among 216 heads. `--help` lists all fields.
"""

import sys
from functools import partial
from pathlib import Path

from train_classifier import train_and_evaluate  # apart from the training, the stages are the same

from hfmgc.settings import read_settings
from hfmgc.training import stages
from hfmgc.training.arguments import RECIPE_GROUPS
from hfmgc.training.probe import PROBE_SETTINGS, ProbeArguments, check_probe, fit_probe


DEFAULT_CONFIG = Path(__file__).parent / "configs" / "musicnn" / "folder.yaml"


def main() -> None:
    """Read the settings and run all stages."""
    groups = (*RECIPE_GROUPS, ProbeArguments)
    *recipe, probe = read_settings(sys.argv[1:], groups, DEFAULT_CONFIG, defaults=PROBE_SETTINGS)
    check_probe(tuple(recipe))
    train_and_evaluate(tuple(recipe), partial(fit_probe, probe=probe), probe)


if __name__ == "__main__":
    stages.run_recipe(main)
