"""Write the synthetic corpus as GTZAN is laid out: one folder a genre, one file a track.

Source: ours. The audio is synthetic: it lets the whole toolkit run without a download, and says nothing about how well
a model knows real music.
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


# Raised by every change that makes the same seed sound different: whoever caches a corpus puts it into the key.
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

    Source: ours. Files are 16-bit FLAC, mono, at 22,050 Hz; `seconds` is the length of each. A `README.txt` says that
    the audio is synthetic, and from which seed. Each track is written whole or not at all, and only missing tracks are
    rendered, so an interrupted call is resumed by the next one. One process renders; others wait for it.

    Raises:
        ConfigError: If there is fewer than 1 track, no genre or an unknown one, `seconds` is below 1 or not finite, or the
            folder holds something else (such as a corpus of another seed or `CORPUS_VERSION`).
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
                content = io.BytesIO()
                waveform = compose_track(genre, index, seconds=float(seconds), seed=seed)
                soundfile.write(content, waveform, SAMPLING_RATE, subtype="PCM_16", format="FLAC")
                path = track_path(folder, genre, index)
                path.parent.mkdir(exist_ok=True)
                with whole(path) as temporary:
                    temporary.write_bytes(content.getvalue())
    return folder


def track_path(folder: Path, genre: str, index: int) -> Path:
    """Return where `write_corpus` puts a track."""
    return Path(folder) / genre / f"{genre}.{index:05d}.flac"


def _missing(folder: Path, tracks: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return [track for track in tracks if not track_path(folder, *track).is_file()]


def _check_folder(folder: Path, readme: str) -> None:
    """Raise `ConfigError` if a folder holds something else than this corpus."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; choose another folder for the synthetic corpus")
    if folder.is_dir() and any(path.name != LOCK_FILE for path in folder.iterdir()):
        found = folder / "README.txt"
        if not found.is_file() or found.read_text(encoding="utf-8", errors="replace") != readme:
            raise ConfigError(f"{folder}: is not empty, and not this synthetic corpus; choose another folder")
