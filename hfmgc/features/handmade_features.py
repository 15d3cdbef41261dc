"""Hand-made features of whole clips: FMA's 518 in the order of its features.csv, and GTZAN's 57 summary features.

FMA: Defferrard et al., "FMA: a dataset for music analysis" (ISMIR 2017), features.py of its repository, written for
librosa 0.5. Its defaults and scales are restored: reflected ends, the lengths of the constant-Q filters, chroma folded
from 12 bins per octave, and rmse as the root of the mean squared magnitude of the spectrum (librosa.feature.rms now has
the waveform's level). Features without a constant-Q transform then equal librosa 0.5.1; chroma_cqt, chroma_cens and
tonnetz are close, because librosa now builds and resamples that transform differently. GTZAN: the 30 s table distributed
with the corpus.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import librosa
import numpy as np


N_FFT = 2048
HOP_LENGTH = 512
# Frames that are in memory at once (48 s at 44,100 Hz); a multiple of 64, see `_constant_q`.
BLOCK_FRAMES = 4096
CONTEXT_FRAMES = 256
# Half of a median filter of 31 frames, and the frames that overlap.
MEDIAN_CONTEXT_FRAMES = 32
# One frame.
MIN_SAMPLES = N_FFT
# The sixth contrast band begins at 6,400 Hz, which must be below half the rate.
MIN_SAMPLING_RATE = 12801
# librosa's default, which the authors' script assumes at every rate for chroma_stft and four spectral features.
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
# Lengths of the constant-Q filters: librosa 0.5 took Q = 1 / (r - 1) of neighbouring bins at the ratio r, and 0.10 has
# taken (r^2 + 1) / (r^2 - 1) since.
_BIN_RATIO = 2 ** (1 / 12)
_FILTER_SCALE = (_BIN_RATIO**2 - 1) / (_BIN_RATIO**2 + 1) / (_BIN_RATIO - 1)
STATISTICS = ("kurtosis", "max", "mean", "median", "min", "skew", "std")
_SUMMARISED = (
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
    *(f"{name}_{statistic}" for name in _SUMMARISED for statistic in ("mean", "var")),
    "tempo",
    *(f"mfcc{number}_{statistic}" for number in range(1, 21) for statistic in ("mean", "var")),
)


def columns() -> list[tuple[str, str, str]]:
    """Return the 518 columns (feature, statistic, number) in the order of features.csv, numbers as `01` to `20`."""
    return [
        (feature, statistic, f"{number:02d}")
        for feature, size in FEATURE_SIZES.items()
        for statistic in STATISTICS
        for number in range(1, size + 1)
    ]


def column_names() -> list[str]:
    """Return the 518 columns as flat names, such as `chroma_cens-kurtosis-01`."""
    return ["-".join(column) for column in columns()]


def extract_handmade_features(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Compute FMA's 518 features of a clip: seven statistics over the frames of 74 dimensions.

    A silent clip has finite features. A constant dimension has skew 0 and kurtosis -3, as in the authors' scipy; today's
    returns NaN. As in the published features.csv, some features are computed as if the rate were 22,050 Hz, so that
    frequencies of 44,100 Hz tracks are half of the true ones.

    Args:
        waveform: Mono [samples], at least 2,048; 30 s or a whole track.
        sampling_rate: In Hz, above 12,800. The authors used the file's own rate, mostly 44,100 Hz.

    Returns:
        float32 [518], in the order of `columns()`.

    Raises:
        ValueError: If the waveform is not mono, too short, or has NaN or infinite samples, or the rate is too low.
    """
    with _without_warnings():
        frames = frame_features(waveform, sampling_rate)
    features = []
    for name in FEATURE_SIZES:
        statistics = frame_statistics(frames[name])
        features.extend(statistics[statistic] for statistic in STATISTICS)
    return np.concatenate(features).astype(np.float32)


