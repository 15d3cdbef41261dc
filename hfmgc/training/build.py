"""From settings to the parts of a training: front end, config, model, adapter.

A model starts from random weights, from a pre-trained backbone (`pretrained_backbone`), or from a checkpoint of ours
(`model_name_or_path`).
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

# Prefix of the head's weights, in every architecture.
HEAD = "classifier."


def build_feature_extractor(arguments: ModelArguments, *, local_files_only: bool = False) -> WindowedFeatureExtractor:
    """Return the front end of the architecture, of the checkpoint, or of the preset that the recipe names.

    Where it wraps that of a pre-trained encoder, `local_files_only` takes the default one if it is not in the local cache.
    """
    if arguments.model_name_or_path is not None:
        return _checkpoint_extractor(arguments)
    if "preset" in arguments.front_end or "representation" in arguments.front_end:
        extractor_class = load_class(SPECTROGRAM_FEATURE_EXTRACTOR)
    else:
        extractor_class = ARCHITECTURES[arguments.model_type].load("feature_extractor")
    fields = arguments.front_end
    if arguments.pretrained_backbone is not None and "encoder_extractor" in known_fields(extractor_class):
        own = _encoder_extractor(arguments.pretrained_backbone, local_files_only=local_files_only)
        fields = {**({} if own is None else {"encoder_extractor": own}), **fields}
    return with_fields(extractor_class, fields, "front_end")


def _checkpoint_extractor(arguments: ModelArguments) -> WindowedFeatureExtractor:
    if "preset" in arguments.front_end:
        raise ConfigError(
            f"front_end.preset: {arguments.model_name_or_path} has its own front end: set single fields of it instead"
        )
    return with_changes(_checkpoint(arguments.model_name_or_path)[1], arguments.front_end, "front_end")


def with_changes(extractor: WindowedFeatureExtractor, fields: dict[str, Any], group: str) -> WindowedFeatureExtractor:
    """Return a front end with other values of some fields; errors name their `group`."""
    known = known_fields(type(extractor))
    own = {name: value for name, value in extractor.to_dict().items() if name in known}
    if "window_frames" in fields:
        own.pop("window_seconds", None)
    return with_fields(type(extractor), {**own, **fields}, group)


def build_config(arguments: ModelArguments, genres: Sequence[str]) -> PreTrainedConfig:
    """Return the config of the architecture or the checkpoint, with the recipe's fields and the genres as labels.

    Raises:
        ConfigError: If a field does not exist or fit.
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
    for name in ("class_weights", "genres"):  # they belong to the training data of the checkpoint
        fields.pop(name, None)
    if Path(resolve_checkpoint(arguments.model_name_or_path)).is_dir():
        fields.pop("_name_or_path", None)  # PEFT would publish the folder with the adapter
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
    """Return the model of a config on the meta device, frozen as the recipe says.

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
    """Return a model with shapes and without weights, or raise a ConfigError."""
    try:
        with torch.device("meta"):
            return model_class(config)
    except Exception as error:  # torch refuses impossible sizes in many ways
        raise ConfigError(f"model: {first_line(error)}") from error


def build_model(arguments: ModelArguments, genres: Sequence[str], run: RunArguments) -> PreTrainedModel:
    """Return the model without its adapter; equal arguments give equal weights.

    Raises:
        ConfigError: If a field does not exist or fit.
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
    """Put the recipe's adapter on a model, if it has one, and freeze all other layers except the head.

    PEFT's DoRA has one magnitude for each output of a layer and scales the update by alpha / r. The AST report's code has
    one for each input and does not divide by r: its alpha of 4.246988659 at r = 2 is an alpha of 8.494 here, and its
    177,314 trainable parameters are 172,706 here (768 magnitudes a layer instead of 3,072).
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
    """Return the config of the pre-trained backbone, which must be of the architecture that the model's config names.

    With `local_files_only` it is read from the local cache, without a request.

    Raises:
        UnreachableError: If it cannot be loaded from the Hub, or is not in the local cache.
        CheckpointError: If it cannot be read, or is of another architecture.
    """
    name, config_class = arguments.pretrained_backbone, config.sub_configs["backbone_config"]
    any_encoder = not hasattr(config_class, "model_type")  # AutoConfig
    with _loading_backbone(name, "config.json"):
        folder = _backbone_folder(name, local_files_only=local_files_only)
        fields, _ = PreTrainedConfig.get_config_dict(folder)
        if not any_encoder and fields.get("model_type") != config_class.model_type:
            raise CheckpointError(
                f"pretrained_backbone {name!r} is of architecture {fields.get('model_type')!r}, "
                f"{config_class.model_type!r} is needed"
            )
        found = config.encoder_config(fields) if any_encoder else config_class.from_dict(fields)
    if Path(name).is_dir():  # on the Hub it shows when the weights are loaded
        require_safetensors("pretrained_backbone", name)
    return found


@contextmanager
def _loading_backbone(name: str, file: str) -> Iterator[None]:
    """Turn errors into a CheckpointError: each library has its own for a damaged file, and a config can hold anything."""
    try:
        yield
    except HfmgcError:
        raise
    except Exception as error:
        kind = UnreachableError if isinstance(error, OSError) and not Path(name).is_dir() else CheckpointError
        raise kind(
            f"pretrained_backbone {name!r}: {file} could not be loaded ({first_line(error)}): check the name, the network "
            "and HF_HUB_OFFLINE, or give a folder that holds it; recipes/configs/folder.yaml trains without it"
        ) from error


def _backbone_folder(name: str, *, local_files_only: bool) -> str | Path:
    """Return where to read a pre-trained backbone: its name, or with `local_files_only` its folder in the local cache."""
    check_path_length("pretrained_backbone", name)
    if Path(name).is_absolute() and not Path(name).exists():
        raise CheckpointError(f"pretrained_backbone {name!r}: no such folder")
    if not local_files_only or Path(name).is_dir():
        return name
    # Even with its own `local_files_only`, huggingface_hub makes a request (for a list of user agents).
    cached = try_to_load_from_cache(name, "config.json")
    if not isinstance(cached, str):
        raise UnreachableError(f"pretrained_backbone {name!r} is not in the local cache")
    return Path(cached).parent


def _encoder_extractor(name: str, *, local_files_only: bool) -> dict[str, Any] | None:
    """Return the fields of a pre-trained encoder's own feature extractor; None if it must be local and is not."""
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
    """Return the settings with the `model_type` of the checkpoint that the recipe starts from, if it starts from one.

    Raises:
        CheckpointError: If the checkpoint cannot be loaded, or is of another architecture than the one that is set, and was
            pre-trained without genres or lacks fields of `model`.
    """
    if arguments.model_name_or_path is None:
        return arguments
    with unsharded_weights(run):  # the checkpoint is cached
        checkpoint = _checkpoint(arguments.model_name_or_path)[0]
    found = checkpoint.config.model_type
    differs = "model_type" in changed_fields(arguments) and found != arguments.model_type
    unknown = arguments.model.keys() - known_fields(type(checkpoint.config)).keys()
    if differs and (isinstance(checkpoint, PreTrainingModel) or unknown):
        raise CheckpointError(
            f"model_name_or_path {arguments.model_name_or_path} is of architecture {found!r}, and model_type is "
            f"{arguments.model_type!r}: give a checkpoint of that architecture, or a config with model_type {found} "
            "(hfmgc list names one)"
        )
    return replace(arguments, model_type=found)


