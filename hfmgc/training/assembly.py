"""From settings to the parts of a run: data, split, model, trainer."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import datasets
import torch
from peft import PeftModel
from transformers import (
    AutoConfig,
    EarlyStoppingCallback,
    PreTrainedConfig,
    PreTrainedModel,
    TrainerCallback,
    set_seed,
)
from transformers.utils import logging

from ..data.targets import genres_of
from ..errors import CheckpointError, ConfigError, UnreachableError, first_line
from ..evaluation.checkpoints import AS_DATA, NO_REMOTE_CODE, loading_problem, require_safetensors
from ..evaluation.task import task_of
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from ..registry import ARCHITECTURES, SPECTROGRAM_FEATURE_EXTRACTOR, load_class
from ..settings import known_fields, refuse_long_path, with_fields
from .adapters import add_adapter
from .arguments import ModelArguments, RunArguments
from .examples import TrainingExamples
from .frozen_prefix import FrozenPrefix
from .mixup import MixupCollator
from .spectrogram_augmentation import cropped_frames
from .starting_point import (
    checkpoint_config,
    checkpoint_extractor,
    checkpoint_model,
    checkpoint_weights,
    undivided_weights,
)
from .trainer import EpochCallback, TrackTrainer


logger = logging.get_logger(__name__)


def build_feature_extractor(arguments: ModelArguments) -> WindowedFeatureExtractor:
    """Return the architecture's front end with the recipe's fields, or the preset that they name."""
    if arguments.model_name_or_path is not None:
        return checkpoint_extractor(arguments)
    if "preset" in arguments.front_end or "representation" in arguments.front_end:
        extractor_class = load_class(SPECTROGRAM_FEATURE_EXTRACTOR)
        _refuse_foreign_fields(arguments, extractor_class)
    else:
        extractor_class = ARCHITECTURES[arguments.model_type].load("feature_extractor")
    return with_fields(extractor_class, arguments.front_end, "front_end")


def _refuse_foreign_fields(arguments: ModelArguments, extractor_class: type) -> None:
    """Refuse fields of the architecture's own front end beside a preset: a config file for it has them."""
    own = ARCHITECTURES[arguments.model_type].load("feature_extractor")
    foreign = set(arguments.front_end) & set(known_fields(own)) - set(known_fields(extractor_class))
    if foreign:
        chosen = {
            name: arguments.front_end[name] for name in ("preset", "representation") if name in arguments.front_end
        }
        text = ", ".join(f"{name}: {value}" for name, value in chosen.items())
        raise ConfigError(
            f"front_end: {', '.join(sorted(foreign))} belongs to {own.__name__}, not beside {text}: replace the config "
            f"file's front end as a whole with --front_end '{{{text}}}'"
        )


def build_config(arguments: ModelArguments, genres: list[str]) -> PreTrainedConfig:
    """Return the architecture's config with the recipe's fields and the genres as labels."""
    config_class = ARCHITECTURES[arguments.model_type].load("config")
    labels = {
        "id2label": dict(enumerate(genres)),
        "label2id": {genre: index for index, genre in enumerate(genres)},
    }
    if arguments.model_name_or_path is not None:
        return checkpoint_config(arguments, labels)
    return with_fields(config_class, arguments.model, "model", **labels)


def check_model(
    arguments: ModelArguments,
    extractor: WindowedFeatureExtractor,
    time_crop: float = 1.0,
    *,
    reuse_frozen_prefix: bool = False,
) -> None:
    """Build the architecture and its adapter without weights, so that impossible settings show before the data are read.

    Args:
        arguments: The model's.
        extractor: Whose windows it must take, whole and, in training, cropped to `time_crop` of their frames.
        time_crop: Share of a window's frames.
        reuse_frozen_prefix: Whether it must have frozen layers whose output can be kept.

    Raises:
        ConfigError: If a field does not exist or does not fit, or the front end's windows do not fit the model.
        CheckpointError: If the config of the pre-trained backbone cannot be had, or is of another architecture.
    """
    # The genres are not known yet, so weights of theirs cannot be checked.
    fields = {name: value for name, value in arguments.model.items() if name != "class_weights"}
    config = build_config(replace(arguments, model=fields), genres=["any", "other"])
    if arguments.pretrained_backbone is not None:
        config.backbone_config = pretrained_backbone_config(arguments, config)
    model = new_model(arguments, config)
    if arguments.model_name_or_path is not None:
        checkpoint_weights(arguments, config, model)
    check_windows(model, extractor, time_crop)
    adapted = adapt_model(model, arguments)
    if reuse_frozen_prefix:
        FrozenPrefix(adapted)  # refuses a model without one


def check_windows(model: PreTrainedModel, extractor: WindowedFeatureExtractor, time_crop: float = 1.0) -> None:
    """Refuse a front end whose windows the model does not take, whole or, in training, cropped.

    Raises:
        ConfigError: If they do not fit, naming what was expected.
    """
    frames, bins = extractor.window_shape
    for name, length in (("front_end", frames), ("time_crop", cropped_frames(frames, time_crop))):
        try:
            model.base_model.check_window(length, bins)
        except ValueError as error:
            raise ConfigError(f"model and {name} do not fit: {error}") from error


def new_model(arguments: ModelArguments, config: PreTrainedConfig) -> PreTrainedModel:
    """Return the architecture of a config on the meta device (sizes without weights), frozen as the recipe says.

    Raises:
        ConfigError: If it cannot be built.
    """
    try:
        with torch.device("meta"):
            model = ARCHITECTURES[arguments.model_type].load("model")(config)
    except Exception as error:  # torch refuses impossible sizes in many ways
        raise ConfigError(f"model: {first_line(error)}") from error
    _freeze(model, arguments)
    return model


