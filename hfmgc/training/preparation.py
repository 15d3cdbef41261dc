"""Prepare the data of a run: decode, extract, split and augment."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import datasets
import numpy as np

from ..data.augmentation.report import FreshAugmentation
from ..data.caching import reading_cache
from ..data.corpus import Corpus, cache_forecast, decode_corpus
from ..data.features import ExtractedWindows, TrackWindows, check_front_end, extract_features, track_features
from ..data.leaks import make_split
from ..data.names import genres_of
from ..data.sources import open_source
from ..data.sources.exclusions import read_exclusions
from ..data.sources.feature_table import FeatureTable
from ..data.sources.features import FeatureSet
from ..data.split_manifest import SplitManifest
from ..data.splits import check_split
from ..errors import ConfigError
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from .arguments import DataArguments, RunArguments
from .examples import FixedExamples, TrainingExamples, augment_offline


@dataclass(frozen=True)
class PreparedData:
    """The data of a run: decoded tracks, their split, examples for training, and stacks of windows for evaluation.

    If the split has no test side, `test` is the validation side.
    """

    corpus: Corpus
    manifest: SplitManifest
    train: TrainingExamples
    validation: TrackWindows
    test: TrackWindows

    @cached_property
    def validation_windows(self) -> ExtractedWindows:
        """The windows of all validation tracks in one sequence."""
        return ExtractedWindows(self.validation)


def check_source(arguments: DataArguments, extractor: WindowedFeatureExtractor) -> None:
    """Check the settings against the kind of data, before any track is decoded.

    Raises:
        ConfigError: If a field does not fit the data.
        DataError: If the data or the exclusion list do not exist, or the data are features of another front end.
        SplitError: If the split manifest does not exist.
    """
    source = open_source(arguments.data, arguments.data_options)
    check_front_end(source, extractor)
    if arguments.split_manifest:
        SplitManifest.load(arguments.split_manifest)
    else:
        check_split(source, policy=arguments.split_policy, ratios=arguments.split_ratios)
    if arguments.exclude:
        read_exclusions(arguments.exclude)
    if arguments.augmentation == "offline" and isinstance(source, (FeatureSet, FeatureTable)):
        raise ConfigError("augmentation: offline needs audio, but the data are stored features: set none")


@reading_cache()
def prepare_data(arguments: DataArguments, run: RunArguments, extractor: WindowedFeatureExtractor) -> PreparedData:
    """Decode, extract, split and augment. The first process does the work; the others read its caches."""
    num_proc = arguments.preprocessing_num_proc
    with run.main_process_first(desc="preparing the data"):
        source = open_source(arguments.data, arguments.data_options, exclude=arguments.exclude)
        if isinstance(source, FeatureTable) and not extractor.takes_audio:
            extractor.columns = source.columns  # saved with the checkpoint
        if run.should_log and (forecast := cache_forecast(source, extractor)):
            print(forecast)
        corpus = decode_corpus(
            source, extractor.sampling_rate, num_proc=num_proc, shortest_seconds=arguments.shortest_seconds
        )
        extracted = replace(corpus, tracks=extract_features(corpus.tracks, extractor, num_proc=num_proc))
        manifest = make_split(
            corpus,
            policy=arguments.split_policy,
            ratios=arguments.split_ratios,
            seed=arguments.split_seed,
            fold=arguments.split_fold,
            manifest=arguments.split_manifest,
            allow_leaks=arguments.allow_leaks,
            extractor=extractor,
            num_proc=num_proc,
        )
        sides = {side: extracted.select(track_ids) for side, track_ids in manifest.sides.items()}
        if arguments.fit_statistics != "none":
            _fit_statistics(extractor, sides["train"], per_bin=arguments.fit_statistics == "per_bin")
        train = sides["train"]
        # Stored features have no waveform to augment.
        augmentation = arguments.augmentation if "waveform" in corpus.tracks.column_names else "none"
        if augmentation != "none":
            train = corpus.select(manifest.sides["train"])
        if augmentation == "offline":
            train = augment_offline(train, extractor, seed=run.seed, num_proc=num_proc)
    options = {"seed": run.seed, "window_augmentation": arguments.window_augmentation}
    if arguments.training_windows == "fixed":
        examples = FixedExamples(TrackWindows(train, extractor), **options)
    else:
        fresh = FreshAugmentation(probability=arguments.augmentation_probability) if augmentation == "fresh" else None
        examples = TrainingExamples(
            train, extractor, augmentation=fresh, windows_per_track=arguments.windows_per_track, **options
        )
    validation = TrackWindows(sides["validation"], extractor)
    validation.stack(0)  # stored features that do not fit the front end fail here, not during training
    test = TrackWindows(sides["test"], extractor) if manifest.sides["test"] else validation
    return PreparedData(corpus=corpus, manifest=manifest, train=examples, validation=validation, test=test)


@dataclass
class SharedData:
    """The data of several trainings, prepared again only when a training needs other data.

    Offline augmentation uses the same `seed` in all of them.
    """

    seed: int
    _settings: Any = None
    _prepared: PreparedData | None = None

    def __call__(
        self, arguments: DataArguments, run: RunArguments, extractor: WindowedFeatureExtractor
    ) -> PreparedData:
        """Return the data as `prepare_data` does."""
        # Mixup and class weights are applied during training.
        settings = ({**vars(arguments), "mixup_alpha": 0.0, "class_weights": "none"}, extractor.to_dict())
        if settings != self._settings:
            self._prepared = prepare_data(arguments, run.with_values(seed=self.seed), extractor)
            self._settings = settings
        train = self._prepared.train
        vars(extractor).update(vars(train.extractor))  # including the statistics of the training side
        train.seed = run.seed  # of windows and fresh augmentation
        return self._prepared


def balanced_class_weights(data: PreparedData) -> list[float]:
    """Return the loss weight of each genre that balances them: tracks / (genres x tracks of the genre).

    With several genres per track, a track counts once for each of its genres. A genre without training tracks gets weight 1,
    and does not count among the genres.
    """
    genres = data.corpus.genres
    counts = Counter(genre for names in genres_of(data.train.tracks) for genre in names)
    return [sum(counts.values()) / (len(counts) * counts[genre]) if counts[genre] else 1.0 for genre in genres]


def _fit_statistics(extractor: WindowedFeatureExtractor, train: datasets.Dataset, *, per_bin: bool) -> None:
    """Set the front end's normalisation from the features of the training tracks, reading one track at a time."""
    if np.ndim(train[0]["features"]) != 2:
        raise ConfigError("fit_statistics: the stored slices are normalised already: set none")
    tracks = TrackWindows(train, extractor)
    features = (track_features(tracks.track(row), extractor) for row in range(len(tracks)))
    try:
        extractor.fit_statistics(features, per_bin=per_bin)
    except ValueError as error:
        raise ConfigError(str(error)) from error
