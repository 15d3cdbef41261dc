"""The last stages of a run, which all recipes share: judge, save, describe, publish, try."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import Trainer
from transformers.integrations import deepspeed
from transformers.utils import logging

from ..data.split_manifest import SplitManifest
from ..errors import CheckpointError, HfmgcError, SplitError, saving_to
from ..evaluation.checkpoints import load_checkpoint
from ..evaluation.plots import TRAINING_CURVE, plot_training_curve
from ..evaluation.predictions import predict_tracks
from ..evaluation.report import EvaluationReport
from ..evaluation.task import task_of
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from ..hub.card import write_model_card
from ..hub.push import HubError, push_run
from ..inference.predict import TrackClassifier
from ..stopping import catch_signals, exit_code, release_signals
from ..text import escape_output
from .adapters import without_peft_warnings
from .arguments import ModelArguments, RunArguments
from .assembly import build_model, count_parameters
from .preparation import PreparedData
from .progress import print_epochs
from .run_folder import RunRecord, leave_runs


logger = logging.get_logger(__name__)


def run_recipe(main: Callable[[], None], resume_hint: str = "--resume_from_checkpoint last goes on") -> None:
    """Run a recipe's main function; errors that a user can act on become one line and exit code 1.

    Ctrl-C ends in one line and 130, SIGTERM in the same line and 143. The group of processes is left here and once:
    trainings that follow each other share it, because a new one may meet what the old one left in the launcher's store, and
    wait for ever.
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
        leave_runs()


def announce(run: RunArguments, data: PreparedData) -> None:
    """Say what is about to be trained on."""
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


def train(trainer: Trainer, checkpoint: Path | None, record: RunRecord, data: PreparedData) -> dict[str, Any]:
    """Train, from `checkpoint` on if there is one; return what the record says of it.

    Raises:
        SplitError: If the data changed since the run began, so that training tracks could come to lie on the test side.
        CheckpointError: If the checkpoint is of another model.
    """
    print_epochs(trainer)
    folder = Path(trainer.args.output_dir)
    began = time.monotonic()
    if trainer.args.should_save:  # before the training, so that a run that is cut off can be resumed
        if checkpoint:
            record.check_exclusions(folder, data.corpus.exclusions())
        _keep_split(folder, data.manifest, resumed=checkpoint is not None)
    with saving_to(folder, "then go on with --resume_from_checkpoint last"):
        if trainer.args.should_save:
            record.save(folder, exclusions=data.corpus.exclusions())
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except RuntimeError as error:
            if "size mismatch" not in str(error):
                raise
            raise CheckpointError(f"{checkpoint} is of another model than these settings make") from error
    state = trainer.state
    best = Path(state.best_model_checkpoint).name if state.best_model_checkpoint else None
    return {
        "epochs": round(state.epoch or 0, 4),
        "steps": state.global_step,
        "best_checkpoint": best,
        f"best_validation_{_chosen_by(trainer)}": state.best_metric,
        "train_seconds": round(time.monotonic() - began, 1),
        "world_size": trainer.args.world_size,
        "resumed_from": checkpoint.name if checkpoint else None,
    }


def _chosen_by(trainer: Trainer) -> str:
    """Return the name of the measure by which the best checkpoint is chosen."""
    return (trainer.args.metric_for_best_model or "loss").removeprefix("eval_")


def _keep_split(folder: Path, manifest: SplitManifest, *, resumed: bool) -> None:
    """Write the split of a run that begins; compare that of one that goes on."""
    path = folder / "split.json"
    if resumed and path.is_file():
        before = SplitManifest.load(path)
        if before.digest != manifest.digest:
            raise SplitError(
                f"the split is another than when the run in {folder} began ({before.digest[:19]}, now "
                f"{manifest.digest[:19]}): restore the data and the split settings, or restart with --overwrite"
            )
    with saving_to(folder):
        manifest.save(path)


def evaluate(trainer: Trainer, data: PreparedData, run: RunArguments) -> EvaluationReport:
    """Judge the trained model by whole tracks of the side that was kept apart."""
    predictions = predict_tracks(trainer, data.test)
    manifest = data.manifest
    notes = data.corpus.notes() + manifest.notes()
    if manifest.evaluation_side == "validation":
        chosen = (
            "by which the checkpoint was chosen, so optimistic" if run.load_best_model_at_end else "as a test side"
        )
        notes.append(f"the split has no test side: these are the validation tracks, {chosen}")
    return EvaluationReport.from_predictions(
        predictions,
        data.corpus.genres,
        task_of(trainer.model.config.problem_type),
        checkpoint=Path(run.output_dir).resolve().name,
        data=data.corpus.source.describe(),
        side=manifest.evaluation_side,
        skipped=data.corpus.skipped_report(),
        split={"policy": manifest.policy, "seed": manifest.seed, "digest": manifest.digest},
        validation=None if trainer.state.best_metric is None else {_chosen_by(trainer): trainer.state.best_metric},
        notes=notes,
        model_type=trainer.model.config.model_type,
    )


