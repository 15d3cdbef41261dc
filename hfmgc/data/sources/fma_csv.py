"""FMA's metadata: `tracks.csv` with its header of several rows, and the hierarchy of `genres.csv`."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError
from .tables import side_of


NEEDED = (
    ("set", "split"),
    ("set", "subset"),
    ("track", "genre_top"),
    ("track", "genres_all"),
    ("artist", "id"),
)
SUBSETS = ("small", "medium", "large")


@dataclass(frozen=True)
class FMATrack:
    """A row of `tracks.csv`: what a split and a label need."""

    track_id: str
    side: str
    subset: str
    top_genre: str
    genre_ids: tuple[int, ...]
    artist: str


def read_tracks(path: Path) -> list[FMATrack]:
    """Return all tracks of `tracks.csv`, by their ids.

    The header has two rows (group and column) and, as the authors' file, a third that names the index.

    Raises:
        DataError: If the file or a column is missing, or if a row cannot be read, naming it.
    """
    tracks = []
    with _opened(path) as file:
        rows = csv.reader(file)
        header = list(zip(next(rows, []), next(rows, []), strict=False))
        missing = [str(column) for column in NEEDED if column not in header]
        if missing:
            raise DataError(
                f"{path.name} has no column {', '.join(missing)} in its first two rows: take it from fma_metadata.zip"
            )
        columns = [header.index(column) for column in NEEDED]
        for row in rows:
            if not row or row[0] == "track_id":
                continue
            where = f"{path.name}, line {rows.line_num}"
            try:
                split, subset, top_genre, genres_all, artist = (row[column] for column in columns)
                genre_ids = tuple(int(genre_id) for genre_id in json.loads(genres_all or "[]"))
                track_id = f"{int(row[0]):06d}"
            except (IndexError, ValueError, TypeError) as error:
                raise DataError(f"{where} cannot be read ({error}): the file is damaged, fetch it again") from error
            tracks.append(FMATrack(track_id, side_of(split, where), subset, top_genre, genre_ids, artist))
    return sorted(tracks, key=lambda track: track.track_id)


def read_genres(path: Path) -> dict[int, str]:
    """Return the names of all genres of the hierarchy by their ids; one that two genres share gets its id behind it."""
    titles: dict[int, str] = {}
    with _opened(path) as file:
        rows = csv.DictReader(file)
        missing = [column for column in ("genre_id", "title") if column not in (rows.fieldnames or ())]
        if missing:
            raise DataError(f"{path.name} has no column {', '.join(missing)}: take it from fma_metadata.zip")
        for row in rows:
            try:
                titles[int(row["genre_id"])] = row["title"]
            except (TypeError, ValueError) as error:
                raise DataError(f"{path.name}, line {rows.line_num} has no genre_id that is a number") from error
    names = list(titles.values())
    return {
        genre_id: title if names.count(title) == 1 else f"{title} ({genre_id})"
        for genre_id, title in sorted(titles.items())
    }


class _opened:
    """A csv of the authors as text; with a byte order mark or without."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> Iterator[str]:
        # Biographies of artists are longer than what csv takes by default.
        csv.field_size_limit(max(csv.field_size_limit(), 1 << 24))
        try:
            self.file = self.path.open(encoding="utf-8-sig", newline="")
        except OSError as error:
            raise DataError(
                f"{self.path.name}: no such file in FMA's metadata; unpack all of fma_metadata.zip"
            ) from error
        return self.file

    def __exit__(self, kind: type | None, error: BaseException | None, _trace: object) -> None:
        self.file.close()
        if isinstance(error, (csv.Error, UnicodeDecodeError)):
            raise DataError(
                f"{self.path.name} cannot be read ({error}): the file is damaged, fetch it again"
            ) from error
