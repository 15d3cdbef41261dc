"""The operations of the spectrogram front end: librosa's transforms and scales, decimation, resizing, normalisation."""

import functools
from collections.abc import Iterable
from typing import Any

import librosa
import numpy as np
import scipy.sparse
import torch
from transformers.audio_utils import hertz_to_mel, mel_to_hertz


# Number of frames whose spectra are in memory at once; the complex spectra of hours of audio would not fit.
BLOCK_FRAMES = 4096
# Ranges and deviations below this count as 0, so that silence is not divided by almost zero.
TINY = 1e-8
# librosa's minimum power, in dB relative to 1.
DB_FLOOR = -100.0


@functools.lru_cache(maxsize=16)
def _mel_filters(
    *, sr: int, n_fft: int, n_mels: int, fmin: float, fmax: float | None, htk: bool, norm: str | None
) -> scipy.sparse.csr_array:
    """Return the filters of `librosa.filters.mel` as a sparse matrix [mels, frequencies].

    librosa's function is not used because its import of numba and scipy.signal takes longer than predicting a song.
    transformers' `mel_filter_bank` is wrong for odd `n_fft`.
    """
    scale = "htk" if htk else "slaney"
    low, high = (hertz_to_mel(frequency, scale) for frequency in (fmin, fmax or sr / 2))
    edges = mel_to_hertz(np.linspace(low, high, n_mels + 2), scale)
    ramps = np.subtract.outer(edges, np.fft.rfftfreq(n_fft, 1 / sr))
    widths = np.diff(edges)[:, None]
    rising, falling = -ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]
    filters = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    if norm == "slaney":
        filters *= (2 / (edges[2:] - edges[:-2]))[:, None]
    return scipy.sparse.csr_array(filters)


@functools.lru_cache(maxsize=16)
def _analysis_window(name: str, win_length: int) -> torch.Tensor:
    if name == "hann":  # without the slow import; see `_mel_filters`
        return torch.hann_window(win_length, dtype=torch.float64).float()
    return torch.from_numpy(librosa.filters.get_window(name, win_length, fftbins=True).astype(np.float32))


def compute_spectrogram(waveform: np.ndarray, fields: Any) -> np.ndarray:
    """Return the spectrogram of a waveform [samples] on its scale (dB relative to 1, no floor), [bins, frames].

    For MFCCs, it is the mel spectrogram. `fields` is a [`SpectrogramFeatureExtractor`].
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
        spectrogram = _magnitudes(waveform, fields)
    if fields.scale == "db":
        powers = spectrogram if fields.power == 2 else spectrogram**2
        return 10.0 * np.log10(np.maximum(1e-10, powers))  # librosa.power_to_db
    return np.log(spectrogram + fields.log_offset) if fields.scale == "log" else spectrogram


def _magnitudes(waveform: np.ndarray, fields: Any) -> np.ndarray:
    """Return |STFT| ** power of centred frames [n_fft // 2 + 1, frames], or its mel bands [mels, frames]."""
    n_fft, hop_length, win_length = fields.n_fft, fields.hop_length, fields.win_length or fields.n_fft
    padded = np.pad(waveform, n_fft // 2, mode=fields.pad_mode)
    num_frames = 1 + (len(padded) - n_fft) // hop_length
    blocks = []
    for first in range(0, num_frames, BLOCK_FRAMES):
        count = min(BLOCK_FRAMES, num_frames - first)
        samples = padded[first * hop_length : (first + count - 1) * hop_length + n_fft]
        # torch.stft equals librosa.stft in half the time.
        spectra = torch.stft(
            torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)),
            n_fft,
            hop_length,
            win_length,
            window=_analysis_window(fields.window_function, win_length),
            center=False,
            return_complex=True,
        )
        squares = spectra.real.square() + spectra.imag.square()
        block = (squares if fields.power == 2 else squares.sqrt() ** fields.power).numpy()
        if fields.representation != "stft":
            # librosa.feature.melspectrogram would recompute the filters for every window.
            filters = _mel_filters(
                sr=fields.sampling_rate,
                n_fft=n_fft,
                n_mels=fields.feature_bins,
                fmin=fields.fmin or 0.0,
                fmax=fields.fmax,
                htk=fields.mel_htk,
                norm=fields.mel_norm,
            )
            block = filters @ block
        blocks.append(block)
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)


