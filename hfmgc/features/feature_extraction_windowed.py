"""The interface that all feature extractors share: whole tracks in, stacks of windows out."""

import difflib
import math
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.utils import PaddingStrategy, logging

from .windows import WINDOW_POLICIES, fill, start_at, window_starts


logger = logging.get_logger(__name__)


class WindowedFeatureExtractor(SequenceFeatureExtractor):
    r"""Base of the extractors that cut a track into windows, so that nothing silently hears only its beginning.

    There is one order, for audio and stored features, training and evaluation:

        waveform -> `prepare` -> `transform` -> features of the track, un-normalised (what is stored)
        -> filled to a window, if shorter -> `normalize_track` -> cut -> `normalize_window` -> windows

    A front end writes `transform`, the two normalisations as it needs them, and the sizes: `count_frames`, `cut_frames`,
    `window_samples`, `window_shape`; and `frame_span` if frames can be computed independently of the track.

    Args:
        feature_size (`int`): Bins of a frame.
        sampling_rate (`int`): Samples per second that waveforms must have (Hz).
        padding_value (`float`): What pads features.
        window_policy (`str`, *optional*, defaults to `"even"`):
            `"even"`, `"all"` or `"random"`; see [`window_starts`].
        max_windows (`int`, *optional*, defaults to 12):
            Most windows of a track under `"even"`, the number of them under `"random"`. None: as many as cover it.
        window_overlap (`float`, *optional*, defaults to 0.5):
            Overlap of neighbouring windows under `"all"`.
        window_seed (`int`, *optional*, defaults to 0):
            Seed of `"random"`: a track gets the same windows each time, other tracks get others.
        short_tracks (`str`, *optional*, defaults to `"loop"`):
            What fills a window when the track is shorter: `"loop"` repeats its frames from the start, `"pad"` adds
            silent frames.
    """

    model_input_names = ["input_values", "window_mask"]  # noqa: RUF012 (transformers reads it as a plain class attribute)
    # The fields that decide the values of `track_features`: stored features fit an extractor that shares them.
    feature_fields: tuple[str, ...] = ("feature_extractor_type", "sampling_rate")
    # What a silent frame holds, before normalisation.
    silence = 0.0

    def __init__(
        self,
        feature_size: int,
        sampling_rate: int,
        padding_value: float = 0.0,
        window_policy: str = "even",
        max_windows: int | None = 12,
        window_overlap: float = 0.5,
        window_seed: int = 0,
        short_tracks: str = "loop",
        **kwargs,
    ):
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        if window_policy not in WINDOW_POLICIES:
            raise ValueError(f"window_policy must be one of {', '.join(WINDOW_POLICIES)}, not {window_policy!r}")
        if max_windows is not None and max_windows < 1:
            raise ValueError(f"max_windows must be at least 1 or null, not {max_windows}")
        if max_windows is None and window_policy == "random":
            raise ValueError("window_policy 'random' needs max_windows, the number of windows to draw")
        if not 0 <= window_overlap < 1:
            raise ValueError(f"window_overlap must lie in [0, 1), not {window_overlap}")
        if short_tracks not in ("loop", "pad"):
            raise ValueError(f"short_tracks must be 'loop' or 'pad', not {short_tracks!r}")
        self.window_policy = window_policy
        self.max_windows = max_windows
        self.window_overlap = window_overlap
        self.window_seed = window_seed
        self.short_tracks = short_tracks

    @property
    def window_samples(self) -> int:
        """Length of a window in samples."""
        raise NotImplementedError(f"{type(self).__name__} must define window_samples")

    @property
    def cut_frames(self) -> int:
        """Frames that a window takes of the features of its track."""
        raise NotImplementedError(f"{type(self).__name__} must define cut_frames")

    @property
    def window_shape(self) -> tuple[int, int]:
        """Frames and bins of a window as the model gets it."""
        raise NotImplementedError(f"{type(self).__name__} must define window_shape")

    @property
    def feature_bins(self) -> int:
        """Bins of the un-normalised features of a track."""
        return self.window_shape[1]

    @property
    def window_seconds(self) -> float:
        """Length of a window in seconds."""
        return self.window_samples / self.sampling_rate

    def count_frames(self, num_samples: int) -> int:
        """Return how many frames `transform` makes of so many samples."""
        raise NotImplementedError(f"{type(self).__name__} must define count_frames")

    def transform(self, waveform: np.ndarray) -> np.ndarray:
        """Return the un-normalised features, float32 [frames, bins], of a prepared waveform [samples]."""
        raise NotImplementedError(f"{type(self).__name__} must define transform")

    def frame_span(self, first: int, count: int) -> tuple[int, int, int] | None:
        """Return the samples needed for `count` frames starting at `first`: start, stop, and the frames to skip before them.

        None, the default, where a window depends on the whole track.
        """
        return None

    def prepare(self, waveform: np.ndarray) -> np.ndarray:
        """Return the waveform [samples] of a whole track as `transform` takes it: by default unchanged."""
        return waveform

    def normalize_track(self, features: np.ndarray) -> np.ndarray:
        """Normalise the features [frames, bins] of a track over all of it: by default not at all."""
        return features

    def normalize_window(self, window: np.ndarray) -> np.ndarray:
        """Turn a window [cut_frames, bins] of `normalize_track` into what the model gets: by default unchanged."""
        return window

    def fit_statistics(self, tracks: Iterable[np.ndarray], *, per_bin: bool = False) -> "WindowedFeatureExtractor":
        """Set the normalisation from the training tracks.

        Raises:
            ValueError: By default: the statistics are fixed.
        """
        raise ValueError(
            f"fit_statistics: {type(self).__name__} keeps the statistics of its pre-training; only the spectrogram front "
            "end can fit them"
        )

    def as_features(self, stored: np.ndarray) -> np.ndarray:
        """Return the stored features of a track as `track_features` gives them, float32 [frames, bins].

        Raises:
            ValueError: If they are no such features.
        """
        features = np.asarray(stored)
        bins = self.feature_bins
        if features.dtype.kind != "f" or features.ndim != 2 or features.shape[1] != bins or len(features) == 0:
            raise ValueError(f"stored features must be floats [frames, {bins}], not {features.dtype} {features.shape}")
        if not np.isfinite(features).all():
            raise ValueError("stored features have NaN or infinite values")
        return features.astype(np.float32)

    def track_features(self, waveform: np.ndarray) -> np.ndarray:
        """Return the un-normalised features of a whole track [samples], float32 [frames, bins]."""
        return self.transform(self.prepare(waveform))

    def count_windows(self, frames: int) -> int:
        """Return how many windows `cut_features` cuts from a track of `frames` frames."""
        if self.window_policy == "random":
            return self.max_windows if frames > self.cut_frames else 1
        return len(self._starts(frames))

    def cut_features(self, features: np.ndarray, chosen: slice = slice(None)) -> np.ndarray:
        """Cut the features of a track [frames, bins] by the window policy, float32 [windows, frames, bins].

        `chosen`: which of its windows; all by default.
        """
        normalized = self.normalize_track(self._filled(features))
        starts = self._starts(len(features), features)[chosen]
        return np.stack([self._window(normalized, start) for start in starts])

    def track_windows(self, waveform: np.ndarray) -> np.ndarray:
        """Return the windows of a track [samples], as evaluation hears it, float32 [windows, frames, bins].

        The same as `cut_features(track_features(waveform))`; of a long track only what the windows take is computed.
        """
        frames = self.count_frames(len(waveform))
        if self.window_policy != "random" and self.frame_span(0, 1) is not None:
            starts = self._starts(frames)
            if len(starts) * self.cut_frames < frames:
                prepared = self.prepare(waveform)
                return np.stack([self.normalize_window(self._frames(prepared, start)) for start in starts])
        return self.cut_features(self.track_features(waveform))

    def feature_window(self, features: np.ndarray, place: float) -> np.ndarray:
        """Return the window at a place in [0, 1) of the features of a track, float32 [frames, bins]; see [`start_at`]."""
        normalized = self.normalize_track(self._filled(features))
        return self._window(normalized, start_at(place, len(normalized), self.cut_frames))

    def audio_window(self, prepared: np.ndarray, place: float) -> np.ndarray:
        """Return the same window as `feature_window`, of a prepared waveform [samples]."""
        if self.frame_span(0, 1) is None:
            return self.feature_window(self.transform(prepared), place)
        start = start_at(place, self.count_frames(len(prepared)), self.cut_frames)
        return self.normalize_window(self._filled(self._frames(prepared, start)))

    def _starts(self, frames: int, features: np.ndarray | None = None) -> np.ndarray:
        generator = None
        if self.window_policy == "random":
            # Tracks have no names here; their content gives each the same windows every time: where its level rises, in
            # 64 parts, which neither rounding nor normalisation changes.
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

    def _frames(self, prepared: np.ndarray, first: int) -> np.ndarray:
        """Return the frames of one window [at most cut_frames, bins] from `first` on, computed by themselves."""
        start, stop, skipped = self.frame_span(first, self.cut_frames)
        return self.transform(prepared[start:stop])[skipped : skipped + self.cut_frames]

    def _filled(self, features: np.ndarray) -> np.ndarray:
        return fill(features, self.cut_frames, loop=self.short_tracks == "loop", padding=self.silence)

    def _window(self, normalized: np.ndarray, start: int) -> np.ndarray:
        return self.normalize_window(normalized[start : start + self.cut_frames])

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Return the extractor of a saved dict with the overrides of `from_pretrained`.

        Raises:
            ValueError: If an override looks like a misspelt field, which transformers would ignore.
        """
        refuse_misspelt(kwargs, feature_extractor_dict)
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
            raw_speech: One mono waveform [samples] or a list of them (the name that the pipeline and transformers'
                extractors use).
            sampling_rate: Rate of the waveforms in Hz; refused where it is not the extractor's.
            return_tensors: `"pt"` or `"np"`; lists of arrays otherwise.
            kwargs: Refused: an ignored setting is a silent error.

        Returns:
            `input_values` [tracks, windows, frames, bins] and `window_mask` [tracks, windows], which is False where a
            track has fewer windows than the longest of the batch.

        Raises:
            ValueError: For a wrong rate, an unknown argument, or a waveform that is empty, not mono or not finite.
        """
        if kwargs:
            raise ValueError(
                f"{type(self).__name__} does not take {', '.join(sorted(kwargs))} in the call; "
                "set window and length fields when it is made or loaded"
            )
        if sampling_rate is None:
            logger.warning_once("sampling_rate was not given; the waveform is taken to be at the extractor's rate")
        elif sampling_rate != self.sampling_rate:
            raise ValueError(
                f"this extractor works at {self.sampling_rate} Hz, the audio is at {sampling_rate} Hz: resample it "
                "first (hfmgc.data.audio.load_audio does)"
            )
        stacks = [{"input_values": self.track_windows(waveform)} for waveform in _as_waveforms(raw_speech)]
        return self.pad(stacks, return_tensors=return_tensors)

    def _pad(
        self,
        processed_features: dict[str, np.ndarray],
        max_length: int | None = None,
        padding_strategy: PaddingStrategy = PaddingStrategy.DO_NOT_PAD,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
    ) -> dict[str, np.ndarray]:
        """Pad one track for `pad`: its length is its number of windows, and `window_mask` tells which of them exist.

        transformers' own method pads a single sequence [frames, bins] and no mask. A single window [frames, bins],
        as training may take it, stays as it is.
        """
        values = processed_features["input_values"]
        if values.ndim != 3:
            return processed_features
        windows = len(values)
        length = windows if padding_strategy == PaddingStrategy.DO_NOT_PAD else max(windows, max_length)
        if pad_to_multiple_of is not None and padding_strategy != PaddingStrategy.DO_NOT_PAD:
            length = math.ceil(length / pad_to_multiple_of) * pad_to_multiple_of
        missing = (0, length - windows)
        mask = processed_features.get("window_mask", np.ones(windows, dtype=bool))[:windows]
        return {
            **processed_features,
            "input_values": np.pad(values, (missing, (0, 0), (0, 0)), constant_values=self.padding_value),
            "window_mask": np.pad(mask, missing),
        }


