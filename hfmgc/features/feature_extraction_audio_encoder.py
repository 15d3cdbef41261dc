"""Front end for pre-trained audio encoders: applies the encoder's own feature extractor to windows of the waveform."""

import json
from functools import lru_cache
from typing import Any

import numpy as np
import transformers
from transformers import SequenceFeatureExtractor

from .feature_extraction_windowed import WindowedFeatureExtractor
from .field_checks import check_positive, check_types


# Kaldi's frames at 16 kHz, which are hard-coded in ASTFeatureExtractor.
AST_FRAME_SAMPLES, AST_HOP_SAMPLES = 400, 160


class AudioEncoderFeatureExtractor(WindowedFeatureExtractor):
    r"""Windows of a track as input for an audio encoder of transformers, float32 [windows, frames, bins].

    The un-normalised features are the waveform itself [samples, 1]. Each window goes through the encoder's own feature
    extractor: a waveform encoder gets [samples, 1], a spectrogram encoder [frames, bins].

    Args:
        encoder_extractor (`dict`, *optional*):
            The fields of the encoder's `preprocessor_config.json`, including `feature_extractor_type`. Default: a
            `Wav2Vec2FeatureExtractor`.
        sampling_rate (`int`, *optional*): Must equal the rate of the encoder's feature extractor, the default.
        window_seconds (`float`, *optional*):
            Length of a window. Default: the maximum of the encoder's feature extractor (Whisper 30 s, CLAP 10 s, AST
            10.26 s), or 10 s if there is none. Longer windows are refused, because the encoder's feature extractor would
            truncate them.
        kwargs: See [`WindowedFeatureExtractor`].

    Example:

    >>> import hfmgc
    >>> extractor = hfmgc.AudioEncoderFeatureExtractor(window_seconds=1.0)
    >>> waveform = hfmgc.load_audio("song.wav", extractor.sampling_rate)
    >>> tuple(extractor(waveform, sampling_rate=16000, return_tensors="pt")["input_values"].shape)
    (1, 2, 16000, 1)
    """

    default_extractor: dict[str, Any] = {"feature_extractor_type": "Wav2Vec2FeatureExtractor"}  # noqa: RUF012
    # Window length if the encoder takes any length (ours).
    default_seconds = 10.0
    # Replaces the property of the base class; set in the constructor.
    window_seconds = default_seconds

    def __init__(
        self,
        encoder_extractor: dict | None = None,
        sampling_rate: int | None = None,
        window_seconds: float | int | None = None,
        **kwargs,
    ):
        check_types(AudioEncoderFeatureExtractor.__init__, locals())
        check_positive(window_seconds=window_seconds)
        self.encoder_extractor = dict(self.default_extractor if encoder_extractor is None else encoder_extractor)
        wrapped = self._wrapped
        rate = wrapped.sampling_rate
        if sampling_rate not in (None, rate):
            raise ValueError(f"sampling_rate must be {rate}, as in encoder_extractor, not {sampling_rate}")
        longest = _longest_window(wrapped)
        default = longest / rate if longest else self.default_seconds
        self.window_seconds = float(default if window_seconds is None else window_seconds)
        if longest and round(self.window_seconds * rate) > longest:
            raise ValueError(
                f"window_seconds must be at most {longest / rate:g}, the maximum of {type(wrapped).__name__}, "
                f"not {window_seconds}"
            )
        for derived in ("feature_size", "padding_value"):
            kwargs.pop(derived, None)
        # With feature_size=1, transformers' `pad` would treat stacks of windows as one-dimensional.
        super().__init__(feature_size=self.window_samples, sampling_rate=rate, **kwargs)

    @property
    def _wrapped(self) -> SequenceFeatureExtractor:
        """The encoder's own feature extractor."""
        return _load_extractor(json.dumps(self.encoder_extractor, sort_keys=True))

    @property
    def window_samples(self) -> int:
        return max(1, round(self.window_seconds * self._wrapped.sampling_rate))

    @property
    def cut_frames(self) -> int:
        return self.window_samples

    @property
    def window_shape(self) -> tuple[int, int]:
        return _window_shape(json.dumps(self.encoder_extractor, sort_keys=True), self.window_samples)

    @property
    def feature_bins(self) -> int:
        """1: the features are the samples."""
        return 1

    def count_frames(self, num_samples: int) -> int:
        """Return the number of samples."""
        return num_samples

    def frame_span(self, first: int, count: int) -> tuple[int, int, int]:
        """Return the samples of `count` frames; a frame is a sample."""
        return first, first + count, 0

    def transform(self, waveform: np.ndarray) -> np.ndarray:
        """Return the waveform as features, float32 [samples, 1]."""
        return np.ascontiguousarray(waveform, dtype=np.float32)[:, None]

    def normalize_window(self, window: np.ndarray) -> np.ndarray:
        """Apply the encoder's feature extractor to a window [samples, 1]: float32 [frames, bins]."""
        return _extract(self._wrapped, window[:, 0])


def _extract(extractor: SequenceFeatureExtractor, window: np.ndarray) -> np.ndarray:
    """Apply an extractor of transformers to a window [samples]: float32 [frames, bins]."""
    batch = extractor(window, sampling_rate=extractor.sampling_rate, return_tensors="np")
    values = np.asarray(batch[extractor.model_input_names[0]][0], dtype=np.float32)
    while values.ndim > 2:  # CLAP repeats a window that it does not truncate in all channels: take the first
        values = values[0]
    if values.ndim == 1:
        return values[:, None]
    # EnCodec returns [channels, samples], Whisper [bins, frames].
    bins_first = len(values) == 1 or type(extractor).__name__ == "WhisperFeatureExtractor"
    return np.ascontiguousarray(values.T) if bins_first else values


def _longest_window(extractor: SequenceFeatureExtractor) -> int | None:
    """Return the number of samples to which an extractor of transformers truncates its input; None if it does not."""
    if type(extractor).__name__ == "ASTFeatureExtractor":
        return AST_FRAME_SAMPLES + AST_HOP_SAMPLES * (extractor.max_length - 1)
    return getattr(extractor, "n_samples", None) or getattr(extractor, "nb_max_samples", None)


@lru_cache(maxsize=8)
def _load_extractor(fields_json: str) -> SequenceFeatureExtractor:
    """Create a feature extractor of transformers from the JSON of its fields."""
    fields = json.loads(fields_json)
    name = fields.get("feature_extractor_type")
    extractor_class = getattr(transformers, str(name), None)
    if not (isinstance(extractor_class, type) and issubclass(extractor_class, SequenceFeatureExtractor)):
        raise ValueError(
            f"encoder_extractor.feature_extractor_type: transformers has no audio feature extractor {name!r}"
        )
    return extractor_class.from_dict(fields)


@lru_cache(maxsize=8)
def _window_shape(fields_json: str, samples: int) -> tuple[int, int]:
    return _extract(_load_extractor(fields_json), np.zeros(samples, dtype=np.float32)).shape
