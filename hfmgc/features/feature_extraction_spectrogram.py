"""One front end for log-mel, STFT, CQT and MFCC spectrograms, with the papers' front ends as named presets."""

import copy
import inspect
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .feature_extraction_windowed import WindowedFeatureExtractor, refuse_misspelt
from .spectrogram_fields import CHOICES, check_fields, check_whole, default_bins, with_preset
from .spectrogram_operations import (
    DB_FLOOR,
    decimate,
    decimated_count,
    mfcc,
    normalize,
    relative_db,
    resize,
    running_statistics,
    scaled_spectrogram,
    standardize,
    stored_features,
)


class SpectrogramFeatureExtractor(WindowedFeatureExtractor):
    r"""Spectrograms of the windows of a track, float32 [windows, frames, bins], numerically librosa's.

    The spectrogram of the whole track is computed, scaled (dB against 1) and decimated; these are its un-normalised
    features. What `normalize_over` names, each window or the track, then gets its dB reference and floor, the cosine
    transform of MFCCs, and its normalisation. Windows are cut before that (`"window"`) or after it (`"track"`), cropped
    and resized. That windows hear across their edges where the papers' are cut from the waveform is ours: two or three
    frames at each edge differ.

    Args:
        preset (`str`, *optional*): A front end of `spectrogram_presets.PRESETS`; fields that are given override its own.
        sampling_rate (`int`, *optional*, defaults to 22050): Hz.
        representation (`str`, *optional*, defaults to `"mel"`): `"mel"`, `"stft"`, `"cqt"` or `"mfcc"`.
        n_fft (`int`, *optional*, defaults to 2048): Samples of the Fourier transform.
        hop_length (`int`, *optional*, defaults to 512): Samples from one (centred) frame to the next.
        win_length (`int`, *optional*): Samples of the analysis window; `n_fft` by default.
        window_function (`str`, *optional*, defaults to `"hann"`): Its shape, as scipy names it.
        pad_mode (`str`, *optional*, defaults to `"constant"`): How a waveform goes on at its ends.
        num_bins (`int`, *optional*):
            Mels, MFCCs or CQT bins; 128, 20 or 84 by default. Fixed to n_fft // 2 + 1 for `"stft"`.
        num_mels (`int`, *optional*, defaults to 128): Mels below `"mfcc"`.
        fmin, fmax (`float`, *optional*): Hz; 0 (CQT: C1) and half the rate by default. `fmax` does not apply to the CQT.
        bins_per_octave (`int`, *optional*, defaults to 12): Of the CQT.
        power (`float`, *optional*, defaults to 2.0): Exponent of the magnitudes.
        mel_htk (`bool`, *optional*, defaults to `False`): HTK's mel scale instead of Slaney's.
        mel_norm (`str`, *optional*, defaults to `"slaney"`): Norm of the mel filters; None for peaks of 1.
        scale (`str`, *optional*, defaults to `"db"`): `"db"`, `"log"` (natural) or `"none"`.
        db_reference (`float` or `"max"`, *optional*, defaults to `"max"`): What has 0 dB; the loudest of the window or track.
        top_db (`float`, *optional*, defaults to 80.0): Values further below the loudest are raised to that; None: none.
        log_offset (`float`, *optional*, defaults to 1e-10): Added before `"log"`.
        waveform_normalization (`str`, *optional*, defaults to `"none"`): `"none"` or `"z_score"` (the track before cutting).
        normalization (`str`, *optional*, defaults to `"none"`):
            `"none"`, `"min_max"`, `"z_score"`, `"affine"`: (x + affine_offset) / affine_scale, or `"statistics"`:
            (x - mean) / std; see [`fit_statistics`].
        normalize_over (`str`, *optional*, defaults to `"window"`): `"window"` or `"track"`.
        affine_offset, affine_scale (`float`, *optional*, default to 80.0): See `normalization`.
        mean, std (`float` or list of `float` [bins], *optional*, default to 0 and 1): See `normalization`.
        frames_per_second (`float`, *optional*): Decimates to that rate by picking frames; None: all frames.
        crop (`list[int]`, *optional*): The first [bins, frames] that are kept of a window.
        resize (`list[int]`, *optional*): [bins, frames] to which a window is resized (bilinear with low-pass; ours).
        window_seconds (`float`, *optional*, defaults to 30.0): Length of a window.
        window_frames (`int`, *optional*): The same in frames before decimation, instead of `window_seconds`.
        kwargs: See [`WindowedFeatureExtractor`].

    Raises:
        ValueError: For an unknown preset (naming the nearest) or an impossible field (naming it).

    Example:

    >>> import hfmgc
    >>> extractor = hfmgc.SpectrogramFeatureExtractor(representation="mel", num_bins=64, window_seconds=1.0)
    >>> waveform = hfmgc.load_audio("song.wav", extractor.sampling_rate)
    >>> tuple(extractor(waveform, sampling_rate=22050, return_tensors="pt")["input_values"].shape)
    (1, 2, 44, 64)
    """

    # Stands before the base's property: here the length is a field, and is saved as one.
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
        representation: str = "mel",
        n_fft: int = 2048,
        hop_length: int = 512,
        win_length: int | None = None,
        window_function: str = "hann",
        pad_mode: str = "constant",
        num_bins: int | None = None,
        num_mels: int = 128,
        fmin: float | None = None,
        fmax: float | None = None,
        bins_per_octave: int = 12,
        power: float = 2.0,
        mel_htk: bool = False,
        mel_norm: str | None = "slaney",
        scale: str = "db",
        db_reference: float | str = "max",
        top_db: float | None = 80.0,
        log_offset: float = 1e-10,
        waveform_normalization: str = "none",
        normalization: str = "none",
        normalize_over: str = "window",
        affine_offset: float = 80.0,
        affine_scale: float = 80.0,
        mean: float | list[float] = 0.0,
        std: float | list[float] = 1.0,
        frames_per_second: float | None = None,
        crop: list[int] | None = None,
        resize: list[int] | None = None,
        window_seconds: float | None = None,
        window_frames: int | None = None,
        **kwargs,
    ):
        fields = {name: value for name, value in locals().items() if name in _FIELDS}
        for derived in ("feature_size", "feature_bins"):
            kwargs.pop(derived, None)
        refuse_misspelt(kwargs, _FIELDS | _FIELDS_OF_BASE)
        if window_seconds is not None and window_frames is not None:
            raise ValueError("give window_seconds or window_frames, not both")
        for name, value in fields.items():
            setattr(self, name, list(value) if isinstance(value, tuple) else value)
        if num_bins is None and representation in CHOICES["representation"]:
            self.num_bins = default_bins(representation, n_fft)
        if window_frames is not None:
            check_whole("window_frames", window_frames)
            self.window_seconds = (window_frames - 1) * hop_length / sampling_rate
        elif window_seconds is None:
            self.window_seconds = 30.0
        check_fields(self)
        super().__init__(feature_size=self.window_shape[1], sampling_rate=sampling_rate, **kwargs)

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "SpectrogramFeatureExtractor":
        """Return the front end of a paper, with some fields changed; the same as `preset=name`."""
        return cls(preset=name, **overrides)

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As the base; a preset cannot be an override, because every saved field would override it."""
        if kwargs.get("preset", feature_extractor_dict.get("preset")) != feature_extractor_dict.get("preset"):
            raise ValueError(f"preset: a saved front end keeps its fields; use {cls.__name__}(preset=...) for another")
        return super().from_dict(feature_extractor_dict, **kwargs)

    @property
    def window_samples(self) -> int:
        """Samples of a window."""
        return round(self.window_seconds * self.sampling_rate)

    @property
    def cut_frames(self) -> int:
        """Frames of a window after decimation, before crop and resize: what is cut from stored features."""
        frames = 1 + self.window_samples // self.hop_length
        return frames if self.frames_per_second is None else decimated_count(frames, self._step)

    @property
    def window_shape(self) -> tuple[int, int]:
        """Frames and bins of a window as the model gets it."""
        bins, frames = self.resize or self.crop or (self.num_bins, self.cut_frames)
        return frames, bins

    @property
    def feature_bins(self) -> int:
        """Bins of the un-normalised features: of MFCCs the mels that they are made of."""
        return self.num_mels if self.representation == "mfcc" else self.num_bins

    @property
    def silence(self) -> float:
        """What a silent bin holds, in the scale of the un-normalised features."""
        return {"db": DB_FLOOR, "log": math.log(self.log_offset), "none": 0.0}[self.scale]

    @property
    def _step(self) -> float:
        return self.sampling_rate / self.hop_length / self.frames_per_second

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, with `feature_bins` for those who compare stored features."""
        return {**super().to_dict(), "feature_bins": self.feature_bins}

    def count_frames(self, num_samples: int) -> int:
        """Return how many (centred) frames there are after decimation."""
        frames = 1 + num_samples // self.hop_length
        return frames if self.frames_per_second is None else decimated_count(frames, self._step)

    def frame_span(self, first: int, count: int) -> tuple[int, int, int] | None:
        """Return the samples of `count` frames with their neighbours' overlap; None where windows need the whole track."""
        if self.normalize_over == "track" or self.representation == "cqt" or self.frames_per_second is not None:
            return None
        overlap = math.ceil(self.n_fft / 2 / self.hop_length)
        before = max(0, first - overlap)
        return before * self.hop_length, (first + count - 1 + overlap) * self.hop_length + 1, first - before

    def prepare(self, waveform: np.ndarray) -> np.ndarray:
        """Return the waveform [samples], standardised over the track where that is asked for."""
        return standardize(waveform) if self.waveform_normalization == "z_score" else waveform

    def transform(self, waveform: np.ndarray) -> np.ndarray:
        """Return the spectrogram in its scale (dB against 1, without a floor), decimated, float32 [frames, feature_bins]."""
        features = scaled_spectrogram(waveform, self).T
        if self.frames_per_second is not None:
            features = decimate(features, self._step)
        return np.ascontiguousarray(features, dtype=np.float32)

    def normalize_track(self, features: np.ndarray) -> np.ndarray:
        """Normalise the features [frames, feature_bins] of a track over all of it, where `normalize_over` says so."""
        return self._normalized(features) if self.normalize_over == "track" else features

    def normalize_window(self, window: np.ndarray) -> np.ndarray:
        """Crop, resize and, unless the track was normalised, normalise a window [cut_frames, bins]."""
        if self.normalize_over == "window":
            window = self._relative(window)
        if self.crop is not None:
            bins, frames = self.crop
            window = window[:frames, :bins]
        if self.resize is not None:
            window = resize(window, self.resize)
        return normalize(window, self) if self.normalize_over == "window" else window

    def as_features(self, stored: np.ndarray, *, bins_first: bool | None = None) -> np.ndarray:
        """Return the stored spectrogram of a track as `track_features` gives it, float32 [frames, feature_bins].

        Args:
            stored: Floats, taken as they are: what `track_features` gave. Or levels 0..255 (uint8) of a spectrogram in dB
                that was mapped to [0, 1]: they become the dB below the loudest down to `top_db` (ours). Whatever was
                quieter, in windows as in the track, is lost.
            bins_first: Whether it is [bins, frames], as librosa and stored levels lay them, or [frames, bins], as ours.
                By default the first for levels, the second for floats.

        Raises:
            ValueError: If it has not `feature_bins` bins, or no frames, or values that are not finite; of levels, if the
                front end has no dB or no `top_db`.
        """
        features, levels = stored_features(stored, self.feature_bins, bins_first)
        if levels:
            if self.scale != "db" or self.top_db is None:
                raise ValueError(
                    "stored levels 0..255 need scale 'db' and a top_db, the range that they were mapped from"
                )
            features = (features - np.float32(1)) * np.float32(self.top_db)
        return features

    def fit_statistics(self, tracks: Iterable[np.ndarray], *, per_bin: bool = False) -> "SpectrogramFeatureExtractor":
        """Set `normalization="statistics"` with mean and deviation over the windows of `tracks`; one is held at a time.

        Args:
            tracks: Waveforms [samples] or un-normalised features [frames, bins], of the **training split only**:
                statistics that have seen the other sides leak them.
            per_bin: Whether each bin gets its own.

        Returns:
            This extractor.

        Raises:
            ValueError: If there is no track.
        """
        plain = copy.copy(self)
        plain.normalization = "none"
        if self.normalize_over == "track":
            plain.crop = plain.resize = None
        windows = (plain.track_windows(track) if track.ndim == 1 else plain.cut_features(track) for track in tracks)
        mean, std = running_statistics(windows, per_bin=per_bin)
        # A bin that never differs has nothing to be divided by.
        self.mean, self.std = mean, [value or 1.0 for value in std] if per_bin else (std or 1.0)
        self.normalization = "statistics"
        return self

    def _normalized(self, features: np.ndarray) -> np.ndarray:
        return normalize(self._relative(features), self)

    def _relative(self, features: np.ndarray) -> np.ndarray:
        """Give features [frames, feature_bins] their dB reference and floor, and make MFCCs of them."""
        if self.scale == "db":
            features = relative_db(features, reference=self.db_reference, power=self.power, top_db=self.top_db)
        return mfcc(features, self.num_bins) if self.representation == "mfcc" else features


_FIELDS = set(inspect.signature(SpectrogramFeatureExtractor.__init__).parameters)
_FIELDS -= {"self", "kwargs", "window_frames"}
_FIELDS_OF_BASE = set(inspect.signature(WindowedFeatureExtractor.__init__).parameters)
_FIELDS_OF_BASE |= {"padding_side", "return_attention_mask"}  # transformers'

# The code travels with every checkpoint, so that it loads where hfmgc is not installed.
SpectrogramFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")
