"""An echo for audiomentations, which has none: FFmpeg's `aecho`.

Source: the filter's definition in FFmpeg's documentation and libavfilter/af_aecho.c (behaviour only; the code is ours).
"""

import random
from collections.abc import Sequence

import numpy as np
from audiomentations.core.transforms_interface import BaseWaveformTransform

from hfmgc.errors import ConfigError


class Echo(BaseWaveformTransform):
    """Add delayed, attenuated copies of the signal: `out_gain * (in_gain * x[n] + sum_k decay_k * x[n - delay_k])`.

    Source: FFmpeg's `aecho`. As there, the copies are of the raw input (the input gain does not touch them, and they do
    not feed back), delays are truncated to whole samples, and the result is clipped to full scale, -1..1. Unlike there,
    the length stays that of the input: `aecho` lets the echo ring on after the end, which would make the augmented clip
    longer than its source, and the report crops those to the source length. `x[n]` is zero before the first sample.

    Args:
        min_in_gain, max_in_gain: range of the gain of the direct sound, in 0..1.
        min_out_gain, max_out_gain: range of the gain of the sum, in 0..1.
        delays: one (lowest, highest) range in milliseconds for each tap; equal ends fix the tap.
        decays: one (lowest, highest) range of the tap's gain for each tap, in 0..1.
        p: probability that the transform is applied.

    Shapes: float32 [samples] or [channels, samples] in, the same shape out.

    Raises:
        ConfigError: a range is reversed or out of bounds, or there are not as many delays as decays.
    """

    supports_multichannel = True

    def __init__(
        self,
        min_in_gain: float = 0.6,
        max_in_gain: float = 0.98,
        min_out_gain: float = 0.6,
        max_out_gain: float = 0.98,
        delays: Sequence[Sequence[float]] = ((50.0, 499.0),),
        decays: Sequence[Sequence[float]] = ((0.2, 0.4),),
        p: float = 0.5,
    ):
        super().__init__(p)
        self.min_in_gain, self.max_in_gain = min_in_gain, max_in_gain
        self.min_out_gain, self.max_out_gain = min_out_gain, max_out_gain
        # Lists of numbers, so that a configuration comes back from JSON equal to what went in.
        self.delays = [[float(bound) for bound in tap] for tap in delays]
        self.decays = [[float(bound) for bound in tap] for tap in decays]
        if not self.delays or len(self.delays) != len(self.decays):
            raise ConfigError(
                f"Echo: {len(self.delays)} delays and {len(self.decays)} decays; give one of each per tap"
            )
        _check_range("in_gain", (min_in_gain, max_in_gain), 1.0)
        _check_range("out_gain", (min_out_gain, max_out_gain), 1.0)
        for delay, decay in zip(self.delays, self.decays, strict=True):
            _check_range("delays", delay, 90_000.0)
            _check_range("decays", decay, 1.0)

    def randomize_parameters(self, samples: np.ndarray, sample_rate: int) -> None:
        """Draw the gains, delays (ms) and decays from the global `random`, as audiomentations' transforms do."""
        super().randomize_parameters(samples, sample_rate)
        if self.parameters["should_apply"]:
            self.parameters["in_gain"] = random.uniform(self.min_in_gain, self.max_in_gain)
            self.parameters["out_gain"] = random.uniform(self.min_out_gain, self.max_out_gain)
            self.parameters["delays"] = [random.uniform(*tap) for tap in self.delays]
            self.parameters["decays"] = [random.uniform(*tap) for tap in self.decays]

    def apply(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        """Return the signal with the echo that `parameters` describe, float32, same shape."""
        output = np.float32(self.parameters["in_gain"]) * samples
        length = samples.shape[-1]
        for delay, decay in zip(self.parameters["delays"], self.parameters["decays"], strict=True):
            # A delay below one sample would be no echo but a gain.
            shift = max(int(delay * sample_rate / 1000.0), 1)
            if shift < length:
                output[..., shift:] += np.float32(decay) * samples[..., : length - shift]
        return np.clip(np.float32(self.parameters["out_gain"]) * output, -1.0, 1.0).astype(np.float32)


def _check_range(name: str, bounds: Sequence[float], highest: float) -> None:
    if len(bounds) != 2 or not 0.0 < bounds[0] <= bounds[1] <= highest:
        raise ConfigError(
            f"Echo: {name} {tuple(bounds)} is not a range (lowest, highest) above 0 and up to {highest:g}"
        )
