"""What training does to the features of a window: crops, tempo, pitch, equalisation and masks."""

import math
from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class SpecAugment:
    """Masks over blocks of frames and of bins (Park et al., 2019).

    Width, from 0 to the maximum, and position of each mask are random. As in the paper, masked values become the window's
    mean, which carries no information whatever the scale and normalisation.

    Args:
        time_masks: Number of masks over frames.
        time_mask_frames: Most frames that one mask covers.
        frequency_masks: Number of masks over bins.
        frequency_mask_bins: Most bins that one mask covers.
    """

    time_masks: int = 0
    time_mask_frames: int = 0
    frequency_masks: int = 0
    frequency_mask_bins: int = 0

    def __post_init__(self):
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(f"spec_augment.{field.name} must be at least 0, not {getattr(self, field.name)}")
        for count, size in (("time_masks", "time_mask_frames"), ("frequency_masks", "frequency_mask_bins")):
            if bool(getattr(self, count)) != bool(getattr(self, size)):
                raise ValueError(
                    f"spec_augment: {count} and {size} need each other: one of them is 0, which masks nothing"
                )

    def check(self, frames: int, bins: int) -> None:
        """Raise a ValueError if one mask could cover a whole window [frames, bins]."""
        for name, most, length in (
            ("time_mask_frames", self.time_mask_frames, frames),
            ("frequency_mask_bins", self.frequency_mask_bins, bins),
        ):
            if most >= length:
                raise ValueError(
                    f"spec_augment.{name} must be below the {length} of a training window, not {most}: a mask could cover "
                    "all of it"
                )

    def __call__(self, window: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return a masked copy of `window` [frames, bins]."""
        masked, mean = window.copy(), window.mean()
        frames, bins = window.shape
        for _ in range(self.time_masks):
            start, stop = _random_block(frames, self.time_mask_frames, generator)
            masked[start:stop] = mean
        for _ in range(self.frequency_masks):
            start, stop = _random_block(bins, self.frequency_mask_bins, generator)
            masked[:, start:stop] = mean
        return masked


def _random_block(length: int, most: int, generator: np.random.Generator) -> tuple[int, int]:
    size = int(generator.integers(0, min(most, length) + 1))
    start = int(generator.integers(0, length - size + 1))
    return start, start + size


def cropped_frames(frames: int, share: float) -> int:
    """Return the number of frames after a crop to a share of them."""
    return max(1, round(frames * share))


def random_time_crop(window: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Return a random stretch of `window` [frames, bins], a share (0, 1] of its frames long."""
    kept = cropped_frames(len(window), share)
    start = int(generator.integers(0, len(window) - kept + 1))
    return window[start : start + kept]


@dataclass(frozen=True)
class SpectrogramEffects:
    """A random tempo, pitch and equalisation for each training window, for stored features without a waveform.

    Tempo and pitch are the random resizing of crops of BYOL-A (Niizumi et al., 2021), but independent of each other; the
    equalisation is the linear FilterAugment (Nam et al., 2022). Sizes are ours.

    Args:
        tempo: Largest factor by which a window becomes faster or slower (1.25: 0.8 to 1.25 times); 1: no change. A window
            has enough frames for tempi up to 1 / `time_crop`, so without a crop it only becomes slower.
        pitch_bins: Most bins by which it is shifted up or down, which on a mel or constant-Q axis is nearly a pitch.
        equalizer_bands: Points, at random bins, of the curve that is added to all frames; 0: none.
        equalizer_strength: Most by which a point is raised or lowered, in standard deviations of the window. For features
            on a logarithmic scale, where adding is a gain.
    """

    tempo: float = 1.0
    pitch_bins: float = 0.0
    equalizer_bands: int = 0
    equalizer_strength: float = 0.0

    def __post_init__(self):
        if not 1 <= self.tempo < math.inf:
            raise ValueError(f"spectrogram_effects.tempo must be at least 1, not {self.tempo}")
        for field in fields(self)[1:]:
            if not 0 <= getattr(self, field.name) < math.inf:
                raise ValueError(
                    f"spectrogram_effects.{field.name} must be at least 0, not {getattr(self, field.name)}"
                )
        if bool(self.equalizer_bands) != bool(self.equalizer_strength):
            raise ValueError(
                "spectrogram_effects: equalizer_bands and equalizer_strength need each other: one of them is 0, which "
                "changes nothing"
            )

    def check(self, bins: int) -> None:
        """Raise a ValueError if the pitch could shift every bin out of a window."""
        if self.pitch_bins >= bins:
            raise ValueError(
                f"spectrogram_effects.pitch_bins must be below the {bins} bins of a training window, not "
                f"{self.pitch_bins:g}: nothing of it would be left"
            )

    def __call__(self, window: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
        """Return a crop of `window` [frames, bins] to a share of its frames, with random tempo, pitch and equalisation."""
        stretch = _stretch(window, cropped_frames(len(window), share), self.tempo, generator)
        if self.pitch_bins:
            bins = np.arange(stretch.shape[1]) - generator.uniform(-self.pitch_bins, self.pitch_bins)
            stretch = _interpolate(stretch.T, bins).T
        if self.equalizer_bands:
            stretch = stretch + self._equalizer(stretch, generator)
        return np.ascontiguousarray(stretch, dtype=np.float32)

    def _equalizer(self, window: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return the curve that is added to each frame, [bins]."""
        bins = window.shape[1]
        points = np.sort(generator.uniform(0, bins - 1, self.equalizer_bands))
        gains = generator.uniform(-self.equalizer_strength, self.equalizer_strength, self.equalizer_bands)
        return np.interp(np.arange(bins), points, gains) * window.std()


def _stretch(window: np.ndarray, frames: int, tempo: float, generator: np.random.Generator) -> np.ndarray:
    """Return `frames` frames from a random position of `window` at a random tempo, limited by its length."""
    last = len(window) - 1
    step = math.exp(generator.uniform(-1, 1) * math.log(tempo))
    step = min(step, last / (frames - 1)) if frames > 1 else step
    start = generator.uniform(0, last - step * (frames - 1)) if frames > 1 else generator.uniform(0, last)
    if tempo == 1:  # whole frames, without interpolation
        start, step = round(start), 1.0
        start = min(start, len(window) - frames)
    return _interpolate(window, start + step * np.arange(frames))


def _interpolate(rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the rows at fractional positions, interpolated linearly; beyond the ends, the first or the last row."""
    positions = positions.clip(0, len(rows) - 1)
    below = np.floor(positions).astype(np.int64)
    above = np.minimum(below + 1, len(rows) - 1)
    weights = (positions - below).astype(rows.dtype)[:, None]
    return rows[below] * (1 - weights) + rows[above] * weights


@dataclass(frozen=True)
class WindowAugmentation:
    """What training does to each window.

    Args:
        time_crop: Share of its frames that is kept, from a random position.
        effects: Tempo, pitch and equalisation.
        masks: SpecAugment, applied last.
    """

    time_crop: float = 1.0
    effects: SpectrogramEffects | None = None
    masks: SpecAugment | None = None

    def check(self, frames: int, bins: int) -> None:
        """Raise a ValueError if it could leave nothing of a window [frames, bins]."""
        if self.masks is not None:
            self.masks.check(cropped_frames(frames, self.time_crop), bins)
        if self.effects is not None:
            self.effects.check(bins)

    def __call__(self, window: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return an augmented copy of a window [frames, bins], [kept frames, bins]."""
        window = window.copy()  # stored features are read-only
        if self.effects is not None:
            window = self.effects(window, self.time_crop, generator)
        elif self.time_crop < 1:
            window = random_time_crop(window, self.time_crop, generator)
        return window if self.masks is None else self.masks(window, generator)
