"""The front end for log-mel, STFT, CQT and MFCC spectrograms; the papers' front ends are presets of it."""

import copy
import inspect
import math
from collections.abc import Iterable
from typing import Any, Literal

import librosa
import numpy as np

from .feature_extraction_windowed import WindowedFeatureExtractor
from .field_checks import check_positive, check_types, refuse_misspelt_fields
from .spectrogram_fields import check_fields
from .spectrogram_operations import (
    DB_FLOOR,
    compute_spectrogram,
    count_decimated,
    decimate,
    normalize,
    rescale_db,
    resize,
    running_statistics,
    standardize,
)
from .spectrogram_presets import with_preset


class SpectrogramFeatureExtractor(WindowedFeatureExtractor):
    r"""Spectrograms of the windows of a track, float32 [windows, frames, bins], with librosa's values.

    The un-normalised features are the spectrogram of the whole track on its scale (dB relative to 1), decimated. Three steps
    follow: dB reference and floor, the cosine transform of MFCCs, and normalisation. `normalize_over` decides whether they
    are applied to the track, before it is cut, or to each window. Windows can also be cropped and resized; if they are
    normalised one by one, this comes before the normalisation.

    Frames are computed across the edges of windows (ours). If a paper cuts the waveform first, two or three frames at each
    edge differ.

    Args:
        preset (`str`, *optional*): Name of a preset in `spectrogram_presets.PRESETS`; other arguments override its fields.
        sampling_rate (`int`, *optional*, defaults to 22050): Sampling rate in Hz.
        representation (`str`, *optional*, defaults to `"mel"`): `"mel"`, `"stft"`, `"cqt"` or `"mfcc"`.
        n_fft (`int`, *optional*, defaults to 2048): Length of the Fourier transform in samples.
        hop_length (`int`, *optional*, defaults to 512): Samples from the centre of a frame to the next.
        win_length (`int`, *optional*): Length of the analysis window in samples; `n_fft` by default.
        window_function (`str`, *optional*, defaults to `"hann"`): scipy's name of the analysis window.
        pad_mode (`str`, *optional*, defaults to `"constant"`): Padding of the waveform: `"constant"`, `"reflect"`, `"edge"`.
        num_bins (`int`, *optional*):
            Number of mels (default 128), CQT bins (84) or MFCCs (20); always n_fft // 2 + 1 for `"stft"`.
        num_mels (`int`, *optional*, defaults to 128): Number of mels from which `"mfcc"` is computed.
        fmin, fmax (`float`, *optional*):
            Range in Hz. Default: from 0 (CQT: C1) to half the sampling rate. `fmax` does not apply to the CQT.
        bins_per_octave (`int`, *optional*, defaults to 12): Bins per octave of the CQT.
        power (`float`, *optional*, defaults to 2.0): Exponent of the magnitudes.
        mel_htk (`bool`, *optional*, defaults to `False`): Whether to use HTK's mel scale instead of Slaney's.
        mel_norm (`str`, *optional*, defaults to `"slaney"`): Norm of the mel filters; None for peaks of 1.
        scale (`str`, *optional*, defaults to `"db"`): `"db"`, `"log"` (natural) or `"none"`.
        db_reference (`float` or `"max"`, *optional*, defaults to `"max"`): Value at 0 dB, or the maximum of window or track.
        top_db (`float`, *optional*, defaults to 80.0): Dynamic range below the maximum; None: unlimited.
        log_offset (`float`, *optional*, defaults to 1e-10): Offset added before the logarithm of `"log"`.
        waveform_normalization (`str`, *optional*, defaults to `"none"`): `"none"` or `"z_score"` (over the track).
        normalization (`str`, *optional*, defaults to `"none"`):
            `"none"`, `"min_max"`, `"z_score"`, `"affine"`: (x + affine_offset) / affine_scale, or `"statistics"`:
            (x - mean) / std; see [`fit_statistics`].
        normalize_over (`str`, *optional*, defaults to `"window"`): `"window"` or `"track"`.
        affine_offset, affine_scale (`float`, *optional*, default to 80.0): See `normalization`.
        mean, std (`float` or list of `float` [bins], *optional*, default to 0 and 1): See `normalization`.
        frames_per_second (`float`, *optional*): Frame rate to which to decimate by dropping frames; None: keep all.
        crop (`list[int]`, *optional*): Number of [bins, frames] to keep from the start of a window.
        resize (`list[int]`, *optional*): [bins, frames] to which to resize a window (bilinear with low-pass; ours).
        window_seconds (`float`, *optional*, defaults to 30.0): Length of a window.
        window_frames (`int`, *optional*): Length of a window in frames before decimation, instead of `window_seconds`.
        kwargs: See [`WindowedFeatureExtractor`].

    Raises:
        ValueError: If a field is impossible, or if the preset is unknown; the message suggests the nearest name.

    Example:

    >>> import hfmgc
    >>> extractor = hfmgc.SpectrogramFeatureExtractor(representation="mel", num_bins=64, window_seconds=1.0)
    >>> waveform = hfmgc.load_audio("song.wav", extractor.sampling_rate)
    >>> tuple(extractor(waveform, sampling_rate=22050, return_tensors="pt")["input_values"].shape)
    (1, 2, 44, 64)
    """

    # Replaces the property of the base class; set in the constructor.
    window_seconds = 30.0
    feature_fields = (
        *WindowedFeatureExtractor.feature_fields, "representation", "n_fft", "hop_length", "win_length",
        "window_function", "pad_mode", "feature_bins", "fmin", "fmax", "bins_per_octave", "power", "mel_htk", "mel_norm",
        "scale", "log_offset", "waveform_normalization", "frames_per_second",
    )  # fmt: skip

    @with_preset
    def __init__(
        self,
        preset: str | None = None,
        sampling_rate: int = 22050,
        representation: Literal["mel", "stft", "cqt", "mfcc"] = "mel",
        n_fft: int = 2048,
        hop_length: int = 512,
        win_length: int | None = None,
        window_function: str = "hann",
        pad_mode: Literal["constant", "reflect", "edge"] = "constant",
        num_bins: int | None = None,
        num_mels: int = 128,
        fmin: float | int | None = None,
        fmax: float | int | None = None,
        bins_per_octave: int = 12,
        power: float | int = 2.0,
        mel_htk: bool = False,
        mel_norm: Literal["slaney"] | None = "slaney",
        scale: Literal["db", "log", "none"] = "db",
        db_reference: float | int | Literal["max"] = "max",
        top_db: float | int | None = 80.0,
        log_offset: float | int = 1e-10,
        waveform_normalization: Literal["none", "z_score"] = "none",
        normalization: Literal["none", "min_max", "z_score", "affine", "statistics"] = "none",
        normalize_over: Literal["window", "track"] = "window",
        affine_offset: float | int = 80.0,
        affine_scale: float | int = 80.0,
        mean: float | int | list[float | int] = 0.0,
        std: float | int | list[float | int] = 1.0,
        frames_per_second: float | int | None = None,
        crop: list[int] | tuple[int, ...] | None = None,
        resize: list[int] | tuple[int, ...] | None = None,
        window_seconds: float | int | None = None,
        window_frames: int | None = None,
        **kwargs,
    ):
        fields = {name: value for name, value in locals().items() if name in _FIELDS}
        check_types(SpectrogramFeatureExtractor.__init__, fields | {"window_frames": window_frames})
        for derived in ("feature_size", "feature_bins"):
            kwargs.pop(derived, None)
        refuse_misspelt_fields(kwargs, _FIELDS | _INHERITED_FIELDS)
        for name, value in fields.items():
            setattr(self, name, list(value) if isinstance(value, (list, tuple)) else value)
        if num_bins is None:
            self.num_bins = {"mel": 128, "stft": n_fft // 2 + 1, "cqt": 84, "mfcc": 20}[representation]
        if window_frames is not None:
            if window_seconds is not None:
                raise ValueError("window_seconds and window_frames exclude each other: set one of them")
            check_positive(window_frames=window_frames, sampling_rate=sampling_rate)
            self.window_seconds = (window_frames - 1) * hop_length / sampling_rate
        elif window_seconds is None:
            self.window_seconds = 30.0
        check_fields(self)
        super().__init__(feature_size=self.window_shape[1], sampling_rate=sampling_rate, **kwargs)

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Create an extractor from its saved fields. An override cannot be a preset, because saved fields override it."""
        if kwargs.get("preset", feature_extractor_dict.get("preset")) != feature_extractor_dict.get("preset"):
            raise ValueError(
                f"preset: a saved front end keeps its fields: create another with {cls.__name__}(preset=...)"
            )
        return super().from_dict(feature_extractor_dict, **kwargs)

    @property
    def window_samples(self) -> int:
        return round(self.window_seconds * self.sampling_rate)

    @property
    def cut_frames(self) -> int:
        return self.count_frames(self.window_samples)

    @property
    def window_shape(self) -> tuple[int, int]:
        bins, frames = self.resize or self.crop or (self.num_bins, self.cut_frames)
        return frames, bins

    @property
    def feature_bins(self) -> int:
        """Number of bins of the un-normalised features; for MFCCs, the number of mels."""
        return self.num_mels if self.representation == "mfcc" else self.num_bins

    @property
    def silence(self) -> float:
        """Value of a silent bin, on the scale of the un-normalised features."""
        return {"db": DB_FLOOR, "log": math.log(self.log_offset), "none": 0.0}[self.scale]

    @property
    def _step(self) -> float:
        return self.sampling_rate / self.hop_length / self.frames_per_second

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and `feature_bins`, which must match those of stored features."""
        return {**super().to_dict(), "feature_bins": self.feature_bins}

    def count_frames(self, num_samples: int) -> int:
        """Return the number of centred frames after decimation."""
        # With an odd n_fft the padding is one sample shorter than n_fft; librosa pads for the CQT itself.
        odd = self.n_fft % 2 if self.representation != "cqt" else 0
        frames = 1 + (num_samples - odd) // self.hop_length
        return frames if self.frames_per_second is None else count_decimated(frames, self._step)

    def frame_span(self, first: int, count: int) -> tuple[int, int, int] | None:
        """Return the samples of `count` frames and of the frames that overlap them; see the base class."""
        if self.normalize_over == "track" or self.representation == "cqt" or self.frames_per_second is not None:
            return None
        overlap = math.ceil(self.n_fft / 2 / self.hop_length)
        before = max(0, first - overlap)
        return before * self.hop_length, (first + count - 1 + overlap) * self.hop_length + 1, first - before

    def prepare(self, waveform: np.ndarray) -> np.ndarray:
        """Standardise the waveform [samples] of a track if `waveform_normalization` is `"z_score"`."""
        return standardize(waveform) if self.waveform_normalization == "z_score" else waveform

    def transform(self, waveform: np.ndarray) -> np.ndarray:
        """Return the decimated spectrogram on its scale (dB relative to 1, no floor), float32 [frames, feature_bins]."""
        features = compute_spectrogram(waveform, self).T
        if self.frames_per_second is not None:
            features = decimate(features, self._step)
        return np.ascontiguousarray(features, dtype=np.float32)

    def normalize_track(self, features: np.ndarray) -> np.ndarray:
        """Normalise the features [frames, feature_bins] of a track if `normalize_over` is `"track"`."""
        return normalize(self._apply_reference(features), self) if self.normalize_over == "track" else features

    def normalize_window(self, window: np.ndarray) -> np.ndarray:
        """Crop and resize a window [cut_frames, bins]; normalise it if `normalize_over` is `"window"`."""
        if self.normalize_over == "window":
            window = self._apply_reference(window)
        if self.crop is not None:
            bins, frames = self.crop
            window = window[:frames, :bins]
        if self.resize is not None:
            window = resize(window, self.resize)
        return normalize(window, self) if self.normalize_over == "window" else window

    def as_features(self, stored: np.ndarray) -> np.ndarray:
        """Convert stored features of a track to what `track_features` returns, float32 [frames, feature_bins].

        Args:
            stored: Floats [frames, feature_bins], or integer levels 0..255 [feature_bins, frames] of a dB spectrogram that
                was scaled to [0, 1]. Levels are mapped to -top_db..0 dB (ours), so quieter values are lost.

        Raises:
            ValueError: If the shape is wrong, there are no frames, or values are not finite or outside 0..255; for levels,
                also if `scale` is not `"db"` or `top_db` is None.
        """
        stored = np.asarray(stored)
        if not np.issubdtype(stored.dtype, np.integer):
            return super().as_features(stored)
        if self.scale != "db" or self.top_db is None:
            raise ValueError("stored levels 0..255 need scale 'db' and a top_db: set it to the range that they cover")
        if stored.ndim != 2 or len(stored) != self.feature_bins or stored.size == 0:
            raise ValueError(f"stored levels must be [{self.feature_bins}, frames], not {list(stored.shape)}")
        if stored.min() < 0 or stored.max() > 255:
            raise ValueError(f"stored levels must be in 0..255, not {stored.min()}..{stored.max()}")
        levels = np.ascontiguousarray(stored.T, dtype=np.float32)
        return (levels / np.float32(255) - np.float32(1)) * np.float32(self.top_db)

    def fit_statistics(self, tracks: Iterable[np.ndarray], *, per_bin: bool = False) -> "SpectrogramFeatureExtractor":
        """Set `normalization="statistics"`, with mean and standard deviation over the windows of `tracks`.

        Args:
            tracks: Waveforms [samples] or un-normalised features [frames, bins]. They must come from the **training split
                only**, or the other splits leak. One track is in memory at a time.
            per_bin: Whether to compute the statistics of each bin.

        Returns:
            The extractor itself.

        Raises:
            ValueError: If there are no tracks.
        """
        plain = copy.copy(self)
        plain.normalization = "none"
        if self.normalize_over == "track":
            plain.crop = plain.resize = None
        windows = (plain.track_windows(track) if track.ndim == 1 else plain.cut_features(track) for track in tracks)
        mean, std = running_statistics(windows, per_bin=per_bin)
        # The standard deviation of a constant bin is 0.
        self.mean, self.std = mean, [value or 1.0 for value in std] if per_bin else (std or 1.0)
        self.normalization = "statistics"
        return self

    def _apply_reference(self, features: np.ndarray) -> np.ndarray:
        """Apply the dB reference and floor to features [frames, feature_bins]; then turn mels into MFCCs for `"mfcc"`."""
        if self.scale == "db":
            features = rescale_db(features, reference=self.db_reference, power=self.power, top_db=self.top_db)
        if self.representation == "mfcc":
            return librosa.feature.mfcc(S=features.T, n_mfcc=self.num_bins).T
        return features


_FIELDS = set(inspect.signature(SpectrogramFeatureExtractor.__init__).parameters)
_FIELDS -= {"self", "kwargs", "window_frames"}
_INHERITED_FIELDS = set(inspect.signature(WindowedFeatureExtractor.__init__).parameters)
_INHERITED_FIELDS |= {"padding_side", "return_attention_mask"}  # fields of transformers
