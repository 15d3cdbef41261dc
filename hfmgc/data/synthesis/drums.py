"""Percussion: a kit is rendered once per track, with its own tuning, damping and brightness, then struck many times.

Source: ours, after the textbook recipes (a falling sine for the kick, tone plus noise for the snare, high-passed noise
for cymbals).
"""

import numpy as np
from scipy.signal import butter, sosfilt

from hfmgc.data.synthesis.instruments import SAMPLING_RATE, envelope, seconds_axis


def _noise(seconds: float, low: float, high: float, generator: np.random.Generator) -> np.ndarray:
    """White noise between two frequencies in Hz, about unit variance, float32 [samples]."""
    noise = generator.standard_normal(max(int(seconds * SAMPLING_RATE), 32)).astype(np.float32)
    band = [max(low, 20.0), min(high, 0.49 * SAMPLING_RATE)]
    shaped = sosfilt(butter(2, band, btype="bandpass", fs=SAMPLING_RATE, output="sos"), noise)
    return (shaped / (np.std(shaped) + 1e-9)).astype(np.float32)


def _kick(base: float, sweep: float, decay: float, click: float, generator: np.random.Generator) -> np.ndarray:
    t = seconds_axis(decay * 4)
    phase = base * t + sweep * 0.02 * (1 - np.exp(-t / 0.02))
    body = np.sin(2 * np.pi * phase) * np.exp(-t / decay)
    attack = _noise(0.015, 1500, 7000, generator) * click * 0.25
    body[: len(attack)] += attack[: len(body)] * envelope(len(attack), 0.0, 0.014)[: len(body)]
    return body.astype(np.float32)


def _snare(tone: float, decay: float, wires: float, generator: np.random.Generator) -> np.ndarray:
    t = seconds_axis(decay * 4)
    noise = _noise(decay * 4, 900, 9500, generator) * np.exp(-t / decay)
    shell = np.sin(2 * np.pi * tone * t) + 0.5 * np.sin(2 * np.pi * 1.6 * tone * t)
    return (0.45 * shell * np.exp(-t / 0.06) + 0.3 * wires * noise).astype(np.float32)


def _cymbal(low: float, decay: float, ping: float, generator: np.random.Generator) -> np.ndarray:
    t = seconds_axis(min(decay * 5, 1.6))
    sound = 0.25 * _noise(len(t) / SAMPLING_RATE + 0.001, low, 10800, generator)[: len(t)]
    for partial in generator.uniform(2500, 7500, 5) if ping else ():
        sound = sound + ping * 0.12 * np.sin(2 * np.pi * partial * t)
    return (sound * np.exp(-t / decay) * envelope(len(t), 0.0005, 0.01)).astype(np.float32)


def _clap(decay: float, generator: np.random.Generator) -> np.ndarray:
    burst = _noise(decay * 4, 900, 4500, generator)
    t = np.arange(len(burst)) / SAMPLING_RATE
    strokes = sum(np.where(t >= start, np.exp(-(t - start) / 0.006), 0.0) for start in (0.0, 0.011, 0.022))
    return (0.3 * burst * (strokes + np.where(t >= 0.03, np.exp(-(t - 0.03) / decay), 0.0))).astype(np.float32)


def _tom(tone: float, generator: np.random.Generator) -> np.ndarray:
    t = seconds_axis(0.6)
    return (np.sin(2 * np.pi * (tone * t + 0.8 * (1 - np.exp(-t / 0.05)))) * np.exp(-t / 0.15)).astype(np.float32)


def render_kit(kind: str, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the strokes of one kit, each float32 [samples].

    `kind` is `acoustic`, `jazz`, `metal`, `disco`, `boom-bap`, `electronic` or `reggae`; it sets the ranges that
    tuning, damping and brightness are drawn from. Strokes: kick, snare, rim, hat, open, ride, crash, clap, tom, shaker.
    """
    base, kick_decay, click, snare_tone, snare_decay, hat_low = {
        "acoustic": (58, 0.11, 0.7, 190, 0.09, 5500),
        "jazz": (75, 0.10, 0.2, 210, 0.11, 4200),
        "metal": (60, 0.06, 2.2, 200, 0.10, 5000),
        "disco": (60, 0.09, 0.8, 200, 0.08, 6000),
        "boom-bap": (52, 0.14, 0.6, 175, 0.10, 4500),
        "electronic": (50, 0.13, 1.0, 200, 0.10, 6500),
        "reggae": (55, 0.12, 0.3, 260, 0.05, 5500),
    }[kind]
    vary = generator.uniform(0.75, 1.3, 12)
    return {
        "kick": _kick(base * vary[0] ** 0.5, 90 * vary[1], kick_decay * vary[2], click * vary[3], generator),
        "snare": _snare(snare_tone * vary[4], snare_decay * vary[5], vary[6], generator),
        "rim": _snare(900 * vary[7], 0.015, 0.6, generator),
        "hat": _cymbal(hat_low * vary[8], 0.025 * vary[9], 0.0, generator),
        "open": _cymbal(hat_low * vary[8], 0.14 * vary[9], 0.0, generator),
        "ride": _cymbal(3500 * vary[10], 0.3 * vary[11], 1.0, generator),
        "crash": _cymbal(2500 * vary[10], 0.45 * vary[11], 0.4, generator),
        "clap": _clap(0.07 * vary[5], generator),
        "tom": _tom(110 * vary[4], generator),
        "shaker": 0.7 * _cymbal(5000, 0.03 * vary[9], 0.0, generator),
    }
