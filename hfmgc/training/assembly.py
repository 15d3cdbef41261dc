"""From settings to the parts of a run: data, split, model, trainer."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from peft import PeftModel
from transformers import (
    AutoConfig,
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedConfig,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    set_seed,
)
from transformers.integrations import deepspeed
from transformers.utils import logging

from ..data.collation import TrackCollator
from ..data.corpus import Corpus, decode_corpus
from ..data.features import extract_windows
from ..data.leaks import check_split, leaks_report
from ..data.sources import open_source
from ..data.split_manifest import SplitManifest
from ..data.splits import split_corpus
from ..errors import CheckpointError, ConfigError, nearest
from ..evaluation.metrics import genre_metrics
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from ..registry import ARCHITECTURES, FEATURE_EXTRACTORS, load_class
from ..settings_values import coerce, refuse_long_path
from .adapters import add_adapter
from .arguments import DataArguments, ModelArguments, RunArguments
from .examples import EpochCallback, TrainingExamples, augment_offline, make_augmentation


logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class PreparedData:
    """Everything that a run trains and is judged on.

    Args:
        corpus: Decoded tracks.
        manifest: Which track is on which side.
        train: Random windows of the training tracks.
        validation: Windows of whole tracks, for choosing the checkpoint.
        test: Windows of whole tracks, for the result; the validation tracks where the split has no test side.
    """

    corpus: Corpus
    manifest: SplitManifest
    train: TrainingExamples
    validation: datasets.Dataset
    test: datasets.Dataset


def build_feature_extractor(arguments: ModelArguments) -> WindowedFeatureExtractor:
    """Return the architecture's front end with the recipe's fields, or the preset that they name."""
    if "preset" in arguments.front_end or "representation" in arguments.front_end:
        extractor_class = load_class(FEATURE_EXTRACTORS["hfmgc-spectrogram"])
        _refuse_foreign_fields(arguments, extractor_class)
    else:
        extractor_class = ARCHITECTURES[arguments.model_type].load("feature_extractor")
    return _with_fields(extractor_class, arguments.front_end, "front_end")


def _refuse_foreign_fields(arguments: ModelArguments, extractor_class: type) -> None:
    """Refuse fields of the architecture's own front end beside a preset: a config file for it has them."""
    own = ARCHITECTURES[arguments.model_type].load("feature_extractor")
    foreign = set(arguments.front_end) & set(_constructor_hints(own)) - set(_constructor_hints(extractor_class))
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
    return _with_fields(config_class, arguments.model, "model", **labels)


def check_model(arguments: ModelArguments, extractor: WindowedFeatureExtractor) -> None:
    """Build the architecture and its adapter without weights, so that impossible settings show before the data are read.

    Raises:
        ConfigError: If a field does not exist or does not fit, or the front end's windows do not fit the model.
        CheckpointError: If the config of the pre-trained backbone cannot be had, or is of another architecture.
    """
    config = build_config(arguments, genres=["any", "other"])
    if config.problem_type == "multi_label_classification":
        raise ConfigError("model.problem_type: the recipes train for one genre a track")
    if arguments.pretrained_backbone is not None:
        config.backbone_config = pretrained_backbone_config(arguments, config)
    model = new_model(arguments, config)
    try:
        model.check_window(*extractor.window_shape)
    except ValueError as error:
        raise ConfigError(f"model and front_end do not fit: {error}") from error
    adapt_model(model, arguments)


