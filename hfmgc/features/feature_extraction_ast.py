"""Front end of the Audio Spectrogram Transformer: transformers' Kaldi filter banks, over windows of a track."""

import copy
import warnings

import numpy as np
from transformers import ASTFeatureExtractor

from .feature_extraction_windowed import WindowedFeatureExtractor
from .field_checks import check_types


# Kaldi's frames at 16 kHz (25 ms every 10 ms), fixed inside ASTFeatureExtractor.
FRAME_SAMPLES = 400
HOP_SAMPLES = 160
# Frames whose spectra are in memory at once.
BLOCK_FRAMES = 4096


class HfmgcASTFeatureExtractor(WindowedFeatureExtractor, ASTFeatureExtractor):
    r"""Log-mel filter banks as AST was pre-trained on, for windows over the whole track.

    transformers' own extractor keeps only the first 1,024 frames (10.24 s) of a track and ignores a `max_length` given
    in the call; here `max_length` is the length of a window, and [`WindowedFeatureExtractor`] chooses the windows.

    Args:
        sampling_rate (`int`, *optional*, defaults to 16000): Hz.
        num_mel_bins (`int`, *optional*, defaults to 128): Mel bins.
        max_length (`int`, *optional*, defaults to 1024): Frames of a window, one every 10 ms.
        do_normalize (`bool`, *optional*, defaults to `True`): Whether to normalise as (x - mean) / (2 std).
        mean (`float`, *optional*): Mean of the log-mel values; AudioSet's by default.
        std (`float`, *optional*): Their standard deviation; AudioSet's by default.
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
        if max_length < 1:
            raise ValueError(f"max_length must be at least 1 frame, not {max_length}")
        if not std > 0:
            raise ValueError(f"std must be above 0, not {std}")
        if sampling_rate != 16000:
            # Kaldi's frame sizes are constants in samples there: another rate would silently change their duration.
            raise ValueError(f"AST's filter banks are defined at 16000 Hz, not {sampling_rate}")
        kwargs.pop("feature_size", None)
        with warnings.catch_warnings():
            # With 128 mel bins over 257 frequencies the lowest filters are empty; AST was pre-trained with them.
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
        """Return the number of whole frames, at least one."""
        return 1 + max(0, num_samples - FRAME_SAMPLES) // HOP_SAMPLES

    def frame_span(self, first: int, count: int) -> tuple[int, int, int]:
        """Return the samples of `count` frames; no extra frames are needed."""
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
        """Return (x - mean) / (2 std), also of the zeros that pad a short track, as transformers does."""
        return self.normalize(window).astype(np.float32, copy=False) if self.do_normalize else window
