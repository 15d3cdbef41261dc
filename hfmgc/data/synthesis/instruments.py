"""Pitched instruments: one function per family, one note each.

Every voice is `voice(frequency, seconds, timbre, generator)`: frequency in Hz, seconds until the key is released,
timbre 0 (dark) to 1 (bright), drawn once per track and part; it returns float32 [samples] at `SAMPLING_RATE`, about
within -1..1, release included. Sources: the plucked string is Karplus and Strong, "Digital Synthesis of Plucked-String
and Drum Timbres", 1983; the electric piano is Chowning's frequency modulation, 1973; the rest is additive and ours.
"""

from collections.abc import Callable

import numpy as np


SAMPLING_RATE = 22_050
_TABLE = 2048
Voice = Callable[[float, float, float, np.random.Generator], np.ndarray]


def seconds_axis(seconds: float) -> np.ndarray:
    """Return the sample times of `seconds`, float32 [samples], at least one."""
    return np.arange(max(int(seconds * SAMPLING_RATE), 1), dtype=np.float32) / np.float32(SAMPLING_RATE)


def envelope(samples: int, attack: float, release: float) -> np.ndarray:
    """Return a gain that rises over `attack` and falls over the last `release` seconds, float32 [samples]."""
    index = np.arange(samples, dtype=np.float32)
    rise = index / max(attack * SAMPLING_RATE, 1.0)
    fall = (samples - index) / max(release * SAMPLING_RATE, 1.0)
    return np.minimum(np.minimum(rise, fall), 1.0).astype(np.float32)


