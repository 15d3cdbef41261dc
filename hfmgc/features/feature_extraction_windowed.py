"""The interface that all feature extractors share: whole tracks in, stacks of windows out."""

import math
import zlib

import numpy as np
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.utils import PaddingStrategy, logging

from .windows import WINDOW_POLICIES, window_starts


logger = logging.get_logger(__name__)


class WindowedFeatureExtractor(SequenceFeatureExtractor):
    r"""Base of the extractors that cut a track into windows, so that nothing silently hears only its beginning.

    A front end writes `extract_windows`, `window_samples` and `window_shape`; one that looks at the whole track before
    it is cut (normalisation over the track) overrides `track_windows` and `training_window` instead.

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
            What fills a window when the track is shorter: `"loop"` repeats it from its start, `"pad"` fills with silence
            as the front end understands it.
    """

    model_input_names = ["input_values", "window_mask"]  # noqa: RUF012 (transformers reads it as a plain class attribute)

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
    def window_shape(self) -> tuple[int, int]:
        """Frames and bins of a window."""
        raise NotImplementedError(f"{type(self).__name__} must define window_shape")

    @property
    def window_seconds(self) -> float:
        """Length of a window in seconds."""
        return self.window_samples / self.sampling_rate

    def extract_windows(self, windows: list[np.ndarray]) -> np.ndarray:
        """Turn waveforms of windows, each [at most window_samples], into features, float32 [windows, frames, bins]."""
        raise NotImplementedError(f"{type(self).__name__} must define extract_windows")

    def cut(self, waveform: np.ndarray, generator: np.random.Generator | None = None) -> list[np.ndarray]:
        """Cut a track [samples] into its windows by the policy; a short one is looped here, where it is to be."""
        if generator is None and self.window_policy == "random":
            # Tracks have no names here; their content tells them apart and gives each the same windows every time.
            generator = np.random.default_rng((self.window_seed, zlib.crc32(waveform.tobytes())))
        starts = window_starts(
            len(waveform),
            self.window_samples,
            policy=self.window_policy,
            max_windows=self.max_windows,
            overlap=self.window_overlap,
            generator=generator,
        )
        return [self.window_at(waveform, start) for start in starts]

    def track_windows(self, waveform: np.ndarray) -> np.ndarray:
        """Return the features of a track's windows, as evaluation and use hear it, float32 [windows, frames, bins]."""
        return self.extract_windows(self.cut(waveform))

    def training_window(self, waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return the features of one window from a random place of a track [samples], float32 [frames, bins]."""
        return self.extract_windows([self.random_window(waveform, generator)])[0]

    def random_window(self, waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return one window from a random place of a track [samples], as training takes it."""
        last = max(0, len(waveform) - self.window_samples)
        return self.window_at(waveform, int(generator.integers(0, last + 1)))

    def window_at(self, waveform: np.ndarray, start: int) -> np.ndarray:
        """Return the window that begins at sample `start`."""
        window = waveform[start : start + self.window_samples]
        if len(window) < self.window_samples and self.short_tracks == "loop":
            window = np.resize(window, self.window_samples)
        return window

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
