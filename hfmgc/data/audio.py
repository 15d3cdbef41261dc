"""Decoding audio files, or their bytes, into waveforms without FFmpeg, torchcodec or torchaudio."""

import io
import os
import re
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from ..errors import AudioError, saving_to


# Formats that all current builds of libsndfile decode.
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".au", ".aif", ".aiff")
# Formats that libsndfile does not decode; such files are reported with the command that converts them.
FOREIGN_AUDIO_SUFFIXES = (
    ".m4a", ".m4b", ".mp4", ".aac", ".ac3", ".amr", ".ape", ".dsf", ".mka", ".mpc", ".tta", ".webm", ".wma", ".wv",
)  # fmt: skip

# Shorter tracks are skipped by default.
SHORTEST_SECONDS = 1.0
# Audio with a lower peak (-80 dB of full scale) is silent.
SILENCE_PEAK = 1e-4
# Values outside these limits come from damaged headers, and would exhaust memory or overflow.
MIN_RATE = 1000
MAX_PEAK = 1e6
# Waveforms have 16 bits: samples are whole multiples of 1 / FULL_SCALE.
FULL_SCALE = 32768
# Frames decoded at a time. More than MEMORY_BYTES of decoded samples (4 minutes at 16 kHz) go to a temporary file.
BLOCK_FRAMES = 2**17
MEMORY_BYTES = 2**23
# Lossy codecs and resampling overshoot full scale by less. A file with a higher peak has another scale.
MAX_OVERSHOOT = 2.0

# The log line in which libsndfile reports that a header declares more bytes than the file has.
_DECLARED_BYTES = re.compile(r"(?m)^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)")
# Programs that write to a pipe declare a size from here on, which means "unknown".
_STREAMED_BYTES = 0x7FF00000
# Less may be missing without a warning: decoders may drop a frame or two of MP3.
_TRUNCATED_SECONDS = 0.1


