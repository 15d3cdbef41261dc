"""The stages of a pre-training run, which recipes share."""

import json
from pathlib import Path

import numpy as np
import torch

from ...errors import DataError, saving_to
from ...evaluation.plots import RESTORED, TRAINING_CURVE, plot_losses, plot_restored
from ...files import write_text
from ...hub.card import write_pretraining_card
from ...inference.restore import restore_windows
from ...models.modeling_pretraining import PreTrainingModel
from ...registry import PRETRAINING_MODELS
from ..arguments import RunArguments
from ..progress import EpochLines
from ..run_folder import PRETRAINING_FILE, RESUME, RunRecord, begin_run, read_record
from ..stages import gather_model, make_readable, publish, training_record
from .arguments import PretrainingGroups, check_pretraining
from .data import PretrainingData, prepare_pretraining_data
from .fit import PretrainingTrainer, fit_pretraining, losses


# Held-out windows in the picture of what the model restores.
PICTURED = 3


def pretrain(groups: PretrainingGroups) -> PretrainingTrainer:
    """Run all stages of a pre-training; the run's folder ends with model, front end, losses, picture and card."""
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
        folder = Path(run.output_dir)
        result = {
            "model_type": arguments.model_type,
            "parameters": model.num_parameters(),
            "trainable_parameters": model.num_parameters(only_trainable=True),
            **{name: value for name, value in training_record(trainer, checkpoint).items() if value is not None},
            **losses(trainer),
        }
        with saving_to(folder, RESUME):
            model.save_pretrained(folder, state_dict=state_dict)
            make_readable(folder)
            extractor.save_pretrained(folder)
            history = {"pre-training": trainer.state.log_history}
            plot_losses(history, folder / TRAINING_CURVE, title=f"{type(model).__name__}: pre-training")
            _plot_restored(model, data, folder)
            record.save(folder, data=data.record, pretraining=result)
            write_text(folder / PRETRAINING_FILE, json.dumps({**result, "data": data.record}, indent=1))
            write_pretraining_card(folder, hub_model_id=run.hub_model_id, licence=run.license)
        shown = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in losses(trainer).items())
        print(f"\n{shown}\nrun folder: {run.output_dir} (model, run.yaml, {TRAINING_CURVE}, model card)")

    # Publish
    publish(run)
    trainer.accelerator.wait_for_everyone()  # for the process that saves and publishes
    return trainer


def _plot_restored(model: PreTrainingModel, data: PretrainingData, folder: Path) -> None:
    """Draw held-out windows (training windows if there are none) beside the windows that the model restores."""
    examples = data.validation or data.train
    if model.views > 1:
        return
    windows = np.stack([examples[index]["input_values"] for index in range(min(PICTURED, len(examples)))])
    found = restore_windows(model.cpu(), torch.from_numpy(windows), 0)
    if found is not None:
        plot_restored(*found, folder / RESTORED, title=f"{type(model).__name__}: restored windows")


def _announce(run: RunArguments, data: PretrainingData) -> None:
    if not run.should_log:
        return
    for one in data.record["sources"]:
        left_out = f"; {len(one['skipped'])} skipped" if one["skipped"] else ""
        left_out += f"; {one['too_short']} shorter than a window" if one["too_short"] else ""
        side = f", side {one['side']}" if one["side"] else ""
        print(
            f"data: {one['tracks']} tracks from {one['name']} ({one['location']}{side}), {one['held_out']} of them held "
            f"out{left_out}"
        )
        for note in one["notes"]:
            print(f"note: {note}")
    if found := data.record.get("statistics"):
        print(f"front end: mean {found['mean']:.4f}, deviation {found['std']:.4f} of {found['windows']} windows")


def _record_start(run: RunArguments, data: PretrainingData, record: RunRecord, checkpoint: Path | None) -> None:
    """Write the settings and the data before the training, so that an interrupted run can be resumed."""
    if not run.should_save:
        return
    folder = Path(run.output_dir)
    if checkpoint and record.changes(folder) is not None:
        before = (read_record(folder, "data") or {}).get("digest")
        if before != data.record["digest"]:
            raise DataError(
                f"the tracks differ from those with which the run in {folder} started: restore data, validation_share and "
                "seed, or restart with --overwrite"
            )
        return
    with saving_to(folder, RESUME):
        record.save(folder, data=data.record)
