"""FMA's metadata: `tracks.csv` with its header of several rows, and the hierarchy of `genres.csv`."""

import csv
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError
from .tables import read_rows, reading, side_of


_COLUMNS = (
    ("set", "split"),
    ("set", "subset"),
    ("track", "genre_top"),
    ("track", "genres_all"),
    ("artist", "id"),
)
SUBSETS = ("small", "medium", "large")


@dataclass(frozen=True)
class FMATrack:
    """The columns of a row of `tracks.csv` that labels and splits need."""

    track_id: str
    side: str
    subset: str
    top_genre: str
    genre_ids: tuple[int, ...]
    artist: str


def read_tracks(path: Path) -> list[FMATrack]:
    """Return all tracks of `tracks.csv`, by their ids.

    The header has two rows (group and column) and, in the authors' file, a third that names the index.

    Raises:
        DataError: If the file or a column is missing, or a row cannot be read.
    """
    tracks = []
    with reading(path) as text:
        rows = csv.reader(text.splitlines(keepends=True))
        header = list(zip(next(rows, []), next(rows, []), strict=False))
        missing = [str(column) for column in _COLUMNS if column not in header]
        if missing:
            raise DataError(
                f"{path.name} has no column {', '.join(missing)} in its first two rows: take it from fma_metadata.zip"
            )
        columns = [header.index(column) for column in _COLUMNS]
        for row in rows:
            if not row or row[0] == "track_id":
                continue
            where = f"{path.name}, line {rows.line_num}"
            try:
                split, subset, top_genre, genres_all, artist = (row[column] for column in columns)
                genre_ids = tuple(int(genre_id) for genre_id in json.loads(genres_all or "[]"))
                track_id = f"{int(row[0]):06d}"
            except (IndexError, ValueError, TypeError) as error:
                raise DataError(f"{where} cannot be read ({error}): download the file again") from error
            tracks.append(FMATrack(track_id, side_of(split, where), subset, top_genre, genre_ids, artist))
    return sorted(tracks, key=lambda track: track.track_id)


def read_genres(path: Path) -> dict[int, str]:
    """Return the names of all genres of the hierarchy by their ids; equal names are followed by their ids."""
    titles: dict[int, str] = {}
    for line, row in read_rows(path, needed=("genre_id", "title")):
        try:
            titles[int(row["genre_id"])] = row["title"]
        except ValueError as error:
            raise DataError(f"{path.name}, {line} has no genre_id that is a number") from error
    counts = Counter(titles.values())
    return {
        genre_id: title if counts[title] == 1 else f"{title} ({genre_id})"
        for genre_id, title in sorted(titles.items())
    }