def oscillate(frequency: float, amplitudes: np.ndarray, t: np.ndarray, vibrato: float = 0.0) -> np.ndarray:
    """Return a periodic tone with these harmonic amplitudes, those above the Nyquist frequency left out.

    `vibrato` is the depth as a share of the frequency, at 5.5 Hz.
    """
    count = min(len(amplitudes), int(0.45 * SAMPLING_RATE / frequency))
    spectrum = np.zeros(_TABLE // 2 + 1, dtype=np.complex128)
    spectrum[1 : count + 1] = -0.5j * _TABLE * amplitudes[:count]
    table = np.fft.irfft(spectrum, _TABLE).astype(np.float32)
    phase = frequency * t.astype(np.float64)
    if vibrato:
        # The phase is the integral of the frequency: a sine's is a cosine, divided by its own angular frequency.
        phase = phase - frequency * vibrato / (2 * np.pi * 5.5) * np.cos(2 * np.pi * 5.5 * t)
    return table[(phase * _TABLE).astype(np.int64) & (_TABLE - 1)]


def harmonics(count: int, slope: float) -> np.ndarray:
    """Return `count` amplitudes falling as 1/n**slope, normalised to a sum of squares of one."""
    amplitudes = 1.0 / np.arange(1, count + 1) ** slope
    return amplitudes / np.sqrt(np.sum(amplitudes**2))


def karplus_strong(frequency: float, seconds: float, damping: float, burst: np.ndarray) -> np.ndarray:
    """Return a plucked string: a noise burst fed back through a delay of one period and a two-point average.

    Computed one period at a time, then resampled to the exact pitch: a whole number of samples a period alone would
    be up to a third of a semitone off.
    """
    exact = SAMPLING_RATE / frequency
    period = max(round(exact - 0.5), 2)
    ratio = (period + 0.5) / exact
    samples = max(int(seconds * SAMPLING_RATE), 1)
    rows = int(samples * ratio) // period + 3
    string = np.zeros((rows, period), dtype=np.float32)
    string[0] = np.resize(burst, period) - np.mean(np.resize(burst, period))
    delayed = np.zeros(period, dtype=np.float32)
    for row in range(1, rows):
        before = string[row - 1]
        delayed[1:] = before[:-1]
        delayed[0] = string[row - 2, -1] if row > 1 else 0.0
        np.multiply(before + delayed, 0.5 * damping, out=string[row])
    flat = string.ravel()
    position = np.arange(samples) * ratio
    whole = position.astype(np.int64)
    part = (position - whole).astype(np.float32)
    return flat[whole] * (1 - part) + flat[whole + 1] * part


def _pluck(decay: float, smoothing: int, ring: float) -> Voice:
    """A string whose sound falls by 60 dB in about `decay` seconds; `ring` is how long it rings after release."""

    def voice(frequency: float, seconds: float, timbre: float, generator: np.random.Generator) -> np.ndarray:
        burst = generator.uniform(-1, 1, int(SAMPLING_RATE / frequency) + 2).astype(np.float32)
        width = max(int(smoothing * (1.6 - timbre)), 1)
        burst = np.convolve(burst, np.ones(width, np.float32) / np.sqrt(width), mode="same")
        damping = 10 ** (-3.0 / (decay * (0.6 + 0.8 * timbre) * frequency))
        tone = karplus_strong(frequency, seconds + ring, min(damping, 0.9995), burst)
        return tone * envelope(len(tone), 0.001, ring)

    return voice


def _sustained(count: int, slope: float, attack: float, release: float, vibrato: float, voices: int = 1) -> Voice:
    """A bowed, blown or synthetic tone; several voices are detuned against each other."""

    def voice(frequency: float, seconds: float, timbre: float, generator: np.random.Generator) -> np.ndarray:
        t = seconds_axis(seconds + release)
        amplitudes = harmonics(count, slope + 0.6 * (0.5 - timbre))
        tone = np.zeros_like(t)
        for detune in generator.normal(0.0, 0.0025, voices) if voices > 1 else (0.0,):
            tone += oscillate(frequency * (1 + detune), amplitudes, t + generator.uniform(0, 1 / frequency), vibrato)
        return tone * envelope(len(t), min(attack, seconds / 2), release) / np.float32(np.sqrt(voices))

    return voice


def _decaying(count: int, slope: float, decay: float, brightening: float, release: float) -> Voice:
    """A struck or plucked additive tone: a bright layer that dies fast over a dull one that stays."""

    def voice(frequency: float, seconds: float, timbre: float, generator: np.random.Generator) -> np.ndarray:
        t = seconds_axis(seconds + release)
        time_constant = decay * (220.0 / frequency) ** 0.4
        dull = oscillate(frequency, harmonics(4, slope + 1.0), t) * np.exp(-t / time_constant)
        bright = oscillate(frequency * 1.0007, harmonics(count, slope), t) * np.exp(-t / (0.25 * time_constant))
        mix = brightening * (0.4 + 1.2 * timbre)
        return (dull + mix * bright) * envelope(len(t), 0.003, release) / np.float32(1 + mix)

    return voice


def _electric_piano(frequency: float, seconds: float, timbre: float, generator: np.random.Generator) -> np.ndarray:
    t = seconds_axis(seconds + 0.15)
    angle = np.float32(2 * np.pi * frequency) * t
    index = (0.5 + 1.8 * timbre) * np.exp(-t / 0.35)
    tine = 0.15 * timbre * np.sin(14 * angle) * np.exp(-t / 0.06) if 14 * frequency < SAMPLING_RATE / 2 else 0.0
    tone = np.sin(angle + index * np.sin(angle)) + tine
    tremolo = 1 + 0.25 * np.sin(2 * np.pi * 5 * t)
    return (tone * tremolo * np.exp(-t / 1.1) * envelope(len(t), 0.004, 0.15)).astype(np.float32)


def _organ(frequency: float, seconds: float, timbre: float, generator: np.random.Generator) -> np.ndarray:
    t = seconds_axis(seconds + 0.03)
    drawbars = np.array([0.8, 1.0, 0.6 * timbre + 0.2, 0.7, 0.0, 0.3 * timbre, 0.0, 0.5 * timbre])
    tone = oscillate(frequency, drawbars / np.sqrt(np.sum(drawbars**2)), t, vibrato=0.003)
    return tone * (1 + 0.2 * np.sin(2 * np.pi * 6.2 * t)) * envelope(len(t), 0.006, 0.03)


def _sub_bass(frequency: float, seconds: float, timbre: float, generator: np.random.Generator) -> np.ndarray:
    t = seconds_axis(seconds + 0.06)
    tone = np.tanh((1 + 2 * timbre) * np.sin(np.float32(2 * np.pi * frequency) * t) * np.exp(-t / 0.8))
    return tone * envelope(len(t), 0.008, 0.06)


def _palm_mute(frequency: float, seconds: float, timbre: float, generator: np.random.Generator) -> np.ndarray:
    t = seconds_axis(min(seconds, 0.25) + 0.02)
    tone = oscillate(frequency, harmonics(14, 0.9 - 0.3 * timbre), t)
    return tone * np.exp(-t / (0.05 + 0.06 * timbre)) * envelope(len(t), 0.001, 0.02)


VOICES: dict[str, Voice] = {
    "nylon guitar": _pluck(1.6, 6, 0.12),
    "acoustic guitar": _pluck(2.2, 2, 0.15),
    "electric guitar": _pluck(3.0, 3, 0.08),
    "muted guitar": _pluck(0.35, 3, 0.03),
    "banjo": _pluck(0.7, 1, 0.1),
    "upright bass": _pluck(1.0, 22, 0.05),
    "electric bass": _decaying(9, 1.2, 0.9, 0.8, 0.04),
    "picked bass": _decaying(16, 0.9, 1.0, 1.2, 0.04),
    "synth bass": _decaying(20, 0.8, 0.5, 1.2, 0.02),
    "sub bass": _sub_bass,
    "piano": _decaying(14, 1.1, 0.9, 0.7, 0.15),
    "harpsichord": _decaying(24, 0.4, 0.5, 2.0, 0.1),
    "vibraphone": _decaying(4, 2.4, 1.4, 0.5, 0.4),
    "synth pluck": _decaying(18, 0.7, 0.3, 1.5, 0.08),
    "electric piano": _electric_piano,
    "organ": _organ,
    "strings": _sustained(14, 1.1, 0.12, 0.2, 0.004, voices=3),
    "solo violin": _sustained(18, 1.0, 0.06, 0.08, 0.007),
    "pedal steel": _sustained(8, 1.3, 0.08, 0.15, 0.006),
    "flute": _sustained(4, 2.2, 0.05, 0.06, 0.005),
    "saxophone": _sustained(12, 0.8, 0.03, 0.05, 0.005),
    "brass": _sustained(16, 0.75, 0.03, 0.05, 0.002, voices=2),
    "harmonica": _sustained(12, 0.6, 0.03, 0.05, 0.006, voices=2),
    "voice": _sustained(10, 1.3, 0.07, 0.08, 0.008),
    "synth pad": _sustained(16, 1.0, 0.2, 0.3, 0.002, voices=3),
    "synth lead": _sustained(24, 0.8, 0.01, 0.05, 0.003, voices=2),
    "distorted guitar": _sustained(14, 1.0, 0.004, 0.04, 0.001),
    "palm-muted guitar": _palm_mute,
    "lead guitar": _sustained(12, 0.9, 0.006, 0.06, 0.008),
    "overdriven guitar": _pluck(2.5, 2, 0.06),
}
