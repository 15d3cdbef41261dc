"""Build the front end, the config, the model and its adapter from settings.

A model starts from random weights, from a pre-trained backbone (`pretrained_backbone`), or from a checkpoint that hfmgc
saved (`model_name_or_path`).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoFeatureExtractor, PreTrainedConfig, PreTrainedModel, set_seed
from transformers.integrations import deepspeed
from transformers.utils import logging

from ..checkpoints import resolve_checkpoint
from ..errors import CheckpointError, ConfigError, HfmgcError, UnreachableError, first_line
from ..evaluation.checkpoints import AS_DATA, NO_REMOTE_CODE, load_checkpoint, require_safetensors
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from ..models.modeling_pretraining import PreTrainingModel
from ..registry import ARCHITECTURES, SPECTROGRAM_FEATURE_EXTRACTOR, load_class
from ..settings import check_fields, check_path_length, known_fields, with_fields
from .adapters import adapter_targets, without_peft_warnings
from .arguments import ModelArguments, RunArguments, changed_fields


logger = logging.get_logger(__name__)

# Prefix of the head's weights in every architecture.
HEAD = "classifier."


def build_feature_extractor(arguments: ModelArguments, *, local_files_only: bool = False) -> WindowedFeatureExtractor:
    """Return the front end of the checkpoint, the preset or the architecture that the recipe names, in this order.

    For an architecture that uses a pre-trained encoder's own feature extractor, `local_files_only` falls back to the default
    one if the encoder's is not in the local cache.
    """
    checkpoint = arguments.model_name_or_path
    if checkpoint is not None:
        if "preset" in arguments.front_end:
            raise ConfigError(f"front_end.preset: {checkpoint} has a front end already: set single fields instead")
        return with_changes(_checkpoint(checkpoint)[1], arguments.front_end, "front_end")
    if "preset" in arguments.front_end or "representation" in arguments.front_end:
        extractor_class = load_class(SPECTROGRAM_FEATURE_EXTRACTOR)
    else:
        extractor_class = ARCHITECTURES[arguments.model_type].load("feature_extractor")
    fields = arguments.front_end
    if arguments.pretrained_backbone is not None and "encoder_extractor" in known_fields(extractor_class):
        encoder_extractor = _encoder_extractor(arguments.pretrained_backbone, local_files_only=local_files_only)
        if encoder_extractor is not None:
            fields = {"encoder_extractor": encoder_extractor, **fields}
    return with_fields(extractor_class, fields, "front_end")


def with_changes(extractor: WindowedFeatureExtractor, fields: dict[str, Any], group: str) -> WindowedFeatureExtractor:
    """Return a copy of a front end with these `fields` changed; errors begin with `group`."""
    known = known_fields(type(extractor))
    unchanged = {name: value for name, value in extractor.to_dict().items() if name in known}
    if "window_frames" in fields:
        unchanged.pop("window_seconds", None)
    return with_fields(type(extractor), {**unchanged, **fields}, group)


def build_config(arguments: ModelArguments, genres: Sequence[str]) -> PreTrainedConfig:
    """Return the config of the checkpoint or the architecture, with the recipe's fields and the genres as labels.

    Raises:
        ConfigError: If a field does not exist or is invalid.
    """
    labels = {
        "id2label": dict(enumerate(genres)),
        "label2id": {genre: index for index, genre in enumerate(genres)},
    }
    if arguments.model_name_or_path is None:
        config_class = ARCHITECTURES[arguments.model_type].load("config")
        return with_fields(config_class, arguments.model, "model", **labels)
    config = _checkpoint(arguments.model_name_or_path)[0].config
    changed = check_fields(type(config), arguments.model, "model")
    fields = config.to_dict()
    for name in ("class_weights", "genres"):  # properties of the checkpoint's training data
        fields.pop(name, None)
    if Path(resolve_checkpoint(arguments.model_name_or_path)).is_dir():
        fields.pop("_name_or_path", None)  # PEFT would publish this local path with the adapter
    for name, value in changed.items():
        nested = isinstance(value, dict) and isinstance(fields.get(name), dict)
        fields[name] = {**fields[name], **value} if nested else value
    return with_fields(type(config), {}, "model", **{**fields, **labels})


def with_class_weights(arguments: ModelArguments, weights: Sequence[float] | None) -> ModelArguments:
    """Return the settings with these class weights in the model's config; unchanged for None."""
    if weights is None:
        return arguments
    return replace(arguments, model={**arguments.model, "class_weights": list(weights)})


def build_meta_model(arguments: ModelArguments, config: PreTrainedConfig) -> PreTrainedModel:
    """Return the model on the meta device, with the recipe's layers frozen.

    Raises:
        ConfigError: If it cannot be built.
        CheckpointError: If the weights of `model_name_or_path` do not fit.
    """
    model = on_meta(ARCHITECTURES[arguments.model_type].load("model"), config)
    if arguments.model_name_or_path is not None:
        _checkpoint_weights(arguments, model)
    _freeze(model, arguments)
    return model


