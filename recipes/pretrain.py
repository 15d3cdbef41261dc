"""Pre-train a model without genre labels.

    accelerate launch recipes/pretrain.py CONFIG.yaml [--field value ...]

The data are one or more datasets, folders of audio, or stored features:

    python recipes/pretrain.py CONFIG.yaml --data '[maestro, MUSIC, FEATURES/train.parquet]'

recipes/train_classifier.py and recipes/probe.py start from the result (`--model_name_or_path`). `--help` lists all fields.
"""

import sys

from hfmgc.stopping import catch_signals


catch_signals(importing=True)  # the other imports take seconds

from hfmgc.settings import read_settings
from hfmgc.training import stages
from hfmgc.training.pretraining.arguments import PRETRAINING_GROUPS, PRETRAINING_SETTINGS
from hfmgc.training.pretraining.run import pretrain


def main() -> None:
    """Read the settings and run all stages."""
    pretrain(read_settings(sys.argv[1:], PRETRAINING_GROUPS, defaults=PRETRAINING_SETTINGS))


if __name__ == "__main__":
    stages.run_recipe(main)