def frame_features(waveform: np.ndarray, sampling_rate: int) -> dict[str, np.ndarray]:
    """Return the frames of each feature, [dimensions, frames]; see `extract_handmade_features`."""
    waveform = _checked(waveform, sampling_rate)
    constant_q = _constant_q(waveform, sampling_rate)
    octaves = {"C": constant_q, "n_chroma": 12, "n_octaves": 7, "bins_per_octave": 12}
    cens = librosa.feature.chroma_cens(**octaves)
    rows = _concatenated(
        {
            "mel": librosa.feature.melspectrogram(S=magnitude**2, sr=sampling_rate),
            "rmse": np.sqrt((magnitude**2).mean(axis=0, keepdims=True)),
            "spectral_bandwidth": librosa.feature.spectral_bandwidth(S=magnitude, sr=ASSUMED_SAMPLING_RATE),
            "spectral_centroid": librosa.feature.spectral_centroid(S=magnitude, sr=ASSUMED_SAMPLING_RATE),
            "spectral_rolloff": librosa.feature.spectral_rolloff(S=magnitude, sr=ASSUMED_SAMPLING_RATE),
            **_peaks_and_valleys(magnitude, ASSUMED_SAMPLING_RATE),
        }
        for magnitude in _magnitudes(waveform)
    )
    peaks, valleys = (librosa.power_to_db(rows.pop(name)) for name in ("peaks", "valleys"))
    return {
        "chroma_cens": cens,
        "chroma_cqt": librosa.feature.chroma_cqt(**octaves),
        "chroma_stft": _chroma(waveform, ASSUMED_SAMPLING_RATE),
        "mfcc": _cepstrum(librosa.power_to_db(rows.pop("mel"))),
        "spectral_contrast": peaks - valleys,
        "tonnetz": librosa.feature.tonnetz(chroma=cens),
        "zcr": _framewise(librosa.feature.zero_crossing_rate, waveform, "edge"),
        **rows,
    }


def frame_statistics(frames: np.ndarray) -> dict[str, np.ndarray]:
    """Return the seven statistics (population moments, excess kurtosis) of [dimensions, frames], each [dimensions]."""
    frames = frames.astype(np.float64)
    mean = frames.mean(axis=1)
    centred = frames - mean[:, None]
    variance = (centred**2).mean(axis=1)
    # The variance of a constant row is rounding error, and its higher moments would be noise.
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
    """Compute GTZAN's 57 summary features: means and variances over frames, and the tempo in beats a minute.

    `harmony` and `perceptr` are the samples of the harmonic and percussive parts of the waveform (median filters).

    Args:
        waveform: Mono [samples], at least 2,048; 30 s in the published table.
        sampling_rate: In Hz, above 12,800; 22,050 in the published table.

    Returns:
        float32 [57], in the order of `GTZAN_SUMMARY_COLUMNS`. A silent clip has finite features, and tempo 0.

    Raises:
        ValueError: As `extract_handmade_features`.
    """
    waveform = _checked(waveform, sampling_rate)
    with _without_warnings():
        parts = _harmonic_and_percussive(waveform)
        rows = _concatenated(
            {
                "mel": librosa.feature.melspectrogram(S=magnitude**2, sr=sampling_rate),
                "spectral_centroid": librosa.feature.spectral_centroid(S=magnitude, sr=sampling_rate),
                "spectral_bandwidth": librosa.feature.spectral_bandwidth(S=magnitude, sr=sampling_rate),
                "rolloff": librosa.feature.spectral_rolloff(S=magnitude, sr=sampling_rate),
            }
            for magnitude in _magnitudes(waveform)
        )
        decibels = librosa.power_to_db(rows.pop("mel"))
        rows |= {
            "chroma_stft": _chroma(waveform, sampling_rate),
            "rms": _framewise(librosa.feature.rms, waveform, "reflect"),
            "zero_crossing_rate": _framewise(librosa.feature.zero_crossing_rate, waveform, "edge"),
        }
        moments = {name: (row.mean(dtype=np.float64), row.var(dtype=np.float64)) for name, row in rows.items()} | parts
        tempo = _tempo(decibels, sampling_rate)
        cepstrum = _cepstrum(decibels)
    features = [value for name in _SUMMARISED for value in moments[name]]
    features += [
        tempo,
        *(value for row in cepstrum for value in (row.mean(dtype=np.float64), row.var(dtype=np.float64))),
    ]
    return np.array(features, dtype=np.float32)


# Features of long tracks are computed in blocks of frames, so that only their rows are in memory as a whole. What depends
# on the whole track (tuning, the maximum of the decibels, smoothing in time) is computed from all rows.


