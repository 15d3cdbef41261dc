"""Train with checked settings on prepared data; recipes and the trials of a search share this code."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import datasets
import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from transformers import EarlyStoppingCallback, PreTrainedModel, TrainerCallback

from ..checkpoints import resolve_checkpoint
from ..data.names import genres_of
from ..data.split_manifest import SplitManifest
from ..errors import CheckpointError
from ..evaluation.task import task_of
from ..evaluation.track_choice import note_earlier_training
from .arguments import Groups, RunArguments
from .build import adapt_model, build_model, shape_difference, with_class_weights
from .examples import TrainingExamples
from .mixup import MixupCollator
from .prefix_reuse import reuse_prefix
from .preparation import PreparedData, balanced_class_weights
from .trainer import TrackTrainer


def fit(
    groups: Groups,
    data: PreparedData,
    callbacks: Sequence[TrainerCallback] = (),
    *,
    checkpoint: Path | None = None,
) -> TrackTrainer:
    """Train, or resume from `checkpoint`, and return the Trainer with the trained model.

    With `load_best_model_at_end`, the model has the best checkpoint's weights, otherwise the last ones.

    Raises:
        CheckpointError: If weights to start from cannot be loaded, or `checkpoint` is of another model.
        SaveError: If the run's folder or the store of the frozen layers' output cannot be written to.
    """
    trainer = new_trainer(groups, data, callbacks, checkpoint=checkpoint)
    trainer.train(checkpoint)
    return trainer


def new_trainer(
    groups: Groups,
    data: PreparedData,
    callbacks: Sequence[TrainerCallback] = (),
    *,
    checkpoint: Path | None = None,
) -> TrackTrainer:
    """Return the Trainer with the untrained model; see `fit`."""
    model_arguments, data_arguments, run = groups
    if data_arguments.class_weights == "balanced":
        model_arguments = with_class_weights(model_arguments, balanced_class_weights(data))
    genres = data.corpus.genres
    model = adapt_model(build_model(model_arguments, genres, run), model_arguments)
    if checkpoint is not None:
        check_shapes(model, checkpoint)
    examples = reuse_prefix(model, data, run)
    trainer = build_trainer(
        model,
        run,
        genres,
        train=examples.train,
        validation=examples.validation,
        mixup_alpha=data_arguments.mixup_alpha,
        callbacks=callbacks,
    )
    if model_arguments.model_name_or_path is not None:
        split = Path(resolve_checkpoint(model_arguments.model_name_or_path), "split.json")
        if split.is_file():
            trainer.notes += note_earlier_training(data.manifest, SplitManifest.load(split), split.parent.name)
    return trainer


def check_shapes(model: PreTrainedModel | PeftModel, checkpoint: Path) -> None:
    """Raise a CheckpointError for a checkpoint of another model, of which the Trainer would load the weights that fit."""
    full, adapter = checkpoint / "model.safetensors", checkpoint / "adapter_model.safetensors"
    if not full.is_file() and not adapter.is_file():
        return  # FSDP and ZeRO shard the weights
    if isinstance(model, PeftModel):
        path, expected = adapter, get_peft_model_state_dict(model, save_embedding_layers=False)
    else:
        path, expected = full, model.state_dict()
    saved = {}
    if path.is_file():
        with safe_open(path, framework="pt") as weights:
            saved = {name: weights.get_slice(name).get_shape() for name in weights.offset_keys()}
    if difference := shape_difference(saved, {name: tensor.shape for name, tensor in expected.items()}):
        raise CheckpointError(
            f"{checkpoint} is of another model than these settings describe ({difference}): restore the settings of the "
            "model and its adapter, or restart with --overwrite"
        )


def build_trainer(
    model: PreTrainedModel | PeftModel,
    run: RunArguments,
    genres: list[str],
    *,
    train: TrainingExamples,
    validation: datasets.Dataset | None = None,
    mixup_alpha: float = 0.0,
    callbacks: Sequence[TrainerCallback] = (),
) -> TrackTrainer:
    """Return the Trainer for these examples."""
    if run.channels_last:
        model = model.to(memory_format=torch.channels_last)
    task = task_of(model.config.problem_type)
    sides = [tracks for tracks in (train.tracks, validation) if tracks is not None]
    # Checked on both sides together: a small validation side may have no track with several genres.
    task.check_targets([names for tracks in sides for names in genres_of(tracks)], where="the data")
    metric = task.best_metric(run.metric_for_best_model)
    if run.early_stopping_patience is not None:
        callbacks = [EarlyStoppingCallback(run.early_stopping_patience), *callbacks]
    collator = task.collator({genre: index for index, genre in enumerate(genres)})
    if mixup_alpha:
        collator = MixupCollator(collator, mixup_alpha, len(genres))
    return TrackTrainer(
        model=model,
        args=run.with_values(metric_for_best_model=metric),
        train_dataset=train,
        eval_dataset=validation,
        data_collator=collator,
        compute_metrics=partial(
            task.validation_metrics, best=metric, num_experts=getattr(model.config, "num_experts", 0)
        ),
        callbacks=callbacks,
    )
