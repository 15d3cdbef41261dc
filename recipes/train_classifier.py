"""Train any architecture to classify genres, and evaluate it on whole tracks.

    accelerate launch recipes/train_classifier.py CONFIG.yaml [--field value ...]

`hfmgc list` shows the architectures and their configs. `--model_name_or_path CHECKPOINT` starts from a checkpoint of hfmgc.
The data can be stored spectrograms instead of audio:

    accelerate launch recipes/train_classifier.py recipes/configs/gtzan_logmel/lgnet_4.yaml --data FEATURES

`--help` lists all fields; recipes/README.md says what the configs reproduce.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hfmgc.stopping import catch_signals


catch_signals(importing=True)  # the other imports take seconds

from hfmgc.evaluation.report import EvaluationReport
from hfmgc.settings import read_settings
from hfmgc.training import stages
from hfmgc.training.arguments import RECIPE_GROUPS, Groups
from hfmgc.training.check import check_recipe
from hfmgc.training.fit import fit
from hfmgc.training.preparation import PreparedData, prepare_data
from hfmgc.training.progress import EpochLines
from hfmgc.training.run_folder import RunRecord, begin_run
from hfmgc.training.trainer import TrackTrainer


DEFAULT_CONFIG = Path(__file__).parent / "configs" / "lgnet" / "mel_lgnet_4.yaml"


def main(default_config: Path = DEFAULT_CONFIG) -> None:
    """Read the settings and run all stages."""
    train_and_evaluate(read_settings(sys.argv[1:], RECIPE_GROUPS, default_config=default_config))


def train_and_evaluate(
    groups: Groups,
    fit: Callable[..., TrackTrainer] = fit,
    *settings: Any,
    prepare: Callable[..., PreparedData] = prepare_data,
) -> EvaluationReport:
    """Run all stages with these settings, and return the result. Other recipes call this function too.

    Args:
        groups: Settings of model, data and run.
        fit: Trains the model.
        settings: Further settings of `fit`, which are only recorded.
        prepare: Prepares the data; a [`SharedData`] lets several runs share them.
    """
    # Settings, which do not change after this check
    recipe = check_recipe(groups)
    _, data_arguments, run = recipe.groups
    record = RunRecord.from_settings((*recipe.groups, *settings), run)

    # Run folder: a new one, or one to resume from its last checkpoint
    checkpoint = begin_run(run, record)

    # Data
    data = prepare(data_arguments, run, recipe.extractor)
    stages.announce(run, data)
    stages.record_start(run, data, record, checkpoint)

    # Model and training
    trainer = fit(recipe.groups, data, [EpochLines()], checkpoint=checkpoint)
    training = stages.training_record(trainer, checkpoint)

    # Evaluate
    report = stages.evaluate(trainer, data, run)

    # Save, with results and model card
    stages.save(trainer, recipe, data, report, record, training)
    stages.show(run, report)

    # Publish
    stages.publish(run)

    # Try the model
    stages.try_out(run, data)
    trainer.accelerator.wait_for_everyone()  # one process saves and publishes; the others wait for it
    return report


if __name__ == "__main__":
    stages.run_recipe(main)
