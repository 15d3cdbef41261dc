"""Instruments of the synthetic corpus.

Source: ours. Pitched instruments use additive synthesis; percussion is a falling sine, noise or both.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, sosfilt


SAMPLING_RATE = 22_050
_TABLE = 2048  # samples of one period in a wavetable


def seconds_axis(seconds: float) -> np.ndarray:
    """Return the times of the samples in `seconds`, float32 [samples]; at least one sample."""
    return np.arange(max(int(seconds * SAMPLING_RATE), 1), dtype=np.float32) / np.float32(SAMPLING_RATE)


def envelope(samples: int, attack: float, release: float) -> np.ndarray:
    """Return a gain that rises for `attack` seconds and falls for the last `release` seconds, float32 [samples]."""
    index = np.arange(samples, dtype=np.float32)
    rise = index / max(attack * SAMPLING_RATE, 1.0)
    fall = (samples - index) / max(release * SAMPLING_RATE, 1.0)
    return np.minimum(np.minimum(rise, fall), 1.0).astype(np.float32)


def _oscillate(frequency: float, amplitudes: np.ndarray, t: np.ndarray, vibrato: float) -> np.ndarray:
    """Return a tone with the harmonics below the Nyquist frequency; `vibrato` (5.5 Hz) is a share of the frequency."""
    count = min(len(amplitudes), int(0.45 * SAMPLING_RATE / frequency))
    spectrum = np.zeros(_TABLE // 2 + 1, dtype=np.complex128)
    spectrum[1 : count + 1] = -0.5j * _TABLE * amplitudes[:count]
    period = np.fft.irfft(spectrum, _TABLE).astype(np.float32)
    phase = frequency * (t - vibrato / (2 * np.pi * 5.5) * np.cos(2 * np.pi * 5.5 * t.astype(np.float64)))
    return period[(phase * _TABLE).astype(np.int64) & (_TABLE - 1)]


@dataclass(frozen=True)
class Instrument:
    """A pitched instrument; times are in seconds."""

    harmonics: int
    slope: float  # the amplitude of harmonic n is 1 / n**slope
    attack: float = 0.003
    decay: float = math.inf  # time constant of the first three harmonics at A3; a quarter for the others
    release: float = 0.06  # how long a note rings after it ends
    vibrato: float = 0.0  # share of the frequency
    voices: int = 1  # players, slightly out of tune with each other
    drive: tuple[float, float] = (0.0, 0.0)  # range of amplifier distortion

    def __call__(self, frequency: float, seconds: float, timbre: float, generator: np.random.Generator) -> np.ndarray:
        """Return a note of `seconds` plus its release, float32 [samples], roughly within -1..1.

        `frequency` is in Hz; `timbre` runs from 0 (dark) to 1 (bright).
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

# Kick: pitch (Hz), decay (s), noise. Snare: pitch (Hz), decay (s). Cymbals: lowest frequency (Hz).
KITS: dict[str, tuple[float, ...]] = {
    "acoustic": (58, 0.11, 0.2, 190, 0.09, 5500),
    "jazz": (75, 0.10, 0.05, 210, 0.11, 4200),
    "metal": (60, 0.06, 0.5, 200, 0.10, 5000),
    "disco": (60, 0.09, 0.2, 200, 0.08, 6000),
    "boom-bap": (52, 0.14, 0.15, 175, 0.10, 4500),
    "electronic": (50, 0.13, 0.25, 200, 0.10, 6500),
    "reggae": (55, 0.12, 0.08, 260, 0.05, 5500),
}


def render_kit(kind: str, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the drums of a kit, each a stroke of float32 [samples]; pitch, damping and brightness vary at random."""
    kick, kick_decay, click, snare, snare_decay, low = np.array(KITS[kind]) * generator.uniform(0.8, 1.25, 6)

    def stroke(
        decay: float, noise: float, band: tuple[float, float], tone: float = 0.0, fall: float = 0.0
    ) -> np.ndarray:
        t = seconds_axis(min(5 * decay, 1.6))
        hiss = sosfilt(butter(2, band, "bandpass", fs=SAMPLING_RATE, output="sos"), generator.standard_normal(len(t)))
        body = np.sin(2 * np.pi * (tone * t + fall * (1 - np.exp(-t / 0.02))))
        samples = (body + noise * hiss / hiss.std()) * np.exp(-t / decay)
        return (samples * envelope(len(t), 0.0005, 0.01)).astype(np.float32)

    cymbals = (low, 10_800)
    return {
        "kick": stroke(kick_decay, 0.2 * click, (20, 5000), kick, fall=1.8),
        "snare": stroke(snare_decay, 0.4, (900, 9500), snare),
        "rim": stroke(0.02, 0.2, (900, 9500), 4 * snare),
        "clap": stroke(0.8 * snare_decay, 0.4, (900, 4500)),
        "hat": stroke(0.025, 0.25, cymbals),
        "open": stroke(0.14, 0.25, cymbals),
        "ride": stroke(0.3, 0.2, (0.6 * low, 10_800), 14 * snare),
        "crash": stroke(0.45, 0.3, (0.4 * low, 10_800)),
    }
