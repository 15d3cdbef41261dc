"""An echo for audiomentations, which has none: FFmpeg's `aecho`.

Source: FFmpeg's documentation of the filter and libavfilter/af_aecho.c (behaviour only; the code is ours).
"""

import random
from collections.abc import Sequence

import numpy as np
from audiomentations.core.transforms_interface import BaseWaveformTransform


class Echo(BaseWaveformTransform):
    """Add delayed, attenuated copies of the signal: `out_gain * (in_gain * x[n] + sum_k decay_k * x[n - delay_k])`.

    As in `aecho`, the copies are of the raw input (without the input gain or feedback), delays are truncated to whole
    samples, and the result is clipped to -1..1. Unlike `aecho`, the result is as long as the input.

    Args:
        in_gain: Range (lowest, highest) of the gain of the direct sound, in 0..1.
        out_gain: Range of the gain of the sum, in 0..1.
        delays: A range in milliseconds for each copy.
        decays: A range of the gain for each copy, in 0..1.
        p: Probability that the transform is applied.

    Shapes: float32 [samples] or [channels, samples] in, the same shape out.
    """

    supports_multichannel = True

    def __init__(
        self,
        in_gain: Sequence[float] = (0.6, 0.98),
        out_gain: Sequence[float] = (0.6, 0.98),
        delays: Sequence[Sequence[float]] = ((50.0, 499.0),),
        decays: Sequence[Sequence[float]] = ((0.2, 0.4),),
        p: float = 0.5,
    ):
        super().__init__(p)
        # Lists: a configuration must equal itself after a round trip through JSON.
        self.in_gain, self.out_gain = list(in_gain), list(out_gain)
        self.delays, self.decays = [list(bounds) for bounds in delays], [list(bounds) for bounds in decays]

    def randomize_parameters(self, samples: np.ndarray, sample_rate: int) -> None:
        """Draw the gains, delays (ms) and decays from the global `random`, as audiomentations' transforms do."""
        super().randomize_parameters(samples, sample_rate)
        if self.parameters["should_apply"]:
            self.parameters["in_gain"] = random.uniform(*self.in_gain)
            self.parameters["out_gain"] = random.uniform(*self.out_gain)
            self.parameters["delays"] = [random.uniform(*bounds) for bounds in self.delays]
            self.parameters["decays"] = [random.uniform(*bounds) for bounds in self.decays]

    def apply(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        """Return the signal with the echo of `parameters`, float32, same shape."""
        output = np.float32(self.parameters["in_gain"]) * samples
        length = samples.shape[-1]
        for delay, decay in zip(self.parameters["delays"], self.parameters["decays"], strict=True):
            shift = max(int(delay * sample_rate / 1000.0), 1)  # a delay of 0 samples would be a gain
            if shift < length:
                output[..., shift:] += np.float32(decay) * samples[..., : length - shift]
        return np.clip(np.float32(self.parameters["out_gain"]) * output, -1.0, 1.0).astype(np.float32)
