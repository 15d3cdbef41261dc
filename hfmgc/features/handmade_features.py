"""Hand-made features of whole clips: FMA's 518 in the order of its features.csv, and GTZAN's 57 summary features.

FMA: Defferrard et al., "FMA: a dataset for music analysis" (ISMIR 2017). The authors' features.py was written for librosa
0.5, whose defaults and scales are restored here: reflected ends, the lengths of the constant-Q filters, chroma folded from
12 bins per octave, and rmse as the root of the mean squared magnitude of the spectrum (today's librosa.feature.rms returns
the level of the waveform). Features without a constant-Q transform equal librosa 0.5.1. chroma_cqt, chroma_cens and tonnetz
are close to it; librosa now computes that transform differently.

GTZAN: the table of 30 s clips that is distributed with the corpus.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import librosa
import numpy as np


N_FFT = 2048
HOP_LENGTH = 512
# Number of frames in memory at once (48 s at 44,100 Hz); a multiple of 64, see `_constant_q`.
BLOCK_FRAMES = 4096
# Extra frames on each side of a block: more than the longest constant-Q filter.
CONTEXT_FRAMES = 256
# The same for the median filter of 31 frames: half its length and the frames that overlap.
MEDIAN_CONTEXT_FRAMES = 32
# Features need at least one frame.
MIN_SAMPLES = N_FFT
# The last contrast band begins at 6,400 Hz, which must be below half the sampling rate.
MIN_SAMPLING_RATE = 12801
# librosa's default rate. The authors' script uses it at any rate for chroma_stft and four spectral features.
ASSUMED_SAMPLING_RATE = 22050
FEATURE_SIZES = {
    "chroma_cens": 12,
    "chroma_cqt": 12,
    "chroma_stft": 12,
    "mfcc": 20,
    "rmse": 1,
    "spectral_bandwidth": 1,
    "spectral_centroid": 1,
    "spectral_contrast": 7,
    "spectral_rolloff": 1,
    "tonnetz": 6,
    "zcr": 1,
}
# Restores the lengths of the constant-Q filters. For neighbouring bins at the frequency ratio r, librosa 0.5 computed
# Q = 1 / (r - 1); since 0.10, it computes (r^2 + 1) / (r^2 - 1).
_BIN_RATIO = 2 ** (1 / 12)
_FILTER_SCALE = (_BIN_RATIO**2 - 1) / (_BIN_RATIO**2 + 1) / (_BIN_RATIO - 1)
STATISTICS = ("kurtosis", "max", "mean", "median", "min", "skew", "std")
_SUMMARISED_FEATURES = (
    "chroma_stft",
    "rms",
    "spectral_centroid",
    "spectral_bandwidth",
    "rolloff",
    "zero_crossing_rate",
    "harmony",
    "perceptr",
)
GTZAN_SUMMARY_COLUMNS = (
    *(f"{name}_{statistic}" for name in _SUMMARISED_FEATURES for statistic in ("mean", "var")),
    "tempo",
    *(f"mfcc{number}_{statistic}" for number in range(1, 21) for statistic in ("mean", "var")),
)


def columns() -> list[tuple[str, str, str]]:
    """Return the 518 columns (feature, statistic, number) in the order of features.csv; numbers are `01` to `20`."""
    return [
        (feature, statistic, f"{number:02d}")
        for feature, size in FEATURE_SIZES.items()
        for statistic in STATISTICS
        for number in range(1, size + 1)
    ]


def column_names() -> list[str]:
    """Return the names of the 518 columns, such as `chroma_cens-kurtosis-01`."""
    return ["-".join(column) for column in columns()]


def extract_handmade_features(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Compute FMA's 518 features of a clip: seven statistics over the frames of 74 dimensions.

    A silent clip has finite features. A constant dimension has skew 0 and kurtosis -3, as in the authors' version of scipy;
    today's scipy returns NaN. As in the published features.csv, some features are computed as if the rate were 22,050 Hz,
    so frequencies of tracks at 44,100 Hz are half the true values.

    Args:
        waveform: Mono float32 [samples], at least 2,048, all finite; 30 s or a whole track.
        sampling_rate: Rate in Hz, above 12,800. The authors used the file's own rate, mostly 44,100 Hz.

    Returns:
        float32 [518], in the order of `columns()`.
    """
    with _suppress_warnings():
        frames = frame_features(waveform, sampling_rate)
    features = []
    for name in FEATURE_SIZES:
        statistics = frame_statistics(frames[name])
        features.extend(statistics[statistic] for statistic in STATISTICS)
    return np.concatenate(features).astype(np.float32)


