"""The interface of all feature extractors: whole tracks in, stacks of windows out."""

import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.utils import logging

from .field_checks import check_positive, check_types, refuse_misspelt_fields
from .windows import fill, start_at, window_starts


logger = logging.get_logger(__name__)


class WindowedFeatureExtractor(SequenceFeatureExtractor):
    r"""Base class of all extractors: cuts a whole track into windows, not just its beginning.

    Audio and stored features take the same steps, in training and in evaluation:

        waveform -> `prepare` -> `transform` -> un-normalised features of the track (these are stored)
        -> pad to one window -> `normalize_track` -> cut -> `normalize_window` -> windows

    A subclass defines `transform`, `count_frames`, `cut_frames`, `window_samples` and `window_shape`. It overrides the
    normalisations that it needs, and `frame_span` if frames do not depend on the rest of the track.

    Args:
        feature_size (`int`): Number of bins per frame.
        sampling_rate (`int`): Sampling rate of the waveforms in Hz.
        padding_value (`float`, *optional*, defaults to 0.0): Value that fills padding windows.
        window_policy (`str`, *optional*, defaults to `"even"`):
            `"even"`, `"all"`, `"random"` or `"first"`; see [`window_starts`].
        max_windows (`int`, *optional*, defaults to 12):
            Maximum number of windows per track for `"even"`, exact number for `"random"`. None: no limit.
        window_overlap (`float`, *optional*, defaults to 0.5): Overlap of neighbouring windows for `"all"`.
        window_seed (`int`, *optional*, defaults to 0):
            Seed for `"random"`. A track gets the same windows each time; windows differ between tracks.
        short_tracks (`str`, *optional*, defaults to `"loop"`):
            Padding of a track shorter than a window: `"loop"` repeats its frames, `"pad"` adds silent frames.
    """

    model_input_names = ["input_values", "window_mask"]  # noqa: RUF012 (transformers reads it as a plain class attribute)
    # The fields that affect `track_features`. Stored features can be used if they have the same values in these fields.
    feature_fields: tuple[str, ...] = ("feature_extractor_type", "sampling_rate")
    # Value of a silent frame before normalisation.
    silence = 0.0
    # False if the features come from a table and cannot be computed from audio.
    takes_audio = True
    # True if a window always covers the whole track, whatever its length.
    covers_track = False
    # How `prepare` normalises the waveform of a whole track.
    waveform_normalization = "none"

    def __init__(
        self,
        feature_size: int,
        sampling_rate: int,
        padding_value: float | int = 0.0,
        window_policy: Literal["even", "all", "random", "first"] = "even",
        max_windows: int | None = 12,
        window_overlap: float | int = 0.5,
        window_seed: int = 0,
        short_tracks: Literal["loop", "pad"] = "loop",
        **kwargs,
    ):
        check_types(WindowedFeatureExtractor.__init__, locals())
        check_positive(sampling_rate=sampling_rate, max_windows=max_windows)
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        if max_windows is None and window_policy == "random":
            raise ValueError("window_policy 'random' needs max_windows: set the number of windows to draw")
        if not 0 <= window_overlap < 1:
            raise ValueError(f"window_overlap must be in [0, 1), not {window_overlap}")
        self.window_policy = window_policy
        self.max_windows = max_windows
        self.window_overlap = window_overlap
        self.window_seed = window_seed
        self.short_tracks = short_tracks

    # Every subclass defines the methods below that raise NotImplementedError.

    @property
    def window_samples(self) -> int:
        """Length of a window in samples."""
        raise NotImplementedError(f"{type(self).__name__} must define window_samples")

    @property
    def cut_frames(self) -> int:
        """Length of a window in frames when it is cut, before `normalize_window`."""
        raise NotImplementedError(f"{type(self).__name__} must define cut_frames")

    @property
    def window_shape(self) -> tuple[int, int]:
        """Shape [frames, bins] of a window in the model's input."""
        raise NotImplementedError(f"{type(self).__name__} must define window_shape")

    @property
    def window_seconds(self) -> float:
        """Length of a window in seconds."""
        return self.window_samples / self.sampling_rate

    @property
    def feature_bins(self) -> int:
        """Number of bins of the un-normalised features."""
        return self.window_shape[1]

    def count_frames(self, num_samples: int) -> int:
        """Return the number of frames that `transform` returns for `num_samples` samples."""
        raise NotImplementedError(f"{type(self).__name__} must define count_frames")

    def transform(self, waveform: np.ndarray) -> np.ndarray:
        """Return the un-normalised features, float32 [frames, bins], of a prepared waveform [samples]."""
        raise NotImplementedError(f"{type(self).__name__} must define transform")

    def frame_span(self, first: int, count: int) -> tuple[int, int, int] | None:
        """Return which samples `transform` needs to compute `count` frames, beginning with frame `first`.

        Returns:
            `(start, stop, skip)`: transform the samples `start:stop` and drop the first `skip` frames of the result. None,
            the default: a window depends on the whole track.
        """
        return None

    def prepare(self, waveform: np.ndarray) -> np.ndarray:
        """Prepare the waveform [samples] of a whole track for `transform`; unchanged by default."""
        return waveform

    def normalize_track(self, features: np.ndarray) -> np.ndarray:
        """Normalise the features [frames, bins] over the whole track; unchanged by default."""
        return features

    def normalize_window(self, window: np.ndarray) -> np.ndarray:
        """Turn a window [cut_frames, bins] into the model's input; unchanged by default."""
        return window

    def fit_statistics(self, tracks: Iterable[np.ndarray], *, per_bin: bool = False) -> "WindowedFeatureExtractor":
        """Compute the normalisation from the training tracks.

        Raises:
            ValueError: By default, because the statistics are fixed.
        """
        raise ValueError(
            f"fit_statistics: {type(self).__name__} has fixed statistics: leave it out, or use a spectrogram or "
            "hand-made front end"
        )

    def as_features(self, stored: np.ndarray) -> np.ndarray:
        """Convert stored features of a track to what `track_features` returns, float32 [frames, feature_bins].

        Raises:
            ValueError: If the type or shape is wrong, there are no frames, or values are not finite.
        """
        features, bins = np.asarray(stored), self.feature_bins
        if features.dtype.kind != "f" or features.ndim != 2 or features.shape[1] != bins or len(features) == 0:
            shape = list(features.shape)
            raise ValueError(f"stored features must be floats [frames, {bins}], not {features.dtype} {shape}")
        if not np.isfinite(features).all():
            raise ValueError("stored features have NaN or infinite values")
        return np.ascontiguousarray(features, dtype=np.float32)

    def track_features(self, waveform: np.ndarray) -> np.ndarray:
        """Return the un-normalised features of a whole track [samples], float32 [frames, feature_bins]."""
        return self.transform(self.prepare(waveform))

    def count_windows(self, frames: int) -> int:
        """Return the number of windows that `cut_features` cuts from a track of `frames` frames."""
        if self.window_policy == "random":
            return self.max_windows if frames > self.cut_frames else 1
        return len(self.starts(frames))

    def cut_features(self, features: np.ndarray, selection: slice = slice(None)) -> np.ndarray:
        """Cut the features of a track [frames, bins] into windows, float32 [windows, frames, bins].

        `window_policy` places the windows; `selection` picks a part of them.
        """
        normalized = self.normalize_track(self._fill(features))
        starts = self.starts(len(features), features)[selection]
        return np.stack([self._cut_window(normalized, start) for start in starts])

    def track_windows(self, waveform: np.ndarray) -> np.ndarray:
        """Return all windows of a track [samples] for evaluation, float32 [windows, frames, bins].

        Equals `cut_features(track_features(waveform))`, but does not compute frames between windows that leave gaps.
        """
        frames = self.count_frames(len(waveform))
        if self.window_policy != "random" and self.frame_span(0, 1) is not None:
            starts = self.starts(frames)
            if len(starts) * self.cut_frames < frames:
                prepared = self.prepare(waveform)
                return np.stack([self.normalize_window(self._compute_frames(prepared, start)) for start in starts])
        return self.cut_features(self.track_features(waveform))

    def feature_window(self, features: np.ndarray, position: float) -> np.ndarray:
        """Return the window at `position` in [0, 1) of a track's features, float32 [frames, bins]; see [`start_at`]."""
        normalized = self.normalize_track(self._fill(features))
        return self._cut_window(normalized, start_at(position, len(normalized), self.cut_frames))

    def audio_window(self, prepared: np.ndarray, position: float) -> np.ndarray:
        """Return the same window as `feature_window`, computed from a prepared waveform [samples]."""
        if self.frame_span(0, 1) is None:
            return self.feature_window(self.transform(prepared), position)
        start = start_at(position, self.count_frames(len(prepared)), self.cut_frames)
        return self.normalize_window(self._fill(self._compute_frames(prepared, start)))

    def starts(self, frames: int, features: np.ndarray | None = None) -> np.ndarray:
        """Return the first frame of each window of a track; the policy `"random"` needs its features [frames, bins]."""
        generator = None
        if self.window_policy == "random":
            # The extractor does not know the track's id, so the content seeds the draw: whether the mean level rises from
            # each of 64 equal parts to the next. Normalisation does not change that.
            levels = [part.mean() for part in np.array_split(features, min(64, len(features)))]
            rises = np.packbits(np.diff(levels) > 0).tobytes()
            generator = np.random.default_rng((self.window_seed, len(features), zlib.crc32(rises)))
        return window_starts(
            frames,
            self.cut_frames,
            policy=self.window_policy,
            max_windows=self.max_windows,
            overlap=self.window_overlap,
            generator=generator,
        )

    def _compute_frames(self, prepared: np.ndarray, first: int) -> np.ndarray:
        """Compute only the frames of the window that begins at frame `first`, [at most cut_frames, bins]."""
        start, stop, skip = self.frame_span(first, self.cut_frames)
        return self.transform(prepared[start:stop])[skip : skip + self.cut_frames]

    def _fill(self, features: np.ndarray) -> np.ndarray:
        return fill(features, self.cut_frames, loop=self.short_tracks == "loop", padding=self.silence)

    def _cut_window(self, normalized: np.ndarray, start: int) -> np.ndarray:
        return self.normalize_window(normalized[start : start + self.cut_frames])

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Create an extractor from its saved fields and the overrides given to `from_pretrained`.

        Raises:
            ValueError: If an override looks like a misspelt field, which transformers would ignore.
        """
        refuse_misspelt_fields(kwargs, feature_extractor_dict)
        return super().from_dict(feature_extractor_dict, **kwargs)

    def __call__(
        self,
        raw_speech: np.ndarray | list,
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        **kwargs,
    ) -> BatchFeature:
        """Cut one or several tracks into windows and extract their features.

        Args:
            raw_speech: A mono waveform [samples] or a list of them; transformers' pipeline expects this name.
            sampling_rate: Rate of the waveforms in Hz; must equal the extractor's.
            return_tensors: `"pt"` or `"np"` (default).
            kwargs: Refused, so that no setting is silently ignored.

        Returns:
            `input_values` [tracks, windows, frames, bins] and `window_mask` [tracks, windows], False for padding.

        Raises:
            ValueError: For a wrong rate, an unknown argument, or a waveform that is empty, not mono or not finite.
        """
        if kwargs:
            raise ValueError(
                f"{type(self).__name__} does not take {', '.join(sorted(kwargs))} in the call: set window and length "
                "fields in the constructor or in from_pretrained"
            )
        if sampling_rate is None:
            logger.warning_once(
                f"sampling_rate is missing; the waveform is assumed to be at {self.sampling_rate} Hz: pass its rate"
            )
        elif sampling_rate != self.sampling_rate:
            raise ValueError(
                f"sampling_rate: the extractor needs {self.sampling_rate} Hz, the audio has {sampling_rate} Hz: resample "
                "it first, for example with hfmgc.load_audio"
            )
        stacks = [{"input_values": self.track_windows(waveform)} for waveform in _as_waveforms(raw_speech)]
        return self.pad(stacks, return_tensors=return_tensors)

    def pad(self, processed_features: Mapping | list[Mapping], *args, **kwargs) -> BatchFeature:
        """Pad tracks [windows, frames, bins] to the same number of windows; `window_mask` is False for padding.

        Takes the arguments of transformers' `pad`; lengths are numbers of windows. Single windows [frames, bins] are
        neither padded nor masked.
        """
        if isinstance(processed_features, Mapping):
            batch = dict(processed_features)
        else:
            batch = {name: [track[name] for track in processed_features] for name in processed_features[0]}
        stacks = [np.asarray(stack, dtype=np.float32) for stack in batch["input_values"]]
        if stacks[0].ndim != 3:
            return super().pad(batch, **(kwargs | {"padding": False, "return_attention_mask": False}))
        batch["input_values"] = [stack.reshape(len(stack), -1) for stack in stacks]
        if "window_mask" in batch:
            batch["attention_mask"] = batch.pop("window_mask")
        padded = super().pad(batch, *args, return_attention_mask=True, **kwargs)
        padded["input_values"] = padded["input_values"].reshape(len(stacks), -1, *stacks[0].shape[1:])
        padded["window_mask"] = padded.pop("attention_mask") != 0
        return padded


def _as_waveforms(audio: np.ndarray | list) -> list[np.ndarray]:
    """Check the audio and return it as a list of float32 waveforms [samples]."""
    if hasattr(audio, "detach"):  # a tensor, perhaps on a GPU
        audio = audio.detach().cpu().numpy()
    if isinstance(audio, (list, tuple)) and len(audio) > 0 and np.ndim(audio[0]) > 0:
        batch = [np.asarray(waveform, dtype=np.float32) for waveform in audio]
    else:
        audio = np.asarray(audio, dtype=np.float32)
        # [2, samples] is a stereo track far more often than a batch of two; batches come as lists.
        batch = [audio[0]] if audio.ndim == 2 and len(audio) == 1 else [audio]
    for waveform in batch:
        if waveform.ndim != 1:
            raise ValueError(
                f"a waveform must be mono [samples], not {list(waveform.shape)}: take the mean of its channels"
            )
        if len(waveform) == 0:
            raise ValueError("a waveform is empty: exclude it")
        if not np.isfinite(waveform).all():
            raise ValueError("a waveform has NaN or infinite samples: exclude it or decode it again")
    return batch


# Checkpoints include this code, so they load without hfmgc. Subclasses inherit the registration.
WindowedFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")
