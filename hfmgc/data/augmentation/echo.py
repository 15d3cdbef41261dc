"""FFmpeg's echo `aecho` for audiomentations, which has no echo.

Source: FFmpeg's documentation of the filter, and the behaviour of libavfilter/af_aecho.c; the code is ours.
"""

import random
from collections.abc import Sequence

import numpy as np
from audiomentations.core.transforms_interface import BaseWaveformTransform


class Echo(BaseWaveformTransform):
    """Add delayed, attenuated copies of the signal: `out_gain * (in_gain * x[n] + sum_k decay_k * x[n - delay_k])`.

    As in `aecho`, copies come from the raw input (no input gain, no feedback), delays are truncated to whole samples, and
    the output is clipped to -1..1. Unlike the output of `aecho`, ours has the shape of the input: float32 [samples] or
    [channels, samples].

    Args:
        in_gain: Range (lowest, highest) of the gain of the direct signal, in 0..1.
        out_gain: Range of the gain of the sum, in 0..1.
        delays: For each copy, the range of its delay in milliseconds.
        decays: For each copy, the range of its gain, in 0..1.
        p: Probability that the transform is applied.
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
        # Lists, because JSON turns tuples into lists and a configuration must survive the round trip.
        self.in_gain, self.out_gain = list(in_gain), list(out_gain)
        self.delays, self.decays = [list(bounds) for bounds in delays], [list(bounds) for bounds in decays]

    def randomize_parameters(self, samples: np.ndarray, sample_rate: int) -> None:
        """Draw gains, delays (ms) and decays from the global `random`, as audiomentations' own transforms do."""
        super().randomize_parameters(samples, sample_rate)
        if self.parameters["should_apply"]:
            self.parameters["in_gain"] = random.uniform(*self.in_gain)
            self.parameters["out_gain"] = random.uniform(*self.out_gain)
            self.parameters["delays"] = [random.uniform(*bounds) for bounds in self.delays]
            self.parameters["decays"] = [random.uniform(*bounds) for bounds in self.decays]

    def apply(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        """Return the signal with the echo that `parameters` describes, float32, same shape."""
        output = np.float32(self.parameters["in_gain"]) * samples
        length = samples.shape[-1]
        for delay, decay in zip(self.parameters["delays"], self.parameters["decays"], strict=True):
            shift = max(int(delay * sample_rate / 1000.0), 1)  # 0 samples would change the gain only
            if shift < length:
                output[..., shift:] += np.float32(decay) * samples[..., : length - shift]
        return np.clip(np.float32(self.parameters["out_gain"]) * output, -1.0, 1.0).astype(np.float32)
