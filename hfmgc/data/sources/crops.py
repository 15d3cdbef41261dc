"""Random crops of long recordings, which are neither downloaded nor loaded into memory as a whole."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import datasets
import numpy as np
import soundfile
import soxr
from huggingface_hub import HfFileSystem
from transformers.utils import logging

from ...errors import AudioError, ConfigError, first_line
from ...randomness import example_generator
from ..audio import open_nameless


logger = logging.get_logger(__name__)

CROP_FEATURES = datasets.Features(
    {
        "track_id": datasets.Value("string"),
        "start": datasets.Value("float64"),
        "waveform": datasets.List(datasets.Value("float32")),
    }
)
# Read before and after a crop, because resampling needs the samples around it.
_MARGIN_SECONDS = 0.05
# Bytes per request to the Hub: about six seconds of stereo at 44.1 kHz.
_BLOCK_BYTES = 1 << 20


def crop_stream(
    locations: dict[str, str],
    seconds: float,
    sampling_rate: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    per_track: int = 1,
) -> datasets.IterableDataset:
    """Return a stream of crops at random positions of recordings (track id -> path or `hf://` address), in random order.

    The columns are track_id, start (seconds) and waveform (float32 [seconds * sampling_rate], mono; zero after the end of a
    shorter recording). Order and positions depend only on (seed, epoch, track id), not on the number of workers. A recording
    that cannot be read is skipped with a warning.
    """
    if not (seconds > 0 and sampling_rate > 0 and per_track > 0):
        raise ConfigError(
            f"crops of {seconds} s at {sampling_rate} Hz, {per_track} for each track: all must be above 0"
        )
    names = sorted(locations)
    order = example_generator(seed, epoch, "order of crops").permutation(len(names))
    stream = datasets.IterableDataset.from_generator(
        _crops,
        features=CROP_FEATURES,
        gen_kwargs={
            "tracks": [(names[i], locations[names[i]]) for i in order],
            "places": (seed, epoch, per_track),
            "seconds": float(seconds),
            "sampling_rate": int(sampling_rate),
        },
    )
    return stream.with_format("numpy")


def _crops(
    tracks: list[tuple[str, str]], places: tuple[int, int, int], seconds: float, sampling_rate: int
) -> Iterator[dict[str, Any]]:
    seed, epoch, per_track = places
    for track_id, location in tracks:
        try:
            with open_recording(location, track_id) as file:
                last = max(file.frames / file.samplerate - seconds, 0.0)
                for start in (last * example_generator(seed, epoch, track_id, "crop").random(per_track)).tolist():
                    waveform = read_crop(file, start, seconds, sampling_rate, track_id)
                    yield {"track_id": track_id, "start": start, "waveform": waveform}
        except AudioError as error:
            logger.warning(f"no crops of {error}")


@contextmanager
def open_recording(location: str, name: str) -> Iterator[soundfile.SoundFile]:
    """Open a recording; any error while it is open becomes an AudioError."""
    try:
        if location.startswith("hf://"):
            # Downloads only the blocks that are read.
            content = HfFileSystem().open(location, "rb", block_size=_BLOCK_BYTES)
        else:
            content = open_nameless(location)
        with content, soundfile.SoundFile(content) as file:
            if file.frames <= 0:
                raise AudioError(name, "no samples")
            yield file
    except AudioError:
        raise
    except FileNotFoundError as error:
        raise AudioError(name, "no such file") from error
    except Exception as error:  # from libsndfile, huggingface_hub or its HTTP library
        reason = first_line(error).rstrip(".")
        raise AudioError(name, f"cannot be decoded ({reason})") from error


def read_crop(file: soundfile.SoundFile, start: float, seconds: float, sampling_rate: int, name: str) -> np.ndarray:
    """Return a crop of a recording, float32 [round(seconds * sampling_rate)], the mean of its channels.

    Samples after the end of the recording are zero.
    """
    rate, length = file.samplerate, round(seconds * sampling_rate)
    first = min(round(start * rate), file.frames)
    # The lead is a whole number of samples at both rates; otherwise the crop would be shifted by a fraction of a sample.
    step = rate // math.gcd(rate, sampling_rate)
    lead = math.ceil(_MARGIN_SECONDS * rate / step) * step
    begin = max(first - lead, 0)
    end = first + math.ceil((seconds + _MARGIN_SECONDS) * rate)
    file.seek(begin)
    samples = file.read(end - begin, dtype="float32", always_2d=True).mean(axis=1)
    if not np.isfinite(samples).all():
        raise AudioError(name, "NaN or infinite samples")
    samples = np.pad(samples, (lead - (first - begin), 0))
    if rate != sampling_rate:
        samples = soxr.resample(samples, rate, sampling_rate)
    crop = samples[lead * sampling_rate // rate :][:length]
    return np.pad(crop, (0, length - len(crop))).astype(np.float32, copy=False)
