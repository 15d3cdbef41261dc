"""Going on from a saved checkpoint of ours: `model_name_or_path`."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.integrations import deepspeed
from transformers.utils import logging

from ..errors import CheckpointError, ConfigError
from ..evaluation.checkpoints import load_checkpoint
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from ..settings import check_fields, known_fields, with_fields
from .arguments import ModelArguments, RunArguments


logger = logging.get_logger(__name__)

# What the head of every architecture is called.
HEAD = "classifier."


def adopt_checkpoint(arguments: ModelArguments, run: RunArguments) -> None:
    """Set `model_type` to that of the checkpoint that the recipe starts from, if it starts from one.

    Raises:
        CheckpointError: If it cannot be used.
    """
    if arguments.model_name_or_path is not None:
        with undivided_weights(run):  # from here on it is kept
            arguments.model_type = _checkpoint(arguments)[0].config.model_type


def checkpoint_extractor(arguments: ModelArguments) -> WindowedFeatureExtractor:
    """Return the checkpoint's front end, with the recipe's fields in place of its own."""
    if "preset" in arguments.front_end:
        raise ConfigError(
            f"front_end.preset: {arguments.model_name_or_path} has a front end of its own; name single fields of it"
        )
    extractor = _checkpoint(arguments)[1]
    known = known_fields(type(extractor))
    saved = {name: value for name, value in extractor.to_dict().items() if name in known}
    if "window_frames" in arguments.front_end:
        saved.pop("window_seconds", None)
    return with_fields(type(extractor), {**saved, **arguments.front_end}, "front_end")


def checkpoint_config(arguments: ModelArguments, labels: dict[str, Any]) -> PreTrainedConfig:
    """Return the checkpoint's config, with the recipe's fields and labels in place of its own."""
    config = _checkpoint(arguments)[0].config
    changed = check_fields(type(config), arguments.model, "model")
    fields = config.to_dict()
    fields.pop("class_weights", None)  # they were of other training data
    if Path(arguments.model_name_or_path).is_dir():
        fields.pop("_name_or_path", None)  # PEFT would publish the folder with the adapter
    for name, value in changed.items():
        nested = isinstance(value, dict) and isinstance(fields.get(name), dict)
        fields[name] = {**fields[name], **value} if nested else value
    return with_fields(type(config), {}, "model", **{**fields, **labels})


def checkpoint_weights(
    arguments: ModelArguments, config: PreTrainedConfig, model: PreTrainedModel
) -> dict[str, Tensor]:
    """Return the checkpoint's weights for `model`, a model of `config`; without the head where the genres differ.

    Raises:
        CheckpointError: If they do not fit, because sizes were changed.
    """
    before = _checkpoint(arguments)[0]
    weights, own = before.state_dict(), model.state_dict()
    if before.config.id2label != config.id2label:
        weights, own = (
            {name: value for name, value in tensors.items() if not name.startswith(HEAD)} for tensors in (weights, own)
        )
    for name in sorted(weights.keys() | own.keys()):
        shapes = [list(tensors[name].shape) if name in tensors else "missing" for tensors in (weights, own)]
        if shapes[0] != shapes[1]:
            raise CheckpointError(
                f"{arguments.model_name_or_path} does not fit the recipe's model ({name}: {shapes[0]} there, {shapes[1]} "
                "here): leave out the fields of `model` that change sizes"
            )
    return weights


def checkpoint_model(arguments: ModelArguments, config: PreTrainedConfig, fresh: PreTrainedModel) -> PreTrainedModel:
    """Return `fresh`, a model of `config`, with the checkpoint's weights; the head stays new where the genres differ."""
    weights = checkpoint_weights(arguments, config, fresh)
    if not any(name.startswith(HEAD) for name in weights):
        logger.warning_once(f"{arguments.model_name_or_path} knows other genres: the head starts from random weights")
    fresh.load_state_dict(weights, strict=False)
    return fresh


@contextmanager
def undivided_weights(run: RunArguments) -> Iterator[None]:
    """Keep ZeRO-3 from dividing the weights while they are loaded: DeepSpeed does it when the training begins.

    The backbones fit every process, and parts of them are taken over into another model here.
    """
    if not deepspeed.is_deepspeed_zero3_enabled():
        yield
        return
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if run.deepspeed:  # a configuration of our own settings; else of accelerate's
            deepspeed.set_hf_deepspeed_config(run.hf_deepspeed_config)
        else:
            run.deepspeed_plugin.set_deepspeed_weakref()


def _checkpoint(arguments: ModelArguments) -> tuple[PreTrainedModel, WindowedFeatureExtractor]:
    return _load(arguments.model_name_or_path, arguments.model_revision)


@lru_cache(maxsize=1)
def _load(name_or_path: str, revision: str | None) -> tuple[PreTrainedModel, WindowedFeatureExtractor]:
    return load_checkpoint(name_or_path, revision)
