"""Write the synthetic corpus in the layout of GTZAN: one folder for each genre, one file for each track.

The whole toolkit runs on it without a download. Results on it say nothing about real music.
"""

import io
from pathlib import Path

import soundfile
from tqdm.auto import tqdm

from hfmgc.data.synthesis.styles import GENRES
from hfmgc.errors import saving_to
from hfmgc.files import atomic_write, file_lock, write_text


# Part of the cache key of a corpus; raise it with every change to the audio.
CORPUS_VERSION = 2
LOCK_FILE = ".hfmgc.lock"
_README = """\
This is a SYNTHETIC music corpus: procedural audio, rendered by hfmgc (hfmgc.data.synthesis, version {version}, seed {seed}).
It has the genre names of GTZAN but none of its recordings. Results on it say nothing about real music.
"""


def write_corpus(folder: Path, *, tracks_per_genre: int, seconds: float, seed: int) -> Path:
    """Render the missing tracks of the corpus into `folder/<genre>/<genre>.<index:05d>.flac` and return the folder.

    Each track is written atomically. If several processes call this at once, one renders and the others wait.

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
    # Imported here, because every command that opens a source imports this module, and scipy.signal takes a second.
    from hfmgc.data.synthesis.composer import compose_track
    from hfmgc.data.synthesis.instruments import SAMPLING_RATE

    with file_lock(folder / LOCK_FILE), saving_to(folder):
        write_text(folder / "README.txt", _README.format(version=CORPUS_VERSION, seed=seed))
        missing = [path for path in tracks if not path.is_file()]
        for path in tqdm(missing, desc="rendering the synthetic corpus", unit="track"):
            # Encode in memory: libsndfile does not report a full disk.
            content = io.BytesIO()
            waveform = compose_track(*tracks[path], seconds=float(seconds), seed=seed)
            soundfile.write(content, waveform, SAMPLING_RATE, subtype="PCM_16", format="FLAC")
            path.parent.mkdir(exist_ok=True)
            with atomic_write(path) as temporary:
                temporary.write_bytes(content.getvalue())
    return folder
