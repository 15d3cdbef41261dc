"""The data of a pre-training run: random windows of tracks without genres, from one or more sources."""

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data.caching import reading_cache
from ...data.corpus import cache_forecast, decode_corpus
from ...data.features import TrackWindows, extract_features, training_window
from ...errors import DataError
from ...features.feature_extraction_windowed import WindowedFeatureExtractor
from ...features.spectrogram_operations import running_statistics
from ...features.windows import NEGLIGIBLE_SHARE
from ...randomness import example_generator
from ..arguments import RunArguments
from ..examples import WindowExamples
from ..spectrogram_augmentation import WindowAugmentation
from .arguments import PretrainingDataArguments, global_batch


# Number of random windows from which mean and deviation are estimated, as in M2D.
STATISTICS_WINDOWS = 10_000


class PretrainingExamples(WindowExamples):
    """Random windows of tracks: `input_values` [frames, bins], and `seeds`, the seed of the model's random draws.

    With several `views`, `input_values` [views, frames, bins] are different augmentations of one window.

    Args:
        sources: Tracks with features; each source has its own front end.
        tracks: Index of the source and row of each track.
        views: Number of augmentations of each window.
        global_batch: Number of examples in an optimizer step. An epoch has only full steps; which examples are left out
            changes from epoch to epoch.
        more: See `WindowExamples`.
    """

    def __init__(
        self,
        sources: Sequence[TrackWindows],
        tracks: Sequence[tuple[int, int]],
        *,
        views: int = 1,
        global_batch: int = 1,
        **more: Any,
    ):
        super().__init__(**more)
        self.sources = sources
        self.tracks = tracks
        self.views = views
        self.global_batch = global_batch
        self._latest_order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        examples = len(self.tracks) * self.windows_per_track
        return examples - examples % self.global_batch

    def __getitem__(self, index: int) -> dict[str, Any]:
        epoch = int(self._epoch)
        number, draw = divmod(int(self._order(epoch)[index]), self.windows_per_track)
        source, row = self.tracks[number]
        track = self.sources[source].track(row)
        generator = example_generator(self.seed, epoch, source, track["track_id"], draw)
        window = training_window(track, self.sources[source].extractor, generator)
        views = [self.window_augmentation(window, generator) for _ in range(self.views)]
        return {
            "input_values": np.stack(views) if self.views > 1 else views[0],
            "seeds": int(generator.integers(2**63)),
        }

    def _order(self, epoch: int) -> np.ndarray:
        """Return all examples in the order of an epoch, which uses the first `len(self)` of them."""
        if self._latest_order is None or self._latest_order[0] != epoch:
            examples = len(self.tracks) * self.windows_per_track
            self._latest_order = epoch, example_generator(self.seed, epoch, "order").permutation(examples)
        return self._latest_order[1]


@dataclass(frozen=True)
class PretrainingData:
    """The data of a run: training windows, held-out windows, and their entry in `run.yaml`."""

    train: PretrainingExamples
    validation: PretrainingExamples | None
    record: dict[str, Any]


