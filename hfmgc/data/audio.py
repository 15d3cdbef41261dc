"""From a file or its bytes to a waveform, without FFmpeg, torchcodec or torchaudio."""

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


# Decoded by all current builds of libsndfile.
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".au", ".aif", ".aiff")
# Not decoded by libsndfile: such files are reported with a hint instead of being ignored.
FOREIGN_AUDIO_SUFFIXES = (
    ".m4a", ".m4b", ".mp4", ".aac", ".ac3", ".amr", ".ape", ".dsf", ".mka", ".mpc", ".tta", ".webm", ".wma", ".wv",
)  # fmt: skip

# Shorter tracks are skipped by default.
SHORTEST_SECONDS = 1.0
# A recording that peaks below -80 dB of full scale is silent.
SILENCE_PEAK = 1e-4
# Values beyond these come from damaged headers, and would fill the memory or overflow.
LOWEST_RATE = 1000
LOUDEST_PEAK = 1e6
# Waveforms have 16 bits: samples are whole multiples of 1 / FULL_SCALE.
FULL_SCALE = 32768
# Frames decoded at a time; decoded samples above MEMORY_BYTES (4 minutes at 16 kHz) are stored in a temporary file.
BLOCK_FRAMES = 2**17
MEMORY_BYTES = 2**23
# Lossy codecs and resampling overshoot full scale by less; files with higher peaks use another scale.
LARGEST_OVERSHOOT = 2.0

# How libsndfile logs that a header declares more bytes than the file has.
_DECLARED_BYTES = re.compile(r"(?m)^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)")
_STREAMED_BYTES = 0x7FF00000  # from here on a size stands for "unknown", as writers to a pipe declare it
# Decoders may drop a frame or two of MP3.
_TRUNCATED_SECONDS = 0.1


@dataclass
class DecodedAudio:
    """The content of an audio file: the mean of its channels, as it is and resampled to the requested rate."""

    pcm: BinaryIO  # resampled, 16-bit; hours of audio lie on disk
    rate: int  # of the file, in Hz
    frames: int = 0  # decoded, at that rate
    declared_frames: float = 0  # by the header; the decoded ones if it declares none
    lowest: float = np.inf  # of the decoded samples
    highest: float = -np.inf
    length: int = 0  # samples, resampled
    peak: float = 0.0  # of the resampled samples

    @property
    def seconds(self) -> float:
        """The decoded length."""
        return self.frames / self.rate

    @property
    def declared_seconds(self) -> float:
        """The length that the header declares."""
        return self.declared_frames / self.rate

    @property
    def waveform(self) -> np.ndarray:
        """The whole waveform, float32 [samples]."""
        return self.read(0, self.length)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the samples from `start` up to `stop` or the end, float32 [samples]."""
        self.pcm.seek(2 * start)
        samples = np.frombuffer(self.pcm.read(2 * (stop - start)), np.int16)
        return samples.astype(np.float32) / np.float32(FULL_SCALE)

    @property
    def truncation(self) -> str:
        """How much is missing; "" if the file is as long as its header declares."""
        if self.declared_seconds - self.seconds <= _TRUNCATED_SECONDS:
            return ""
        return f"{self.seconds:.2f} s of the {self.declared_seconds:.2f} s that its header declares"


def open_nameless(path: str | os.PathLike) -> BinaryIO:
    """Open a file for soundfile, which then recognises its format by content alone.

    Given a path, libsndfile takes any .au file for headerless sound; given a handle with a name, soundfile requires the
    rate of any .raw file.
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
    """Decode audio as mono (the mean of its channels) at `sampling_rate`, rounded to 16 bits.

    The cache keeps 16 bits, so rounding here makes cached and fresh audio equal. Samples above full scale (1.0) are
    clipped; audio that peaks above 2.0 is scaled down to full scale instead. `source` is a path or the bytes of a file;
    `name` replaces the path in errors.

    Raises:
        AudioError: If it is missing, not decodable, empty, silent, constant or too short, or has NaN or infinite samples.
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
        except OSError as error:  # a name that is too long, a folder without permission
            raise AudioError(name, f"no such file ({error.strerror})") from error
    if size == 0:
        raise AudioError(name, "empty file (0 bytes)")
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open_nameless(source) as handle:
            # libsndfile reads a descriptor itself; an object costs a call back to Python for every block.
            content = handle if isinstance(source, bytes) else handle.fileno()
            with soundfile.SoundFile(content, closefd=False) as file:
                if file.samplerate < LOWEST_RATE:
                    raise AudioError(
                        name, f"a sampling rate of {file.samplerate} Hz: its header is damaged, or it is no music"
                    )
                decoded = _decode(file, sampling_rate, name)
                if decoded.peak > LARGEST_OVERSHOOT:
                    file.seek(0)
                    decoded = _decode(file, sampling_rate, name, full_scale=decoded.peak)
                decoded.declared_frames = max(decoded.frames, _declared_frames(file, decoded.frames, handle))
    except (soundfile.LibsndfileError, RuntimeError, OSError, MemoryError) as error:
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
    """Decode a file block by block: whole, an hour of stereo takes gigabytes."""
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
        if len(samples):
            peak = max(samples.max(), -samples.min())  # NaN, if any sample is
            if not np.isfinite(peak):
                raise AudioError(name, "NaN or infinite samples")
            if peak > LOUDEST_PEAK:
                raise AudioError(name, f"samples of {peak:.0e} times full scale: no audio")
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
    """Return the command that converts a file in a format that libsndfile does not decode; "" for other files."""
    file = Path(name)
    if file.suffix.lower() not in FOREIGN_AUDIO_SUFFIXES:
        return ""
    return f": convert it, for example with: ffmpeg -i {shlex.quote(file.name)} {shlex.quote(f'{file.stem}.flac')}"


def _declared_frames(file: soundfile.SoundFile, decoded: int, content: BinaryIO) -> float:
    """Return the number of frames that the header declares, or of those decoded if it declares none."""
    if file.format == "MP3":
        # Without one of these tags the number of frames is an estimate of the decoder.
        content.seek(0)
        head = content.read(10)
        if head[:3] == b"ID3":
            content.seek(10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)))
        beginning = head + content.read(2048)
        return file.frames if any(tag in beginning for tag in (b"Xing", b"Info", b"VBRI")) else decoded
    sizes = [(int(declared), int(found)) for declared, found in _DECLARED_BYTES.findall(file.extra_info)]
    shares = [declared / found for declared, found in sizes if found > 0 and declared < _STREAMED_BYTES]
    return decoded * max([1.0, *shares])