def pretrained_backbone_config(arguments: ModelArguments, config: PreTrainedConfig) -> PreTrainedConfig:
    """Return the config of the pre-trained backbone.

    Raises:
        CheckpointError: If it cannot be had, or is of another architecture.
    """
    name, expected = arguments.pretrained_backbone, config.sub_configs["backbone_config"].model_type
    refuse_long_path("pretrained_backbone", name)
    if Path(name).is_absolute() and not Path(name).exists():
        raise CheckpointError(f"pretrained_backbone {name!r}: no such folder")
    try:
        found = AutoConfig.from_pretrained(name, revision=arguments.pretrained_backbone_revision, **NO_REMOTE_CODE)
    except OSError as error:
        raise UnreachableError(
            f"pretrained_backbone {name!r} could not be loaded ({first_line(error)}): check the name, the network and "
            "HF_HUB_OFFLINE, or give a folder that holds it; recipes/configs/folder.yaml trains without it"
        ) from error
    except Exception as error:  # whatever stands in a config.json of somebody else's
        raise CheckpointError(
            f"pretrained_backbone {name!r}: its config cannot be read ({loading_problem(error)})"
        ) from error
    if found.model_type != expected:
        raise CheckpointError(
            f"pretrained_backbone {name!r} is of architecture {found.model_type!r}, {expected!r} is needed"
        )
    if Path(name).is_dir():  # on the Hub it shows when the weights are loaded
        require_safetensors("pretrained_backbone", name)
    return found


def build_model(arguments: ModelArguments, genres: list[str], run: RunArguments) -> PreTrainedModel:
    """Return the model before an adapter is put on it; equal arguments give equal weights.

    Raises:
        CheckpointError: If the pre-trained backbone cannot be had, or is of another architecture.
    """
    model_class = ARCHITECTURES[arguments.model_type].load("model")
    config = build_config(arguments, genres)
    set_seed(run.seed)
    with undivided_weights(run):
        if arguments.pretrained_backbone is not None:
            model = _from_pretrained_backbone(model_class, config, arguments)
        elif arguments.model_name_or_path is not None:
            model = checkpoint_model(arguments, config, model_class(config))
        else:
            model = model_class(config)
    _freeze(model, arguments)
    return model


def _freeze(model: PreTrainedModel, arguments: ModelArguments) -> None:
    if arguments.freeze_backbone:
        model.requires_grad_(False)
        model.classifier.requires_grad_(True)


def adapt_model(model: PreTrainedModel, arguments: ModelArguments) -> PreTrainedModel | PeftModel:
    """Put the recipe's adapter on a model, if it has one."""
    if arguments.adapter == "none":
        return model
    return add_adapter(
        model,
        kind=arguments.adapter,
        roles=arguments.adapter_targets,
        min_layer=arguments.adapter_min_layer,
        rank=arguments.adapter_rank,
        alpha=arguments.adapter_alpha,
        dropout=arguments.adapter_dropout,
    )


def build_trainer(
    model: PreTrainedModel | PeftModel,
    run: RunArguments,
    genres: list[str],
    *,
    train: TrainingExamples | None = None,
    validation: datasets.Dataset | None = None,
    mixup_alpha: float = 0.0,
) -> TrackTrainer:
    """Return the Trainer for these examples."""
    if run.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if run.ddp_find_unused_parameters is None and run.world_size > 1:
        run.ddp_find_unused_parameters = not getattr(model, "uses_all_parameters", True)
    callbacks: list[TrainerCallback] = [EpochCallback(train)] if train is not None else []
    if train is not None and run.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(run.early_stopping_patience))
    task = task_of(model.config.problem_type)
    run.metric_for_best_model = task.best_metric(run.metric_for_best_model)
    learnt = [tracks for tracks in (train.tracks if train is not None else None, validation) if tracks is not None]
    # Both sides together: a small validation side may have no track with several genres by chance.
    task.check_targets([names for tracks in learnt for names in genres_of(tracks)], where="the data")
    collator = task.collator({genre: index for index, genre in enumerate(genres)})
    if mixup_alpha:
        collator = MixupCollator(collator, mixup_alpha, len(genres))
    try:
        return TrackTrainer(
            model=model,
            args=run,
            train_dataset=train,
            eval_dataset=validation,
            data_collator=collator,
            compute_metrics=partial(
                task.validation_metrics,
                best=run.metric_for_best_model,
                num_experts=getattr(model.config, "num_experts", 0),
            ),
            callbacks=callbacks,
        )
    except ValueError as error:  # settings that exclude each other, a tracker that is not installed
        raise ConfigError(first_line(error)) from error


def count_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """Return the parameters of a model and how many of them are trained."""
    parameters = list(model.parameters())
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    return sum(parameter.numel() for parameter in parameters), trained


def _from_pretrained_backbone(
    model_class: type[PreTrainedModel], config: PreTrainedConfig, arguments: ModelArguments
) -> PreTrainedModel:
    name = arguments.pretrained_backbone
    pretrained_backbone_config(arguments, config)
    try:
        require_safetensors("pretrained_backbone", name, arguments.pretrained_backbone_revision)
        return model_class.from_pretrained_backbone(
            name, config, revision=arguments.pretrained_backbone_revision, **AS_DATA
        )
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file shows itself in a dozen exceptions of as many libraries
        raise CheckpointError(f"pretrained_backbone {name!r} cannot be loaded: {loading_problem(error)}") from error