def save(
    trainer: Trainer,
    extractor: WindowedFeatureExtractor,
    arguments: ModelArguments,
    run: RunArguments,
    data: PreparedData,
    report: EvaluationReport,
    record: RunRecord,
    training: dict[str, Any],
) -> None:
    """Write the finished run: the model (merged, and the adapter beside it), front end, split, results, record, card."""
    # Gathered on all processes: under ZeRO-3 and FSDP each holds only a part.
    state_dict = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    deepspeed.unset_hf_deepspeed_config()  # what is loaded from here on is one process's own, and stays whole
    if not run.should_save:
        return
    folder = Path(run.output_dir)
    model = trainer.accelerator.unwrap_model(trainer.model)
    parameters, trained = count_parameters(model)
    with saving_to(folder, "then go on with --resume_from_checkpoint last"):
        if isinstance(model, PeftModel):
            model.save_pretrained(folder / "adapter", state_dict=state_dict)
            # From the files, not from memory: this is what the adapter's users will do.
            base = build_model(arguments, data.corpus.genres, run)
            parameters = count_parameters(base)[0]
            with without_peft_warnings():
                merged = PeftModel.from_pretrained(base, folder / "adapter").merge_and_unload()
            merged.save_pretrained(folder)
        else:
            model.save_pretrained(folder, state_dict=state_dict)
        extractor.save_pretrained(folder)
        for weights in (*folder.glob("*.safetensors"), *folder.glob("adapter/*.safetensors")):
            weights.chmod((folder / "config.json").stat().st_mode)  # safetensors lets nobody else read them
        data.manifest.save(folder / "split.json")
        report.save(folder)
        plot_training_curve(
            trainer.state.log_history,
            folder / TRAINING_CURVE,
            measure=_chosen_by(trainer),
            best=trainer.state.best_metric,
            title=f"{report.heading}: training",
        )
        model_record = {
            "model_type": arguments.model_type,
            "parameters": parameters,
            "trainable_parameters": trained,
            "backbone": arguments.pretrained_backbone or arguments.model_name_or_path,
            "adapter": _adapter_record(arguments),
        }
        record.save(folder, exclusions=data.corpus.exclusions(), model=model_record, training=training)
        write_model_card(folder, hub_model_id=run.hub_model_id, licence=run.license)


def show(run: RunArguments, report: EvaluationReport) -> None:
    """Print the result, and where it lies."""
    if not run.should_save:
        return
    print(f"\n{report.to_text()}\n")
    print(f"{report.task.picture_title}: {Path(run.output_dir, report.task.picture)}")
    print(f"run folder: {run.output_dir} (model, results.json, split.json, run.yaml, model card)")


def publish(run: RunArguments, hub_model_id: str | None, *, wanted: bool) -> None:
    """Push the finished folder if that is wanted; a push that fails leaves the run finished, and says how to push later."""
    if not wanted or not run.should_save:
        return
    if not hub_model_id:
        print("not pushed: --push_to_hub needs --hub_model_id USER/NAME", file=sys.stderr)
        return
    try:
        url = push_run(Path(run.output_dir), hub_model_id, private=run.hub_private_repo, token=run.hub_token)
        print(f"pushed to {url}")
    except HubError as error:  # the message ends with the command to push later
        print(f"not pushed, but the run itself is finished: {error}", file=sys.stderr)


def try_out(run: RunArguments, data: PreparedData) -> None:
    """Load the finished folder as its users will, and ask it about one file that it was not trained on."""
    if not run.should_save:
        return
    manifest = data.manifest
    track_id = manifest.sides[manifest.evaluation_side][0]
    track = data.corpus.select([track_id])[0]
    if "waveform" not in track:
        load_checkpoint(run.output_dir)
        print("\nthe checkpoint loads (trained on stored features: there is no audio to try it on)")
        return
    answer = TrackClassifier(run.output_dir).classify(track["waveform"])
    scores = ", ".join(f"{item['label']} {item['score']:.2f}" for item in answer[:3])
    print(f"\npipeline answers for {track_id} (true genre: {', '.join(track['genres'])}): {scores}")


def finish(trainer: Trainer) -> None:
    """Wait for the process that saves and publishes."""
    trainer.accelerator.wait_for_everyone()


def _adapter_record(arguments: ModelArguments) -> dict[str, Any] | None:
    if arguments.adapter == "none":
        return None
    return {
        "kind": arguments.adapter,
        "targets": arguments.adapter_targets,
        "min_layer": arguments.adapter_min_layer,
        "rank": arguments.adapter_rank,
        "alpha": arguments.adapter_alpha,
    }
