"""The settings of a pre-training, with `RunArguments` as third group, and their check before any data are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForPreTraining, PreTrainedConfig, set_seed

from ...data.features import check_front_end
from ...data.sources import open_source
from ...data.sources.contract import TrackSource
from ...errors import CheckpointError, ConfigError, first_line, nearest
from ...evaluation.checkpoints import load_checkpoint
from ...features.feature_extraction_windowed import WindowedFeatureExtractor
from ...models.modeling_pretraining import PreTrainingModel
from ...registry import PRETRAINING_MODELS
from ...settings import check_fields, coerce, known_fields, with_fields
from ..arguments import RunArguments, check_fields_of, instance, setting
from ..build import unsharded_weights
from ..run_folder import refuse_folder
from ..spectrogram_augmentation import SpecAugment, cropped_frames
from ..spectrogram_effects import SpectrogramEffects


# How a pre-training differs from a classifier's training: there are no genres, and by default no evaluation.
PRETRAINING_SETTINGS = {
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "metric_for_best_model": "loss",
    "label_names": ["seeds"],
    "save_total_limit": 1,
}


@dataclass
class PretrainingModelArguments:
    """What is pre-trained."""

    model_type: str = setting("hfmgc-prior-autoencoder", f"Architecture: {', '.join(PRETRAINING_MODELS)}.")
    model: dict[str, Any] = setting(dict, "Fields of the architecture's config.")
    front_end: dict[str, Any] = setting(dict, "Fields of the feature extractor: windows, normalisation, ...")
    pretrained_parts: dict[str, str] = setting(
        dict, "Parts of the model that were trained first: {prior: FOLDER} for Deformer's prior decoder."
    )

    def __post_init__(self):
        if self.model_type not in PRETRAINING_MODELS:
            near = nearest(self.model_type, PRETRAINING_MODELS)
            raise ValueError(f"model_type {self.model_type!r} has no pre-training{near}")


@dataclass(frozen=True)
class SourceSettings:
    """One of the sources of a pre-training.

    Args:
        data: A dataset's name, a folder of audio, a manifest, or stored features.
        options: Options of the dataset.
        exclude: List of tracks to leave out.
        side: `train`, `validation` or `test` of the published split; "" for all tracks.
        front_end: Fields in which the front end of these stored features differs, such as `frames_per_second`.
    """

    data: str
    options: dict[str, Any] = field(default_factory=dict)
    exclude: str | None = None
    side: str = ""
    front_end: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.side not in ("", "train", "validation", "test"):
            raise ConfigError(f"side must be train, validation or test, not {self.side!r}")

    def open(self) -> TrackSource:
        """Return the source."""
        return open_source(self.data, self.options, exclude=self.exclude, labelled=False)

    def extractor(self, extractor: WindowedFeatureExtractor) -> WindowedFeatureExtractor:
        """Return the front end with this source's fields.

        Raises:
            ConfigError: If a field does not exist, or the windows get another size.
        """
        if not self.front_end:
            return extractor
        known = known_fields(type(extractor))
        fields = {name: value for name, value in extractor.to_dict().items() if name in known}
        other = with_fields(type(extractor), {**fields, **self.front_end}, f"front_end of {self.data}")
        if other.window_shape != extractor.window_shape or other.sampling_rate != extractor.sampling_rate:
            raise ConfigError(
                f"front_end of {self.data}: makes windows of {other.window_shape} frames and bins at {other.sampling_rate} "
                f"Hz, not {extractor.window_shape} at {extractor.sampling_rate} Hz: set front_end.resize, or window_seconds"
            )
        return other


@dataclass
class PretrainingDataArguments:
    """What it is pre-trained on, without genres."""

    data: list[str | dict[str, Any]] = setting(
        list,
        "One or more datasets, folders of audio, manifests or stored features; {data: NAME, options: {...}, exclude: FILE, "
        "side: train, front_end: {...}} sets the options of one.",
    )
    shortest_seconds: float = setting(1.0, "Shorter audio is skipped.", limits="[0, inf)")
    pad_short_tracks: bool = setting(
        False, "Use tracks shorter than a window too, padded as front_end.short_tracks says."
    )
    validation_share: float = setting(
        0.0, "Share of the tracks that is held out to evaluate the loss.", limits="[0, 1)"
    )
    fit_statistics: str = setting(
        "none", "overall: estimate the front end's mean and deviation from the data.", choices=("none", "overall")
    )
    windows_per_track: int = setting(1, "Random windows of each track in an epoch.", limits="[1, inf)")
    time_crop: float = setting(1.0, "Share of a window's frames to train on, at a random position.", limits="(0, 1]")
    spec_augment: dict[str, Any] = setting(
        dict, "Masks over training windows; see recipes/train_classifier.py --help."
    )
    spectrogram_effects: dict[str, Any] = setting(
        dict, "Effects on training windows; see recipes/train_classifier.py --help."
    )
    preprocessing_num_proc: int | None = setting(None, "Processes that decode and extract.", limits="[1, inf)")

    def __post_init__(self):
        check_fields_of(self)
        self.sources, self.masks, self.effects  # noqa: B018 (raises for wrong entries)

    @property
    def sources(self) -> list[SourceSettings]:
        """The sources."""
        return [
            SourceSettings(**check_fields(SourceSettings, one if isinstance(one, Mapping) else {"data": one}, "data"))
            for one in self.data
        ]

    @property
    def masks(self) -> SpecAugment | None:
        """The SpecAugment of the views."""
        return instance(SpecAugment, self.spec_augment, "spec_augment")

    @property
    def effects(self) -> SpectrogramEffects | None:
        """The effects on the views."""
        return instance(SpectrogramEffects, self.spectrogram_effects, "spectrogram_effects")


PretrainingGroups = tuple[PretrainingModelArguments, PretrainingDataArguments, RunArguments]
PRETRAINING_GROUPS = (PretrainingModelArguments, PretrainingDataArguments, RunArguments)


def check_pretraining(groups: PretrainingGroups) -> tuple[WindowedFeatureExtractor, PreTrainedConfig]:
    """Refuse settings that do not fit each other, before the data are read; return the front end and the model's config.

    Raises:
        ConfigError: If a field does not exist or fit.
        CheckpointError: If a part that was trained first cannot be loaded or does not fit.
        DataError: If there are no such data, or another front end made the stored features.
    """
    arguments, data, run = groups
    if run.eval_strategy != "no" and not data.validation_share:
        raise ConfigError("eval_strategy: nothing is held out to evaluate: set validation_share, or eval_strategy no")
    if not data.sources:
        raise ConfigError("data is empty: name a dataset, a folder of audio, or stored features")
    extractor = with_fields(
        PRETRAINING_MODELS[arguments.model_type].load("feature_extractor"), arguments.front_end, "front_end"
    )
    if data.fit_statistics != "none" and not hasattr(extractor, "mean"):
        raise ConfigError(f"fit_statistics: {type(extractor).__name__} keeps the statistics of its pre-training")
    with unsharded_weights(run):
        parts = load_parts(arguments)
    config = build_config(arguments, parts)
    try:
        with torch.device("meta"):
            model = PRETRAINING_MODELS[arguments.model_type].load("pretraining_model")(config)
    except Exception as error:  # torch refuses impossible sizes in many ways
        raise ConfigError(f"model: {first_line(error)}") from error
    normalization = "statistics" if data.fit_statistics != "none" else getattr(extractor, "normalization", None)
    if model.unit_range and normalization != "min_max":
        raise ConfigError(
            f"front_end.normalization must be min_max, and fit_statistics none: {type(model).__name__} restores values in "
            "[0, 1]"
        )
    try:
        model.check_data(None, global_batch(run))
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error
    frames, bins = extractor.window_shape
    frames = cropped_frames(frames, data.time_crop)
    try:
        model.check_window(frames, bins)
        if data.masks is not None:
            data.masks.check(frames, bins)
        if data.effects is not None:
            data.effects.check(bins)
    except ValueError as error:
        raise ConfigError(f"model, front_end and time_crop do not fit: {error}") from error
    for source in data.sources:
        refuse_folder("output_dir", Path(run.output_dir), source.data)
        check_front_end(source.open(), source.extractor(extractor))
    return extractor, config


def global_batch(run: RunArguments) -> int:
    """Return the examples of an optimizer step, of all processes and micro-batches together."""
    return run.per_device_train_batch_size * run.gradient_accumulation_steps * run.world_size


def load_parts(arguments: PretrainingModelArguments) -> dict[str, PreTrainingModel]:
    """Return the parts of the model that were trained first.

    Raises:
        ConfigError: If the model has no such part, or lacks one that it needs.
        CheckpointError: If one cannot be loaded, or is of another architecture.
    """
    wanted = PRETRAINING_MODELS[arguments.model_type].load("pretraining_model").pretrained_parts
    for name in arguments.pretrained_parts.keys() - wanted.keys():
        raise ConfigError(f"pretrained_parts: {arguments.model_type} has no part {name!r}{nearest(name, wanted)}")
    parts = {}
    for name, model_type in wanted.items():
        folder = coerce(f"pretrained_parts.{name}", arguments.pretrained_parts.get(name, ""), str, "settings")
        if not folder:
            raise ConfigError(f"pretrained_parts.{name} is not set: train a {model_type} first, and name its folder")
        part = load_checkpoint(folder, auto_class=AutoModelForPreTraining)[0]
        if part.config.model_type != model_type:
            raise CheckpointError(
                f"pretrained_parts.{name} {folder} is of architecture {part.config.model_type!r}, {model_type!r} is needed"
            )
        # Neither a path on the user's disk nor the part's own classes belong in the config of the whole.
        part.config.name_or_path, part.config.architectures = "", None
        vars(part.config).pop("auto_map", None)
        parts[name] = part
    return parts


def build_config(arguments: PretrainingModelArguments, parts: Mapping[str, PreTrainingModel]) -> PreTrainedConfig:
    """Return the config with the recipe's fields and those of the parts.

    Raises:
        ConfigError: If a field does not exist or fit.
    """
    more = {f"{name}_config": part.config for name, part in parts.items()}
    for name in more.keys() & arguments.model.keys():
        raise ConfigError(f"model.{name} is that of pretrained_parts.{name.removesuffix('_config')}: leave it out")
    return with_fields(PRETRAINING_MODELS[arguments.model_type].load("config"), arguments.model, "model", **more)


def build_pretraining_model(arguments: PretrainingModelArguments, run: RunArguments) -> PreTrainingModel:
    """Return the model with the weights of its parts; equal arguments give equal weights."""
    with unsharded_weights(run):
        parts = load_parts(arguments)
        config = build_config(arguments, parts)
        set_seed(run.seed)
        model = PRETRAINING_MODELS[arguments.model_type].load("pretraining_model")(config)
        for name, part in parts.items():
            getattr(model, name).load_state_dict(part.state_dict())
    return model
