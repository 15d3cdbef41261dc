"""Training examples: windows of tracks, determined by (seed, epoch, track)."""

from collections.abc import Mapping
from typing import Any

import datasets
import numpy as np
import torch

from ..data.augmentation.report import offline_variants
from ..data.caching import cached_map
from ..data.features import (
    CONTENT_COLUMNS,
    FEATURES,
    Augmentation,
    ExtractedWindows,
    TrackWindows,
    front_end_fields,
    training_window,
)
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from ..randomness import example_generator
from .spectrogram_augmentation import WindowAugmentation


# The collator turns these into targets.
TARGET_COLUMNS = ("genre", "genres")


class WindowExamples(torch.utils.data.Dataset):
    """Random windows of tracks.

    Args:
        seed: With the epoch and the track's id, determines everything random.
        windows_per_track: Windows per track and epoch, drawn and augmented independently.
        window_augmentation: Applied to each window.
    """

    def __init__(
        self,
        *,
        seed: int,
        windows_per_track: int = 1,
        window_augmentation: WindowAugmentation = WindowAugmentation(),  # noqa: B008 (frozen)
    ):
        self.seed = seed
        self.windows_per_track = windows_per_track
        self.window_augmentation = window_augmentation
        # Shared memory, so that DataLoader workers see changes.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which determines windows and augmentations."""
        self._epoch.fill_(epoch)


class TrainingExamples(WindowExamples):
    """Random augmented windows of each track, as `input_values` [frames, bins] with the track's genre.

    Args:
        tracks: Decoded tracks, or tracks with features (`extract_features`, `augment_offline`).
        extractor: Computes, cuts and normalises the features.
        augmentation: Applied to the waveform before a window is cut from it.
        options: Arguments of `WindowExamples`.
    """

    def __init__(
        self,
        tracks: datasets.Dataset,
        extractor: WindowedFeatureExtractor,
        *,
        augmentation: Augmentation | None = None,
        **options: Any,
    ):
        super().__init__(**options)
        self._features = TrackWindows(tracks, extractor) if "features" in tracks.column_names else None
        self.tracks = tracks if self._features is None else self._features.tracks
        self.extractor = extractor
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.tracks) * self.windows_per_track

    def __getitem__(self, index: int) -> dict[str, Any]:
        row, draw = self.locate(index)
        track = self.tracks[row] if self._features is None else self._features.track(row)
        generator = example_generator(self.seed, int(self._epoch), track["track_id"], track.get("variant", ""), draw)
        window = self.window(row, track, draw, generator)
        return {
            "input_values": self.window_augmentation(window, generator),
            **{name: track[name] for name in TARGET_COLUMNS if name in track},
            "mixing_key": int(generator.integers(2**63)),
        }

    def locate(self, index: int) -> tuple[int, int]:
        """Return the row of an example's track, and the example's number among the windows of the track."""
        return divmod(index, self.windows_per_track)

    def window(self, row: int, track: Mapping[str, Any], draw: int, generator: np.random.Generator) -> np.ndarray:
        """Return one window of the track in a row, float32 [frames, bins]."""
        return training_window(track, self.extractor, generator, self.augmentation)


class FixedExamples(TrainingExamples):
    """The windows that evaluation cuts from each track, each once per epoch; the papers call them slices."""

    def __init__(self, tracks: TrackWindows, **options: Any):
        super().__init__(tracks.tracks, tracks.extractor, **options)
        self.windows = ExtractedWindows(tracks)

    def __len__(self) -> int:
        return len(self.windows)

    def locate(self, index: int) -> tuple[int, int]:
        return self.windows.locate(index)

    def window(self, row: int, track: Mapping[str, Any], draw: int, generator: np.random.Generator) -> np.ndarray:
        return self.windows[self.windows.first(row) + draw]


def augment_offline(
    tracks: datasets.Dataset, extractor: WindowedFeatureExtractor, *, seed: int, num_proc: int | None = None
) -> datasets.Dataset:
    """Return the features of each decoded track and of its six variants (AST report, section 3.1), cached on disk.

    The column `variant` names the variant; `features` has the form that `extract_features` returns.
    """
    removed = [name for name in CONTENT_COLUMNS if name in tracks.column_names]
    kept = {name: kind for name, kind in tracks.features.items() if name not in removed}
    augmented = cached_map(
        tracks,
        _extract_variants,
        ("augmentation", "features"),
        fn_kwargs={"extractor": extractor, "seed": seed},
        key={**front_end_fields(extractor), "seed": seed},
        batched=True,
        batch_size=1,
        features=datasets.Features({**kept, "variant": datasets.Value("string"), "features": FEATURES}),
        remove_columns=removed,
        num_proc=num_proc,
        desc="augmenting x7",
    )
    return augmented.with_format("numpy", columns=["features"], output_all_columns=True)


def _extract_variants(batch: dict, extractor: WindowedFeatureExtractor, seed: int) -> dict:
    track_id = batch["track_id"][0]
    waveforms = offline_variants(
        np.asarray(batch["waveform"][0], dtype=np.float32),
        extractor.sampling_rate,
        lambda variant: example_generator(seed, "offline", track_id, variant),
    )
    repeated = {name: [batch[name][0]] * len(waveforms) for name in batch if name not in CONTENT_COLUMNS}
    features = [extractor.track_features(waveform) for waveform in waveforms.values()]
    return {**repeated, "features": features, "variant": list(waveforms)}
