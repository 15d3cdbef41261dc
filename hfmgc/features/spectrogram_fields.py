"""Checks of the fields of [`SpectrogramFeatureExtractor`], so that what cannot work is refused by its name."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .spectrogram_presets import preset_fields


CHOICES = {
    "representation": ("mel", "stft", "cqt", "mfcc"),
    "scale": ("db", "log", "none"),
    "waveform_normalization": ("none", "z_score"),
    "normalization": ("none", "min_max", "z_score", "affine", "statistics"),
    "normalize_over": ("window", "track"),
    "pad_mode": ("constant", "reflect", "edge"),
    "mel_norm": ("slaney", None),
}


def with_preset(init: Callable) -> Callable:
    """Let the fields of the argument `preset` stand where the caller of `init` gives none."""

    @functools.wraps(init)  # recipes read the names of the fields from the signature
    def init_with_preset(self: Any, preset: str | None = None, **fields: Any) -> None:
        base = {} if preset is None else preset_fields(preset)
        if "window_seconds" in fields or "window_frames" in fields:
            base.pop("window_seconds", None)
            base.pop("window_frames", None)
        init(self, preset=preset, **{**base, **fields})

    return init_with_preset


def default_bins(representation: str, n_fft: int) -> int:
    """Return librosa's number of bins for a representation."""
    return {"mel": 128, "stft": n_fft // 2 + 1, "cqt": 84, "mfcc": 20}[representation]


def check_fields(extractor: Any) -> None:
    """Check the fields of an extractor together.

    Raises:
        ValueError: Naming the field that is impossible, and why.
    """
    for name, choices in CHOICES.items():
        if getattr(extractor, name) not in choices:
            raise ValueError(f"{name} must be one of {_listed(choices)}, not {getattr(extractor, name)!r}")
    for name in ("sampling_rate", "n_fft", "hop_length", "num_bins", "num_mels", "bins_per_octave"):
        check_whole(name, getattr(extractor, name))
    for name in ("power", "log_offset", "affine_scale", "window_seconds"):
        _check_positive(name, getattr(extractor, name))
    if extractor.win_length is not None:
        check_whole("win_length", extractor.win_length)
        if extractor.win_length > extractor.n_fft:
            raise ValueError(f"win_length {extractor.win_length} is longer than n_fft {extractor.n_fft}")
    _check_frequencies(extractor)
    _check_scale(extractor)
    _check_sizes(extractor)
    _check_statistics(extractor)


def _check_frequencies(extractor: Any) -> None:
    nyquist = extractor.sampling_rate / 2
    low = extractor.fmin or 0.0
    high = nyquist if extractor.fmax is None else extractor.fmax
    if not 0 <= low < high <= nyquist:
        raise ValueError(
            f"fmin {extractor.fmin} and fmax {extractor.fmax} must rise and lie within 0..{nyquist:g} Hz, half the rate"
        )
    if extractor.representation == "stft" and extractor.num_bins != extractor.n_fft // 2 + 1:
        raise ValueError(f"num_bins of stft is n_fft // 2 + 1 = {extractor.n_fft // 2 + 1}, not {extractor.num_bins}")
    if extractor.representation == "mfcc" and extractor.num_bins > extractor.num_mels:
        raise ValueError(f"num_bins {extractor.num_bins} of mfcc cannot exceed num_mels {extractor.num_mels}")
    if extractor.representation == "cqt":
        if extractor.fmin is not None and extractor.fmin <= 0:
            raise ValueError(f"fmin of cqt must be positive, not {extractor.fmin}")
        highest = (extractor.fmin or 32.7) * 2 ** ((extractor.num_bins - 1) / extractor.bins_per_octave)
        if highest >= nyquist:
            raise ValueError(
                f"num_bins {extractor.num_bins} of cqt reach {highest:.0f} Hz, beyond half the rate ({nyquist:g} Hz)"
            )


def _check_scale(extractor: Any) -> None:
    if extractor.scale == "db" and extractor.power not in (1, 2):
        raise ValueError(f"power must be 1 or 2 for scale 'db', not {extractor.power}")
    if extractor.scale == "none" and extractor.representation == "mfcc":
        raise ValueError("scale of mfcc must be 'db' or 'log', not 'none'")
    if extractor.db_reference != "max":
        _check_positive("db_reference ('max' or a number)", extractor.db_reference)
    if extractor.top_db is not None:
        _check_positive("top_db", extractor.top_db)


def _check_sizes(extractor: Any) -> None:
    least = extractor.hop_length if extractor.representation == "cqt" else extractor.n_fft
    if extractor.window_samples < least:
        raise ValueError(
            f"window_seconds {extractor.window_seconds:g} is shorter than one analysis frame of {least} samples"
        )
    if extractor.frames_per_second is not None:
        _check_positive("frames_per_second", extractor.frames_per_second)
        rate = extractor.sampling_rate / extractor.hop_length
        if extractor.frames_per_second > rate:
            raise ValueError(f"frames_per_second {extractor.frames_per_second:g} is more than there are ({rate:g})")
    for name in ("crop", "resize"):
        size = getattr(extractor, name)
        if size is None:
            continue
        if not isinstance(size, list) or len(size) != 2:
            raise ValueError(f"{name} must be [bins, frames], not {size!r}")
        for value in size:
            check_whole(name, value)
    if extractor.crop is not None:
        bins, frames = extractor.crop
        if bins > extractor.num_bins or frames > extractor.cut_frames:
            raise ValueError(
                f"crop {extractor.crop} is larger than a window of [{extractor.num_bins}, {extractor.cut_frames}]"
            )


def _check_statistics(extractor: Any) -> None:
    bins = extractor.num_bins if extractor.normalize_over == "track" else extractor.window_shape[1]
    for name in ("mean", "std"):
        values = np.asarray(getattr(extractor, name), dtype=np.float64)
        if values.ndim > 1 or values.size not in (1, bins) or not np.isfinite(values).all():
            raise ValueError(f"{name} must be a finite number or one for each of {bins} bins, not {values.size}")
    if not (np.asarray(extractor.std) > 0).all():
        raise ValueError("std must be positive")


def check_whole(name: str, value: Any) -> None:
    """Refuse what is no whole number of at least 1, with `name`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")


def _check_positive(name: str, value: Any) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a positive number, not {value!r}")


def _listed(choices: tuple) -> str:
    return ", ".join("null" if choice is None else choice for choice in choices)
