"""Checks between the fields of [`SpectrogramFeatureExtractor`]; its type hints cover types and choices."""

from typing import Any

from .field_checks import check_positive, check_statistics


_POSITIVE = (
    "sampling_rate", "n_fft", "hop_length", "win_length", "num_bins", "num_mels", "bins_per_octave", "power", "top_db",
    "log_offset", "affine_scale", "window_seconds", "frames_per_second",
)  # fmt: skip


def check_fields(extractor: Any) -> None:
    """Raise a ValueError that names the first impossible field of an extractor and says why it is impossible."""
    check_positive(**{name: getattr(extractor, name) for name in _POSITIVE})
    if extractor.win_length is not None and extractor.win_length > extractor.n_fft:
        raise ValueError(f"win_length must be at most n_fft, {extractor.n_fft}, not {extractor.win_length}")
    _check_frequencies(extractor)
    if extractor.scale == "db" and extractor.power not in (1, 2):
        raise ValueError(f"power must be 1 or 2 if scale is 'db', not {extractor.power}")
    if extractor.scale == "none" and extractor.representation == "mfcc":
        raise ValueError("scale must be 'db' or 'log' if representation is 'mfcc', not 'none'")
    if extractor.db_reference != "max":
        check_positive(db_reference=extractor.db_reference)
    _check_sizes(extractor)
    bins = extractor.num_bins if extractor.normalize_over == "track" else extractor.window_shape[1]
    check_statistics(extractor.mean, extractor.std, bins)


def _check_frequencies(extractor: Any) -> None:
    nyquist = extractor.sampling_rate / 2
    low = extractor.fmin or 0.0
    high = nyquist if extractor.fmax is None else extractor.fmax
    if not 0 <= low < high <= nyquist:
        raise ValueError(
            f"fmin and fmax must satisfy 0 <= fmin < fmax <= {nyquist:g} Hz, half the sampling rate: "
            f"fmin is {extractor.fmin}, fmax is {extractor.fmax}"
        )
    if extractor.representation == "stft" and extractor.num_bins != extractor.n_fft // 2 + 1:
        raise ValueError(
            f"num_bins must be n_fft // 2 + 1 = {extractor.n_fft // 2 + 1} for stft, not {extractor.num_bins}: omit it"
        )
    if extractor.representation == "mfcc" and extractor.num_bins > extractor.num_mels:
        raise ValueError(
            f"num_bins must be at most num_mels, {extractor.num_mels}, for mfcc, not {extractor.num_bins}"
        )
    if extractor.representation == "cqt":
        check_positive(fmin=extractor.fmin)
        highest = (extractor.fmin or 32.7) * 2 ** ((extractor.num_bins - 1) / extractor.bins_per_octave)
        if highest >= nyquist:
            raise ValueError(
                f"num_bins: {extractor.num_bins} bins of the CQT reach {highest:.0f} Hz, above half the sampling rate "
                f"({nyquist:g} Hz): use fewer bins"
            )


def _check_sizes(extractor: Any) -> None:
    least = extractor.hop_length if extractor.representation == "cqt" else extractor.n_fft
    if extractor.window_samples < least:
        raise ValueError(
            f"window_seconds {extractor.window_seconds:g} is shorter than an analysis frame of {least} samples"
        )
    rate = extractor.sampling_rate / extractor.hop_length
    if extractor.frames_per_second is not None and extractor.frames_per_second > rate:
        raise ValueError(
            f"frames_per_second must be at most {rate:g}, the frame rate, not {extractor.frames_per_second:g}"
        )
    for name in ("crop", "resize"):
        size = getattr(extractor, name)
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"{name} must be [bins, frames], each at least 1, not {size}")
    if extractor.crop is not None:
        bins, frames = extractor.crop
        if bins > extractor.num_bins or frames > extractor.cut_frames:
            raise ValueError(
                f"crop {extractor.crop} is larger than a window of [{extractor.num_bins}, {extractor.cut_frames}]"
            )
