"""`pipeline("music-genre-classification")`: classifies any recording, without FFmpeg or torchaudio.

`hfmgc.registry` imports this module when transformers' pipelines are imported.
"""

import os
import urllib.request
from typing import Any

import numpy as np
import soxr
from transformers import AudioClassificationPipeline, AutoModelForAudioClassification
from transformers.pipelines import PIPELINE_REGISTRY

from ..data.audio import load_audio
from ..errors import AudioError, first_line
from ..evaluation.checkpoints import CLASSICAL


TASK = "music-genre-classification"
URL_TIMEOUT = 60  # seconds


class MusicGenreClassificationPipeline(AudioClassificationPipeline):
    """`AudioClassificationPipeline` that decodes and resamples as in training.

    An input, or each input in a list (with `batch_size`), is one of

    - a path, the bytes of a file, or a URL (http, https, file);
    - a dict of `array` or `raw` [samples] and `sampling_rate`;
    - a dict of `path` or `bytes`, as from `datasets.Audio(decode=False)`;
    - a waveform [samples] at the model's sampling rate.

    Arrays hold one channel, as floating-point numbers from -1 to 1, or as 16-bit or 32-bit integers.

    Audio that cannot be downloaded or used, or is shorter than the argument `shortest_seconds` of the call, raises an
    `AudioError`.

    Example:

    >>> import hfmgc
    >>> from transformers import pipeline
    >>> classifier = pipeline("music-genre-classification", model="runs/mine")
    >>> best, *others = classifier("song.wav")
    >>> sorted(best)
    ['label', 'score']
    """

    def _sanitize_parameters(self, shortest_seconds: float | None = None, **kwargs: Any) -> tuple[dict, dict, dict]:
        _, forward, postprocess = super()._sanitize_parameters(**kwargs)
        preprocess = {} if shortest_seconds is None else {"shortest_seconds": shortest_seconds}
        return preprocess, forward, postprocess

    def check_model_type(self, supported_models: Any) -> None:
        """Accept classical pipelines without a warning, though transformers' tables do not list them."""
        if self.model.config.model_type != CLASSICAL:
            super().check_model_type(supported_models)

    def preprocess(self, inputs: Any, shortest_seconds: float = 0.0) -> dict[str, Any]:
        """Return the features of one recording."""
        return super().preprocess(self._waveform(inputs, shortest_seconds))

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save the model and feature extractor, but not this class, so that transformers' pipeline can load them."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.feature_extractor.save_pretrained(save_directory, **kwargs)

    def _waveform(self, inputs: Any, shortest_seconds: float) -> Any:
        rate, name = self.feature_extractor.sampling_rate, None
        if isinstance(inputs, dict) and "sampling_rate" in inputs:
            samples = _as_float(np.asarray(inputs["raw"] if "raw" in inputs else inputs["array"]))
            original = inputs["sampling_rate"]
            if not isinstance(original, int | float | np.number) or not 0 < original < float("inf"):
                raise AudioError("<array>", f"sampling_rate must be a number above 0, not {original!r}")
            return samples if original == rate else soxr.resample(samples.astype(np.float32), original, rate)
        if isinstance(inputs, dict):
            if "raw" in inputs or "array" in inputs:
                raise AudioError("<array>", "no sampling_rate: add it to the dict")
            inputs, name = inputs.get("bytes") or inputs.get("path"), inputs.get("path")
        if isinstance(inputs, str) and inputs.startswith(("http://", "https://", "file://")):
            inputs, name = _download(inputs), inputs
        if inputs is None or isinstance(inputs, (str, os.PathLike, bytes, bytearray, memoryview)):
            return load_audio(inputs, rate, name=name, shortest_seconds=shortest_seconds)
        return _as_float(np.asarray(inputs)) if hasattr(inputs, "__array__") else inputs


def _as_float(samples: np.ndarray) -> np.ndarray:
    """Return the samples of one channel; 16-bit and 32-bit integers are scaled to full scale (1.0)."""
    if samples.ndim != 1:
        raise AudioError(
            "<array>", f"shape {samples.shape}: give one channel [samples], such as the mean of the channels"
        )
    if samples.dtype in (np.int16, np.int32):
        return (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
    if samples.dtype.kind != "f":
        raise AudioError("<array>", f"samples of type {samples.dtype}: give int16, int32, or float32 from -1 to 1")
    return samples


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=URL_TIMEOUT) as response:
            return response.read()
    except (OSError, ValueError) as error:
        raise AudioError(url, f"cannot be downloaded ({first_line(error)})") from error


PIPELINE_REGISTRY.register_pipeline(
    TASK, pipeline_class=MusicGenreClassificationPipeline, pt_model=AutoModelForAudioClassification, type="audio"
)