def _checkpoint_weights(arguments: ModelArguments, model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return the checkpoint's weights for `model`; without the head where the genres differ."""
    checkpoint = _checkpoint(arguments.model_name_or_path)[0]
    weights, own = checkpoint.state_dict(), model.state_dict()
    if not _has_head(checkpoint):  # only the encoder is used, not the parts of an objective
        encoder = checkpoint.base_model.state_dict()
        weights = {f"{model.base_model_prefix}.{name}": value for name, value in encoder.items()}
    if not _has_head(checkpoint) or checkpoint.config.id2label != model.config.id2label:
        weights, own = (
            {name: value for name, value in tensors.items() if not name.startswith(HEAD)} for tensors in (weights, own)
        )
    # Layers that the recipe's fields leave out, such as those after the representation.
    optional = re.compile("|".join(model.base_model._keys_to_ignore_on_load_unexpected))
    weights = {name: value for name, value in weights.items() if name in own or not optional.search(name)}
    if difference := different_shape(*({name: one.shape for name, one in side.items()} for side in (weights, own))):
        raise CheckpointError(
            f"{arguments.model_name_or_path} does not fit the recipe's model ({difference}): leave out the fields of `model` "
            "that change sizes"
        )
    return weights


def _has_head(checkpoint: PreTrainedModel) -> bool:
    """Return whether it is a classifier, and neither an encoder alone nor a model for pre-training."""
    return not isinstance(checkpoint, PreTrainingModel) and checkpoint.base_model is not checkpoint


def different_shape(there: Mapping[str, Sequence[int]], here: Mapping[str, Sequence[int]]) -> str | None:
    """Return the first weight whose shape differs between a checkpoint and a model, with both shapes."""
    for name in sorted(there.keys() | here.keys()):
        shapes = [list(side[name]) if name in side else "missing" for side in (there, here)]
        if shapes[0] != shapes[1]:
            return f"{name}: {shapes[0]} there, {shapes[1]} here"
    return None


def _load_checkpoint_weights(arguments: ModelArguments, model: PreTrainedModel) -> None:
    """Load the checkpoint's weights into `model`, whose head stays new where the genres differ."""
    weights = _checkpoint_weights(arguments, model)
    if _has_head(_checkpoint(arguments.model_name_or_path)[0]) and not any(name.startswith(HEAD) for name in weights):
        logger.warning_once(f"{arguments.model_name_or_path} was trained for other genres: its head is replaced")
    model.load_state_dict(weights, strict=False)


@contextmanager
def unsharded_weights(run: RunArguments) -> Iterator[None]:
    """Keep ZeRO-3 from sharding weights while they are loaded; DeepSpeed shards them when the training starts.

    Every process can hold a whole model, and weights are copied between models here.
    """
    if not deepspeed.is_deepspeed_zero3_enabled():
        yield
        return
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if run.deepspeed:  # configured by our settings; otherwise by accelerate
            deepspeed.set_hf_deepspeed_config(run.hf_deepspeed_config)
        else:
            run.deepspeed_plugin.set_deepspeed_weakref()


@lru_cache(maxsize=1)
def _checkpoint(name_or_path: str) -> tuple[PreTrainedModel, WindowedFeatureExtractor]:
    return load_checkpoint(name_or_path, auto_class=None)
