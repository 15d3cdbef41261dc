"""What a spectrogram front end is composed of: librosa's transforms, scales, and a few lines of arrays."""

import functools
from collections.abc import Iterable
from typing import Any

import librosa
import numpy as np
import scipy.sparse
import torch


# Frames whose spectra are held at once: a recording of hours would fill the memory with complex spectra otherwise.
BLOCK_FRAMES = 4096
# Differences below this are no difference: silent and constant inputs must not be divided by next to nothing.
TINY = 1e-8
# librosa's least power, in dB against 1.
DB_FLOOR = -100.0


@functools.lru_cache(maxsize=16)
def _mel_filters(
    sampling_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float | None, htk: bool, norm: str | None
) -> scipy.sparse.csr_array:
    """Return librosa's mel filters, kept and sparse: a band is a few of a thousand frequencies."""
    return scipy.sparse.csr_array(
        librosa.filters.mel(sr=sampling_rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, htk=htk, norm=norm)
    )


@functools.lru_cache(maxsize=16)
def _window(window: str, win_length: int) -> torch.Tensor:
    return torch.from_numpy(librosa.filters.get_window(window, win_length, fftbins=True).astype(np.float32))


def magnitudes(
    waveform: np.ndarray,
    *,
    n_fft: int,
    hop_length: int,
    win_length: int,
    window: str,
    pad_mode: str,
    power: float,
    mel: tuple | None = None,
) -> np.ndarray:
    """Return |STFT| ** power over centred frames, [n_fft // 2 + 1, frames], or its mel bands [n_mels, frames].

    Args:
        waveform: [samples].
        n_fft: Samples of the transform.
        hop_length: Samples from one frame to the next.
        win_length: Samples of the window, centred in `n_fft`.
        window: Name of the window function.
        pad_mode: How the waveform is continued at its ends.
        power: Exponent of the magnitude.
        mel: What `librosa.filters.mel` takes: sampling rate, n_fft, mels, fmin, fmax, htk, norm. None: no mel bands.
    """
    padded = np.pad(waveform, n_fft // 2, mode=pad_mode)
    num_frames = 1 + (len(padded) - n_fft) // hop_length
    blocks = []
    for first in range(0, num_frames, BLOCK_FRAMES):
        count = min(BLOCK_FRAMES, num_frames - first)
        samples = padded[first * hop_length : (first + count - 1) * hop_length + n_fft]
        # The same transform as librosa.stft, in half the time.
        spectra = torch.stft(
            torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)),
            n_fft,
            hop_length,
            win_length,
            window=_window(window, win_length),
            center=False,
            return_complex=True,
        )
        squares = spectra.real.square() + spectra.imag.square()
        spectrogram = (squares if power == 2 else squares.sqrt() ** power).numpy()
        # librosa.feature.melspectrogram, without making its filters anew for every window
        blocks.append(spectrogram if mel is None else _mel_filters(*mel) @ spectrogram)
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)


def scaled_spectrogram(waveform: np.ndarray, fields: Any) -> np.ndarray:
    """Return the spectrogram of a waveform [samples] in its scale (dB against 1, without a floor), [bins, frames].

    Of MFCCs it is the spectrogram of their mels.

    Args:
        waveform: [samples].
        fields: A [`SpectrogramFeatureExtractor`], whose fields say which.
    """
    waveform = np.asarray(waveform, dtype=np.float32)
    if fields.representation == "cqt":
        constant_q = librosa.cqt(
            waveform,
            sr=fields.sampling_rate,
            hop_length=fields.hop_length,
            fmin=fields.fmin,
            n_bins=fields.num_bins,
            bins_per_octave=fields.bins_per_octave,
            window=fields.window_function,
            pad_mode=fields.pad_mode,
        )
        spectrogram = np.abs(constant_q) ** fields.power
    else:
        n_mels = {"mel": fields.num_bins, "mfcc": fields.num_mels}.get(fields.representation)
        mel = (fields.sampling_rate, fields.n_fft, n_mels, fields.fmin or 0.0, fields.fmax)
        spectrogram = magnitudes(
            waveform,
            n_fft=fields.n_fft,
            hop_length=fields.hop_length,
            win_length=fields.win_length or fields.n_fft,
            window=fields.window_function,
            pad_mode=fields.pad_mode,
            power=fields.power,
            mel=None if n_mels is None else (*mel, fields.mel_htk, fields.mel_norm),
        )
    if fields.scale == "db":
        return librosa.power_to_db(spectrogram if fields.power == 2 else spectrogram**2, ref=1.0, top_db=None)
    return np.log(spectrogram + fields.log_offset) if fields.scale == "log" else spectrogram


def relative_db(features: np.ndarray, *, reference: str | float, power: float, top_db: float | None) -> np.ndarray:
    """Return dB [frames, bins] against `reference` (or their `"max"`) instead of 1, raised to `top_db` below the loudest.

    What librosa's `power_to_db` (`amplitude_to_db` for a `power` of 1) does for `ref` and `top_db`.
    """
    loudest = features.max()
    zero = loudest if reference == "max" else 10 * np.log10(max(1e-10, reference ** (2 / power)))
    floor = -np.inf if top_db is None else loudest - top_db
    return np.maximum(features, np.float32(floor)) - np.float32(zero)


def mfcc(scaled: np.ndarray, num_bins: int) -> np.ndarray:
    """Return the first `num_bins` cepstral coefficients [frames, num_bins] of scaled mels [frames, mels]."""
    return librosa.feature.mfcc(S=scaled.T, n_mfcc=num_bins).T


