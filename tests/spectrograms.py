"""Small spectrogram extractors and waveforms for them, shared by the tests of the spectrogram front end."""

import numpy as np
from conftest import tone

from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor


RATE = 16000
SMALL = {"sampling_rate": RATE, "n_fft": 512, "hop_length": 128, "num_bins": 32, "window_seconds": 1.0}


def make(**fields) -> SpectrogramFeatureExtractor:
    return SpectrogramFeatureExtractor(**{**SMALL, **fields})


def extract(extractor, waveform) -> np.ndarray:
    return extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="np")["input_values"][0]


def changing(seed: int, seconds: float) -> np.ndarray:
    """A tone that grows from quiet to loud, so that windows and track have different extremes."""
    waveform = tone(seed, seconds=seconds)
    return waveform * np.geomspace(0.01, 1, len(waveform), dtype=np.float32)
