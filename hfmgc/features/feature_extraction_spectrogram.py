"""One front end for log-mel, STFT, CQT and MFCC spectrograms, with the papers' front ends as named presets."""

import copy
import inspect
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from .feature_extraction_windowed import WindowedFeatureExtractor
from .spectrogram_fields import CHOICES, check_fields, check_whole, default_bins, refuse_unknown, with_preset
from .spectrogram_operations import (
    decimate,
    decimated_count,
    normalize,
    resize,
    running_statistics,
    scaled_spectrogram,
    standardize,
    stored_features,
)
from .windows import window_starts


class SpectrogramFeatureExtractor(WindowedFeatureExtractor):
    r"""Spectrograms of the windows of a track, float32 [windows, frames, bins], numerically librosa's.

    With `normalize_over="window"` each window is cut from the waveform and is a spectrogram of its own (the papers'
    way): waveform -> spectrogram -> scale -> decimation -> crop -> resize -> normalisation. With `"track"` the whole
    track's spectrogram is computed, scaled, normalised and decimated once, and then cut in frames, cropped and resized.

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
        db_reference (`float` or `"max"`, *optional*, defaults to `"max"`): What has 0 dB.
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
    """

    # Stands before the base's property: here the length is a field, and is saved as one.
    window_seconds = 30.0

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
        kwargs.pop("feature_size", None)
        refuse_unknown(kwargs, _FIELDS | _FIELDS_OF_BASE)
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
    def _step(self) -> float:
        return self.sampling_rate / self.hop_length / self.frames_per_second

    def track_features(self, waveform: np.ndarray) -> np.ndarray:
        """Return the spectrogram of a whole track [samples], from which `cut_features` cuts, float32 [frames, bins].

        Normalised with `normalize_over="track"`; with `"window"` the windows are when they are cut. A track shorter
        than a window is looped or padded to one.
        """
        return self._uncut(self._filled(self._prepared(waveform)))

    def extract_windows(self, windows: list[np.ndarray]) -> np.ndarray:
        """Return features of windows [at most window_samples], each for itself, float32 [windows, frames, bins]."""
        # Where normalisation is over tracks, a window without its track is the whole of one.
        return np.stack([self._feature_window(self._uncut(self._filled(window)), 0) for window in windows])

    def track_windows(self, waveform: np.ndarray) -> np.ndarray:
        """Return the features of a track's windows by the window policy, float32 [windows, frames, bins]."""
        if self.normalize_over == "track":
            return self.cut_features(self.track_features(waveform))
        return super().track_windows(self._prepared(waveform))

    def training_window(self, waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return the features of one window from a random place of a track [samples], float32 [frames, bins]."""
        if self.normalize_over == "track":
            return self.random_feature_window(self.track_features(waveform), generator)
        return super().training_window(self._prepared(waveform), generator)

    def as_features(self, stored: np.ndarray, *, bins_first: bool | None = None) -> np.ndarray:
        """Turn a track's stored spectrogram into what `cut_features` takes, float32 [frames, bins].

        Args:
            stored: Levels 0..255 of a min-max-normalised spectrogram (uint8), which become 0..1. They count as already
                mapped by `min_max` over the track and by `affine`; other normalisations are made of them. Or floats,
                which are taken as they are: what `track_features` gave.
            bins_first: Whether it is [bins, frames], as librosa and stored levels lay them, or [frames, bins], as ours.
                By default the first for levels, the second for floats.

        Raises:
            ValueError: If it has not `num_bins` bins, or no frames, or values that are not finite.
        """
        features, levels = stored_features(stored, self.num_bins, bins_first)
        if not levels:
            return features
        if self.normalize_over == "window" and self.normalization == "affine":
            return features * np.float32(self.affine_scale) - np.float32(self.affine_offset)  # undone by the cutting
        if self.normalize_over == "track" and self.normalization in ("z_score", "statistics"):
            return normalize(features, self)
        return features

    def cut_features(self, features: np.ndarray) -> np.ndarray:
        """Cut a track's features [frames, bins] by the window policy, float32 [windows, frames, bins].

        Args:
            features: As `track_features` or `as_features` gives them. Windows are normalised here where
                `normalize_over` is `"window"`.
        """
        generator = None
        if self.window_policy == "random":
            generator = np.random.default_rng((self.window_seed, zlib.crc32(np.ascontiguousarray(features).tobytes())))
        starts = window_starts(
            len(features),
            self.cut_frames,
            policy=self.window_policy,
            max_windows=self.max_windows,
            overlap=self.window_overlap,
            generator=generator,
        )
        return np.stack([self._feature_window(features, start) for start in starts])

    def random_feature_window(self, features: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return one window from a random place of a track's features [frames, bins], float32 [frames, bins]."""
        last = max(0, len(features) - self.cut_frames)
        return self._feature_window(features, int(generator.integers(0, last + 1)))

    def fit_statistics(self, tracks: Iterable[np.ndarray], *, per_bin: bool = False) -> "SpectrogramFeatureExtractor":
        """Set `normalization="statistics"` with mean and deviation over the windows of `tracks`; one is held at a time.

        Args:
            tracks: Waveforms [samples] or stored features [frames, bins] that are not normalised, of the **training
                split only**: statistics that have seen the other sides leak them.
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

    def _prepared(self, waveform: np.ndarray) -> np.ndarray:
        return standardize(waveform) if self.waveform_normalization == "z_score" else waveform

    def _filled(self, waveform: np.ndarray) -> np.ndarray:
        missing = self.window_samples - len(waveform)
        if missing <= 0:
            return waveform
        return (
            np.resize(waveform, self.window_samples) if self.short_tracks == "loop" else np.pad(waveform, (0, missing))
        )

    def _uncut(self, waveform: np.ndarray) -> np.ndarray:
        """Return the spectrogram [frames, bins] of a waveform, normalised where that is over the track."""
        features = scaled_spectrogram(waveform, self).T
        if self.normalize_over == "track":
            features = normalize(features, self)
        if self.frames_per_second is not None:
            features = decimate(features, self._step)
        return np.ascontiguousarray(features, dtype=np.float32)

    def _feature_window(self, features: np.ndarray, start: int) -> np.ndarray:
        """Return the window [frames, bins] that begins at frame `start` of a track's features."""
        window = features[start : start + self.cut_frames]
        missing = self.cut_frames - len(window)
        if missing > 0 and self.short_tracks == "loop":
            window = np.resize(window, (self.cut_frames, window.shape[1]))
        elif missing > 0:  # with the quietest that is there: what is silence depends on scale and normalisation
            window = np.pad(window, ((0, missing), (0, 0)), constant_values=window.min())
        if self.crop is not None:
            bins, frames = self.crop
            window = window[:frames, :bins]
        if self.resize is not None:
            window = resize(window, self.resize)
        return window if self.normalize_over == "track" else normalize(window, self)


_FIELDS = set(inspect.signature(SpectrogramFeatureExtractor.__init__).parameters)
_FIELDS -= {"self", "kwargs", "window_frames"}
_FIELDS_OF_BASE = set(inspect.signature(WindowedFeatureExtractor.__init__).parameters)
_FIELDS_OF_BASE |= {"padding_side", "return_attention_mask"}  # transformers'

# The code travels with every checkpoint, so that it loads where hfmgc is not installed.
SpectrogramFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")