def refuse_misspelt(names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse what looks like a misspelt field; transformers adds fields of its own, which are let through."""
    for name in set(names) - set(known):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        if near:
            raise ValueError(f"there is no field {name!r}; did you mean {near[0]!r}?")


def _as_waveforms(audio: np.ndarray | list) -> list[np.ndarray]:
    """Return a list of float32 [samples], checked."""
    if hasattr(audio, "detach"):
        audio = audio.detach().cpu().numpy()
    if isinstance(audio, (list, tuple)) and len(audio) > 0 and np.ndim(audio[0]) > 0:
        batch = [np.asarray(waveform, dtype=np.float32) for waveform in audio]
    else:
        audio = np.asarray(audio, dtype=np.float32)
        # [2, samples] is a stereo track far more often than a batch of two; batches come as lists.
        batch = [audio[0]] if audio.ndim == 2 and len(audio) == 1 else [audio]
    if not batch:
        raise ValueError("no waveform was given")
    for waveform in batch:
        if waveform.ndim != 1:
            raise ValueError(
                f"a waveform must be mono [samples], not {list(waveform.shape)}: take the mean of its channels"
            )
        if len(waveform) == 0:
            raise ValueError("a waveform is empty")
        if not np.isfinite(waveform).all():
            raise ValueError("a waveform has NaN or infinite samples")
    return batch
