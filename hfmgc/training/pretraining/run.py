"""The stages of a pre-training run, which recipes share."""

from pathlib import Path

import numpy as np
import torch

from ...errors import DataError, saving_to
from ...evaluation.plots import RESTORED, TRAINING_CURVE, plot_losses, plot_restored
from ...hub.card import write_pretraining_card
from ...inference.restore import restore_windows
from ...models.modeling_pretraining import PreTrainingModel
from ...registry import PRETRAINING_MODELS
from ..arguments import RunArguments
from ..progress import EpochLines
from ..run_folder import RESUME, RunRecord, begin_run, read_record
from ..stages import gather_model, make_readable, publish, training_record
from .arguments import PretrainingGroups, check_pretraining
from .data import PretrainingData, prepare_pretraining_data
from .fit import PretrainingTrainer, fit_pretraining, summarize_losses


# Number of held-out windows in the plot of restored windows.
NUM_RESTORED = 3


def pretrain(groups: PretrainingGroups) -> PretrainingTrainer:
    """Run all stages of pre-training; write model, front end, `run.yaml`, plots and card to the run's folder."""
    # Settings
    arguments, data_arguments, run = groups
    extractor = check_pretraining(groups)
    record = RunRecord.from_settings(groups, run)

    # Run folder
    checkpoint = begin_run(run, record)

    # Data
    views = PRETRAINING_MODELS[arguments.model_type].load("pretraining_model").views
    data = prepare_pretraining_data(data_arguments, run, extractor, views=views)
    _announce(run, data)
    _record_start(run, data, record, checkpoint)

    # Training
    trainer = fit_pretraining(groups, data, [EpochLines()], checkpoint=checkpoint)

    # Save
    model, state_dict = gather_model(trainer)
    if run.should_save:
        folder, losses = Path(run.output_dir), summarize_losses(trainer)
        result = {
            "model_type": arguments.model_type,
            "parameters": model.num_parameters(),
            "trainable_parameters": model.num_parameters(only_trainable=True),
            **{name: value for name, value in training_record(trainer, checkpoint).items() if value is not None},
            **losses,
        }
        with saving_to(folder, RESUME):
            model.save_pretrained(folder, state_dict=state_dict)
            make_readable(folder)
            extractor.save_pretrained(folder)
            history = {"pre-training": trainer.state.log_history}
            plot_losses(history, folder / TRAINING_CURVE, title=f"{type(model).__name__}: pre-training")
            _plot_restored(model, data, folder)
            record.save(folder, data=data.record, pretraining=result)
            write_pretraining_card(folder, hub_model_id=run.hub_model_id, licence=run.license)
        shown = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in losses.items())
        print(f"\n{shown}\nrun folder: {run.output_dir} (model, run.yaml, {TRAINING_CURVE}, model card)")

    # Publish
    publish(run)
    trainer.accelerator.wait_for_everyone()  # the first process saves and publishes
    return trainer


def _plot_restored(model: PreTrainingModel, data: PretrainingData, folder: Path) -> None:
    """Plot held-out windows, or training windows if none are held out, and what the model restores from them."""
    if model.views > 1:
        return
    examples = data.validation or data.train
    windows = np.stack([examples[index]["input_values"] for index in range(min(NUM_RESTORED, len(examples)))])
    restored = restore_windows(model.cpu(), torch.from_numpy(windows), 0)
    if restored is not None:
        plot_restored(*restored, folder / RESTORED, title=f"{type(model).__name__}: restored windows")


def _announce(run: RunArguments, data: PretrainingData) -> None:
    if not run.should_log:
        return
    for source in data.record["sources"]:
        unused = f"; {len(source['skipped'])} skipped" if source["skipped"] else ""
        unused += f"; {source['too_short']} shorter than a window" if source["too_short"] else ""
        side = f", side {source['side']}" if source["side"] else ""
        print(
            f"data: {source['tracks']} tracks from {source['name']} ({source['location']}{side}), {source['held_out']} of "
            f"them held out{unused}"
        )
        for note in source["notes"]:
            print(f"note: {note}")
    if fitted := data.record.get("statistics"):
        print(f"front end: mean {fitted['mean']:.4f}, deviation {fitted['std']:.4f} of {fitted['windows']} windows")


def _record_start(run: RunArguments, data: PretrainingData, record: RunRecord, checkpoint: Path | None) -> None:
    """Record the settings and the data before the training; an interrupted run needs them to resume."""
    if not run.should_save:
        return
    folder = Path(run.output_dir)
    if checkpoint and record.changes(folder) is not None:
        before = (read_record(folder, "data") or {}).get("digest")
        if before != data.record["digest"]:
            raise DataError(
                f"data: the run in {folder} started with other tracks: restore data, validation_share and seed, or restart "
                "with --overwrite"
            )
        return
    with saving_to(folder, RESUME):
        record.save(folder, data=data.record)
