"""Fit a classifier to the representations of a frozen encoder: a few songs of each genre are enough.

    python recipes/probe.py [CONFIG.yaml] [--field value ...]

The default is logistic regression on the MusiCNN checkpoint of the package (recipes/configs/musicnn/folder.yaml):

    python recipes/probe.py --data MUSIC --output_dir runs/mine

For the encoder of another checkpoint of hfmgc, pass a config of its architecture and `--model_name_or_path CHECKPOINT`. For
any audio encoder of the Hub, pass recipes/configs/audio_encoder.yaml. The representation of each window is computed once and
stored. Cross-validation on the training tracks chooses the regularisation strength; with `--probe_head torch`, the validation
side chooses among 216 heads. `--help` lists all fields.
"""

import sys
from functools import partial
from pathlib import Path

from train_classifier import train_and_evaluate  # only the training differs

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
