"""Front end for hand-made features: turns a whole track into one vector."""

from collections.abc import Iterable
from typing import Literal

import numpy as np

from .feature_extraction_windowed import WindowedFeatureExtractor
from .field_checks import check_statistics, check_types
from .handmade_features import (
    GTZAN_SUMMARY_COLUMNS,
    MIN_SAMPLES,
    MIN_SAMPLING_RATE,
    column_names,
    extract_handmade_features,
    extract_summary_features,
)
from .spectrogram_operations import normalize, running_statistics
from .windows import fill


SAMPLING_RATES = {"fma_518": 44100, "gtzan_57": 22050, "table": 22050}
_COLUMNS = {"fma_518": tuple(column_names()), "gtzan_57": GTZAN_SUMMARY_COLUMNS}


class HandmadeFeatureExtractor(WindowedFeatureExtractor):
    r"""Hand-made features of a whole track, as one window of one frame: float32 [1, 1, columns].

    Args:
        layout (`str`, *optional*, defaults to `"fma_518"`):
            `"fma_518"`: the columns of FMA's features.csv. As in the published file, five features assume 22,050 Hz at any
            rate. `"gtzan_57"`: the columns of GTZAN's features_30_sec.csv. `"table"`: the columns of any other table, which
            cannot be computed from audio.
        sampling_rate (`int`, *optional*):
            Sampling rate in Hz, above 12,800. Default: 44,100 for `"fma_518"`, 22,050 for `"gtzan_57"`, as published.
        num_features (`int`, *optional*): Number of columns of a `"table"`.
        columns (`list[str]`, *optional*): Names of the columns of a `"table"`; they make `num_features` optional.
        normalization (`str`, *optional*, defaults to `"none"`):
            `"none"`, or `"statistics"`: (x - mean) / std of each column; see [`fit_statistics`].
        mean, std (`float` or list of `float` [columns], *optional*, default to 0 and 1): See `normalization`.
        kwargs: See [`WindowedFeatureExtractor`].

    Example:

    >>> import hfmgc
    >>> extractor = hfmgc.HandmadeFeatureExtractor(layout="gtzan_57")
    >>> waveform = hfmgc.load_audio("song.wav", extractor.sampling_rate)
    >>> tuple(extractor(waveform, sampling_rate=22050, return_tensors="pt")["input_values"].shape)
    (1, 1, 1, 57)
    """

    # A window is the whole track; this is the shortest one.
    window_samples = MIN_SAMPLES
    cut_frames = 1
    covers_track = True

    def __init__(
        self,
        layout: Literal["fma_518", "gtzan_57", "table"] = "fma_518",
        sampling_rate: int | None = None,
        num_features: int | None = None,
        columns: list[str] | None = None,
        normalization: Literal["none", "statistics"] = "none",
        mean: float | int | list[float | int] = 0.0,
        std: float | int | list[float | int] = 1.0,
        **kwargs,
    ):
        check_types(HandmadeFeatureExtractor.__init__, locals())
        kwargs.pop("feature_size", None)
        if columns is not None and layout in _COLUMNS:
            raise ValueError(f"columns: layout {layout!r} has fixed columns: leave them out")
        names = _COLUMNS.get(layout, columns)
        size = len(names) if names else num_features
        if not size or size < 1:
            raise ValueError("layout 'table' needs num_features, the number of its columns")
        if num_features not in (None, size):
            raise ValueError(f"num_features must be {size} for layout {layout!r}, not {num_features}: leave it out")
        check_statistics(mean, std, size)
        rate = SAMPLING_RATES[layout] if sampling_rate is None else sampling_rate
        if layout != "table" and rate < MIN_SAMPLING_RATE:
            raise ValueError(f"sampling_rate must be at least {MIN_SAMPLING_RATE} for hand-made features, not {rate}")
        super().__init__(feature_size=size, sampling_rate=rate, **kwargs)
        self.layout = layout
        self.num_features = size
        self.columns = columns
        self.normalization = normalization
        self.mean = mean
        self.std = std

    @property
    def feature_fields(self) -> tuple[str, ...]:
        """The fields that affect the features; for a table, this includes the column names if they are known."""
        if self.layout != "table":
            return (*WindowedFeatureExtractor.feature_fields, "layout")
        return ("feature_extractor_type", "layout", "num_features", *(["columns"] if self.columns else []))

    @property
    def takes_audio(self) -> bool:
        """Whether the columns can be computed from audio."""
        return self.layout != "table"

    @property
    def column_names(self) -> list[str]:
        """The names of the columns, in order."""
        names = _COLUMNS.get(self.layout, self.columns)
        return list(names or (f"feature_{index:03d}" for index in range(self.num_features)))

    @property
    def window_shape(self) -> tuple[int, int]:
        return 1, self.num_features

    def count_frames(self, num_samples: int) -> int:
        """Return 1: a track of any length is one frame."""
        return 1

    def transform(self, waveform: np.ndarray) -> np.ndarray:
        """Return the features of a whole track, float32 [1, columns]; tracks below 2,048 samples are padded.

        Raises:
            ValueError: For the layout `"table"`.
        """
        if self.layout == "table":
            raise ValueError(
                "layout 'table': its columns cannot be computed from audio: use a table with the same columns as the data"
            )
        waveform = fill(waveform, MIN_SAMPLES, loop=self.short_tracks == "loop", padding=0.0)
        if self.layout == "gtzan_57":
            return extract_summary_features(waveform, self.sampling_rate)[None]
        return extract_handmade_features(waveform, self.sampling_rate)[None]

    def normalize_window(self, window: np.ndarray) -> np.ndarray:
        """Return each column as (x - mean) / std if `normalization` is `"statistics"`."""
        return normalize(window, self)

    def fit_statistics(self, tracks: Iterable[np.ndarray], *, per_bin: bool = False) -> "HandmadeFeatureExtractor":
        """Set `normalization="statistics"`, with mean and standard deviation of each column over `tracks`.

        Args:
            tracks: Waveforms [samples] or features [1, columns], from the **training split only**.
            per_bin: Must be true, because the columns have different units.

        Returns:
            The extractor itself.

        Raises:
            ValueError: If there are no tracks, or `per_bin` is false.
        """
        if not per_bin:
            raise ValueError("fit_statistics must be per_bin: the columns of hand-made features have different units")
        features = (self.track_features(track) if track.ndim == 1 else track for track in tracks)
        self.mean, std = running_statistics(features, per_bin=True)
        # The standard deviation of a constant column is 0 or rounding error.
        rounding = [1e-6 * abs(mean) for mean in self.mean]
        self.std = [value if value > error else 1.0 for value, error in zip(std, rounding, strict=True)]
        self.normalization = "statistics"
        return self
