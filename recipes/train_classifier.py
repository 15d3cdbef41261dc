"""Train any architecture for genres, and judge it by whole tracks.

    accelerate launch recipes/train_classifier.py CONFIG.yaml [--field value ...]

`hfmgc list` names the architectures with their configs; `--model_name_or_path CHECKPOINT` starts from a saved checkpoint
of ours. Stored spectrograms serve as well as audio:

    accelerate launch recipes/train_classifier.py recipes/configs/gtzan_logmel/lgnet_4.yaml --data FEATURES

`--help` lists all fields; recipes/README.md says what the configs reproduce.
"""

import sys
from pathlib import Path

from hfmgc.stopping import catch_signals


catch_signals(importing=True)  # the other imports take seconds

from hfmgc.evaluation.report import EvaluationReport
from hfmgc.settings import read_settings
from hfmgc.training import stages
from hfmgc.training.arguments import RECIPE_GROUPS, DataArguments, ModelArguments, RunArguments
from hfmgc.training.assembly import adapt_model, build_feature_extractor, build_model, build_trainer, check_model
from hfmgc.training.prefix_reuse import check_reuse, reused_prefix
from hfmgc.training.preparation import balanced_class_weights, check_data_arguments, prepare_data
from hfmgc.training.run_folder import RunRecord, begin_run
from hfmgc.training.starting_point import adopt_checkpoint


DEFAULT_CONFIG = Path(__file__).parent / "configs" / "lgnet" / "mel_lgnet_4.yaml"


def main(default_config: Path = DEFAULT_CONFIG) -> None:
    """Read the settings and run all stages."""
    train_and_judge(read_settings(sys.argv[1:], RECIPE_GROUPS, default_config=default_config))


def train_and_judge(groups: tuple[ModelArguments, DataArguments, RunArguments]) -> EvaluationReport:
    """Run all stages with these settings (recipes/search.py does too); return the result."""
    # Settings
    model_arguments, data_arguments, run = groups
    push_wanted, run.push_to_hub = run.push_to_hub, False  # at the end and in one commit, not by the Trainer
    adopt_checkpoint(model_arguments, run)
    record = RunRecord.from_settings(groups, run)

    # Run folder: a new one, or the last checkpoint of an earlier one
    checkpoint = begin_run(run, record, data_arguments.data)

    # Data
    extractor = build_feature_extractor(model_arguments)
    check_data_arguments(data_arguments, model_arguments, extractor)  # shows before hours of decoding
    check_reuse(data_arguments, run)
    check_model(model_arguments, extractor, data_arguments.time_crop, reuse_frozen_prefix=run.reuse_frozen_prefix)
    data = prepare_data(data_arguments, run, extractor)
    stages.announce(run, data)

    # Model
    if data_arguments.class_weights == "balanced":
        model_arguments.model = {**model_arguments.model, "class_weights": balanced_class_weights(data)}
    model = build_model(model_arguments, data.corpus.genres, run)
    model = adapt_model(model, model_arguments)

    # Trainer, on the stored output of the frozen layers where the recipe reuses it
    stored = reused_prefix(model, data, run)
    trainer = build_trainer(
        model,
        run,
        data.corpus.genres,
        train=stored.train,
        validation=stored.validation,
        mixup_alpha=data_arguments.mixup_alpha,
    )

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
    return report


if __name__ == "__main__":
    stages.run_recipe(main)