def decimated_count(num_frames: int, step: float) -> int:
    """Return how many of `num_frames` frames remain when one of `step` is kept."""
    return max(1, int(num_frames / step))


def decimate(features: np.ndarray, step: float) -> np.ndarray:
    """Keep one frame of `step` of [frames, bins], the one in the middle of each step (nothing is averaged)."""
    kept = np.arange(decimated_count(len(features), step))
    return features[np.minimum(((kept + 0.5) * step).astype(np.int64), len(features) - 1)]


def resize(features: np.ndarray, size: list[int]) -> np.ndarray:
    """Resize [frames, bins] to `size` = [bins, frames]: bilinear, with a low-pass where it shrinks (ours).

    Without the low-pass most frames of a long window would go unheard.
    """
    image = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))[None, None]
    resized = torch.nn.functional.interpolate(
        image, size=(size[1], size[0]), mode="bilinear", align_corners=False, antialias=True
    )
    return resized[0, 0].numpy()


def standardize(values: np.ndarray) -> np.ndarray:
    """Return (x - mean) / standard deviation over all values of float32, float32; zeros where they do not differ."""
    flat = values.reshape(-1, 1)
    # In parts: a recording of hours in float64 would be many times itself.
    mean, std = running_statistics(flat[first : first + 2**20] for first in range(0, len(flat), 2**20))
    if std < TINY:
        return np.zeros_like(values, dtype=np.float32)
    return ((values - mean) / std).astype(np.float32, copy=False)


def min_max(values: np.ndarray) -> np.ndarray:
    """Return (x - min) / (max - min) over all values, float32; zeros where they do not differ."""
    low, high = float(values.min()), float(values.max())
    if high - low < TINY:
        return np.zeros_like(values, dtype=np.float32)
    return ((values - low) / (high - low)).astype(np.float32)


def normalize(features: np.ndarray, fields: Any) -> np.ndarray:
    """Normalise [frames, bins] as the fields `normalization`, `mean`, ... of a [`SpectrogramFeatureExtractor`] say."""
    if fields.normalization == "min_max":
        return min_max(features)
    if fields.normalization == "z_score":
        return standardize(features)
    if fields.normalization == "affine":
        return (features + np.float32(fields.affine_offset)) / np.float32(fields.affine_scale)
    if fields.normalization == "statistics":
        return (features - np.asarray(fields.mean, np.float32)) / np.asarray(fields.std, np.float32)
    return features


def stored_features(stored: np.ndarray, num_bins: int, bins_first: bool | None) -> tuple[np.ndarray, bool]:
    """Return a stored spectrogram as float32 [frames, bins], and whether it was levels 0..255, which become 0..1.

    It is read as [bins, frames] or [frames, bins] as `bins_first` says; None: the first for levels, the second for floats.

    Raises:
        ValueError: If it has not `num_bins` bins, or no frames, or values that are not finite or no levels.
    """
    stored = np.asarray(stored)
    levels = np.issubdtype(stored.dtype, np.integer)
    if bins_first is None:
        bins_first = levels
    features = stored.T if bins_first else stored
    if features.ndim != 2 or features.shape[1] != num_bins or len(features) == 0:
        layout = f"[{num_bins}, frames]" if bins_first else f"[frames, {num_bins}]"
        raise ValueError(f"stored features must be {layout}, not {list(stored.shape)}")
    features = np.ascontiguousarray(features, dtype=np.float32)
    if not np.isfinite(features).all():
        raise ValueError("stored features have NaN or infinite values")
    if levels and (features.min() < 0 or features.max() > 255):
        raise ValueError("stored levels must lie in 0..255")
    return (features / np.float32(255) if levels else features), levels


def running_statistics(spectrograms: Iterable[np.ndarray], *, per_bin: bool = False) -> tuple:
    """Return mean and standard deviation over many spectrograms, holding one of them at a time.

    They are merged in float64 by the formula of Chan, Golub and LeVeque (1979), which stays exact where sums of squares
    of dB values lose digits.

    Args:
        spectrograms: Arrays [..., frames, bins], of the **training split only**: statistics that have seen the other
            sides leak them.
        per_bin: Whether each bin gets its own.

    Returns:
        `(mean, std)`: two floats, or two lists of floats [bins].

    Raises:
        ValueError: If there is no spectrogram, or one has other bins than the first.
    """
    count, mean, squares = 0, None, None
    for spectrogram in spectrograms:
        rows = np.asarray(spectrogram, dtype=np.float64)
        rows = rows.reshape(-1, rows.shape[-1] if per_bin else 1)
        new_mean = rows.mean(axis=0)
        new_squares = ((rows - new_mean) ** 2).sum(axis=0)
        if mean is None:
            count, mean, squares = len(rows), new_mean, new_squares
            continue
        if len(new_mean) != len(mean):
            raise ValueError(f"spectrograms must have equal bins: {len(mean)} and {len(new_mean)}")
        total = count + len(rows)
        delta = new_mean - mean
        squares = squares + new_squares + delta**2 * (count * len(rows) / total)
        mean = mean + delta * (len(rows) / total)
        count = total
    if mean is None:
        raise ValueError("statistics need at least one spectrogram")
    std = np.sqrt(squares / count)
    return (mean.tolist(), std.tolist()) if per_bin else (float(mean[0]), float(std[0]))
