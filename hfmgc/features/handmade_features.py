"""Hand-made features of whole clips: FMA's 518 in the order of its features.csv, and GTZAN's 57 summary features.

FMA: Defferrard et al., "FMA: a dataset for music analysis" (ISMIR 2017), features.py of its repository, written for
librosa 0.5. Its defaults and scales are restored: reflected ends, the lengths of the constant-Q filters, chroma folded
from 12 bins per octave, and rmse as the root of the mean squared magnitude of the spectrum (librosa.feature.rms now has
the waveform's level). Features without a constant-Q transform then equal librosa 0.5.1; chroma_cqt, chroma_cens and
tonnetz are close, because librosa now builds and resamples that transform differently. GTZAN: the 30 s table distributed
with the corpus.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import librosa
import numpy as np


N_FFT = 2048
HOP_LENGTH = 512
# One frame.
MIN_SAMPLES = N_FFT
# The sixth contrast band begins at 6,400 Hz, which must be below half the rate.
MIN_SAMPLING_RATE = 12801
# librosa's default, which the authors' script uses for these features regardless of the file's rate.
ASSUMED_SAMPLING_RATE = 22050
QUIRK_FEATURES = (
    "chroma_stft",
    "spectral_bandwidth",
    "spectral_centroid",
    "spectral_contrast",
    "spectral_rolloff",
)
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


def extract_handmade_features(
    waveform: np.ndarray, sampling_rate: int, *, fma_sampling_rate_quirk: bool = False
) -> np.ndarray:
    """Compute FMA's 518 features of a clip: seven statistics over the frames of 74 dimensions.

    A silent clip has finite features. A constant dimension has skew 0 and kurtosis -3, as in the authors' scipy; today's
    returns NaN.

    Args:
        waveform: Mono [samples], at least 2,048; 30 s or a whole track.
        sampling_rate: In Hz, above 12,800. The authors used the file's own rate, mostly 44,100 Hz.
        fma_sampling_rate_quirk: Compute `QUIRK_FEATURES` as if the rate were 22,050 Hz, as in the published
            features.csv, where the frequencies of 44,100 Hz tracks are half of the true ones.

    Returns:
        float32 [518], in the order of `columns()`.

    Raises:
        ValueError: If the waveform is not mono, too short, or has NaN or infinite samples, or the rate is too low.
    """
    with _without_warnings():
        frames = frame_features(waveform, sampling_rate, fma_sampling_rate_quirk=fma_sampling_rate_quirk)
    features = []
    for name in FEATURE_SIZES:
        statistics = frame_statistics(frames[name])
        features.extend(statistics[statistic] for statistic in STATISTICS)
    return np.concatenate(features).astype(np.float32)


def frame_features(
    waveform: np.ndarray, sampling_rate: int, *, fma_sampling_rate_quirk: bool = False
) -> dict[str, np.ndarray]:
    """Return the frames of each feature, [dimensions, frames]; see `extract_handmade_features`."""
    waveform = _checked(waveform, sampling_rate)
    rate = ASSUMED_SAMPLING_RATE if fma_sampling_rate_quirk else sampling_rate
    constant_q = np.abs(
        librosa.cqt(
            waveform,
            sr=sampling_rate,
            hop_length=HOP_LENGTH,
            n_bins=7 * 12,
            bins_per_octave=12,
            tuning=None,
            filter_scale=_FILTER_SCALE,
            pad_mode="reflect",
        )
    )
    octaves = {"C": constant_q, "n_chroma": 12, "n_octaves": 7, "bins_per_octave": 12}
    cens = librosa.feature.chroma_cens(**octaves)
    magnitude = np.abs(librosa.stft(waveform, n_fft=N_FFT, hop_length=HOP_LENGTH, pad_mode="reflect"))
    power = magnitude**2
    mel = librosa.feature.melspectrogram(S=power, sr=sampling_rate)
    return {
        "chroma_cens": cens,
        "chroma_cqt": librosa.feature.chroma_cqt(**octaves),
        "chroma_stft": librosa.feature.chroma_stft(S=power, sr=rate, n_chroma=12),
        "mfcc": librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=20),
        "rmse": np.sqrt(power.mean(axis=0, keepdims=True)),
        "spectral_bandwidth": librosa.feature.spectral_bandwidth(S=magnitude, sr=rate),
        "spectral_centroid": librosa.feature.spectral_centroid(S=magnitude, sr=rate),
        "spectral_contrast": librosa.feature.spectral_contrast(S=magnitude, sr=rate, n_bands=6),
        "spectral_rolloff": librosa.feature.spectral_rolloff(S=magnitude, sr=rate),
        "tonnetz": librosa.feature.tonnetz(chroma=cens),
        "zcr": librosa.feature.zero_crossing_rate(waveform, frame_length=N_FFT, hop_length=HOP_LENGTH),
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
        spectrum = librosa.stft(waveform, n_fft=N_FFT, hop_length=HOP_LENGTH, pad_mode="reflect")
        harmonic, percussive = (
            librosa.istft(part, n_fft=N_FFT, hop_length=HOP_LENGTH, length=len(waveform))
            for part in librosa.decompose.hpss(spectrum)
        )
        magnitude = np.abs(spectrum)
        power = magnitude**2
        decibels = librosa.power_to_db(librosa.feature.melspectrogram(S=power, sr=sampling_rate))
        onsets = librosa.onset.onset_strength(S=decibels, sr=sampling_rate, hop_length=HOP_LENGTH)
        tempo, _ = librosa.beat.beat_track(onset_envelope=onsets, sr=sampling_rate, hop_length=HOP_LENGTH)
        summarised = [
            librosa.feature.chroma_stft(S=power, sr=sampling_rate),
            librosa.feature.rms(y=waveform, frame_length=N_FFT, hop_length=HOP_LENGTH, pad_mode="reflect"),
            librosa.feature.spectral_centroid(S=magnitude, sr=sampling_rate),
            librosa.feature.spectral_bandwidth(S=magnitude, sr=sampling_rate),
            librosa.feature.spectral_rolloff(S=magnitude, sr=sampling_rate),
            librosa.feature.zero_crossing_rate(waveform, frame_length=N_FFT, hop_length=HOP_LENGTH),
            harmonic,
            percussive,
        ]
        cepstrum = librosa.feature.mfcc(S=decibels, n_mfcc=20)
    features = [*_means_and_variances(summarised), float(np.ravel(tempo)[0]), *_means_and_variances(cepstrum)]
    return np.array(features, dtype=np.float32)


def _means_and_variances(rows: list[np.ndarray] | np.ndarray) -> Iterator[float]:
    for row in rows:
        yield row.mean(dtype=np.float64)
        yield row.var(dtype=np.float64)


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
