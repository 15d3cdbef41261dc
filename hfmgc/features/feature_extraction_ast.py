"""Front end for the Audio Spectrogram Transformer: transformers' Kaldi filter banks over the windows of a track."""

import copy
import warnings

import numpy as np
from transformers import ASTFeatureExtractor

from .feature_extraction_windowed import WindowedFeatureExtractor
from .field_checks import check_positive, check_types


# Kaldi's frames at 16 kHz (25 ms every 10 ms), which are hard-coded in ASTFeatureExtractor.
FRAME_SAMPLES = 400
HOP_SAMPLES = 160
# Number of frames whose spectra are in memory at once.
BLOCK_FRAMES = 4096


class HfmgcASTFeatureExtractor(WindowedFeatureExtractor, ASTFeatureExtractor):
    r"""The log-mel filter banks of AST's pre-training, for windows over the whole track.

    transformers' own extractor keeps only the first 1,024 frames (10.24 s) of a track. Here `max_length` is the length of a
    window, and [`WindowedFeatureExtractor`] places the windows.

    Args:
        sampling_rate (`int`, *optional*, defaults to 16000): Sampling rate in Hz; no other is possible.
        num_mel_bins (`int`, *optional*, defaults to 128): Number of mel bins.
        max_length (`int`, *optional*, defaults to 1024): Length of a window in frames of 10 ms.
        do_normalize (`bool`, *optional*, defaults to `True`): Whether to normalise as (x - mean) / (2 std).
        mean (`float`, *optional*): Mean of the log-mel values; AudioSet's by default.
        std (`float`, *optional*): Standard deviation of the log-mel values; AudioSet's by default.
        kwargs: See [`WindowedFeatureExtractor`].

    Example:

    >>> import hfmgc
    >>> extractor = hfmgc.HfmgcASTFeatureExtractor(max_length=64)
    >>> waveform = hfmgc.load_audio("song.wav", extractor.sampling_rate)
    >>> tuple(extractor(waveform, sampling_rate=16000, return_tensors="pt")["input_values"].shape)
    (1, 4, 64, 128)
    """

    feature_fields = (*WindowedFeatureExtractor.feature_fields, "num_mel_bins")

    def __init__(
        self,
        sampling_rate: int = 16000,
        num_mel_bins: int = 128,
        max_length: int = 1024,
        do_normalize: bool = True,
        mean: float | int = -4.2677393,
        std: float | int = 4.5689974,
        **kwargs,
    ):
        check_types(HfmgcASTFeatureExtractor.__init__, locals())
        check_positive(max_length=max_length, std=std)
        if sampling_rate != 16000:
            # transformers fixes the frame size in samples: another rate would silently change its duration.
            raise ValueError(f"sampling_rate must be 16000, the rate of AST's filter banks, not {sampling_rate}")
        kwargs.pop("feature_size", None)
        with warnings.catch_warnings():
            # The lowest of 128 mel filters over 257 frequencies are empty; AST was pre-trained with them.
            warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
            super().__init__(
                feature_size=num_mel_bins,
                sampling_rate=sampling_rate,
                num_mel_bins=num_mel_bins,
                max_length=max_length,
                do_normalize=do_normalize,
                mean=mean,
                std=std,
                **kwargs,
            )

    @property
    def window_samples(self) -> int:
        return FRAME_SAMPLES + HOP_SAMPLES * (self.max_length - 1)

    @property
    def cut_frames(self) -> int:
        return self.max_length

    @property
    def window_shape(self) -> tuple[int, int]:
        return self.max_length, self.num_mel_bins

    def count_frames(self, num_samples: int) -> int:
        """Return the number of whole frames, at least 1."""
        return 1 + max(0, num_samples - FRAME_SAMPLES) // HOP_SAMPLES

    def frame_span(self, first: int, count: int) -> tuple[int, int, int]:
        """Return the samples of `count` frames; nothing is skipped."""
        return first * HOP_SAMPLES, (first + count - 1) * HOP_SAMPLES + FRAME_SAMPLES, 0

    def transform(self, waveform: np.ndarray) -> np.ndarray:
        """Return log-mel filter banks, float32 [frames, num_mel_bins]."""
        waveform = np.pad(waveform, (0, max(0, FRAME_SAMPLES - len(waveform)))).astype(np.float32, copy=False)
        extractor = copy.copy(self)
        extractor.do_normalize = False
        blocks = []
        frames = self.count_frames(len(waveform))
        for first in range(0, frames, BLOCK_FRAMES):
            extractor.max_length = min(BLOCK_FRAMES, frames - first)
            start, stop, _ = self.frame_span(first, extractor.max_length)
            batch = ASTFeatureExtractor.__call__(extractor, waveform[start:stop], sampling_rate=self.sampling_rate)
            blocks.append(batch["input_values"][0])
        return np.concatenate(blocks).astype(np.float32, copy=False)

    def normalize_window(self, window: np.ndarray) -> np.ndarray:
        """Return (x - mean) / (2 std). Like transformers, this includes the zeros that pad a short track."""
        return self.normalize(window).astype(np.float32, copy=False) if self.do_normalize else window
