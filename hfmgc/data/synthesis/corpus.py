"""Write the synthetic corpus in the layout of GTZAN: one folder for each genre, one file for each track.

Source: ours. With synthetic audio the whole toolkit runs without a download; it says nothing about real music.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import soundfile
from tqdm.auto import tqdm

from hfmgc.data.synthesis.composer import check_request, compose_track
from hfmgc.data.synthesis.instruments import SAMPLING_RATE
from hfmgc.data.synthesis.styles import GENRES
from hfmgc.errors import ConfigError, saving_to
from hfmgc.files import hold, whole, write_text


# Raised by every change of the sound; part of the key of a cached corpus.
CORPUS_VERSION = 2
LOCK_FILE = ".hfmgc.lock"
_README = """\
This is a SYNTHETIC music corpus: procedural audio, rendered by hfmgc (hfmgc.data.synthesis), with no recording in it.
It has the genre names and the file format of GTZAN but none of its music; figures measured on it tell nothing about
real music.

version: {version}
seed: {seed}
genres: {genres}
tracks per genre: {tracks_per_genre}
seconds per track: {seconds}
format: FLAC, 16 bits, {sampling_rate} Hz, mono
"""


def write_corpus(
    folder: Path, *, tracks_per_genre: int, seconds: float, seed: int, genres: Sequence[str] = GENRES
) -> Path:
    """Render the synthetic corpus into `folder/<genre>/<genre>.<index:05d>.flac` and return the folder.

    Only missing tracks are rendered, each written whole or not at all. One process renders; others wait for it.

    Args:
        folder: A folder for this corpus alone.
        tracks_per_genre: At least 1.
        seconds: Length of each track, at least 1.
        seed: Seed of all tracks.
        genres: Some of `GENRES`.

    Raises:
        ConfigError: If an argument is out of range, or the folder holds something else, such as a corpus of another seed.
        SaveError: If a file could not be written.
    """
    folder = Path(folder)
    if tracks_per_genre < 1 or not genres:
        raise ConfigError(f"tracks_per_genre={tracks_per_genre}, {len(genres)} genres: each must be at least 1")
    for genre in genres:
        check_request(genre, seconds)
    readme = _README.format(
        version=CORPUS_VERSION,
        seed=seed,
        genres=", ".join(genres),
        tracks_per_genre=tracks_per_genre,
        seconds=float(seconds),
        sampling_rate=SAMPLING_RATE,
    )
    _check_folder(folder, readme)
    tracks = [(genre, index) for genre in genres for index in range(tracks_per_genre)]
    if _missing(folder, tracks):
        with hold(folder / LOCK_FILE), saving_to(folder):
            write_text(folder / "README.txt", readme)
            for genre, index in tqdm(_missing(folder, tracks), desc="rendering the synthetic corpus", unit="track"):
                # Written to memory first: libsndfile's errors do not say that a disk is full.
                content = io.BytesIO()
                waveform = compose_track(genre, index, seconds=float(seconds), seed=seed)
                soundfile.write(content, waveform, SAMPLING_RATE, subtype="PCM_16", format="FLAC")
                path = track_path(folder, genre, index)
                path.parent.mkdir(exist_ok=True)
                with whole(path) as temporary:
                    temporary.write_bytes(content.getvalue())
    return folder


def track_path(folder: Path, genre: str, index: int) -> Path:
    """Return the path of a track in the corpus."""
    return Path(folder) / genre / f"{genre}.{index:05d}.flac"


def _missing(folder: Path, tracks: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return [track for track in tracks if not track_path(folder, *track).is_file()]


def _check_folder(folder: Path, readme: str) -> None:
    """Refuse a folder with anything but this corpus."""
    if folder.is_dir() and any(path.name != LOCK_FILE for path in folder.iterdir()):
        found = folder / "README.txt"
        if not found.is_file() or found.read_text(encoding="utf-8", errors="replace") != readme:
            raise ConfigError(f"{folder}: is not empty, and not this synthetic corpus; choose another folder")
