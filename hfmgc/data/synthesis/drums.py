"""Percussion: a falling sine, band-limited noise, or both. Source: ours, after textbook methods."""

import numpy as np
from scipy.signal import butter, sosfilt

from hfmgc.data.synthesis.instruments import SAMPLING_RATE, envelope, seconds_axis


# Kick's pitch (Hz), decay (s) and noise, snare's pitch and decay, lowest frequency of the cymbals.
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
    """Return the strokes of one of the `KITS`, varied in pitch, damping and brightness, each float32 [samples]."""
    kick, kick_decay, click, snare, snare_decay, low = np.array(KITS[kind]) * generator.uniform(0.8, 1.25, 6)

    def stroke(
        decay: float, noise: float, band: tuple[float, float], tone: float = 0.0, fall: float = 0.0
    ) -> np.ndarray:
        t = seconds_axis(min(5 * decay, 1.6))
        hiss = sosfilt(butter(2, band, "bandpass", fs=SAMPLING_RATE, output="sos"), generator.standard_normal(len(t)))
        body = np.sin(2 * np.pi * (tone * t + fall * (1 - np.exp(-t / 0.02))))
        sound = (body + noise * hiss / hiss.std()) * np.exp(-t / decay)
        return (sound * envelope(len(t), 0.0005, 0.01)).astype(np.float32)

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
