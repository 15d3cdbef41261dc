"""The stages of a run before and after its training: announce, record, evaluate, save, publish, try."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel
from transformers.integrations import deepspeed

from ..data.sources.exclusions import exclusions_text
from ..data.split_manifest import SplitManifest
from ..errors import ConfigError, HfmgcError, SplitError, saving_to
from ..evaluation.checkpoints import load_checkpoint
from ..evaluation.plots import TRAINING_CURVE, plot_training_curve
from ..evaluation.predictions import TrackPredictions, predict_tracks
from ..evaluation.report import EvaluationReport
from ..evaluation.task import Task, task_of
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from ..hub.card import write_model_card
from ..hub.push import HubError, push_run
from ..inference.predict import TrackClassifier
from ..stopping import catch_signals, exit_code, release_signals
from ..text import escape_output
from .adapters import without_peft_warnings
from .arguments import RunArguments
from .build import build_model, with_class_weights
from .check import CheckedRecipe
from .preparation import PreparedData
from .run_folder import RESUME, RunRecord, read_record, release_run_folders
from .trainer import TrackTrainer


def run_recipe(main: Callable[[], None], resume_hint: str = "--resume_from_checkpoint last resumes") -> None:
    """Run a recipe's main function; an HfmgcError becomes one line and exit code 1.

    Ctrl-C and SIGTERM print one line and exit with 130 and 143. Consecutive trainings share one process group, which is
    destroyed here: a second group could wait forever for keys that the first left in the launcher's store.
    """
    escape_output()
    catch_signals()
    try:
        main()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    except HfmgcError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt as stopped:
        print(f"stopped; {resume_hint}", file=sys.stderr)
        raise SystemExit(exit_code(stopped)) from None
    finally:
        release_signals()
        release_run_folders()


def announce(run: RunArguments, data: PreparedData) -> None:
    """Print the data and the split, with their notes."""
    if not run.should_log:
        return
    manifest = data.manifest
    counts = ", ".join(f"{count} {side}" for side, count in manifest.counts().items())
    # Published splits have neither ratios nor a seed.
    drawn = f" {':'.join(map(str, manifest.ratios))}, seed {manifest.seed}" if manifest.ratios else ""
    print(f"data: {data.corpus.summary()}")
    print(f"split: {manifest.policy}{drawn}: {counts}; digest {manifest.digest[:19]}")
    for note in data.corpus.notes() + manifest.notes():
        print(f"note: {note}")


def record_start(run: RunArguments, data: PreparedData, record: RunRecord, checkpoint: Path | None) -> None:
    """Write the split and the settings before the training, so that an interrupted run can be resumed.

    Raises:
        SplitError: If the split changed since the run started; training tracks could end up on the test side.
        ConfigError: If the exclusion list changed since the run started.
    """
    if not run.should_save:
        return
    folder, exclusions = Path(run.output_dir), data.corpus.exclusions()
    is_recorded = checkpoint is not None and record.changes(folder) is not None
    if is_recorded:
        before = read_record(folder, "exclusions")
        if (before or {}).get("digest") != (exclusions or {}).get("digest"):
            raise ConfigError(
                f"the run in {folder} started with another exclusion list ({exclusions_text(before)}; now "
                f"{exclusions_text(exclusions)}): use the same --exclude, or restart with --overwrite"
            )
    if checkpoint and (folder / "split.json").is_file():
        before = SplitManifest.load(folder / "split.json").digest
        if before != data.manifest.digest:
            raise SplitError(
                f"the run in {folder} started with another split ({before[:19]}; now {data.manifest.digest[:19]}): restore "
                "the data and the split settings, or restart with --overwrite"
            )
    with saving_to(folder, RESUME):
        data.manifest.save(folder / "split.json")
        if not is_recorded:  # settings that turn out not to fit the checkpoint must not replace those of its run
            record.save(folder, exclusions=exclusions)


def training_record(trainer: TrackTrainer, checkpoint: Path | None) -> dict[str, Any]:
    """Return the entry `training` of `run.yaml`."""
    if trainer.record:
        return trainer.record
    state = trainer.state
    seconds = [entry["train_runtime"] for entry in state.log_history if "train_runtime" in entry]
    return {
        "epochs": round(state.epoch or 0, 4),
        "steps": state.global_step,
        "best_checkpoint": Path(state.best_model_checkpoint).name if state.best_model_checkpoint else None,
        f"best_validation_{trainer.args.metric_for_best_model or 'loss'}": state.best_metric,
        "train_seconds": round(seconds[-1], 1),
        "world_size": trainer.args.world_size,
        "resumed_from": checkpoint.name if checkpoint else None,
    }


def evaluate(trainer: TrackTrainer, data: PreparedData, run: RunArguments) -> EvaluationReport:
    """Evaluate the trained model on whole tracks of the test side."""
    predictions, config = predict_tracks(trainer, data.test), trainer.model.config
    is_best, best = trainer.args.load_best_model_at_end, trainer.state.best_metric
    return make_report(
        predictions,
        data,
        run,
        task_of(config.problem_type),
        notes=trainer.notes,
        validation_chose=is_best,
        validation={trainer.args.metric_for_best_model: best} if is_best and best is not None else None,
        model_type=config.model_type,
    )


def make_report(
    predictions: TrackPredictions,
    data: PreparedData,
    run: RunArguments,
    task: Task,
    *,
    notes: Sequence[str] = (),
    validation_chose: bool = False,
    **fields: Any,
) -> EvaluationReport:
    """Return the report of a run on its evaluation side, with the notes on its data and more `fields`.

    `validation_chose` tells whether the validation side chose the model.
    """
    manifest, notes = data.manifest, list(notes)
    if manifest.evaluation_side == "validation":
        bias = "which also chose the model, so they are optimistic" if validation_chose else "which chose nothing"
        notes.append(f"the split has no test side: these figures are for the validation tracks, {bias}")
    return EvaluationReport.from_predictions(
        predictions,
        data.corpus.genres,
        task,
        checkpoint=Path(run.output_dir).resolve().name,
        data=data.corpus.source.describe(),
        side=manifest.evaluation_side,
        skipped=data.corpus.skipped_report(),
        split={"policy": manifest.policy, "seed": manifest.seed, "digest": manifest.digest},
        notes=data.corpus.notes() + manifest.notes() + notes,
        **fields,
    )


def gather_model(trainer: TrackTrainer) -> tuple[PreTrainedModel | PeftModel, dict[str, Any]]:
    """Return the trained model, and its weights gathered from all processes."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    sharded = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
    state_dict = trainer.accelerator.get_state_dict(trainer.model_wrapped) if sharded else model.state_dict()
    deepspeed.unset_hf_deepspeed_config()  # models loaded after this are not sharded
    return model, state_dict