def frame_features(waveform: np.ndarray, sampling_rate: int) -> dict[str, np.ndarray]:
    """Compute the values of each feature in each frame, [dimensions, frames]; see `extract_handmade_features`."""
    constant_q = _constant_q(waveform, sampling_rate)
    octaves = {"C": constant_q, "n_chroma": 12, "n_octaves": 7, "bins_per_octave": 12}
    cens = librosa.feature.chroma_cens(**octaves)
    rows = _join_blocks(
        {
            "mel": librosa.feature.melspectrogram(S=magnitude**2, sr=sampling_rate),
            "rmse": np.sqrt((magnitude**2).mean(axis=0, keepdims=True)),
            "spectral_bandwidth": librosa.feature.spectral_bandwidth(S=magnitude, sr=ASSUMED_SAMPLING_RATE),
            "spectral_centroid": librosa.feature.spectral_centroid(S=magnitude, sr=ASSUMED_SAMPLING_RATE),
            "spectral_rolloff": librosa.feature.spectral_rolloff(S=magnitude, sr=ASSUMED_SAMPLING_RATE),
            **_peaks_and_valleys(magnitude, ASSUMED_SAMPLING_RATE),
        }
        for magnitude in _iter_magnitudes(waveform)
    )
    peaks, valleys = (librosa.power_to_db(rows.pop(name)) for name in ("peaks", "valleys"))
    return {
        "chroma_cens": cens,
        "chroma_cqt": librosa.feature.chroma_cqt(**octaves),
        "chroma_stft": _chroma(waveform, ASSUMED_SAMPLING_RATE),
        "mfcc": _cepstrum(librosa.power_to_db(rows.pop("mel"))),
        "spectral_contrast": peaks - valleys,
        "tonnetz": librosa.feature.tonnetz(chroma=cens),
        "zcr": _compute_framewise(librosa.feature.zero_crossing_rate, waveform, "edge"),
        **rows,
    }


def frame_statistics(frames: np.ndarray) -> dict[str, np.ndarray]:
    """Return seven statistics [dimensions] of [dimensions, frames]: population moments, excess kurtosis."""
    frames = frames.astype(np.float64)
    mean = frames.mean(axis=1)
    centred = frames - mean[:, None]
    variance = (centred**2).mean(axis=1)
    # The variance of a constant row is rounding error; its higher moments would be noise.
    constant = variance <= (np.finfo(np.float64).eps * mean) ** 2
    safe = np.where(constant, 1.0, variance)
    return {
        "kurtosis": np.where(constant, 0.0, (centred**4).mean(axis=1) / safe**2) - 3.0,
        "max": frames.max(axis=1),
        "mean": mean,
        "median": np.median(frames, axis=1),
        "min": frames.min(axis=1),
        "skew": np.where(constant, 0.0, (centred**3).mean(axis=1) / safe**1.5),
        "std": np.sqrt(variance),
    }


