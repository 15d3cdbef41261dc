"""What training sees: one window of a track at a time, drawn from (seed, epoch, track)."""

from collections.abc import Mapping
from typing import Any

import datasets
import numpy as np
import torch

from ..data.augmentation.report import FreshAugmentation, offline_variants
from ..data.caching import cached_map
from ..data.features import Augmentation, ExtractedWindows, training_window
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from ..randomness import example_generator
from .spectrogram_augmentation import SpecAugment, random_time_crop
from .spectrogram_effects import SpectrogramEffects


# What the collator makes targets of.
TARGET_COLUMNS = ("genre", "genres")


class TrainingExamples(torch.utils.data.Dataset):
    """Random windows of each track in an epoch, augmented, as `input_values` [frames, bins] and the track's genre.

    Args:
        tracks: Decoded tracks (`Corpus.tracks`, or `augment_offline` of them).
        extractor: Makes the features.
        seed: With the epoch and the track's id it determines everything that is random.
        augmentation: Applied to the waveform before a window is cut from it.
        windows_per_track: Windows of each track in an epoch, each drawn and augmented on its own.
        time_crop: Share of a window's frames that is kept, from a random place.
        effects: Other tempi, pitches and equalisations of the spectrogram.
        masks: SpecAugment, applied last.
    """

    def __init__(
        self,
        tracks: datasets.Dataset,
        extractor: WindowedFeatureExtractor,
        *,
        seed: int,
        augmentation: Augmentation | None = None,
        windows_per_track: int = 1,
        time_crop: float = 1.0,
        effects: SpectrogramEffects | None = None,
        masks: SpecAugment | None = None,
    ):
        self.tracks = tracks
        self.extractor = extractor
        self.seed = seed
        self.augmentation = augmentation
        self.windows_per_track = windows_per_track
        self.time_crop = time_crop
        self.effects = effects
        self.masks = masks
        # In shared memory, so that workers that live longer than an epoch see it change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose the windows and augmentations of another epoch."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.tracks) * self.windows_per_track

    def __getitem__(self, index: int) -> dict[str, Any]:
        row, draw = self.place(index)
        track = self.tracks[row]
        generator = example_generator(self.seed, int(self._epoch), track["track_id"], track.get("variant", ""), draw)
        window = self.window(row, track, draw, generator)
        if self.effects is not None:
            window = self.effects(window, self.time_crop, generator)
        elif self.time_crop < 1:
            window = random_time_crop(window, self.time_crop, generator)
        if self.masks is not None:
            window = self.masks(window, generator)
        return {
            "input_values": window,
            **{name: track[name] for name in TARGET_COLUMNS if name in track},
            "mixing_key": int(generator.integers(2**63)),
        }

    def place(self, index: int) -> tuple[int, int]:
        """Return the row of an example's track, and which of the track's windows it is."""
        return divmod(index, self.windows_per_track)

    def window(self, row: int, track: Mapping[str, Any], draw: int, generator: np.random.Generator) -> np.ndarray:
        """Return one window of the track in a row, float32 [frames, bins]."""
        return training_window(track, self.extractor, generator, self.augmentation)


class FixedExamples(TrainingExamples):
    """The windows that the front end cuts from each track, extracted once: the slices that the papers train on.

    Args:
        tracks: As `extract_windows` gives them; of `augment_offline`'s variants each has windows of its own.
        extractor: Made the features.
        more: As `TrainingExamples`.
    """

    def __init__(self, tracks: datasets.Dataset, extractor: WindowedFeatureExtractor, **more: Any):
        super().__init__(tracks.remove_columns("input_values"), extractor, **more)
        self.windows = ExtractedWindows(tracks)

    def __len__(self) -> int:
        return len(self.windows)

    def place(self, index: int) -> tuple[int, int]:
        """Return the row of an example's track, and which of the track's windows it is."""
        return self.windows.place(index)

    def window(self, row: int, track: Mapping[str, Any], draw: int, generator: np.random.Generator) -> np.ndarray:
        """Return the window that was extracted, float32 [frames, bins]."""
        return self.windows[self.windows.first(row) + draw].copy()  # the file is read-only


def make_augmentation(kind: str, probability: float | None) -> Augmentation | None:
    """Return what is applied to each example: the report's effects drawn afresh, or nothing."""
    return FreshAugmentation(probability=probability) if kind == "fresh" else None


def augment_offline(
    tracks: datasets.Dataset, sampling_rate: int, *, seed: int, num_proc: int | None = None
) -> datasets.Dataset:
    """Return each track and its six variants (AST report, section 3.1), with a column `variant`; cached on disk."""
    features = datasets.Features({**tracks.features, "variant": datasets.Value("string")})
    augmented = cached_map(
        tracks,
        _track_variants,
        ("augmentation",),
        fn_kwargs={"sampling_rate": sampling_rate, "seed": seed},
        batched=True,
        batch_size=1,
        features=features,
        num_proc=num_proc,
        desc="augmenting x7",
    )
    return augmented.with_format("numpy", columns=["waveform"], output_all_columns=True)


def _track_variants(batch: dict, sampling_rate: int, seed: int) -> dict:
    track_id = batch["track_id"][0]
    waveforms = offline_variants(
        np.asarray(batch["waveform"][0], dtype=np.float32),
        sampling_rate,
        lambda variant: example_generator(seed, "offline", track_id, variant),
    )
    repeated = {name: [values[0]] * len(waveforms) for name, values in batch.items() if name != "waveform"}
    return {**repeated, "waveform": list(waveforms.values()), "variant": list(waveforms)}