def on_meta(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    """Return a model on the meta device: shapes without weights. Raise a ConfigError if it cannot be built."""
    try:
        with torch.device("meta"):
            return model_class(config)
    except Exception as error:  # torch refuses impossible sizes in many ways
        raise ConfigError(f"model: {first_line(error)}") from error


def build_model(arguments: ModelArguments, genres: Sequence[str], run: RunArguments) -> PreTrainedModel:
    """Return the model without its adapter; equal arguments give equal weights.

    Raises:
        ConfigError: If a field does not exist or is invalid.
        CheckpointError: If the weights to start from cannot be loaded or do not fit.
    """
    model_class = ARCHITECTURES[arguments.model_type].load("model")
    config = build_config(arguments, genres)
    set_seed(run.seed)
    with unsharded_weights(run):
        if arguments.pretrained_backbone is not None:
            model = _from_pretrained_backbone(model_class, config, arguments)
        else:
            model = model_class(config)
        if arguments.model_name_or_path is not None:
            _load_checkpoint_weights(arguments, model)
    _freeze(model, arguments)
    return model


def adapt_model(model: PreTrainedModel, arguments: ModelArguments) -> PreTrainedModel | PeftModel:
    """Add the recipe's adapter, if any, to a model, and freeze all other layers except the head.

    PEFT's DoRA has one magnitude per output of a layer and scales the update by alpha / r. The AST report's code has one
    per input and does not divide by r. Its alpha of 4.246988659 at r = 2 is therefore an alpha of 8.494 here, and its
    177,314 trainable parameters are 172,706 here (768 magnitudes per layer instead of 3,072).
    """
    if arguments.adapter == "none":
        return model
    config = LoraConfig(
        r=arguments.adapter_rank,
        lora_alpha=arguments.adapter_alpha,
        lora_dropout=arguments.adapter_dropout,
        use_dora=arguments.adapter == "dora",
        target_modules=adapter_targets(model, arguments.adapter_targets, arguments.adapter_min_layer),
        modules_to_save=[HEAD.removesuffix(".")],
    )
    with without_peft_warnings():
        return get_peft_model(model, config)


def _freeze(model: PreTrainedModel, arguments: ModelArguments) -> None:
    if arguments.freeze_backbone:
        model.requires_grad_(False)
        model.classifier.requires_grad_(True)


# pretrained_backbone


def pretrained_backbone_config(
    arguments: ModelArguments, config: PreTrainedConfig, *, local_files_only: bool = False
) -> PreTrainedConfig:
    """Return the config of the pre-trained backbone, whose architecture must be the one in the model's config.

    `local_files_only` reads it from the local cache, without a request.

    Raises:
        UnreachableError: If it cannot be loaded from the Hub, or is not in the local cache.
        CheckpointError: If it cannot be read, or has another architecture.
    """
    name, config_class = arguments.pretrained_backbone, config.sub_configs["backbone_config"]
    any_encoder = not hasattr(config_class, "model_type")  # AutoConfig
    with _loading_backbone(name, "config.json"):
        folder = _backbone_folder(name, local_files_only=local_files_only)
        fields, _ = PreTrainedConfig.get_config_dict(folder)
        if not any_encoder and fields.get("model_type") != config_class.model_type:
            raise CheckpointError(
                f"pretrained_backbone {name!r} has architecture {fields.get('model_type')!r}: choose a checkpoint of "
                f"{config_class.model_type!r}"
            )
        backbone_config = config.encoder_config(fields) if any_encoder else config_class.from_dict(fields)
    if Path(name).is_dir():  # a repository is checked when its weights are loaded
        require_safetensors("pretrained_backbone", name)
    return backbone_config


@contextmanager
def _loading_backbone(name: str, file: str) -> Iterator[None]:
    """Turn every error into a CheckpointError: libraries raise many different ones for a damaged file."""
    try:
        yield
    except HfmgcError:
        raise
    except Exception as error:
        kind = UnreachableError if isinstance(error, OSError) and not Path(name).is_dir() else CheckpointError
        raise kind(
            f"pretrained_backbone {name!r}: {file} could not be loaded ({first_line(error)}): check the name, the network "
            "and HF_HUB_OFFLINE, or name a local folder; recipes/configs/folder.yaml needs no backbone"
        ) from error


def _backbone_folder(name: str, *, local_files_only: bool) -> str | Path:
    """Return the name of a pre-trained backbone, or with `local_files_only` its folder in the local cache."""
    check_path_length("pretrained_backbone", name)
    if Path(name).is_absolute() and not Path(name).exists():
        raise CheckpointError(f"pretrained_backbone {name!r}: no such folder")
    if not local_files_only or Path(name).is_dir():
        return name
    # huggingface_hub's own `local_files_only` still makes a request (for a list of user agents).
    cached = try_to_load_from_cache(name, "config.json")
    if not isinstance(cached, str):
        raise UnreachableError(f"pretrained_backbone {name!r} is not in the local cache")
    return Path(cached).parent


def _encoder_extractor(name: str, *, local_files_only: bool) -> dict[str, Any] | None:
    """Return the fields of a pre-trained encoder's feature extractor; None if `local_files_only` does not find it."""
    try:
        folder = _backbone_folder(name, local_files_only=local_files_only)
    except UnreachableError:
        return None
    with _loading_backbone(name, "preprocessor_config.json"):
        return json.loads(AutoFeatureExtractor.from_pretrained(folder, **NO_REMOTE_CODE).to_json_string())


def _from_pretrained_backbone(
    model_class: type[PreTrainedModel], config: PreTrainedConfig, arguments: ModelArguments
) -> PreTrainedModel:
    name = arguments.pretrained_backbone
    pretrained_backbone_config(arguments, config)
    with _loading_backbone(name, "model.safetensors"):
        require_safetensors("pretrained_backbone", name)
        return model_class.from_pretrained_backbone(name, config, **AS_DATA)


# model_name_or_path


def with_checkpoint_type(arguments: ModelArguments, run: RunArguments) -> ModelArguments:
    """Return the settings with the `model_type` of the checkpoint, if the recipe starts from one.

    Raises:
        CheckpointError: If the checkpoint cannot be loaded; if `model_type` names another architecture, and the checkpoint
            was pre-trained without genres or its config lacks fields of `model`.
    """
    name = arguments.model_name_or_path
    if name is None:
        return arguments
    with unsharded_weights(run):  # `_checkpoint` caches the model for later calls
        checkpoint = _checkpoint(name)[0]
    model_type = checkpoint.config.model_type
    differs = "model_type" in changed_fields(arguments) and model_type != arguments.model_type
    unknown = arguments.model.keys() - known_fields(type(checkpoint.config)).keys()
    if differs and (isinstance(checkpoint, PreTrainingModel) or unknown):
        raise CheckpointError(
            f"model_name_or_path {name} has architecture {model_type!r}, but model_type is {arguments.model_type!r}: choose "
            f"a checkpoint of that architecture, or a config for {model_type} (see hfmgc list)"
        )
    return replace(arguments, model_type=model_type)


def _checkpoint_weights(arguments: ModelArguments, model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return the checkpoint's weights for `model`, without those of the head if the genres differ."""
    checkpoint = _checkpoint(arguments.model_name_or_path)[0]
    weights, expected = checkpoint.state_dict(), model.state_dict()
    if not _has_head(checkpoint):
        encoder = checkpoint.base_model.state_dict()
        weights = {f"{model.base_model_prefix}.{name}": value for name, value in encoder.items()}
    if not _has_head(checkpoint) or checkpoint.config.id2label != model.config.id2label:
        weights, expected = (
            {name: value for name, value in tensors.items() if not name.startswith(HEAD)}
            for tensors in (weights, expected)
        )
    # Layers that the recipe's fields can omit, such as those after the representation.
    optional = re.compile("|".join(model.base_model._keys_to_ignore_on_load_unexpected))
    weights = {name: value for name, value in weights.items() if name in expected or not optional.search(name)}
    shapes = ({name: value.shape for name, value in tensors.items()} for tensors in (weights, expected))
    if difference := shape_difference(*shapes):
        raise CheckpointError(
            f"{arguments.model_name_or_path} does not fit the recipe's model ({difference}): leave out the fields of `model` "
            "that change sizes"
        )
    return weights


def _has_head(checkpoint: PreTrainedModel) -> bool:
    """Return whether a checkpoint is a classifier, as opposed to an encoder or a model for pre-training."""
    return not isinstance(checkpoint, PreTrainingModel) and checkpoint.base_model is not checkpoint


def shape_difference(saved: Mapping[str, Sequence[int]], expected: Mapping[str, Sequence[int]]) -> str | None:
    """Return the first weight whose shapes in a checkpoint and in a model differ, with both shapes; None if all agree."""
    for name in sorted(saved.keys() | expected.keys()):
        shapes = [list(side[name]) if name in side else "missing" for side in (saved, expected)]
        if shapes[0] != shapes[1]:
            return f"{name}: {shapes[0]} in the checkpoint, {shapes[1]} in the model"
    return None


def _load_checkpoint_weights(arguments: ModelArguments, model: PreTrainedModel) -> None:
    weights = _checkpoint_weights(arguments, model)
    if _has_head(_checkpoint(arguments.model_name_or_path)[0]) and not any(name.startswith(HEAD) for name in weights):
        logger.warning_once(f"{arguments.model_name_or_path} was trained for other genres: its head is replaced")
    model.load_state_dict(weights, strict=False)


@contextmanager
def unsharded_weights(run: RunArguments) -> Iterator[None]:
    """Keep ZeRO-3 from sharding weights while they are loaded; DeepSpeed shards them when the training starts.

    Loading copies weights between models, so each process needs them whole.
    """
    if not deepspeed.is_deepspeed_zero3_enabled():
        yield
        return
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if run.deepspeed:  # otherwise accelerate's configuration enabled DeepSpeed
            deepspeed.set_hf_deepspeed_config(run.hf_deepspeed_config)
        else:
            run.deepspeed_plugin.set_deepspeed_weakref()


@lru_cache(maxsize=1)
def _checkpoint(name_or_path: str) -> tuple[PreTrainedModel, WindowedFeatureExtractor]:
    return load_checkpoint(name_or_path, auto_class=None)
