"""The six augmentations of the AST report, drawn in every epoch or, offline, once for a corpus seven times as large.

Source: the report, which used FFmpeg (atempo; highpass and lowpass, two poles, 12 dB an octave; aecho). Ours: the tempo is
changed by audiomentations' Signalsmith stretcher, cutoffs are drawn uniformly on the mel scale, filters start from the
steady state of the first sample instead of zero, and parameters are real numbers.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from audiomentations import Compose, HighPassFilter, LowPassFilter, TimeStretch
from audiomentations.core.transforms_interface import BaseWaveformTransform

from hfmgc.data.augmentation.echo import Echo
from hfmgc.errors import AudioError, ConfigError, did_you_mean
from hfmgc.randomness import seeded_globals


ORIGINAL = "original"
FASTEST_TEMPO = 1.9
# A two-pole Butterworth filter falls by 12 dB an octave.
_TWO_POLES = {"min_rolloff": 12, "max_rolloff": 12, "p": 1.0}


def _tempo(slowest: float, fastest: float) -> TimeStretch:
    return TimeStretch(min_rate=slowest, max_rate=fastest, leave_length_unchanged=False, p=1.0)


def _bundle() -> Compose:
    two_copies = Echo((0.8, 0.8), (0.9, 0.9), ((200, 200), (400, 400)), ((0.3, 0.3), (0.3, 0.3)), p=1.0)
    return Compose([LowPassFilter(500.0, 799.0, **_TWO_POLES), _tempo(0.6, 0.9), two_copies])


VARIANTS: Mapping[str, Callable[[], BaseWaveformTransform | Compose]] = MappingProxyType(
    {
        "faster": lambda: _tempo(1.6, FASTEST_TEMPO),
        "slower": lambda: _tempo(0.6, 0.8),
        "high_pass": lambda: HighPassFilter(1400.0, 1599.0, **_TWO_POLES),
        "low_pass": lambda: LowPassFilter(900.0, 1099.0, **_TWO_POLES),
        "echo": lambda: Echo(p=1.0),
        "bundle": _bundle,
    }
)
"""Name -> builder of an audiomentations transform that is always applied; in the order of the report."""


def source_samples_needed(samples: int) -> int:
    """Return how many samples of the source every variant turns into at least `samples`: 1.9 times as many (ours)."""
    # Rounded first: a product such as 10 * 1.9 can be slightly above the whole number.
    return math.ceil(round(samples * FASTEST_TEMPO, 6))


def augment(waveform: np.ndarray, sampling_rate: int, variant: str, generator: np.random.Generator) -> np.ndarray:
    """Return one variant of a clip, float32 [samples], finite and never empty.

    A slower clip is longer than its source, a faster one shorter. Stretched and filtered clips can exceed full scale (1.0).
    The variant is a name in `VARIANTS`, or `original` for the unchanged clip. All parameters come from the generator; the
    global random state stays untouched.

    Raises:
        ConfigError: If there is no such variant.
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
    transform = VARIANTS[variant]()
    with seeded_globals(generator):
        return np.ascontiguousarray(transform(samples, sampling_rate), dtype=np.float32)


class FreshAugmentation:
    """A random variant at every call: `augmentation(waveform, sampling_rate, generator) -> waveform`.

    Source: the report's seven versions of each track, here drawn in every epoch (ours) instead of stored.

    Args:
        probability: Share of the calls that augment, in 0..1; the six variants are equally likely. By default 6/7, the
            report's proportions: the original is as likely as each variant.
    """

    def __init__(self, probability: float | None = None):
        self.probability = len(VARIANTS) / (len(VARIANTS) + 1) if probability is None else probability

    def draw(self, generator: np.random.Generator) -> str:
        """Return the name of a variant, or `original`."""
        if generator.random() >= self.probability:
            return ORIGINAL
        return tuple(VARIANTS)[int(generator.integers(len(VARIANTS)))]

    def __call__(self, waveform: np.ndarray, sampling_rate: int, generator: np.random.Generator) -> np.ndarray:
        """Return the clip, augmented or not, float32 [samples]; errors as those of `augment`."""
        return augment(waveform, sampling_rate, self.draw(generator), generator)


def offline_variants(
    waveform: np.ndarray, sampling_rate: int, generator_for: Callable[[str], np.random.Generator]
) -> dict[str, np.ndarray]:
    """Return the original and its six variants by name, float32 [at most as many samples] each.

    Source: the report, also for the random crop of a slower clip to the length of its source. `generator_for` returns the
    generator of a variant: variants do not depend on each other.
    """
    clips = {}
    for variant in (ORIGINAL, *VARIANTS):
        generator = generator_for(variant)
        clip = augment(waveform, sampling_rate, variant, generator)
        start = int(generator.integers(max(0, len(clip) - len(waveform)) + 1))
        clips[variant] = clip[start : start + len(waveform)]
    return clips
