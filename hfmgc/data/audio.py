"""From a file or its bytes to a waveform, without FFmpeg, torchcodec or torchaudio."""

import io
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from ..errors import AudioError


# What libsndfile decodes in all of its current builds.
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".au", ".aif", ".aiff")
# Audio that libsndfile does not decode: listed all the same, so that it is reported and not silently passed over.
FOREIGN_AUDIO_SUFFIXES = (".m4a", ".mp4", ".aac", ".wma", ".ape", ".wv")

# A recording whose loudest sample stays below -80 dB of full scale holds nothing to hear.
SILENCE_PEAK = 1e-4
# What lies beyond these is a damaged header or no audio at all, and would fill the memory or overflow.
LOWEST_RATE = 1000
LOUDEST_PEAK = 1e6


def open_nameless(path: str | os.PathLike) -> BinaryIO:
    """Open a file for soundfile so that its content alone says what it is.

    Given a path, libsndfile takes whatever is named .au for headerless sound; given a handle with a name, soundfile wants
    to be told the rate of whatever is named .raw.
    """
    return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)), "rb")


def load_audio(source: str | os.PathLike | bytes, sampling_rate: int, *, name: str | None = None) -> np.ndarray:
    """Decode audio as mono (the mean of its channels) at `sampling_rate`.

    Args:
        source: A path, or the bytes of a file.
        sampling_rate: Wanted rate in Hz.
        name: What errors call it; the path by default.

    Returns:
        float32 [samples].

    Raises:
        AudioError: If it is missing, not decodable, empty, silent, or has NaN or infinite samples.
    """
    if source is None:
        raise AudioError(name or "<nothing>", "no audio: neither a path nor bytes")
    if isinstance(source, (bytearray, memoryview)):
        source = bytes(source)
    name = name or ("<bytes>" if isinstance(source, bytes) else str(source))
    if isinstance(source, bytes):
        size = len(source)
    else:
        path = Path(source)
        try:
            if not path.is_file():
                raise AudioError(name, "no such file" if not path.exists() else "not a file")
            size = path.stat().st_size
        except OSError as error:  # a name that is too long, a folder that must not be entered
            raise AudioError(name, f"no such file ({error.strerror})") from error
    if size == 0:
        raise AudioError(name, "empty file (0 bytes)")
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open_nameless(source) as handle:
            # By its descriptor libsndfile reads a file itself; from an object it calls back for every block.
            content = handle if isinstance(source, bytes) else handle.fileno()
            samples, rate = soundfile.read(content, dtype="float32", always_2d=True, closefd=False)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        reason = getattr(error, "error_string", None) or str(error)
        raise AudioError(name, f"cannot be decoded ({reason.strip().rstrip('.')})") from error
    if len(samples) == 0:
        raise AudioError(name, "no samples")
    if rate < LOWEST_RATE:
        raise AudioError(name, f"a sampling rate of {rate} Hz: its header is damaged, or it is no music")
    peak = max(samples.max(), -samples.min())  # NaN, if any sample is
    if not np.isfinite(peak):
        raise AudioError(name, "NaN or infinite samples")
    if peak > LOUDEST_PEAK:
        raise AudioError(name, f"samples of {peak:.0e} times full scale: no audio")
    waveform = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if max(waveform.max(), -waveform.min()) < SILENCE_PEAK:
        raise AudioError(name, "silent (the mean of its channels stays below -80 dB)")
    if rate != sampling_rate:
        waveform = soxr.resample(waveform, rate, sampling_rate)
        if len(waveform) == 0:
            raise AudioError(name, f"too short to resample from {rate} to {sampling_rate} Hz")
    return np.ascontiguousarray(waveform, dtype=np.float32)
