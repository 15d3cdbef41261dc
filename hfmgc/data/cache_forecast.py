"""An estimate of the room that the cache of a corpus takes, before it is written."""

import io
import shutil
from pathlib import Path

import datasets
import numpy as np
import soundfile

from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from .sources.contract import TrackSource


# Tracks whose headers are read for the estimate.
SAMPLED_TRACKS = 8


def cache_forecast(source: TrackSource, extractor: WindowedFeatureExtractor) -> str:
    """Return one line on the size of the decoded sound and of the features, and where they are cached.

    "" for stored features, which are used where they are, and where no header can be read.
    """
    tracks = source.tracks()
    if "features" in tracks.column_names or not len(tracks):
        return ""
    rows = np.linspace(0, len(tracks) - 1, min(SAMPLED_TRACKS, len(tracks))).astype(int)
    seconds = [length for row in rows if (length := _seconds(tracks[int(row)]["audio"]))]
    if not seconds:
        return ""
    samples = round(np.mean(seconds) * extractor.sampling_rate)
    sound = len(tracks) * samples * 2
    extracted = len(tracks) * extractor.count_frames(samples) * extractor.feature_bins * 4
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    line = (
        f"cache: decoded sound of {len(tracks):,} tracks about {_size(sound)}, features about {_size(extracted)} in "
        f"{cache}, unless they are there already"
    )
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < sound + extracted:
        line += f"; only {_size(free)} are free: set HF_DATASETS_CACHE to a folder on a larger disk"
    return line


def _seconds(audio: dict) -> float:
    """Return the length that a file declares; 0 where it cannot be read."""
    try:
        return soundfile.info(io.BytesIO(audio["bytes"]) if audio["bytes"] else audio["path"]).duration
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError):
        return 0.0


def _size(count: float) -> str:
    """Return a number of bytes in GB or MB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