def rescale_db(features: np.ndarray, *, reference: str | float, power: float, top_db: float | None) -> np.ndarray:
    """Convert dB relative to 1 [frames, bins] to dB relative to `reference`, which may be `"max"`, and apply a floor.

    The floor lies `top_db` below the maximum. Both arguments work like `ref` and `top_db` of librosa's `power_to_db`, or of
    its `amplitude_to_db` for a `power` of 1.
    """
    loudest = features.max()
    zero = loudest if reference == "max" else 10 * np.log10(max(1e-10, reference ** (2 / power)))
    floor = -np.inf if top_db is None else loudest - top_db
    return np.maximum(features, np.float32(floor)) - np.float32(zero)


def count_decimated(num_frames: int, step: float) -> int:
    """Return the number of frames after decimation to one frame in `step`, at least 1."""
    return max(1, int(num_frames / step))


def decimate(features: np.ndarray, step: float) -> np.ndarray:
    """Decimate [frames, bins] to the middle frame of every `step` frames, without averaging."""
    steps = np.arange(count_decimated(len(features), step))
    return features[np.minimum(((steps + 0.5) * step).astype(np.int64), len(features) - 1)]


def resize(features: np.ndarray, size: list[int]) -> np.ndarray:
    """Resize [frames, bins] to `size` = [bins, frames] by bilinear interpolation.

    A low-pass filter is applied if a side shrinks (ours); without it, most frames of a long window would be ignored.
    """
    image = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))[None, None]
    resized = torch.nn.functional.interpolate(
        image, size=(size[1], size[0]), mode="bilinear", align_corners=False, antialias=True
    )
    return resized[0, 0].numpy()


def standardize(values: np.ndarray) -> np.ndarray:
    """Return (x - mean) / standard deviation over all values, float32; all 0 if the values are constant."""
    flat = values.reshape(-1, 1)
    # In blocks, because hours of audio in float64 do not fit into memory.
    mean, std = running_statistics(flat[first : first + 2**20] for first in range(0, len(flat), 2**20))
    if std < TINY:
        return np.zeros_like(values, dtype=np.float32)
    return ((values - mean) / std).astype(np.float32, copy=False)


def normalize(features: np.ndarray, fields: Any) -> np.ndarray:
    """Normalise [frames, bins] as the field `normalization` of an extractor says; see [`SpectrogramFeatureExtractor`]."""
    if fields.normalization == "min_max":
        low, high = float(features.min()), float(features.max())
        if high - low < TINY:
            return np.zeros_like(features, dtype=np.float32)
        return ((features - low) / (high - low)).astype(np.float32)
    if fields.normalization == "z_score":
        return standardize(features)
    if fields.normalization == "affine":
        return (features + np.float32(fields.affine_offset)) / np.float32(fields.affine_scale)
    if fields.normalization == "statistics":
        return (features - np.asarray(fields.mean, np.float32)) / np.asarray(fields.std, np.float32)
    return features


def running_statistics(spectrograms: Iterable[np.ndarray], *, per_bin: bool = False) -> tuple:
    """Return mean and standard deviation over many spectrograms, reading one of them at a time.

    The statistics are merged in float64 by the formula of Chan, Golub and LeVeque (1979), because sums of squares of dB
    values lose digits.

    Args:
        spectrograms: [..., frames, bins] each. They must come from the **training split only**, or the other splits leak.
        per_bin: Whether to return two lists of floats [bins] instead of two floats.

    Raises:
        ValueError: If there are no spectrograms, or their numbers of bins differ.
    """
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    for spectrogram in spectrograms:
        rows = np.asarray(spectrogram, dtype=np.float64)
        rows = rows.reshape(-1, rows.shape[-1] if per_bin else 1)
        total = count + len(rows)
        delta = rows.mean(axis=0) - mean
        squares = squares + ((rows - rows.mean(axis=0)) ** 2).sum(axis=0) + delta**2 * (count * len(rows) / total)
        mean = mean + delta * (len(rows) / total)
        count = total
    if count == 0:
        raise ValueError("statistics need at least one spectrogram")
    std = np.sqrt(squares / count)
    return (mean.tolist(), std.tolist()) if per_bin else (float(mean[0]), float(std[0]))
