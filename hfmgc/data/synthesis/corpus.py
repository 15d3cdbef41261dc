"""Write the synthetic corpus in the layout of GTZAN: one folder for each genre, one file for each track.

With synthetic audio the whole toolkit runs without a download; it says nothing about real music.
"""

import io
from pathlib import Path

import soundfile
from tqdm.auto import tqdm

from hfmgc.data.synthesis.composer import compose_track
from hfmgc.data.synthesis.instruments import SAMPLING_RATE
from hfmgc.data.synthesis.styles import GENRES
from hfmgc.errors import saving_to
from hfmgc.files import atomic_write, file_lock, write_text


# Raised by every change of the sound; part of the key of a cached corpus.
CORPUS_VERSION = 2
LOCK_FILE = ".hfmgc.lock"
_README = """\
This is a SYNTHETIC music corpus: procedural audio, rendered by hfmgc (hfmgc.data.synthesis, version {version}, seed {seed}).
It has the genre names of GTZAN but none of its recordings; figures measured on it say nothing about real music.
"""


def write_corpus(folder: Path, *, tracks_per_genre: int, seconds: float, seed: int) -> Path:
    """Render the missing tracks of the corpus into `folder/<genre>/<genre>.<index:05d>.flac` and return the folder.

    Each track is written whole or not at all. One process renders; others wait for it.

    Raises:
        SaveError: If a file could not be written.
    """
    tracks = {
        folder / genre / f"{genre}.{index:05d}.flac": (genre, index)
        for genre in GENRES
        for index in range(tracks_per_genre)
    }
    if all(path.is_file() for path in tracks):
        return folder
    with file_lock(folder / LOCK_FILE), saving_to(folder):
        write_text(folder / "README.txt", _README.format(version=CORPUS_VERSION, seed=seed))
        missing = [path for path in tracks if not path.is_file()]
        for path in tqdm(missing, desc="rendering the synthetic corpus", unit="track"):
            # Written to memory first: libsndfile's errors do not say that a disk is full.
            content = io.BytesIO()
            waveform = compose_track(*tracks[path], seconds=float(seconds), seed=seed)
            soundfile.write(content, waveform, SAMPLING_RATE, subtype="PCM_16", format="FLAC")
            path.parent.mkdir(exist_ok=True)
            with atomic_write(path) as temporary:
                temporary.write_bytes(content.getvalue())
    return folder
