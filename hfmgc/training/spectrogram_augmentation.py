"""Augmentation of the features of a training window: crops, tempo, pitch, equalisation and masks."""

import math
from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class SpecAugment:
    """Masks over blocks of frames and of bins (Park et al., 2019).

    The width of each mask, from 0 to the maximum, and its position are random. As in the paper, masked values become the
    window's mean, which is neutral for every scale and normalisation.

    Args:
        time_masks: Number of masks over frames.
        time_mask_frames: Maximum width of a mask over frames.
        frequency_masks: Number of masks over bins.
        frequency_mask_bins: Maximum width of a mask over bins.
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
                raise ValueError(f"spec_augment: {count} and {size} must both be 0 or both be above 0")

    def check(self, frames: int, bins: int) -> None:
        """Raise a ValueError if a mask could cover a whole window [frames, bins]."""
        for name, width, length in (
            ("time_mask_frames", self.time_mask_frames, frames),
            ("frequency_mask_bins", self.frequency_mask_bins, bins),
        ):
            if width >= length:
                raise ValueError(
                    f"spec_augment.{name} must be below {length}, the size of a training window, not {width}"
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


def _random_block(length: int, max_size: int, generator: np.random.Generator) -> tuple[int, int]:
    size = int(generator.integers(0, min(max_size, length) + 1))
    start = int(generator.integers(0, length - size + 1))
    return start, start + size


def cropped_frames(frames: int, share: float) -> int:
    """Return the number of frames after a crop to this share of them."""
    return max(1, round(frames * share))


def random_time_crop(window: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Return a random segment of `window` [frames, bins] with this share (0, 1] of its frames."""
    frames = cropped_frames(len(window), share)
    start = int(generator.integers(0, len(window) - frames + 1))
    return window[start : start + frames]


@dataclass(frozen=True)
class SpectrogramEffects:
    """A random tempo, pitch and equalisation for each training window; works on stored features, without a waveform.

    Tempo and pitch follow the random resize crop of BYOL-A (Niizumi et al., 2021), but are drawn independently. The
    equalisation is the linear FilterAugment (Nam et al., 2022). The ranges are ours.

    Args:
        tempo: Largest factor by which a window becomes faster or slower (1.25: 0.8 to 1.25 times); 1: no change. A window
            has enough frames for factors up to 1 / `time_crop`, so without a crop it only becomes slower.
        pitch_bins: Largest shift up or down, in bins. On a mel or constant-Q axis, it approximates a change of pitch.
        equalizer_bands: Number of points, at random bins, of the curve that is added to all frames; 0: no curve.
        equalizer_strength: Largest value of a point, up or down, in standard deviations of the window. Meant for features
            on a logarithmic scale, where adding a value is a gain.
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
                "spectrogram_effects: equalizer_bands and equalizer_strength must both be 0 or both be above 0"
            )

    def check(self, bins: int) -> None:
        """Raise a ValueError if the pitch could shift every bin out of a window."""
        if self.pitch_bins >= bins:
            raise ValueError(
                f"spectrogram_effects.pitch_bins must be below {bins}, the bins of a training window, not {self.pitch_bins:g}"
            )

    def __call__(self, window: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
        """Return a crop of `window` [frames, bins] to a share of its frames, with random tempo, pitch and equalisation."""
        segment = _random_tempo(window, cropped_frames(len(window), share), self.tempo, generator)
        if self.pitch_bins:
            bins = np.arange(segment.shape[1]) - generator.uniform(-self.pitch_bins, self.pitch_bins)
            segment = _interpolate(segment.T, bins).T
        if self.equalizer_bands:
            segment = segment + self._equalizer(segment, generator)
        return np.ascontiguousarray(segment, dtype=np.float32)

    def _equalizer(self, window: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return a random curve to add to each frame, [bins]."""
        bins = window.shape[1]
        points = np.sort(generator.uniform(0, bins - 1, self.equalizer_bands))
        gains = generator.uniform(-self.equalizer_strength, self.equalizer_strength, self.equalizer_bands)
        return np.interp(np.arange(bins), points, gains) * window.std()


def _random_tempo(window: np.ndarray, frames: int, tempo: float, generator: np.random.Generator) -> np.ndarray:
    """Return `frames` frames from a random position of `window` at a random tempo, limited by the length of the window."""
    last = len(window) - 1
    step = math.exp(generator.uniform(-1, 1) * math.log(tempo))
    step = min(step, last / (frames - 1)) if frames > 1 else step
    start = generator.uniform(0, last - step * (frames - 1)) if frames > 1 else generator.uniform(0, last)
    if tempo == 1:  # whole frames, without interpolation
        start, step = round(start), 1.0
        start = min(start, len(window) - frames)
    return _interpolate(window, start + step * np.arange(frames))


def _interpolate(rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the rows at fractional positions by linear interpolation; beyond the ends, the first or the last row."""
    positions = positions.clip(0, len(rows) - 1)
    below = np.floor(positions).astype(np.int64)
    above = np.minimum(below + 1, len(rows) - 1)
    weights = (positions - below).astype(rows.dtype)[:, None]
    return rows[below] * (1 - weights) + rows[above] * weights


@dataclass(frozen=True)
class WindowAugmentation:
    """The augmentation of each training window.

    Args:
        time_crop: Share of the frames to keep, from a random position.
        effects: Tempo, pitch and equalisation.
        masks: SpecAugment, applied last.
    """

    time_crop: float = 1.0
    effects: SpectrogramEffects | None = None
    masks: SpecAugment | None = None

    def check(self, frames: int, bins: int) -> None:
        """Raise a ValueError if the augmentation could erase a window [frames, bins]."""
        if self.masks is not None:
            self.masks.check(cropped_frames(frames, self.time_crop), bins)
        if self.effects is not None:
            self.effects.check(bins)

    def __call__(self, window: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return an augmented copy [cropped frames, bins] of a window [frames, bins]."""
        window = window.copy()  # stored features are read-only
        if self.effects is not None:
            window = self.effects(window, self.time_crop, generator)
        elif self.time_crop < 1:
            window = random_time_crop(window, self.time_crop, generator)
        return window if self.masks is None else self.masks(window, generator)
