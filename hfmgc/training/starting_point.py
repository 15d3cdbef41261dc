"""Going on from a saved checkpoint of ours: `model_name_or_path`."""

from functools import lru_cache
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from ..errors import CheckpointError
from ..evaluation.checkpoints import load_checkpoint
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from .arguments import ModelArguments
from .fields import check_fields, known_fields, with_fields


logger = logging.get_logger(__name__)


def adopt_checkpoint(arguments: ModelArguments) -> None:
    """Set `model_type` to that of the checkpoint that the recipe starts from, if it starts from one.

    Raises:
        CheckpointError: If it cannot be used.
    """
    if arguments.model_name_or_path is not None:
        arguments.model_type = _checkpoint(arguments)[0].config.model_type


def checkpoint_extractor(arguments: ModelArguments) -> WindowedFeatureExtractor:
    """Return the checkpoint's front end, with the recipe's fields in place of its own."""
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
    for name, value in changed.items():
        nested = isinstance(value, dict) and isinstance(fields.get(name), dict)
        fields[name] = {**fields[name], **value} if nested else value
    return with_fields(type(config), {}, "model", **{**fields, **labels})


def checkpoint_model(arguments: ModelArguments, config: PreTrainedConfig, fresh: PreTrainedModel) -> PreTrainedModel:
    """Return `fresh`, a model of `config`, with the checkpoint's weights; the head stays new where the genres differ.

    Raises:
        CheckpointError: If weights do not fit, because sizes were changed.
    """
    before = _checkpoint(arguments)[0]
    weights = before.state_dict()
    if before.config.id2label != config.id2label:
        logger.warning(f"{arguments.model_name_or_path} knows other genres: the head begins anew")
        weights = {name: value for name, value in weights.items() if not name.startswith("classifier.")}
    own = fresh.state_dict()
    for name, value in weights.items():
        if name not in own or own[name].shape != value.shape:
            raise CheckpointError(
                f"{arguments.model_name_or_path}: {name} {list(value.shape)} does not fit the recipe's model: leave out "
                "the fields of `model` that change sizes"
            )
    fresh.load_state_dict(weights, strict=False)
    return fresh


def _checkpoint(arguments: ModelArguments) -> tuple[PreTrainedModel, WindowedFeatureExtractor]:
    return _load(arguments.model_name_or_path, arguments.model_revision)


@lru_cache(maxsize=1)
def _load(name_or_path: str, revision: str | None) -> tuple[PreTrainedModel, WindowedFeatureExtractor]:
    return load_checkpoint(name_or_path, revision)
