"""What happens after the instruments have played: distortion, room, tone, surface noise, loudness.

Source: ours. Every function takes and returns float32 [samples] at `SAMPLING_RATE`.
"""

import numpy as np
from scipy.signal import butter, lfilter, oaconvolve, sosfilt

from hfmgc.data.synthesis.instruments import SAMPLING_RATE


def cut(signal: np.ndarray, frequency: float, kind: str, order: int = 2) -> np.ndarray:
    """Filter with a Butterworth `lowpass` or `highpass` at `frequency` Hz; beyond 10 kHz a low-pass does nothing."""
    if kind == "lowpass" and frequency >= 10_000:
        return signal
    return sosfilt(butter(order, frequency, btype=kind, fs=SAMPLING_RATE, output="sos"), signal).astype(np.float32)


def distort(signal: np.ndarray, drive: float, cabinet: float) -> np.ndarray:
    """Clip softly after a gain of `drive`, then low-pass at `cabinet` Hz, as a guitar amplifier does.

    The level is measured first, so that the same drive sounds alike however many strings play.
    """
    level = np.sqrt(np.mean(np.square(signal))) + 1e-6
    driven = np.tanh(drive * cut(signal, 90.0, "highpass") / (3 * level))
    return cut(driven, cabinet, "lowpass", order=4)


def reverberate(signal: np.ndarray, seconds: float, wet: float, generator: np.random.Generator) -> np.ndarray:
    """Add a room whose sound falls by 60 dB in `seconds`, at `wet` times the level of the dry signal."""
    if wet <= 0.0:
        return signal
    t = np.arange(int(0.8 * seconds * SAMPLING_RATE) + 1) / SAMPLING_RATE
    response = lfilter([0.4], [1.0, -0.6], generator.standard_normal(len(t)) * 10 ** (-3 * t / seconds))
    response[0] = 0.0
    response /= np.sqrt(np.sum(response**2)) + 1e-9
    room = oaconvolve(signal, response.astype(np.float32))[: len(signal)]
    return (signal + wet * room).astype(np.float32)


def tilt(signal: np.ndarray, decibels: float) -> np.ndarray:
    """Raise the treble (above 1 kHz) by `decibels` and lower the bass by as much; negative values do the opposite."""
    low = cut(signal, 1000.0, "lowpass", order=1)
    gain = 10 ** (decibels / 20)
    return (low / gain + (signal - low) * gain).astype(np.float32)


def surface_noise(samples: int, hiss: float, crackle: float, generator: np.random.Generator) -> np.ndarray:
    """Return tape hiss of this standard deviation and `crackle` clicks a second, as from a vinyl record."""
    noise = generator.standard_normal(samples, dtype=np.float32) * np.float32(hiss)
    count = generator.poisson(crackle * samples / SAMPLING_RATE)
    clicks = np.zeros(samples, dtype=np.float32)
    clicks[generator.integers(samples, size=count)] = generator.exponential(0.03, count) * generator.choice(
        [-1, 1], count
    )
    return noise + lfilter([1.0], [1.0, -0.7], clicks).astype(np.float32)


def finish(signal: np.ndarray, drive: float, decibels: float) -> np.ndarray:
    """Normalise to a peak of one, saturate by `drive` (the more, the denser), and set the peak to `decibels` (<= 0)."""
    peak = float(np.max(np.abs(signal)))
    if peak < 1e-9:
        return np.zeros(len(signal), dtype=np.float32)
    saturated = np.tanh(signal * (drive / peak))
    return (saturated * (10 ** (decibels / 20) / np.max(np.abs(saturated)))).astype(np.float32)
