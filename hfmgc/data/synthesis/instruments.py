"""Pitched instruments: additive synthesis with a few parameters for each. Source: ours."""

import math
from dataclasses import dataclass

import numpy as np


SAMPLING_RATE = 22_050
_TABLE = 2048


def seconds_axis(seconds: float) -> np.ndarray:
    """Return the sample times of `seconds`, float32 [samples], at least one."""
    return np.arange(max(int(seconds * SAMPLING_RATE), 1), dtype=np.float32) / np.float32(SAMPLING_RATE)


def envelope(samples: int, attack: float, release: float) -> np.ndarray:
    """Return a gain that rises over `attack` and falls over the last `release` seconds, float32 [samples]."""
    index = np.arange(samples, dtype=np.float32)
    rise = index / max(attack * SAMPLING_RATE, 1.0)
    fall = (samples - index) / max(release * SAMPLING_RATE, 1.0)
    return np.minimum(np.minimum(rise, fall), 1.0).astype(np.float32)


def _oscillate(frequency: float, amplitudes: np.ndarray, t: np.ndarray, vibrato: float) -> np.ndarray:
    """Return a tone with these harmonics below the Nyquist frequency; `vibrato` is a share of the frequency, at 5.5 Hz."""
    count = min(len(amplitudes), int(0.45 * SAMPLING_RATE / frequency))
    spectrum = np.zeros(_TABLE // 2 + 1, dtype=np.complex128)
    spectrum[1 : count + 1] = -0.5j * _TABLE * amplitudes[:count]
    period = np.fft.irfft(spectrum, _TABLE).astype(np.float32)
    phase = frequency * (t - vibrato / (2 * np.pi * 5.5) * np.cos(2 * np.pi * 5.5 * t.astype(np.float64)))
    return period[(phase * _TABLE).astype(np.int64) & (_TABLE - 1)]


@dataclass(frozen=True)
class Instrument:
    """An instrument.

    Args:
        harmonics: Number of harmonics.
        slope: Amplitudes of the harmonics fall as 1 / n**slope.
        attack: Seconds.
        decay: Seconds in which the first harmonics of A3 fall by 1/e; the others fall four times as fast.
        release: Seconds that a note rings after it ends.
        vibrato: Share of the frequency.
        voices: Players, slightly out of tune with each other.
        drive: Range of the amplifier's distortion; 0 for none.
    """

    harmonics: int
    slope: float
    attack: float = 0.003
    decay: float = math.inf
    release: float = 0.06
    vibrato: float = 0.0
    voices: int = 1
    drive: tuple[float, float] = (0.0, 0.0)

    def __call__(self, frequency: float, seconds: float, timbre: float, generator: np.random.Generator) -> np.ndarray:
        """Return a note, float32 [samples], about within -1..1.

        Args:
            frequency: Hz.
            seconds: Until it ends; `release` comes after that.
            timbre: 0 (dark) to 1 (bright).
            generator: Draws the detuning.
        """
        t = seconds_axis(seconds + self.release)
        amplitudes = 1.0 / np.arange(1, self.harmonics + 1) ** (self.slope + 0.6 * (0.5 - timbre))
        amplitudes /= np.sqrt(np.sum(amplitudes**2))
        first = np.where(np.arange(self.harmonics) < 3, amplitudes, 0.0)
        decay = self.decay * (220.0 / frequency) ** 0.4
        tone = np.zeros_like(t)
        for detune in generator.normal(0.0, 0.0025, self.voices) if self.voices > 1 else (0.0,):
            pitch = frequency * (1 + detune)
            tone += _oscillate(pitch, first, t, self.vibrato) * np.exp(-t / decay)
            tone += _oscillate(pitch, amplitudes - first, t, self.vibrato) * np.exp(-4 * t / decay)
        return tone * envelope(len(t), min(self.attack, seconds / 2), self.release) / np.float32(np.sqrt(self.voices))


VOICES: dict[str, Instrument] = {
    "acoustic guitar": Instrument(24, 0.7, decay=0.9, release=0.15),
    "electric guitar": Instrument(16, 0.9, decay=1.2, release=0.08, drive=(0.4, 1.4)),
    "muted guitar": Instrument(20, 0.6, decay=0.15, release=0.03),
    "overdriven guitar": Instrument(18, 0.8, decay=2.5, drive=(1.5, 7.0)),
    "distorted guitar": Instrument(14, 1.0, decay=6.0, drive=(5.0, 25.0)),
    "palm-muted guitar": Instrument(14, 0.8, decay=0.12, release=0.02, drive=(8.0, 30.0)),
    "lead guitar": Instrument(12, 0.9, vibrato=0.008, drive=(1.5, 8.0)),
    "banjo": Instrument(30, 0.4, decay=0.35, release=0.1),
    "upright bass": Instrument(6, 1.8, decay=0.6, release=0.05),
    "electric bass": Instrument(9, 1.2, decay=0.9, release=0.04),
    "synth bass": Instrument(20, 0.8, decay=0.8, release=0.02),
    "sub bass": Instrument(3, 2.5, decay=1.0),
    "piano": Instrument(14, 1.1, decay=0.9, release=0.15),
    "electric piano": Instrument(5, 1.6, decay=1.1, release=0.15),
    "harpsichord": Instrument(24, 0.4, decay=0.7, release=0.1),
    "synth pluck": Instrument(18, 0.7, decay=0.4, release=0.08),
    "organ": Instrument(8, 0.9, attack=0.006, release=0.03, vibrato=0.003),
    "strings": Instrument(14, 1.1, attack=0.12, release=0.2, vibrato=0.004, voices=3),
    "solo violin": Instrument(18, 1.0, attack=0.06, vibrato=0.007),
    "saxophone": Instrument(12, 0.8, attack=0.03, vibrato=0.005),
    "brass": Instrument(16, 0.75, attack=0.03, vibrato=0.002, voices=2),
    "harmonica": Instrument(12, 0.6, attack=0.03, vibrato=0.006, voices=2, drive=(0.8, 2.5)),
    "voice": Instrument(10, 1.3, attack=0.07, release=0.08, vibrato=0.008),
    "synth pad": Instrument(16, 1.0, attack=0.2, release=0.3, voices=3),
    "synth lead": Instrument(24, 0.8, attack=0.01, vibrato=0.003, voices=2),
}