@reading_cache()
def prepare_pretraining_data(
    arguments: PretrainingDataArguments, run: RunArguments, extractor: WindowedFeatureExtractor, *, views: int = 1
) -> PretrainingData:
    """Decode and extract all sources, hold some tracks out, and fit the front end's statistics.

    Raises:
        DataError: If a source has no track that is long enough, or all tracks together do not fill a batch.
    """
    sources, descriptions, train, held_out = [], [], [], []
    with run.main_process_first(desc="preparing the data"):
        for number, settings in enumerate(arguments.sources):
            source, source_extractor = settings.open(), settings.adapt_extractor(extractor)
            if run.should_log and (forecast := cache_forecast(source, source_extractor)):
                print(forecast)
            corpus = decode_corpus(
                source,
                source_extractor.sampling_rate,
                num_proc=arguments.preprocessing_num_proc,
                shortest_seconds=arguments.shortest_seconds,
                labelled=False,
            )
            features = extract_features(corpus.tracks, source_extractor, num_proc=arguments.preprocessing_num_proc)
            tracks = TrackWindows(features, source_extractor)
            rows, too_short = _select_rows(tracks, settings.side, pad=arguments.pad_short_tracks)
            if not rows:
                raise DataError(
                    f"data {source.location}: all {too_short} tracks are shorter than a window of "
                    f"{source_extractor.window_seconds:g} s: shorten front_end.window_seconds, or set pad_short_tracks"
                    if too_short
                    else f"data {source.location}: no tracks on the side {settings.side!r}: choose another side"
                )
            tracks.stack(rows[0], slice(1))  # fails if stored features do not fit the front end
            rows = list(example_generator(run.seed, "held out", number).permutation(rows))
            count = round(arguments.validation_share * len(rows))
            held_out += [(number, int(row)) for row in sorted(rows[:count])]
            train += [(number, int(row)) for row in sorted(rows[count:])]
            sources.append(tracks)
            descriptions.append(
                {**source.describe(), "side": settings.side, "tracks": len(rows), "held_out": count}
                | {"too_short": too_short, "skipped": corpus.skipped_report()}
            )
    options = {"seed": run.seed, "views": views, "window_augmentation": arguments.window_augmentation}
    batch = global_batch(run)
    examples = PretrainingExamples(
        sources, train, windows_per_track=arguments.windows_per_track, global_batch=batch, **options
    )
    if not len(examples):
        raise DataError(
            f"data: {len(train) * arguments.windows_per_track} examples do not fill a batch of {batch}: lower "
            "per_device_train_batch_size or gradient_accumulation_steps, or raise windows_per_track"
        )
    validation = PretrainingExamples(sources, held_out, **options) if held_out else None
    record = {"sources": descriptions, "examples": len(examples), "digest": _digest(sources, train, held_out)}
    if arguments.fit_statistics != "none":
        record["statistics"] = _fit_statistics(extractor, examples)
    return PretrainingData(examples, validation, record)


def _select_rows(tracks: TrackWindows, side: str, *, pad: bool) -> tuple[list[int], int]:
    """Return the rows of a side that are long enough for a window, and the number of those that are too short."""
    rows = [row for row, name in enumerate(tracks["split"]) if name == side] if side else range(len(tracks))
    shortest = (1 - NEGLIGIBLE_SHARE) * tracks.extractor.cut_frames
    usable = [row for row in rows if pad or tracks.frames[row] is None or tracks.frames[row] >= shortest]
    return usable, len(rows) - len(usable)


def _digest(sources: Sequence[TrackWindows], *sides: Sequence[tuple[int, int]]) -> str:
    """Return a digest of the track ids on each side."""
    names = [list(source["track_id"]) for source in sources]
    content = [[f"{source} {names[source][row]}" for source, row in side] for side in sides]
    return "sha256:" + hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _fit_statistics(extractor: WindowedFeatureExtractor, examples: PretrainingExamples) -> dict[str, Any]:
    """Set mean and deviation of the front ends from random windows of the training tracks; return them.

    The front end's own `fit_statistics` cannot be used, because all sources share one mean and one deviation.
    """
    plain = copy.copy(examples)
    plain.sources = [copy.copy(source) for source in examples.sources]
    for source in plain.sources:
        source.extractor = copy.copy(source.extractor)
        source.extractor.normalization = "none"
    plain.views, plain.window_augmentation = 1, WindowAugmentation()
    count = min(len(plain), STATISTICS_WINDOWS)
    sample = example_generator(examples.seed, "statistics").permutation(len(plain))[:count]
    mean, std = running_statistics(plain[int(index)]["input_values"] for index in sample)
    for front_end in (extractor, *(source.extractor for source in examples.sources)):
        front_end.mean, front_end.std, front_end.normalization = mean, std or 1.0, "statistics"
    return {"mean": mean, "std": std, "windows": count}
