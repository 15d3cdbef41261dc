"""The settings of a pre-training run (`RunArguments` is the third group), and their check before any data are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import AutoModelForPreTraining, set_seed

from ...data.features import check_front_end
from ...data.sources import open_source
from ...data.sources.contract import TrackSource
from ...errors import CheckpointError, ConfigError, did_you_mean
from ...evaluation.checkpoints import load_checkpoint
from ...features.feature_extraction_windowed import WindowedFeatureExtractor
from ...models.modeling_pretraining import PreTrainingModel
from ...registry import PRETRAINING_MODELS
from ...settings import check_fields, coerce, with_fields
from ..arguments import RunArguments, WindowArguments, setting
from ..build import on_meta, unsharded_weights, with_changes
from ..run_folder import check_output_folder
from ..spectrogram_augmentation import cropped_frames


# Defaults that differ from a classifier's: there are no genres, and by default no evaluation.
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
    front_end: dict[str, Any] = setting(dict, "Fields of the feature extractor (windows, normalisation, ...).")
    pretrained_parts: dict[str, str] = setting(
        dict, "Checkpoints of parts that were trained first: {prior: FOLDER} for Deformer's prior decoder."
    )

    def __post_init__(self):
        if self.model_type not in PRETRAINING_MODELS:
            near = did_you_mean(self.model_type, PRETRAINING_MODELS)
            raise ValueError(f"model_type {self.model_type!r} has no pre-training{near}")


@dataclass(frozen=True)
class SourceSettings:
    """A source of tracks for pre-training.

    Args:
        data: A dataset's name, a folder of audio, a manifest, or stored features.
        options: Options of the dataset.
        exclude: Path of an exclusion list.
        side: `train`, `validation` or `test` of the published split; "" for all tracks.
        front_end: Fields of the front end with other values for this source, such as `frames_per_second`.
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
        """Return the source, whose tracks need no genres."""
        return open_source(self.data, self.options, exclude=self.exclude, labelled=False)

    def adapt_extractor(self, extractor: WindowedFeatureExtractor) -> WindowedFeatureExtractor:
        """Return the front end with the fields of this source.

        Raises:
            ConfigError: If a field does not exist, or changes the size of the windows or the sampling rate.
        """
        if not self.front_end:
            return extractor
        adapted = with_changes(extractor, self.front_end, f"front_end of {self.data}")
        if adapted.window_shape != extractor.window_shape or adapted.sampling_rate != extractor.sampling_rate:
            raise ConfigError(
                f"front_end of {self.data}: windows have {adapted.window_shape} frames and bins at {adapted.sampling_rate} Hz, "
                f"not {extractor.window_shape} at {extractor.sampling_rate} Hz: set front_end.resize, or window_seconds"
            )
        return adapted


@dataclass
class PretrainingDataArguments(WindowArguments):
    """The data of a pre-training run."""

    data: list[str | dict[str, Any]] = setting(
        list,
        "Datasets, folders of audio, manifests or stored features: each a name, or {data: NAME, options: {...}, exclude: "
        "FILE, side: train, front_end: {...}}.",
    )
    pad_short_tracks: bool = setting(
        False, "Also use tracks shorter than a window, padded as front_end.short_tracks says."
    )
    validation_share: float = setting(
        0.0, "Share of the tracks that is held out for evaluation of the loss.", limits="[0, 1)"
    )
    fit_statistics: str = setting(
        "none", "overall: estimate the front end's mean and deviation from the data.", choices=("none", "overall")
    )

    def __post_init__(self):
        super().__post_init__()
        self.sources  # noqa: B018 (raises for wrong entries)

    @property
    def sources(self) -> list[SourceSettings]:
        """The entries of `data`."""
        entries = [entry if isinstance(entry, Mapping) else {"data": entry} for entry in self.data]
        return [SourceSettings(**check_fields(SourceSettings, entry, "data")) for entry in entries]


PretrainingGroups = tuple[PretrainingModelArguments, PretrainingDataArguments, RunArguments]
PRETRAINING_GROUPS = (PretrainingModelArguments, PretrainingDataArguments, RunArguments)


