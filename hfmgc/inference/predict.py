"""Predictions of the genres of one file."""

import os
from typing import Any

import numpy as np

from ..evaluation.checkpoints import load_checkpoint, require_audio
from .pipeline import TASK, MusicGenreClassificationPipeline


class TrackClassifier:
    """`pipeline("music-genre-classification")` for a checkpoint, which must be complete and whose own code never runs.

    Example:

    >>> import hfmgc
    >>> classifier = hfmgc.TrackClassifier("runs/mine")
    >>> sorted(genre["label"] for genre in classifier.classify_file("song.wav"))
    ['blues', 'metal', 'pop']
    """

    def __init__(self, checkpoint: str | os.PathLike):
        model, extractor = load_checkpoint(str(checkpoint))
        require_audio(checkpoint, extractor)
        self.pipeline = MusicGenreClassificationPipeline(model=model, feature_extractor=extractor, task=TASK)

    @property
    def sampling_rate(self) -> int:
        """Rate of the waveforms that `classify` takes, in Hz."""
        return self.pipeline.feature_extractor.sampling_rate

    def classify(self, waveform: np.ndarray, top_k: int | None = None) -> list[dict[str, Any]]:
        """Return labels and scores for a waveform [samples], in descending order of score."""
        return self.pipeline(np.asarray(waveform), top_k=top_k)

    def classify_file(
        self, path: str | os.PathLike, top_k: int | None = None, *, shortest_seconds: float = 0.0
    ) -> list[dict[str, Any]]:
        """Return labels and scores for a file, in descending order of score.

        Raises:
            AudioError: If the file is unusable or shorter than `shortest_seconds`.
        """
        return self.pipeline(os.fspath(path), top_k=top_k, shortest_seconds=shortest_seconds)
