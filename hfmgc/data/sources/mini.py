"""Mini: a folder `audio` of WAV files, and `labels.csv` with their genres and artists."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from ...errors import DataError
from .contract import DatasetCard, TrackSource, track_row
from .tables import check_unique, read_rows


CSV_NAME = "labels.csv"


@dataclass
class Mini(TrackSource):
    """Mini; a track's id is the name of its file without the suffix."""

    card = DatasetCard(
        name="mini",
        citation="Mini: a folder of WAV files with a list of their genres and artists",
        licence="as its owner says",
    )
    split_policies = ("grouped", "stratified")

    folder: str  # with `audio` and `labels.csv`

    @property
    def origin(self) -> str:
        return self.folder

    def genres(self) -> list[str]:
        """Return the genres, sorted."""
        return sorted({genre for row in self._rows() for genre in row["genres"]})

    def tracks(self) -> datasets.Dataset:
        """Return the rows of the csv in their order."""
        return self.file_table(self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        folder, rows = Path(self.folder).resolve(), []
        for line, row in read_rows(folder / CSV_NAME, needed=("file", "genre", "artist")):
            name = row["file"].strip()
            if not name.endswith(".wav") or "/" in name:
                raise DataError(f"{CSV_NAME}, {line}: file {name!r} is not the name of a WAV file in audio")
            rows.append(
                track_row(
                    name.removesuffix(".wav"),
                    [row["genre"].strip()],
                    path=str(folder / "audio" / name),
                    artist=row["artist"].strip(),
                )
            )
        if not rows:
            raise DataError(f"{CSV_NAME} of {self.location} has no rows")
        check_unique([row["track_id"] for row in rows], CSV_NAME)
        return rows
