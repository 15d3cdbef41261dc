"""Front end of pre-trained audio encoders: windows of the waveform, and the encoder's own feature extractor on each."""

import json
from functools import lru_cache
from typing import Any

import numpy as np
import transformers
from transformers import SequenceFeatureExtractor

from .feature_extraction_windowed import WindowedFeatureExtractor
from .field_checks import check_positive, check_types


# Of encoders that take any length (ours).
DEFAULT_SECONDS = 10.0
# Kaldi's frames at 16 kHz, fixed inside ASTFeatureExtractor.
AST_FRAME_SAMPLES, AST_HOP_SAMPLES = 400, 160


class AudioEncoderFeatureExtractor(WindowedFeatureExtractor):
    r"""Windows of a track as an audio encoder of transformers takes them, float32 [windows, frames, bins].

    The un-normalised features are the waveform itself [samples, 1]; the encoder's own feature extractor is applied to each
    window. Encoders of waveforms get [samples, 1], encoders of spectrograms [frames, bins].

    Args:
        encoder_extractor (`dict`, *optional*):
            The encoder's feature extractor as its `preprocessor_config.json` has it, with `feature_extractor_type`;
            `Wav2Vec2FeatureExtractor` by default.
        sampling_rate (`int`, *optional*): That of the encoder's feature extractor, which it must equal.
        window_seconds (`float`, *optional*):
            Length of a window. By default the most that the encoder's feature extractor keeps (Whisper 30 s, CLAP 10 s, AST
            10.26 s), or 10 s. Longer windows are refused, because the encoder's extractor would drop the rest.
        kwargs: See [`WindowedFeatureExtractor`].

    Example:

    >>> import hfmgc
    >>> extractor = hfmgc.AudioEncoderFeatureExtractor(window_seconds=1.0)
    >>> waveform = hfmgc.load_audio("song.wav", extractor.sampling_rate)
    >>> tuple(extractor(waveform, sampling_rate=16000, return_tensors="pt")["input_values"].shape)
    (1, 2, 16000, 1)
    """

    default_extractor: dict[str, Any] = {"feature_extractor_type": "Wav2Vec2FeatureExtractor"}  # noqa: RUF012
    default_seconds = DEFAULT_SECONDS
    # Replaces the base's property: here the length is a field.
    window_seconds = DEFAULT_SECONDS

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
        own = self._own
        if sampling_rate not in (None, own.sampling_rate):
            raise ValueError(
                f"sampling_rate must be {own.sampling_rate}, as in encoder_extractor, not {sampling_rate}"
            )
        longest = _longest_window(own)
        default = longest / own.sampling_rate if longest else self.default_seconds
        self.window_seconds = float(default if window_seconds is None else window_seconds)
        if longest and round(self.window_seconds * own.sampling_rate) > longest:
            raise ValueError(
                f"window_seconds must be at most {longest / own.sampling_rate:g}, not {window_seconds}: "
                f"{type(own).__name__} drops the rest"
            )
        for derived in ("feature_size", "padding_value"):
            kwargs.pop(derived, None)
        # A window is one long feature: with a size of 1, transformers' `pad` would take stacks for one-dimensional.
        super().__init__(feature_size=self.window_samples, sampling_rate=own.sampling_rate, **kwargs)

    @property
    def _own(self) -> SequenceFeatureExtractor:
        return _encoder_extractor(json.dumps(self.encoder_extractor, sort_keys=True))

    @property
    def window_samples(self) -> int:
        return max(1, round(self.window_seconds * self._own.sampling_rate))

    @property
    def cut_frames(self) -> int:
        return self.window_samples

    @property
    def window_shape(self) -> tuple[int, int]:
        return _window_shape(json.dumps(self.encoder_extractor, sort_keys=True), self.window_samples)

    @property
    def feature_bins(self) -> int:
        """One: the features are the samples."""
        return 1

    def count_frames(self, num_samples: int) -> int:
        """Return the number of samples."""
        return num_samples

    def frame_span(self, first: int, count: int) -> tuple[int, int, int]:
        """Return the samples themselves."""
        return first, first + count, 0

    def transform(self, waveform: np.ndarray) -> np.ndarray:
        """Return the waveform as features, float32 [samples, 1]."""
        return np.ascontiguousarray(waveform, dtype=np.float32)[:, None]

    def normalize_window(self, window: np.ndarray) -> np.ndarray:
        """Apply the encoder's feature extractor to a window [samples, 1]: float32 [frames, bins]."""
        return _extract(self._own, window[:, 0])


def _extract(extractor: SequenceFeatureExtractor, window: np.ndarray) -> np.ndarray:
    """Apply an extractor of transformers to a window [samples]: float32 [frames, bins]."""
    batch = extractor(window, sampling_rate=extractor.sampling_rate, return_tensors="np")
    values = np.asarray(batch[extractor.model_input_names[0]][0], dtype=np.float32)
    while values.ndim > 2:  # CLAP: equal channels, as no window is longer than the encoder takes
        values = values[0]
    if values.ndim == 1:
        return values[:, None]
    # EnCodec has [channels, samples], Whisper [bins, frames].
    bins_first = len(values) == 1 or type(extractor).__name__ == "WhisperFeatureExtractor"
    return np.ascontiguousarray(values.T) if bins_first else values


def _longest_window(extractor: SequenceFeatureExtractor) -> int | None:
    """Return the samples after which an extractor of transformers drops audio; None if it keeps all."""
    if type(extractor).__name__ == "ASTFeatureExtractor":
        return AST_FRAME_SAMPLES + AST_HOP_SAMPLES * (extractor.max_length - 1)
    return getattr(extractor, "n_samples", None) or getattr(extractor, "nb_max_samples", None)


@lru_cache(maxsize=8)
def _encoder_extractor(fields: str) -> SequenceFeatureExtractor:
    """Return the feature extractor of transformers that a JSON of its fields describes."""
    values = json.loads(fields)
    name = values.get("feature_extractor_type")
    kind = getattr(transformers, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, SequenceFeatureExtractor)):
        raise ValueError(f"encoder_extractor.feature_extractor_type {name!r} is no audio front end of transformers")
    return kind.from_dict(values)


@lru_cache(maxsize=8)
def _window_shape(fields: str, samples: int) -> tuple[int, int]:
    return _extract(_encoder_extractor(fields), np.zeros(samples, dtype=np.float32)).shape
