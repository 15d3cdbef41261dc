"""A genre for a file."""

import os
from typing import Any

import numpy as np
from transformers import AudioClassificationPipeline, pipeline

from ..data.audio import load_audio
from ..evaluation.checkpoints import load_checkpoint


class TrackClassifier:
    """The plain `pipeline("audio-classification")` of a checkpoint, with decoding that needs no FFmpeg.

    Example:

    >>> import hfmgc
    >>> classifier = hfmgc.TrackClassifier("runs/mine")
    >>> sorted(genre["label"] for genre in classifier.classify_file("song.wav"))
    ['blues', 'metal', 'pop']
    """

    def __init__(self, checkpoint: str | os.PathLike):
        model, extractor = load_checkpoint(str(checkpoint))
        self.pipeline: AudioClassificationPipeline = pipeline(
            "audio-classification", model=model, feature_extractor=extractor
        )

    @property
    def sampling_rate(self) -> int:
        """Rate of the waveforms that `classify` takes, in Hz."""
        return self.pipeline.feature_extractor.sampling_rate

    def classify(self, waveform: np.ndarray, top_k: int | None = None) -> list[dict[str, Any]]:
        """Return labels and scores for a waveform [samples], the likeliest first."""
        return self.pipeline(np.asarray(waveform), top_k=top_k)

    def classify_file(
        self, path: str | os.PathLike, top_k: int | None = None, *, shortest_seconds: float = 0.0
    ) -> list[dict[str, Any]]:
        """Return labels and scores for a file, the likeliest first; AudioError if it is unusable or too short."""
        waveform = load_audio(path, self.sampling_rate, shortest_seconds=shortest_seconds)
        return self.classify(waveform, top_k=top_k)
