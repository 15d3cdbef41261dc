"""Write the synthetic corpus as GTZAN is laid out: one folder a genre, one file a track.

Source: ours. The audio is synthetic: it lets the whole toolkit run without a download, and says nothing about how well
a model knows real music.
"""

import os
import secrets
import shutil
import signal
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import soundfile
from tqdm.auto import tqdm

from hfmgc.data.synthesis.composer import check_request, compose_track
from hfmgc.data.synthesis.instruments import SAMPLING_RATE
from hfmgc.data.synthesis.styles import GENRES
from hfmgc.errors import ConfigError, SaveError


# Raised by every change that makes the same seed sound different: whoever caches a corpus puts it into the key.
CORPUS_VERSION = 1
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
    folder: Path,
    *,
    tracks_per_genre: int,
    seconds: float,
    seed: int,
    num_proc: int = 1,
    genres: Sequence[str] = GENRES,
) -> Path:
    """Render the synthetic corpus into `folder/<genre>/<genre>.<index:05d>.flac` and return the folder.

    Source: ours. Files are 16-bit FLAC, mono, at 22,050 Hz; `seconds` is the length of each. A `README.txt` says that
    the audio is synthetic, and from which seed. Everything is rendered in a temporary folder beside the final one and
    renamed at the end, so that a folder which exists is complete and any number of writers may run at once; tracks that
    were deleted since are rendered again, and a complete folder costs nothing. With `num_proc` above 1, fresh processes
    render (a script needs its `if __name__ == "__main__":` then).

    Raises:
        ConfigError: fewer than 1 track or process, no or unknown genres, `seconds` below 1 or not finite, or the folder
            holds something else (such as a corpus of another seed or `CORPUS_VERSION`).
        SaveError: a file could not be written, or a rendering process died.
    """
    folder, genres = Path(folder), tuple(dict.fromkeys([genres] if isinstance(genres, str) else genres))
    if tracks_per_genre < 1 or num_proc < 1 or not genres:
        raise ConfigError(
            f"tracks_per_genre={tracks_per_genre}, num_proc={num_proc}, {len(genres)} genres: each must be at least 1"
        )
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
    tracks = [(genre, index) for genre in genres for index in range(tracks_per_genre)]
    missing = _missing(folder, readme, tracks)
    if not missing:
        return folder
    scratch = folder.parent / f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        for genre in dict.fromkeys(genre for genre, _ in missing):
            (scratch / genre).mkdir(parents=True)
        _render_all([(str(scratch), genre, index, float(seconds), seed) for genre, index in missing], num_proc)
        (scratch / "README.txt").write_text(readme, encoding="utf-8")
        _publish(scratch, folder, readme, missing)
    except BrokenProcessPool as error:
        raise SaveError(f"{folder}: a process that rendered the synthetic corpus died; try num_proc=1") from error
    except (OSError, soundfile.SoundFileError) as error:
        raise SaveError(f"{folder}: the synthetic corpus could not be written: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def track_path(folder: Path, genre: str, index: int) -> Path:
    """Return where `write_corpus` puts a track."""
    return Path(folder) / genre / f"{genre}.{index:05d}.flac"


def _missing(folder: Path, readme: str, tracks: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the tracks that `folder` lacks; raise `ConfigError` if it belongs to something else."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; choose another folder for the synthetic corpus")
    if not folder.exists() or not any(folder.iterdir()):
        return tracks
    found = folder / "README.txt"
    if not found.is_file() or found.read_text(encoding="utf-8", errors="replace") != readme:
        raise ConfigError(
            f"{folder}: holds other files than this synthetic corpus; remove it or choose another folder"
        )
    return [track for track in tracks if not track_path(folder, *track).is_file()]


def _render(job: tuple[str, str, int, float, int]) -> None:
    folder, genre, index, seconds, seed = job
    waveform = compose_track(genre, index, seconds=seconds, seed=seed)
    soundfile.write(track_path(Path(folder), genre, index), waveform, SAMPLING_RATE, subtype="PCM_16", format="FLAC")


def _render_all(jobs: list[tuple[str, str, int, float, int]], num_proc: int) -> None:
    def show(done: Iterable[None]) -> None:
        for _ in tqdm(done, total=len(jobs), desc="rendering the synthetic corpus", unit="track"):
            pass

    if num_proc == 1 or len(jobs) == 1:
        show(map(_render, jobs))
        return
    # Spawned, not forked: the caller may hold threads (PyTorch's, a progress bar's), which a fork would leave locked.
    # Ctrl-C reaches them as well, and is this process's to handle.
    ignore = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    with ProcessPoolExecutor(min(num_proc, len(jobs)), get_context("spawn"), **ignore) as executor:
        show(executor.map(_render, jobs, chunksize=max(len(jobs) // (8 * num_proc), 1)))


def _publish(scratch: Path, folder: Path, readme: str, rendered: list[tuple[str, int]]) -> None:
    """Give the rendered folder its name; where it exists by now, add only what it lacks."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        scratch.rename(folder)
        return
    except OSError:
        # Another writer was first (its tracks are the same bits), or tracks had been deleted from a finished folder.
        if not folder.is_dir():
            raise
    for genre, index in _missing(folder, readme, rendered):
        target = track_path(folder, genre, index)
        target.parent.mkdir(exist_ok=True)
        track_path(scratch, genre, index).replace(target)
