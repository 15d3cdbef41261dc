"""The six augmentations of the AST report, drawn in every epoch or applied once to make a corpus seven times as large.

Source: the report, which used FFmpeg (atempo; highpass and lowpass with two poles, 12 dB per octave; aecho). Ours: the
Signalsmith stretcher of audiomentations changes the tempo, cutoffs are drawn uniformly on the mel scale, filters start in
the steady state of the first sample instead of zero, and parameters are real numbers.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hfmgc.errors import AudioError, ConfigError, did_you_mean
from hfmgc.randomness import seeded_globals


if TYPE_CHECKING:
    from audiomentations import Compose
    from audiomentations.core.transforms_interface import BaseWaveformTransform

ORIGINAL = "original"
VARIANTS = ("faster", "slower", "high_pass", "low_pass", "echo", "bundle")  # in the order of the report
FASTEST_TEMPO = 1.9


def build_transform(variant: str) -> "BaseWaveformTransform | Compose":
    """Return the audiomentations transform of one of the `VARIANTS`; it is always applied."""
    # Imported here: audiomentations takes a second to import, and most commands do not augment.
    from audiomentations import Compose, HighPassFilter, LowPassFilter, TimeStretch

    from hfmgc.data.augmentation.echo import Echo

    stretch = partial(TimeStretch, leave_length_unchanged=False, p=1.0)
    two_poles = {"min_rolloff": 12, "max_rolloff": 12, "p": 1.0}  # a two-pole Butterworth filter: 12 dB per octave
    match variant:
        case "faster":
            return stretch(1.6, FASTEST_TEMPO)
        case "slower":
            return stretch(0.6, 0.8)
        case "high_pass":
            return HighPassFilter(1400.0, 1599.0, **two_poles)
        case "low_pass":
            return LowPassFilter(900.0, 1099.0, **two_poles)
        case "echo":
            return Echo(p=1.0)
    two_copies = Echo((0.8, 0.8), (0.9, 0.9), ((200, 200), (400, 400)), ((0.3, 0.3), (0.3, 0.3)), p=1.0)
    return Compose([LowPassFilter(500.0, 799.0, **two_poles), stretch(0.6, 0.9), two_copies])


def source_samples_needed(samples: int) -> int:
    """Return how many source samples give at least `samples` in every variant: 1.9 times as many (ours)."""
    # Round first: a product such as 10 * 1.9 can be slightly above the whole number.
    return math.ceil(round(samples * FASTEST_TEMPO, 6))


def augment(waveform: np.ndarray, sampling_rate: int, variant: str, generator: np.random.Generator) -> np.ndarray:
    """Return a variant of a clip, float32 [samples], finite and never empty.

    `variant` is one of `VARIANTS`, or `original` for the unchanged clip. A change of tempo changes the length; stretched
    and filtered clips can exceed full scale (1.0). All parameters come from the generator; the global random state does
    not change.

    Raises:
        ConfigError: If `variant` is unknown.
        AudioError: If the waveform is empty, not one-dimensional, or not finite.

    Example:

    >>> import hfmgc, numpy
    >>> waveform = hfmgc.load_audio("song.wav", sampling_rate=16000)
    >>> hfmgc.augment(waveform, 16000, "echo", numpy.random.default_rng(0)).shape
    (32000,)
    """
    if variant != ORIGINAL and variant not in VARIANTS:
        raise ConfigError(f"{variant!r} is not an augmentation{did_you_mean(variant, (ORIGINAL, *VARIANTS))}")
    samples = np.ascontiguousarray(waveform, dtype=np.float32)
    if samples.ndim != 1 or samples.size == 0 or not np.isfinite(samples).all():
        raise AudioError(f"waveform of shape {samples.shape}", "needs finite samples in one dimension")
    if variant == ORIGINAL:
        return samples
    transform = build_transform(variant)
    with seeded_globals(generator):
        return np.ascontiguousarray(transform(samples, sampling_rate), dtype=np.float32)


class FreshAugmentation:
    """A random variant at every call: `augmentation(waveform, sampling_rate, generator) -> waveform`.

    Source: the report, which stored seven versions of each track; drawing one in every epoch is ours.

    Args:
        probability: Share of the calls that augment, in 0..1; the six variants are equally likely. The default, 6/7, makes
            the original as likely as each variant, as in the report.
    """

    def __init__(self, probability: float | None = None):
        build_transform("bundle")  # import audiomentations once, before DataLoader workers fork
        self.probability = len(VARIANTS) / (len(VARIANTS) + 1) if probability is None else probability

    def draw(self, generator: np.random.Generator) -> str:
        """Return the name of a variant, or `original`."""
        if generator.random() >= self.probability:
            return ORIGINAL
        return VARIANTS[int(generator.integers(len(VARIANTS)))]

    def __call__(self, waveform: np.ndarray, sampling_rate: int, generator: np.random.Generator) -> np.ndarray:
        """Return the clip, augmented or not, float32 [samples]; see `augment` for the errors."""
        return augment(waveform, sampling_rate, self.draw(generator), generator)


def offline_variants(
    waveform: np.ndarray, sampling_rate: int, generator_for: Callable[[str], np.random.Generator]
) -> dict[str, np.ndarray]:
    """Return the original and its six variants by name, each float32 and at most as long as the original.

    Slower clips are cropped at random, as in the report. `generator_for` returns the generator of a variant, so variants do
    not depend on each other.
    """
    clips = {}
    for variant in (ORIGINAL, *VARIANTS):
        generator = generator_for(variant)
        clip = augment(waveform, sampling_rate, variant, generator)
        start = int(generator.integers(max(0, len(clip) - len(waveform)) + 1))
        clips[variant] = clip[start : start + len(waveform)]
    return clips