def make_readable(folder: Path) -> None:
    """Give the weights the permissions of the other files; safetensors makes them private."""
    for weights in (*folder.glob("*.safetensors"), *folder.glob("adapter/*.safetensors")):
        weights.chmod((folder / "config.json").stat().st_mode)


def save(
    trainer: TrackTrainer,
    recipe: CheckedRecipe,
    data: PreparedData,
    report: EvaluationReport,
    record: RunRecord,
    training: dict[str, Any],
) -> None:
    """Write the finished run: model (merged, with the adapter beside it), front end, split, results, record, card."""
    arguments, _, run = recipe.groups
    model, state_dict = gather_model(trainer)
    if not run.should_save:
        return
    folder = Path(run.output_dir)
    parameters, trained = model.num_parameters(), model.num_parameters(only_trainable=True)
    with saving_to(folder, RESUME):
        if isinstance(model, PeftModel):
            model.save_pretrained(folder / "adapter", state_dict=state_dict)
            # Merging from the saved files tests the adapter that users will load.
            arguments = with_class_weights(arguments, model.config.class_weights)
            base = build_model(arguments, data.corpus.genres, run)
            parameters = base.num_parameters()
            with without_peft_warnings():
                merged = PeftModel.from_pretrained(base, folder / "adapter").merge_and_unload()
            merged.save_pretrained(folder)
        else:
            model.save_pretrained(folder, state_dict=state_dict)
        if trainer.state.log_history:
            plot_training_curve(
                trainer.state.log_history,
                folder / TRAINING_CURVE,
                measure=trainer.args.metric_for_best_model or "loss",
                best=trainer.state.best_metric,
                title=f"{report.heading}: training",
            )
        fields = ("targets", "min_layer", "rank", "alpha")
        adapter = {"kind": arguments.adapter, **{field: getattr(arguments, f"adapter_{field}") for field in fields}}
        model_record = {
            "model_type": arguments.model_type,
            "parameters": parameters,
            "trainable_parameters": trained,
            "backbone": arguments.pretrained_backbone or arguments.model_name_or_path,
            "adapter": None if arguments.adapter == "none" else adapter,
        }
        save_results(run, recipe.extractor, data, report, record, model=model_record, training=training)


def save_results(
    run: RunArguments,
    extractor: WindowedFeatureExtractor,
    data: PreparedData,
    report: EvaluationReport,
    record: RunRecord,
    **entries: Any,
) -> None:
    """Write what all runs have beside the model: front end, split, report, `run.yaml` with these entries, and the card."""
    folder = Path(run.output_dir)
    extractor.save_pretrained(folder)
    make_readable(folder)
    data.manifest.save(folder / "split.json")
    report.save(folder)
    record.save(folder, exclusions=data.corpus.exclusions(), **entries)
    write_model_card(folder, hub_model_id=run.hub_model_id, licence=run.license)  # last: a run with a card is finished


def show(run: RunArguments, report: EvaluationReport) -> None:
    """Print the result and the folder that holds it."""
    if not run.should_save:
        return
    print(f"\n{report.to_text()}\n")
    print(f"{report.task.picture_title}: {Path(run.output_dir, report.task.picture)}")
    print(f"run folder: {run.output_dir} (model, results.json, split.json, run.yaml, model card)")


def publish(run: RunArguments) -> None:
    """Push the run folder if `push_to_hub` is set; after a failed push, print the command that pushes it later."""
    if not run.push_to_hub or not run.should_save:
        return
    try:
        url = push_run(Path(run.output_dir), run.hub_model_id, private=run.hub_private_repo, token=run.hub_token)
        print(f"pushed to {url}")
    except HubError as error:  # the message ends with the command to push later
        print(f"not pushed, but the run itself is finished: {error}", file=sys.stderr)


def try_out(run: RunArguments, data: PreparedData) -> None:
    """Load the run folder as its users will, and classify one track of the evaluation side."""
    if not run.should_save:
        return
    manifest = data.manifest
    track_id = manifest.sides[manifest.evaluation_side][0]
    track = data.corpus.select([track_id])[0]
    if "waveform" not in track:
        load_checkpoint(run.output_dir)
        print("\nthe checkpoint loads (the data are stored features, so there is no audio to classify)")
        return
    prediction = TrackClassifier(run.output_dir).classify(track["waveform"])
    scores = ", ".join(f"{item['label']} {item['score']:.2f}" for item in prediction[:3])
    print(f"\nprediction for {track_id} (true genre: {', '.join(track['genres'])}): {scores}")
