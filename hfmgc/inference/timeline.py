"""Genres along a song, as a table and a picture: `hfmgc predict --timeline`."""

import csv
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..errors import saving_to
from ..files import whole
from ..text import as_text
from .songs import SongPrediction


# Rows of the picture.
SHOWN_GENRES = 10


class TimelineWriter:
    """Writes the genres along each of `files` to a folder: SONG.csv and SONG.png.

    Raises:
        SaveError: If the folder cannot be written to.
    """

    def __init__(self, folder: Path, files: Sequence[str]):
        self.folder = folder
        self.names: dict[str, str] = {}
        taken: set[str] = set()
        for file in map(as_text, files):
            stem = Path(file).stem
            names = chain([stem], (f"{stem}-{number}" for number in count(2)))
            self.names[file] = next(name for name in names if name not in taken)
            taken.add(self.names[file])

    def write(self, song: SongPrediction) -> None:
        """Write table and picture of a song; nothing if its file is unusable."""
        if song.row["problem"]:
            return
        with saving_to(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            table, picture = (self.folder / f"{self.names[song.row['file']]}{suffix}" for suffix in (".csv", ".png"))
            with whole(table) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["start", "end", "genre", *song.labels])
                for start, end, row in zip(song.starts, song.ends, song.probabilities, strict=True):
                    genre = song.labels[row.argmax()]
                    writer.writerow([f"{start:.2f}", f"{end:.2f}", genre, *(f"{value:.4f}" for value in row)])
            with whole(picture) as temporary:
                _figure(song).savefig(temporary, format="png", dpi=100)


def _figure(song: SongPrediction) -> Figure:
    """Return the probabilities of the likeliest genres over time; parts between windows stay white."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="seconds")
    # File names and genres may contain dollar signs.
    axes.set_title(f"{Path(song.row['file']).name}: {song.row['genre']}", parse_math=False)
    shown = song.probabilities.mean(axis=0).argsort()[::-1][:SHOWN_GENRES]
    axes.set_yticks(range(len(shown)), labels=[song.labels[index] for index in shown], parse_math=False)
    axes.invert_yaxis()
    edges = np.stack([song.starts, np.minimum(song.ends, np.append(song.starts[1:], np.inf))], axis=1)
    values = np.full((len(shown), 2 * len(edges) - 1), np.nan)
    values[:, ::2] = song.probabilities[:, shown].T
    mesh = axes.pcolormesh(edges.ravel(), np.arange(len(shown) + 1) - 0.5, values, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(mesh, label="probability")
    return figure