@dataclass
class DecodedAudio:
    """A decoded audio file: the mean of its channels, resampled to the requested rate."""

    pcm: BinaryIO  # resampled 16-bit samples; long audio is on disk
    rate: int  # sampling rate of the file in Hz
    frames: int = 0  # decoded frames, before resampling
    declared_frames: float = 0  # frames that the header declares; `frames` if it declares none
    lowest: float = np.inf  # lowest and highest sample before resampling
    highest: float = -np.inf
    length: int = 0  # resampled samples
    peak: float = 0.0  # after resampling

    @property
    def seconds(self) -> float:
        """Duration of the decoded audio."""
        return self.frames / self.rate

    @property
    def declared_seconds(self) -> float:
        """Duration that the header declares."""
        return self.declared_frames / self.rate

    @property
    def waveform(self) -> np.ndarray:
        """The whole waveform, float32 [samples]."""
        return self.read(0, self.length)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the samples from `start` to `stop`, or to the end, float32 [samples]."""
        self.pcm.seek(2 * start)
        samples = np.frombuffer(self.pcm.read(2 * (stop - start)), np.int16)
        return samples.astype(np.float32) / np.float32(FULL_SCALE)

    @property
    def truncation(self) -> str:
        """How much of the file is left if it is truncated, otherwise ""."""
        if self.declared_seconds - self.seconds <= _TRUNCATED_SECONDS:
            return ""
        return f"{self.seconds:.2f} s of the {self.declared_seconds:.2f} s that its header declares"


def open_nameless(path: str | os.PathLike) -> BinaryIO:
    """Open a file so that soundfile recognises its format by content, not by name.

    By path, libsndfile reads damaged .au files as headerless audio; by a handle with a name, soundfile asks for the
    sampling rate of .raw files.
    """
    return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)), "rb")


def load_audio(
    source: str | os.PathLike | bytes, sampling_rate: int, *, name: str | None = None, shortest_seconds: float = 0.0
) -> np.ndarray:
    """Return the waveform of a file, float32 [samples], mono, at `sampling_rate`; see `decode_audio`.

    Example:

    >>> import hfmgc
    >>> hfmgc.load_audio("song.wav", sampling_rate=16000).shape
    (32000,)
    """
    return decode_audio(source, sampling_rate, name=name, shortest_seconds=shortest_seconds).waveform


def decode_audio(
    source: str | os.PathLike | bytes, sampling_rate: int, *, name: str | None = None, shortest_seconds: float = 0.0
) -> DecodedAudio:
    """Decode audio to mono (the mean of its channels) at `sampling_rate`, rounded to 16 bits.

    The cache stores 16 bits, so rounding makes fresh audio equal to cached audio. Samples above full scale (1.0) are
    clipped; audio that peaks above 2.0 is scaled down to full scale instead. `source` is a path or the bytes of a file;
    `name` replaces the path in errors.

    Raises:
        AudioError: If the audio is missing, not decodable, empty, silent, constant or shorter than `shortest_seconds`, or
            has NaN or infinite samples.
    """
    if source is None:
        raise AudioError(name or "<nothing>", "no audio: neither a path nor bytes")
    if isinstance(source, (bytearray, memoryview)):
        source = bytes(source)
    name = name or ("<bytes>" if isinstance(source, bytes) else str(source) or "''")
    if isinstance(source, bytes):
        size = len(source)
    else:
        path = Path(source)
        try:
            if not path.is_file():
                raise AudioError(name, "no such file" if not path.exists() else "not a file")
            size = path.stat().st_size
        except OSError as error:  # such as a name that is too long
            raise AudioError(name, f"no such file ({error.strerror})") from error
    if size == 0:
        raise AudioError(name, "empty file (0 bytes)")
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open_nameless(source) as handle:
            # libsndfile reads from a descriptor directly, but from a Python object through a callback for every block.
            content = handle if isinstance(source, bytes) else handle.fileno()
            with soundfile.SoundFile(content, closefd=False) as file:
                if file.samplerate < MIN_RATE:
                    raise AudioError(name, f"a sampling rate of {file.samplerate} Hz: no music, or a damaged header")
                decoded = _decode(file, sampling_rate, name)
                if decoded.peak > MAX_OVERSHOOT:
                    file.seek(0)
                    decoded = _decode(file, sampling_rate, name, full_scale=decoded.peak)
                decoded.declared_frames = max(decoded.frames, _declared_frames(file, decoded.frames, handle))
    except (RuntimeError, OSError, MemoryError) as error:
        reason = getattr(error, "error_string", None) or str(error)
        raise AudioError(name, f"cannot be decoded ({reason.strip().rstrip('.')}){_conversion_hint(name)}") from error
    if decoded.frames == 0:
        raise AudioError(name, "no samples")
    if decoded.seconds < shortest_seconds:
        raise AudioError(name, f"too short ({decoded.seconds:.2f} s; the minimum is {shortest_seconds:g} s)")
    if max(decoded.highest, -decoded.lowest) < SILENCE_PEAK:
        raise AudioError(name, "silent (the mean of its channels stays below -80 dB)")
    if decoded.frames > 1 and decoded.highest - decoded.lowest < 2 * SILENCE_PEAK:
        raise AudioError(name, "no sound, only a constant offset")
    if decoded.length == 0:
        raise AudioError(name, f"too short to resample from {decoded.rate} to {sampling_rate} Hz")
    return decoded


def _decode(file: soundfile.SoundFile, sampling_rate: int, name: str, full_scale: float = 1.0) -> DecodedAudio:
    """Decode a file in blocks: decoding an hour of stereo at once takes gigabytes."""
    pcm = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115 (the result reads from it)
    decoded = DecodedAudio(pcm, file.samplerate)
    resampler = None
    if file.samplerate != sampling_rate:
        resampler = soxr.ResampleStream(file.samplerate, sampling_rate, 1, dtype="float32")
    scale = np.float32(FULL_SCALE / full_scale)
    ended = False
    while not ended:
        samples = file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
        ended = len(samples) < BLOCK_FRAMES
        peak = max(samples.max(initial=0), -samples.min(initial=0))  # NaN if any sample is NaN
        if not np.isfinite(peak):
            raise AudioError(name, "NaN or infinite samples")
        if peak > MAX_PEAK:
            raise AudioError(name, f"samples of {peak:.0e} times full scale: the file is damaged")
        waveform = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
        decoded.frames += len(waveform)
        decoded.lowest = min(decoded.lowest, waveform.min(initial=np.inf))
        decoded.highest = max(decoded.highest, waveform.max(initial=-np.inf))
        if resampler is not None:
            waveform = resampler.resample_chunk(np.ascontiguousarray(waveform), last=ended)
        decoded.length += len(waveform)
        decoded.peak = max(decoded.peak, waveform.max(initial=0), -waveform.min(initial=0))
        samples = np.clip(np.round(waveform * scale), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
        with saving_to(tempfile.gettempdir()):
            decoded.pcm.write(samples.tobytes())
    return decoded


def _conversion_hint(name: str) -> str:
    """Return a hint with the command that converts a file of `FOREIGN_AUDIO_SUFFIXES`; "" for other files."""
    file = Path(name)
    if file.suffix.lower() not in FOREIGN_AUDIO_SUFFIXES:
        return ""
    return f": convert it, for example with: ffmpeg -i {shlex.quote(file.name)} {shlex.quote(f'{file.stem}.flac')}"


def _declared_frames(file: soundfile.SoundFile, decoded: int, content: BinaryIO) -> float:
    """Return the number of frames that the header declares, or `decoded` if it declares none."""
    if file.format == "MP3":
        # Without one of these tags, `file.frames` is only an estimate.
        content.seek(0)
        head = content.read(10)
        if head[:3] == b"ID3":
            content.seek(10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)))
        head += content.read(2048)
        return file.frames if any(tag in head for tag in (b"Xing", b"Info", b"VBRI")) else decoded
    sizes = [(int(declared), int(actual)) for declared, actual in _DECLARED_BYTES.findall(file.extra_info)]
    ratios = [declared / actual for declared, actual in sizes if actual > 0 and declared < _STREAMED_BYTES]
    return decoded * max([1.0, *ratios])
