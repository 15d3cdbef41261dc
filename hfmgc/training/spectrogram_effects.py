"""Other tempi, other pitches, other equalisation: what can be changed of a spectrogram when there is no waveform."""

import math
from dataclasses import dataclass, fields

import numpy as np

from .spectrogram_augmentation import cropped_frames


@dataclass(frozen=True)
class SpectrogramEffects:
    """A tempo, a pitch and an equalisation, drawn anew for each training window.

    Tempo and pitch are the random resizing of crops of BYOL-A (Niizumi et al., 2021), with the tempo apart from the
    pitch; the equalisation is the linear FilterAugment (Nam et al., 2022). Sizes are ours.

    Args:
        tempo: A window is played up to this factor faster or slower (1.25: 0.8 to 1.25 times); 1: as it is. Faster than
            1 / `time_crop` a window has not enough frames, so that without a crop it is only ever slower.
        pitch_bins: It is moved up or down by up to so many bins, which on a mel or constant-Q axis is a pitch, nearly.
        equalizer_bands: Corners of the curve that is added to all frames, at random places; 0: none.
        equalizer_strength: Most that a corner is raised or lowered, in deviations of the window. For features on a
            logarithmic scale, where adding is a gain.
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
                "spectrogram_effects: equalizer_bands and equalizer_strength need each other: one of them is 0, so "
                "nothing would be changed"
            )

    def check(self, bins: int) -> None:
        """Raise a ValueError if a window of so many bins could be moved out of itself."""
        if self.pitch_bins >= bins:
            raise ValueError(
                f"spectrogram_effects.pitch_bins must be below the {bins} bins that a training window has, not "
                f"{self.pitch_bins:g}: nothing of it would be left"
            )

    def __call__(self, window: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
        """Return a stretch of `window` [frames, bins], a share of its frames long, with another tempo, pitch and equaliser."""
        stretch = _stretch(window, cropped_frames(len(window), share), self.tempo, generator)
        if self.pitch_bins:
            bins = np.arange(stretch.shape[1]) - generator.uniform(-self.pitch_bins, self.pitch_bins)
            stretch = _interpolate(stretch.T, bins).T
        if self.equalizer_bands:
            stretch = stretch + self._equalizer(stretch, generator)
        return np.ascontiguousarray(stretch, dtype=np.float32)

    def _equalizer(self, window: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return what is added to each bin, [bins]."""
        bins = window.shape[1]
        corners = np.sort(generator.uniform(0, bins - 1, self.equalizer_bands))
        gains = generator.uniform(-self.equalizer_strength, self.equalizer_strength, self.equalizer_bands)
        return np.interp(np.arange(bins), corners, gains) * window.std()


def _stretch(window: np.ndarray, frames: int, tempo: float, generator: np.random.Generator) -> np.ndarray:
    """Return so many frames from a random place of `window`, read at a random tempo, which its length may limit."""
    last = len(window) - 1
    step = math.exp(generator.uniform(-1, 1) * math.log(tempo))
    step = min(step, last / (frames - 1)) if frames > 1 else step
    start = generator.uniform(0, last - step * (frames - 1)) if frames > 1 else generator.uniform(0, last)
    if tempo == 1:  # whole frames, none in between
        start, step = round(start), 1.0
        start = min(start, len(window) - frames)
    return _interpolate(window, start + step * np.arange(frames))


def _interpolate(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the rows at fractional places, linearly between neighbours; beyond the ends, the first or the last one."""
    places = places.clip(0, len(rows) - 1)
    below = np.floor(places).astype(np.int64)
    above = np.minimum(below + 1, len(rows) - 1)
    weights = (places - below).astype(rows.dtype)[:, None]
    return rows[below] * (1 - weights) + rows[above] * weights
