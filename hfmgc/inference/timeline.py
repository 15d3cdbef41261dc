"""Genres along a song, as a table and a picture: `hfmgc predict --timeline`."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..errors import saving_to
from ..files import whole
from ..text import as_text
from .songs import SongPrediction


# Genres with a curve of their own in the picture.
SHOWN_GENRES = 6


class TimelineWriter:
    """Writes the genres along each of `files` to a folder: SONG.csv and SONG.png.

    Raises:
        SaveError: If the folder cannot be written to.
    """

    def __init__(self, folder: Path, files: Sequence[str]):
        self.folder, self.paths = folder, {}
        counts: Counter[str] = Counter()
        for file in files:
            stem = Path(as_text(file)).stem
            counts[stem] += 1
            self.paths[as_text(file)] = folder / (stem if counts[stem] == 1 else f"{stem}-{counts[stem]}")

    def write(self, song: SongPrediction) -> None:
        """Write table and picture of a song; nothing if its file is unusable."""
        if song.row["problem"]:
            return
        path = self.paths[song.row["file"]]
        with saving_to(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            table, picture = (path.with_name(f"{path.name}{suffix}") for suffix in (".csv", ".png"))
            with whole(table) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["start", "end", "genre", *song.labels])
                for start, end, row in zip(song.starts, song.ends, song.probabilities, strict=True):
                    genre = song.labels[row.argmax()]
                    writer.writerow([f"{start:.2f}", f"{end:.2f}", genre, *(f"{value:.4f}" for value in row)])
            with whole(picture) as temporary:
                _figure(song).savefig(temporary, format="png", dpi=100)


def _figure(song: SongPrediction) -> Figure:
    """Return the curves of the genres that are likeliest over the whole song."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(
        title=f"{Path(song.row['file']).name}: {song.row['genre']}",
        xlabel="seconds",
        ylabel="probability",
        ylim=(0, 1),
    )
    middles = (song.starts + song.ends) / 2
    for index in song.probabilities.mean(axis=0).argsort()[::-1][:SHOWN_GENRES]:
        axes.plot(middles, song.probabilities[:, index], marker=".", label=song.labels[index])
    axes.legend(loc="upper right", fontsize="small")
    return figure