def new_model(arguments: ModelArguments, config: PreTrainedConfig) -> PreTrainedModel:
    """Return the architecture of a config on the meta device (sizes without weights), frozen as the recipe says.

    Raises:
        ConfigError: If it cannot be built.
    """
    try:
        with torch.device("meta"):
            model = ARCHITECTURES[arguments.model_type].load("model")(config)
    except Exception as error:  # torch refuses impossible sizes in many ways
        raise ConfigError(f"model: {_first_line(error)}") from error
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
        found = AutoConfig.from_pretrained(name, revision=arguments.pretrained_backbone_revision)
    except OSError as error:
        raise CheckpointError(
            f"pretrained_backbone {name!r} is not to be had ({_first_line(error)}): check the name, the network and "
            "HF_HUB_OFFLINE, or give a folder that holds it; recipes/configs/folder.yaml trains without it"
        ) from error
    except Exception as error:  # whatever stands in a config.json of somebody else's
        raise CheckpointError(
            f"pretrained_backbone {name!r}: its config cannot be read ({_first_line(error)})"
        ) from error
    if found.model_type != expected:
        raise CheckpointError(
            f"pretrained_backbone {name!r} is of architecture {found.model_type!r}, {expected!r} is needed"
        )
    return found


def build_model(arguments: ModelArguments, genres: list[str], run: RunArguments) -> PreTrainedModel:
    """Return the model before an adapter is put on it; equal arguments give equal weights.

    Raises:
        CheckpointError: If the pre-trained backbone cannot be had, or is of another architecture.
    """
    model_class = ARCHITECTURES[arguments.model_type].load("model")
    config = build_config(arguments, genres)
    set_seed(run.seed)
    with _undivided_weights(run):
        if arguments.pretrained_backbone is None:
            model = model_class(config)
        else:
            model = _from_pretrained_backbone(model_class, config, arguments)
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


def prepare_data(arguments: DataArguments, run: RunArguments, extractor: WindowedFeatureExtractor) -> PreparedData:
    """Decode, split, augment and extract; in a run of several processes the first one does it for all."""
    num_proc = arguments.preprocessing_num_proc
    with run.main_process_first(desc="preparing the data"):
        source = open_source(arguments.data, arguments.data_options)
        corpus = decode_corpus(source, extractor.sampling_rate, num_proc=num_proc)
        manifest = make_split(arguments, corpus)
        sides = {side: corpus.select(track_ids) for side, track_ids in manifest.sides.items()}
        if arguments.fit_statistics != "none":
            _fit_statistics(extractor, sides["train"], per_bin=arguments.fit_statistics == "per_bin")
        train = sides["train"]
        audio = "waveform" in corpus.tracks.column_names
        if not audio and arguments.augmentation == "offline":
            raise ConfigError("augmentation: the report's effects need audio, and these are features kept from before")
        if arguments.augmentation == "offline":
            train = augment_offline(train, extractor.sampling_rate, seed=run.seed, num_proc=num_proc)
        validation = extract_windows(sides["validation"], extractor, num_proc=num_proc)
        test = extract_windows(sides["test"], extractor, num_proc=num_proc) if manifest.sides["test"] else validation
    # Features kept from before are past the point where a waveform could be changed.
    augmentation = make_augmentation(arguments.augmentation, arguments.augmentation_probability) if audio else None
    examples = TrainingExamples(
        train, extractor, seed=run.seed, augmentation=augmentation, windows_per_track=arguments.windows_per_track
    )
    return PreparedData(corpus=corpus, manifest=manifest, train=examples, validation=validation, test=test)


def _fit_statistics(extractor: WindowedFeatureExtractor, train: datasets.Dataset, *, per_bin: bool) -> None:
    """Set the front end's normalisation from the tracks of the training side, one at a time."""
    if not hasattr(extractor, "fit_statistics"):
        raise ConfigError(
            f"fit_statistics: {type(extractor).__name__} has the statistics it was pre-trained with; it is for the "
            "spectrogram front end"
        )
    column = "waveform" if "waveform" in train.column_names else "features"
    if column == "features" and any(np.ndim(track["features"]) != 2 for track in train.select(range(1))):
        raise ConfigError("fit_statistics: the stored slices are normalised already")
    tracks = (
        track["waveform"] if column == "waveform" else extractor.as_features(np.asarray(track["features"]))
        for track in train
    )
    extractor.fit_statistics(tracks, per_bin=per_bin)