def _spans(waveform: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the first frame of each block, and the frame after its last."""
    frames = 1 + len(waveform) // HOP_LENGTH
    for first in range(0, frames, BLOCK_FRAMES):
        yield first, min(first + BLOCK_FRAMES, frames)


def _padded(waveform: np.ndarray, first: int, stop: int, pad_mode: str) -> np.ndarray:
    """Return the samples of the centred frames `first` to `stop`, padded beyond the ends of the waveform."""
    start, end = first * HOP_LENGTH - N_FFT // 2, (stop - 1) * HOP_LENGTH + N_FFT // 2
    low, high = max(0, start - N_FFT), min(len(waveform), end)  # more than the samples that the end reflects
    padded = np.pad(waveform[low:high], (max(0, -start), end - high), mode=pad_mode)
    return padded[start + max(0, -start) - low :]


def _magnitudes(waveform: np.ndarray, pad_mode: str = "reflect") -> Iterator[np.ndarray]:
    """Yield the magnitude spectrum [1025, frames] of each block."""
    for first, stop in _spans(waveform):
        block = _padded(waveform, first, stop, pad_mode)
        yield np.abs(librosa.stft(block, n_fft=N_FFT, hop_length=HOP_LENGTH, center=False))


def _concatenated(blocks: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Join the rows [dimensions, frames] of the blocks, by name."""
    parts: dict[str, list[np.ndarray]] = {}
    for block in blocks:
        for name, rows in block.items():
            parts.setdefault(name, []).append(rows)
    return {name: np.concatenate(rows, axis=1) for name, rows in parts.items()}


def _tuning(spectra: Iterable[np.ndarray], sampling_rate: int) -> float:
    """Estimate the tuning, as `librosa.estimate_tuning`, from the spectral peaks of all blocks."""
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
    tuning = _tuning((magnitude**2 for magnitude in _magnitudes(waveform)), sampling_rate)
    chroma = {"sr": sampling_rate, "tuning": tuning, "n_chroma": 12}
    return np.concatenate(
        [librosa.feature.chroma_stft(S=magnitude**2, **chroma) for magnitude in _magnitudes(waveform)], axis=1
    )


def _constant_q(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Return the magnitudes of the constant-Q transform [84, frames].

    Each block is transformed with `CONTEXT_FRAMES` on both sides, more than the longest filter. Blocks start at whole
    frames of the lowest octave, whose hop is 64 frames of the highest.
    """
    fields = {
        "sr": sampling_rate,
        "hop_length": HOP_LENGTH,
        "n_bins": 7 * 12,
        "bins_per_octave": 12,
        "tuning": _tuning(_magnitudes(waveform, "constant"), sampling_rate),
        "filter_scale": _FILTER_SCALE,
        "pad_mode": "reflect",
    }
    blocks = []
    for first, stop in _spans(waveform):
        before = max(0, first - CONTEXT_FRAMES)
        block = waveform[before * HOP_LENGTH : (stop + CONTEXT_FRAMES) * HOP_LENGTH]
        blocks.append(np.abs(librosa.cqt(block, **fields))[:, first - before : stop - before])
    return np.concatenate(blocks, axis=1)


def _peaks_and_valleys(magnitude: np.ndarray, sampling_rate: int) -> dict[str, np.ndarray]:
    """Return the mean of the largest and of the smallest 2 % of each octave band [7, frames].

    They are those of `librosa.feature.spectral_contrast`, which does not return them before it converts them to decibels
    below the maximum of the track.
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


def _framewise(feature: Callable[..., np.ndarray], waveform: np.ndarray, pad_mode: str) -> np.ndarray:
    """Return a feature of librosa that is computed from the samples of each frame, [1, frames]."""
    fields = {"frame_length": N_FFT, "hop_length": HOP_LENGTH, "center": False}
    blocks = [feature(y=_padded(waveform, *span, pad_mode), **fields) for span in _spans(waveform)]
    return np.concatenate(blocks, axis=1)


def _harmonic_and_percussive(waveform: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return mean and variance of the samples of the harmonic part (`harmony`) and of the percussive part (`perceptr`)."""
    sums = np.zeros((2, 2))
    for first, stop in _spans(waveform):
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
    """Return the tempo in beats a minute from a mel spectrogram in decibels; 0 without onsets.

    It is that of `librosa.beat.beat_track`, from the mean tempogram, which is computed in blocks.
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


def _checked(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    waveform = np.asarray(waveform, dtype=np.float32)
    if waveform.ndim != 1:
        raise ValueError(
            f"a waveform must be mono [samples], not {list(waveform.shape)}: take the mean of its channels"
        )
    if sampling_rate < MIN_SAMPLING_RATE:
        raise ValueError(
            f"a sampling rate of {sampling_rate} Hz is too low for hand-made features, which need more than "
            f"{MIN_SAMPLING_RATE - 1} Hz: decode at 22050 or 44100 Hz"
        )
    if len(waveform) < MIN_SAMPLES:
        raise ValueError(
            f"{len(waveform)} samples are too few for hand-made features, which need {MIN_SAMPLES}: exclude the clip"
        )
    if not np.isfinite(waveform).all():
        raise ValueError("a waveform has NaN or infinite samples: exclude the clip or decode it again")
    return waveform


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress librosa's warnings for constant-Q filters longer than the clip and for the tuning of silence."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_fft=.* is too large for input signal")
        warnings.filterwarnings("ignore", message="Trying to estimate tuning from empty frequency set")
        yield
