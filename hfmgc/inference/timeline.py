"""Genres along a song, as a table and a plot: `hfmgc predict --timeline`."""

import csv
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

from ..errors import saving_to
from ..evaluation.plots import plot_timeline
from ..files import atomic_write
from ..text import to_unicode
from .songs import Song


class TimelineWriter:
    """Writes SONG.csv and SONG.png with the genres along each of `files` to a folder.

    Songs with the same file name get numbers: SONG, SONG-2, ...
    """

    def __init__(self, folder: Path, files: Sequence[str]):
        self.folder = folder
        self.names: dict[str, str] = {}
        taken: set[str] = set()
        for file in map(to_unicode, files):
            stem = Path(file).stem
            names = chain([stem], (f"{stem}-{number}" for number in count(2)))
            self.names[file] = next(name for name in names if name not in taken)
            taken.add(self.names[file])

    def write(self, song: Song) -> None:
        """Write the table and the plot for a song, or nothing if the file is unusable.

        Raises:
            SaveError: If the folder cannot be written.
        """
        if song.row["problem"]:
            return
        with saving_to(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            table, plot = (self.folder / f"{self.names[song.row['file']]}{suffix}" for suffix in (".csv", ".png"))
            with atomic_write(table) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["start", "end", "genre", *song.genres])
                for start, end, row in zip(song.starts, song.ends, song.probabilities, strict=True):
                    genre = song.genres[row.argmax()]
                    writer.writerow([f"{start:.2f}", f"{end:.2f}", genre, *(f"{value:.4f}" for value in row)])
            title = f"{Path(song.row['file']).name}: {song.row['genre']}"
            plot_timeline(song.probabilities, song.genres, song.starts, song.ends, plot, title=title)