def make_split(arguments: DataArguments, corpus: Corpus) -> SplitManifest:
    """Split the usable tracks of a corpus by the recipe's policy, and have the leak guard look at the result."""
    manifest = split_corpus(
        corpus.tracks,
        corpus.source,
        policy=arguments.split_policy,
        ratios=arguments.split_ratios,
        seed=arguments.split_seed,
        fold=arguments.split_fold,
        manifest=Path(arguments.split_manifest) if arguments.split_manifest else None,
    )
    leaks = check_split(
        corpus.tracks,
        manifest.sides,
        sampling_rate=corpus.sampling_rate,
        allow=arguments.allow_leaks,
        waived=lambda artist: corpus.source.artist_waiver(manifest.policy, artist),
        num_proc=arguments.preprocessing_num_proc,
    )
    return replace(manifest, leaks=leaks_report(leaks))


def build_trainer(
    model: PreTrainedModel | PeftModel,
    run: RunArguments,
    genres: list[str],
    *,
    train: TrainingExamples | None = None,
    validation: datasets.Dataset | None = None,
) -> Trainer:
    """Return a plain transformers Trainer for these examples."""
    callbacks: list[TrainerCallback] = [EpochCallback(train)] if train is not None else []
    if train is not None and run.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(run.early_stopping_patience))
    try:
        return Trainer(
            model=model,
            args=run,
            train_dataset=train,
            eval_dataset=validation,
            data_collator=TrackCollator({genre: index for index, genre in enumerate(genres)}),
            compute_metrics=partial(_track_metrics, num_labels=len(genres)),
            callbacks=callbacks,
        )
    except ValueError as error:  # settings that exclude each other, a tracker that is not installed
        raise ConfigError(_first_line(error)) from error


def _track_metrics(prediction: EvalPrediction, num_labels: int) -> dict[str, float]:
    logits = prediction.predictions[0]
    return genre_metrics(logits.argmax(axis=-1), prediction.label_ids, num_labels)


def count_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """Return the parameters of a model and how many of them are trained."""
    parameters = list(model.parameters())
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    return sum(parameter.numel() for parameter in parameters), trained


def _with_fields(target: type, fields: dict[str, Any], group: str, **more: Any) -> Any:
    """Instantiate `target` with the recipe's fields, refusing those that none of its constructors names."""
    hints = _constructor_hints(target)
    values = {}
    for name, value in fields.items():
        if name not in hints:
            raise ConfigError(f"{group}: {target.__name__} has no field {name!r}{nearest(str(name), hints)}")
        nested = getattr(target, "sub_configs", {}).get(name)
        if nested is not None and isinstance(value, dict):
            _with_fields(nested, value, f"{group}.{name}")  # transformers' configs keep whatever they are given
        # transformers' own constructors say little of types, and check for themselves.
        hint = Any if hints[name] is inspect.Parameter.empty or isinstance(hints[name], str) else hints[name]
        values[name] = coerce(name, value, hint, group)
    try:
        return target(**values, **more)
    except Exception as error:  # configs of transformers validate their fields with exceptions of their own
        raise ConfigError(f"{group}: {' '.join(str(error).split())}") from error


def _constructor_hints(target: type) -> dict[str, Any]:
    """Return name -> type hint of what the constructors of a class and of its bases take by name."""
    hints: dict[str, Any] = {}
    for base in reversed(target.__mro__):
        if "__init__" in vars(base):
            hints |= {name: given.annotation for name, given in inspect.signature(base.__init__).parameters.items()}
    return {name: hint for name, hint in hints.items() if name not in ("self", "args", "kwargs")}


@contextmanager
def _undivided_weights(run: RunArguments) -> Iterator[None]:
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


def _from_pretrained_backbone(
    model_class: type[PreTrainedModel], config: PreTrainedConfig, arguments: ModelArguments
) -> PreTrainedModel:
    name = arguments.pretrained_backbone
    pretrained_backbone_config(arguments, config)
    try:
        return model_class.from_pretrained_backbone(name, config, revision=arguments.pretrained_backbone_revision)
    except Exception as error:  # a damaged file shows itself in a dozen exceptions of as many libraries
        raise CheckpointError(f"pretrained_backbone {name!r} cannot be loaded: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