def check_pretraining(groups: PretrainingGroups) -> WindowedFeatureExtractor:
    """Check the settings before the data are read; return the front end.

    Raises:
        ConfigError: If a field does not exist, or does not fit the others.
        CheckpointError: If a part that was trained first cannot be loaded or does not fit.
        DataError: If the data do not exist, or another front end extracted the stored features.
    """
    arguments, data, run = groups
    if run.eval_strategy != "no" and not data.validation_share:
        raise ConfigError("eval_strategy: no tracks are held out: set validation_share, or eval_strategy no")
    if (run.metric_for_best_model or "loss").removeprefix("eval_") != "loss":
        raise ConfigError(
            f"metric_for_best_model {run.metric_for_best_model}: pre-training has only the loss: set loss"
        )
    if not data.sources:
        raise ConfigError("data is empty: name a dataset, a folder of audio, or stored features")
    extractor_class = PRETRAINING_MODELS[arguments.model_type].load("feature_extractor")
    extractor = with_fields(extractor_class, arguments.front_end, "front_end")
    if data.fit_statistics != "none" and not hasattr(extractor, "mean"):
        raise ConfigError(f"fit_statistics: {type(extractor).__name__} has no mean and deviation to fit: set none")
    model = build_pretraining_model(arguments, run, weights=False)
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
    try:
        model.check_window(cropped_frames(frames, data.time_crop), bins)
        data.window_augmentation.check(frames, bins)
    except ValueError as error:
        raise ConfigError(f"model, front_end and time_crop do not fit: {error}") from error
    for source in data.sources:
        check_output_folder("output_dir", Path(run.output_dir), source.data)
        check_front_end(source.open(), source.adapt_extractor(extractor))
    return extractor


def global_batch(run: RunArguments) -> int:
    """Return the number of examples in an optimizer step, over all processes and micro-batches."""
    return run.per_device_train_batch_size * run.gradient_accumulation_steps * run.world_size


def build_pretraining_model(
    arguments: PretrainingModelArguments, run: RunArguments, *, weights: bool = True
) -> PreTrainingModel:
    """Return the model, with the weights of the parts that were trained first; without `weights`, on the meta device.

    Equal arguments give equal weights.
    """
    architecture = PRETRAINING_MODELS[arguments.model_type]
    model_class = architecture.load("pretraining_model")
    with unsharded_weights(run):
        parts = _load_parts(arguments, model_class.pretrained_parts)
        configs = {f"{name}_config": part.config for name, part in parts.items()}
        for name in configs.keys() & arguments.model.keys():
            raise ConfigError(
                f"model.{name}: comes from pretrained_parts.{name.removesuffix('_config')}: leave it out"
            )
        config = with_fields(architecture.load("config"), arguments.model, "model", **configs)
        if not weights:
            return on_meta(model_class, config)
        set_seed(run.seed)
        model = model_class(config)
        for name, part in parts.items():
            getattr(model, name).load_state_dict(part.state_dict())
    return model


def _load_parts(arguments: PretrainingModelArguments, wanted: Mapping[str, str]) -> dict[str, PreTrainingModel]:
    """Load the parts of the model that were trained first; `wanted` maps each part to its model type."""
    for name in arguments.pretrained_parts.keys() - wanted.keys():
        raise ConfigError(f"pretrained_parts: {arguments.model_type} has no part {name!r}{did_you_mean(name, wanted)}")
    parts = {}
    for name, model_type in wanted.items():
        folder = coerce(f"pretrained_parts.{name}", arguments.pretrained_parts.get(name, ""), str, "settings")
        if not folder:
            raise ConfigError(f"pretrained_parts.{name} is not set: train a {model_type} first, then name its folder")
        parts[name] = part = load_checkpoint(folder, auto_class=AutoModelForPreTraining)[0]
        if part.config.model_type != model_type:
            raise CheckpointError(
                f"pretrained_parts.{name} {folder}: the architecture is {part.config.model_type!r}: give a checkpoint of "
                f"{model_type!r}"
            )
        # The config of the whole model must contain neither a path on the user's disk nor the classes of the part.
        part.config.name_or_path, part.config.architectures = "", None
        vars(part.config).pop("auto_map", None)
    return parts