def extract_summary_features(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Compute GTZAN's 57 summary features: means and variances over frames, and the tempo in beats per minute.

    `harmony` and `perceptr` are statistics of the samples in the harmonic and percussive parts of the waveform, which
    median filters separate.

    Args:
        waveform: Mono float32 [samples], at least 2,048, all finite; 30 s in the published table.
        sampling_rate: Rate in Hz, above 12,800; 22,050 in the published table.

    Returns:
        float32 [57], in the order of `GTZAN_SUMMARY_COLUMNS`. A silent clip has finite features and tempo 0.
    """
    with _suppress_warnings():
        parts = _harmonic_and_percussive(waveform)
        rows = _join_blocks(
            {
                "mel": librosa.feature.melspectrogram(S=magnitude**2, sr=sampling_rate),
                "spectral_centroid": librosa.feature.spectral_centroid(S=magnitude, sr=sampling_rate),
                "spectral_bandwidth": librosa.feature.spectral_bandwidth(S=magnitude, sr=sampling_rate),
                "rolloff": librosa.feature.spectral_rolloff(S=magnitude, sr=sampling_rate),
            }
            for magnitude in _iter_magnitudes(waveform)
        )
        decibels = librosa.power_to_db(rows.pop("mel"))
        rows |= {
            "chroma_stft": _chroma(waveform, sampling_rate),
            "rms": _compute_framewise(librosa.feature.rms, waveform, "reflect"),
            "zero_crossing_rate": _compute_framewise(librosa.feature.zero_crossing_rate, waveform, "edge"),
        }
        moments = {name: (row.mean(dtype=np.float64), row.var(dtype=np.float64)) for name, row in rows.items()} | parts
        tempo = _tempo(decibels, sampling_rate)
        cepstrum = _cepstrum(decibels)
    features = [value for name in _SUMMARISED_FEATURES for value in moments[name]]
    features += [
        tempo,
        *(value for row in cepstrum for value in (row.mean(dtype=np.float64), row.var(dtype=np.float64))),
    ]
    return np.array(features, dtype=np.float32)


# The features of long tracks are computed in blocks of frames, because the spectra of a whole track may not fit into memory.
# Anything that depends on the whole track (tuning, the maximum in decibels, smoothing over time) uses the rows of all blocks.


def _iter_blocks(waveform: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the first frame of each block and the frame after its last."""
    frames = 1 + len(waveform) // HOP_LENGTH
    for first in range(0, frames, BLOCK_FRAMES):
        yield first, min(first + BLOCK_FRAMES, frames)


def _pad_block(waveform: np.ndarray, first: int, stop: int, pad_mode: str) -> np.ndarray:
    """Return the samples of the centred frames `first` to `stop`, padded at the ends of the waveform."""
    start, end = first * HOP_LENGTH - N_FFT // 2, (stop - 1) * HOP_LENGTH + N_FFT // 2
    low, high = max(0, start - N_FFT), min(len(waveform), end)  # includes all samples that the end reflects
    padded = np.pad(waveform[low:high], (max(0, -start), end - high), mode=pad_mode)
    return padded[start + max(0, -start) - low :]


def _iter_magnitudes(waveform: np.ndarray, pad_mode: str = "reflect") -> Iterator[np.ndarray]:
    """Yield the magnitude spectrum [1025, frames] of each block."""
    for first, stop in _iter_blocks(waveform):
        block = _pad_block(waveform, first, stop, pad_mode)
        yield np.abs(librosa.stft(block, n_fft=N_FFT, hop_length=HOP_LENGTH, center=False))


def _join_blocks(blocks: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Concatenate the rows [dimensions, frames] of all blocks by name."""
    parts: dict[str, list[np.ndarray]] = {}
    for block in blocks:
        for name, rows in block.items():
            parts.setdefault(name, []).append(rows)
    return {name: np.concatenate(rows, axis=1) for name, rows in parts.items()}


def _estimate_tuning(spectra: Iterable[np.ndarray], sampling_rate: int) -> float:
    """Estimate the tuning from the spectral peaks of all blocks, like `librosa.estimate_tuning`."""
    pitches, strengths = [], []
    for spectrum in spectra:
        pitch, strength = librosa.piptrack(S=spectrum, sr=sampling_rate, n_fft=N_FFT)
        pitches.append(pitch[pitch > 0])
        strengths.append(strength[pitch > 0])
    pitch, strength = np.concatenate(pitches), np.concatenate(strengths)
    loud = strength >= (np.median(strength) if len(strength) else 0.0)
    return librosa.pitch_tuning(pitch[loud], bins_per_octave=12)


def _chroma(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Return the chroma of the power spectrum [12, frames]."""
    tuning = _estimate_tuning((magnitude**2 for magnitude in _iter_magnitudes(waveform)), sampling_rate)
    chroma = {"sr": sampling_rate, "tuning": tuning, "n_chroma": 12}
    return np.concatenate(
        [librosa.feature.chroma_stft(S=magnitude**2, **chroma) for magnitude in _iter_magnitudes(waveform)], axis=1
    )


def _constant_q(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Return the magnitudes of the constant-Q transform [84, frames].

    Each block is transformed with `CONTEXT_FRAMES` on both sides. Blocks start at whole frames of the lowest octave, where
    one frame spans 64 frames of the highest.
    """
    fields = {
        "sr": sampling_rate,
        "hop_length": HOP_LENGTH,
        "n_bins": 7 * 12,
        "bins_per_octave": 12,
        "tuning": _estimate_tuning(_iter_magnitudes(waveform, "constant"), sampling_rate),
        "filter_scale": _FILTER_SCALE,
        "pad_mode": "reflect",
    }
    blocks = []
    for first, stop in _iter_blocks(waveform):
        before = max(0, first - CONTEXT_FRAMES)
        block = waveform[before * HOP_LENGTH : (stop + CONTEXT_FRAMES) * HOP_LENGTH]
        blocks.append(np.abs(librosa.cqt(block, **fields))[:, first - before : stop - before])
    return np.concatenate(blocks, axis=1)


def _peaks_and_valleys(magnitude: np.ndarray, sampling_rate: int) -> dict[str, np.ndarray]:
    """Return the means of the largest and of the smallest 2 % of each octave band, [7, frames] each.

    `librosa.feature.spectral_contrast` computes the same values, but returns them only in decibels below the maximum of its
    input, which must be that of the whole track.
    """
    frequencies = librosa.fft_frequencies(sr=sampling_rate, n_fft=N_FFT)
    edges = np.concatenate([[0.0], 200.0 * 2.0 ** np.arange(7)])
    peaks, valleys = [], []
    for band, (low, high) in enumerate(pairwise(edges)):
        inside = np.flatnonzero((frequencies >= low) & (frequencies <= high))
        first, last = inside[0] - (band > 0), len(frequencies) if band == 6 else inside[-1] + 1
        count = max(1, int(np.rint(0.02 * (last - first))))
        ordered = np.sort(magnitude[first : last - (band < 6)], axis=0)
        valleys.append(ordered[:count].mean(axis=0, dtype=np.float64))
        peaks.append(ordered[-count:].mean(axis=0, dtype=np.float64))
    return {"peaks": np.array(peaks), "valleys": np.array(valleys)}


def _cepstrum(decibels: np.ndarray) -> np.ndarray:
    """Return 20 MFCCs [20, frames] of a mel spectrogram in decibels."""
    starts = range(0, decibels.shape[1], BLOCK_FRAMES)
    blocks = [librosa.feature.mfcc(S=decibels[:, start : start + BLOCK_FRAMES], n_mfcc=20) for start in starts]
    return np.concatenate(blocks, axis=1)


def _compute_framewise(feature: Callable[..., np.ndarray], waveform: np.ndarray, pad_mode: str) -> np.ndarray:
    """Compute a feature of librosa that takes the samples of each frame, [1, frames]."""
    fields = {"frame_length": N_FFT, "hop_length": HOP_LENGTH, "center": False}
    blocks = [feature(y=_pad_block(waveform, *block, pad_mode), **fields) for block in _iter_blocks(waveform)]
    return np.concatenate(blocks, axis=1)


def _harmonic_and_percussive(waveform: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return mean and variance of the samples of the harmonic part (`harmony`) and of the percussive part (`perceptr`)."""
    sums = np.zeros((2, 2))
    for first, stop in _iter_blocks(waveform):
        before, after = max(0, first - MEDIAN_CONTEXT_FRAMES), stop + MEDIAN_CONTEXT_FRAMES
        block = waveform[before * HOP_LENGTH : after * HOP_LENGTH]
        spectrum = librosa.stft(block, n_fft=N_FFT, hop_length=HOP_LENGTH, pad_mode="reflect")
        for row, part in enumerate(librosa.decompose.hpss(spectrum)):
            samples = librosa.istft(part, n_fft=N_FFT, hop_length=HOP_LENGTH, length=len(block)).astype(np.float64)
            samples = samples[(first - before) * HOP_LENGTH : (stop - before) * HOP_LENGTH]
            sums[row] += samples.sum(), (samples**2).sum()
    means, squares = (sums / len(waveform)).T
    moments = [(mean, max(0.0, square - mean**2)) for mean, square in zip(means, squares, strict=True)]
    return dict(zip(("harmony", "perceptr"), moments, strict=True))


def _tempo(decibels: np.ndarray, sampling_rate: int) -> float:
    """Return the tempo in beats per minute from a mel spectrogram in decibels; 0 if there are no onsets.

    This is the tempo of `librosa.beat.beat_track`, but the mean tempogram is computed in blocks.
    """
    onsets = librosa.onset.onset_strength(S=decibels, sr=sampling_rate, hop_length=HOP_LENGTH)
    if not onsets.any():
        return 0.0
    window = librosa.time_to_frames(8.0, sr=sampling_rate, hop_length=HOP_LENGTH).item()
    padded = np.pad(onsets, window // 2, mode="linear_ramp", end_values=0)
    total = np.zeros((window, 1))
    for start in range(0, len(onsets), BLOCK_FRAMES):
        stop = min(start + BLOCK_FRAMES, len(onsets))
        tempogram = librosa.feature.tempogram(
            onset_envelope=padded[start : stop + window - 1], win_length=window, center=False
        )
        total += tempogram[:, : stop - start].sum(axis=1, keepdims=True)
    mean = total / len(onsets)
    return librosa.feature.tempo(tg=mean, sr=sampling_rate, hop_length=HOP_LENGTH).item()


@contextmanager
def _suppress_warnings() -> Iterator[None]:
    """Suppress librosa's warnings about constant-Q filters longer than the clip and about the tuning of silence."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_fft=.* is too large for input signal")
        warnings.filterwarnings("ignore", message="Trying to estimate tuning from empty frequency set")
        yield
