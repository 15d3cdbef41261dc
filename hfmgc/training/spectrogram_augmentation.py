"""Augmentation of a training window's features: a random crop in time, and SpecAugment."""

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
