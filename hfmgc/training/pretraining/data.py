"""The data of a pre-training: random windows of tracks without genres, from one or more sources."""

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


# Random windows from which mean and deviation are estimated, as M2D's authors did.
STATISTICS_WINDOWS = 10_000


class PretrainingExamples(WindowExamples):
    """Random windows of tracks, as `input_values` [frames, bins] and `seeds`, the seed of the model's own draws.

    With several `views`, an example is that many augmentations of one window, [views, frames, bins].

    Args:
        sources: Tracks with features, each source with its front end.
        tracks: Source and row of each track.
        views: Augmented views of each window.
        global_batch: Examples of an optimizer step. An epoch has full steps only; the examples that are left out change
            from epoch to epoch.
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
        """Return the examples of an epoch, of which the first `len(self)` are used."""
        if self._latest_order is None or self._latest_order[0] != epoch:
            examples = len(self.tracks) * self.windows_per_track
            self._latest_order = epoch, example_generator(self.seed, epoch, "order").permutation(examples)
        return self._latest_order[1]


@dataclass(frozen=True)
class PretrainingData:
    """The data of a run: training windows, held-out windows, and the record of both."""

    train: PretrainingExamples
    validation: PretrainingExamples | None
    record: dict[str, Any]


@reading_cache()
def prepare_pretraining_data(
    arguments: PretrainingDataArguments, run: RunArguments, extractor: WindowedFeatureExtractor, *, views: int = 1
) -> PretrainingData:
    """Decode and extract all sources, hold some tracks out, and fit the front end's statistics.

    Raises:
        DataError: If a source has no track that is long enough, or there are too few tracks for a batch.
    """
    sources, described, train, held_out = [], [], [], []
    with run.main_process_first(desc="preparing the data"):
        for number, settings in enumerate(arguments.sources):
            source, own = settings.open(), settings.extractor(extractor)
            if run.should_log and (forecast := cache_forecast(source, own)):
                print(forecast)
            corpus = decode_corpus(
                source,
                own.sampling_rate,
                num_proc=arguments.preprocessing_num_proc,
                shortest_seconds=arguments.shortest_seconds,
                labelled=False,
            )
            features = extract_features(corpus.tracks, own, num_proc=arguments.preprocessing_num_proc)
            tracks = TrackWindows(features, own)
            rows, short = _usable(tracks, settings.side, pad=arguments.pad_short_tracks)
            if not rows:
                raise DataError(
                    f"data {source.location}: none of {short} tracks is as long as a window of {own.window_seconds:g} s: "
                    "shorten front_end.window_seconds, or set pad_short_tracks"
                    if short
                    else f"data {source.location}: has no tracks on the side {settings.side!r}"
                )
            tracks.stack(rows[0], slice(1))  # stored features that do not fit the front end fail here
            rows = list(example_generator(run.seed, "held out", number).permutation(rows))
            count = round(arguments.validation_share * len(rows))
            held_out += [(number, int(row)) for row in sorted(rows[:count])]
            train += [(number, int(row)) for row in sorted(rows[count:])]
            sources.append(tracks)
            described.append(
                {**source.describe(), "side": settings.side, "tracks": len(rows), "held_out": count}
                | {"too_short": short, "skipped": corpus.skipped_report()}
            )
    chosen = {"seed": run.seed, "views": views, "window_augmentation": arguments.window_augmentation}
    batch = global_batch(run)
    examples = PretrainingExamples(
        sources, train, windows_per_track=arguments.windows_per_track, global_batch=batch, **chosen
    )
    if not len(examples):
        raise DataError(
            f"{len(train) * arguments.windows_per_track} examples give no full batch of {batch}: lower "
            "per_device_train_batch_size or gradient_accumulation_steps, or raise windows_per_track"
        )
    validation = PretrainingExamples(sources, held_out, **chosen) if held_out else None
    record = {"sources": described, "examples": len(examples), "digest": _digest(sources, train, held_out)}
    if arguments.fit_statistics != "none":
        record["statistics"] = _fit_statistics(extractor, examples)
    return PretrainingData(examples, validation, record)


def _usable(tracks: TrackWindows, side: str, *, pad: bool) -> tuple[list[int], int]:
    """Return the rows of a side that are long enough for a window, and how many others are too short."""
    sides = list(tracks["split"]) if side else [side] * len(tracks)
    rows = [row for row, its_side in enumerate(sides) if its_side == side]
    needed = (1 - NEGLIGIBLE_SHARE) * tracks.extractor.cut_frames
    usable = [row for row in rows if pad or tracks.frames[row] is None or tracks.frames[row] >= needed]
    return usable, len(rows) - len(usable)


def _digest(sources: Sequence[TrackWindows], *sides: Sequence[tuple[int, int]]) -> str:
    """Return the identity of the tracks of each side."""
    names = [list(source["track_id"]) for source in sources]
    listed = [[f"{source} {names[source][row]}" for source, row in side] for side in sides]
    return "sha256:" + hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _fit_statistics(extractor: WindowedFeatureExtractor, examples: PretrainingExamples) -> dict[str, Any]:
    """Set mean and deviation of the front ends from random windows of the training tracks; return what was found.

    All sources get the same ones, so that this cannot use the front end's own `fit_statistics`.
    """
    plain = copy.copy(examples)
    plain.sources = [copy.copy(source) for source in examples.sources]
    for source in plain.sources:
        source.extractor = copy.copy(source.extractor)
        source.extractor.normalization = "none"
    plain.views, plain.window_augmentation = 1, WindowAugmentation()
    count = min(len(plain), STATISTICS_WINDOWS)
    chosen = example_generator(examples.seed, "statistics").permutation(len(plain))[:count]
    mean, std = running_statistics(plain[int(index)]["input_values"] for index in chosen)
    for one in (extractor, *(source.extractor for source in examples.sources)):
        one.mean, one.std, one.normalization = mean, std or 1.0, "statistics"
    return {"mean": mean, "std": std, "windows": count}
