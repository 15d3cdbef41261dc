"""Fine-tune an Audio Spectrogram Transformer for genres, with DoRA, and judge it by whole tracks.

    accelerate launch recipes/finetune_ast.py [CONFIG.yaml] [--field value ...]

Without arguments: the AST report's configuration (recipes/configs/ast_gtzan.yaml), which fetches the AudioSet checkpoint
and GTZAN from the Hub. Your own music, offline:

    accelerate launch recipes/finetune_ast.py recipes/configs/folder.yaml --data MUSIC --output_dir runs/mine

`--help` lists all fields; recipes/README.md says what the configs reproduce.
"""

import sys
from pathlib import Path

import hfmgc  # noqa: F401  (registers the architectures)
from hfmgc.training import stages
from hfmgc.training.arguments import RECIPE_GROUPS
from hfmgc.training.assembly import (
    adapt_model,
    build_feature_extractor,
    build_model,
    build_trainer,
    check_model,
    prepare_data,
)
from hfmgc.training.run_folder import RunRecord, begin_run
from hfmgc.training.settings import read_settings


DEFAULT_CONFIG = Path(__file__).parent / "configs" / "ast_gtzan.yaml"


def main() -> None:
    """Run all stages."""
    # Settings
    groups = read_settings(sys.argv[1:], RECIPE_GROUPS, default_config=DEFAULT_CONFIG)
    model_arguments, data_arguments, run = groups
    push_wanted, run.push_to_hub = run.push_to_hub, False  # at the end and in one commit, not by the Trainer
    record = RunRecord.from_settings(groups, run)

    # Run folder: a new one, or the last checkpoint of an earlier one
    checkpoint = begin_run(run, record, data_arguments.data)

    # Data
    extractor = build_feature_extractor(model_arguments)
    check_model(model_arguments, extractor)  # what is wrong with it shows before hours of decoding
    data = prepare_data(data_arguments, run, extractor)
    stages.announce(run, data)

    # Model
    model = build_model(model_arguments, data.corpus.genres, run)
    model = adapt_model(model, model_arguments)

    # Trainer
    trainer = build_trainer(model, run, data.corpus.genres, train=data.train, validation=data.validation)

    # Train
    training = stages.train(trainer, checkpoint, record, data)

    # Evaluate
    report = stages.evaluate(trainer, data, run)

    # Save, with results and model card
    stages.save(trainer, extractor, model_arguments, run, data, report, record, training)
    stages.show(run, report)

    # Publish
    stages.publish(run, run.hub_model_id, wanted=push_wanted)

    # Try it
    stages.try_out(run, data)
    stages.finish(trainer)


if __name__ == "__main__":
    stages.run_recipe(main)
