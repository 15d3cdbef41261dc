"""Check a recipe before any data are read; runs, searches and `hfmgc show` share this check."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel

from ..errors import ConfigError, UnreachableError
from ..evaluation.task import task_of
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from .arguments import Groups
from .build import (
    adapt_model,
    build_config,
    build_feature_extractor,
    build_meta_model,
    pretrained_backbone_config,
    with_checkpoint_type,
)
from .frozen_prefix import FrozenPrefix
from .prefix_reuse import check_reuse
from .preparation import check_source
from .run_folder import check_output_folder
from .spectrogram_augmentation import WindowAugmentation, cropped_frames


@dataclass(frozen=True)
class CheckedRecipe:
    """Settings that fit together, and what they describe.

    Args:
        groups: The settings; `model_type` is that of the checkpoint, if the recipe starts from one.
        extractor: The front end.
        meta_model: The model with its adapter, on the meta device.
        parameters: Number of parameters without the adapter.
        notes: Assumptions, for the user.
    """

    groups: Groups
    extractor: WindowedFeatureExtractor
    meta_model: PreTrainedModel | PeftModel
    parameters: int
    notes: list[str]


def check_recipe(
    groups: Groups, *, genres: Sequence[str] | None = None, local_files_only: bool = False
) -> CheckedRecipe:
    """Return the settings with what they describe, or raise an error if they do not fit each other.

    Args:
        groups: The settings as read; they are not changed.
        genres: Genres of the data. Without them, class weights are not checked.
        local_files_only: Read the config of a pre-trained backbone from the local cache, without a request. If it is missing
            there, assume the default sizes and add a note.

    Raises:
        ConfigError: If a field does not exist, does not fit the others, or the model does not accept the front end's windows.
        CheckpointError: If a checkpoint to start from cannot be loaded or does not fit.
        DataError: If the data or the list of excluded tracks do not exist.
        SplitError: If the split manifest does not exist.
    """
    model_arguments, data, run = groups
    check_output_folder("output_dir", Path(run.output_dir), data.data)
    model_arguments = with_checkpoint_type(model_arguments, run)
    extractor = build_feature_extractor(model_arguments, local_files_only=local_files_only)
    if data.class_weights != "none" and model_arguments.model.get("class_weights") is not None:
        raise ConfigError("class_weights and model.class_weights exclude each other: leave out one of them")
    check_reuse(data, run)

    fields = dict(model_arguments.model)
    if genres is None:
        fields.pop("class_weights", None)
    config = build_config(replace(model_arguments, model=fields), genres or ["any", "other"])
    task_of(config.problem_type).best_metric(run.metric_for_best_model)
    notes = []
    if model_arguments.pretrained_backbone is not None:
        try:
            config.backbone_config = pretrained_backbone_config(
                model_arguments, config, local_files_only=local_files_only
            )
        except UnreachableError:
            if not local_files_only:
                raise
            default = config.backbone_config.model_type
            notes.append(
                f"pretrained_backbone {model_arguments.pretrained_backbone} is not in the local cache: the counts assume "
                f"the default sizes of {default}"
            )

    model = build_meta_model(model_arguments, config)
    _check_windows(model, extractor, data.window_augmentation)
    parameters = model.num_parameters()
    model = adapt_model(model, model_arguments)
    if run.reuse_frozen_prefix:
        FrozenPrefix(model)  # raises if no layer is frozen
    if data.data:
        check_source(data, extractor)
    return CheckedRecipe((model_arguments, data, run), extractor, model, parameters, notes)


def _check_windows(
    model: PreTrainedModel, extractor: WindowedFeatureExtractor, augmentation: WindowAugmentation
) -> None:
    """Raise a ConfigError if the model does not accept a window, whole or cropped, or augmentation can erase it."""
    frames, bins = extractor.window_shape
    try:
        augmentation.check(frames, bins)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    for field, length in (("front_end", frames), ("time_crop", cropped_frames(frames, augmentation.time_crop))):
        try:
            model.base_model.check_on_meta(length, bins)
        except ValueError as error:
            raise ConfigError(f"model and {field} do not fit: {error}") from error
