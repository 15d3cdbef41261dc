"""Ballroom: dances, in a folder with a published split."""

from dataclasses import dataclass
from pathlib import Path

import datasets

from ...errors import DataError
from .contract import DatasetCard, TrackSource, track_row
from .tables import check_unique, read_rows, side_of


@dataclass
class Ballroom(TrackSource):
    """`folder/audio/<genre>/<artist>-<title>.wav`, and the published split in `folder/split.csv` (track, side).

    A track's id is its path below `audio`.

    Attributes:
        folder: Holds `audio` and `split.csv`.
    """

    card = DatasetCard(
        name="ballroom",
        citation="Gouyon et al.: An experimental comparison of audio tempo induction algorithms (2006)",
        licence="as its owner says",
    )
    split_policies = ("official", "grouped", "stratified")

    folder: str

    @property
    def place(self) -> str:
        """The folder."""
        return self.folder

    def genres(self) -> list[str]:
        """Return the genres, sorted."""
        return sorted({track_id.partition("/")[0] for track_id in self._sides()})

    def tracks(self) -> datasets.Dataset:
        """Return the listed tracks and those in the folder, sorted by id."""
        return self.file_table(
            [
                track_row(
                    track_id,
                    track_id.partition("/")[0],
                    path=str((Path(self.folder) / "audio" / track_id).resolve()),
                    artist=Path(track_id).stem.partition("-")[0],
                    split=side,
                )
                for track_id, side in sorted(self._sides().items())
            ]
        )

    def _sides(self) -> dict[str, str]:
        """Return track id -> side; "" for files that the list lacks."""
        audio, path = Path(self.folder) / "audio", Path(self.folder) / "split.csv"
        if not audio.is_dir():
            raise DataError(
                f"data_options folder: {self.location} has no subfolder audio: give the folder that holds it"
            )
        rows = read_rows(path, needed=("track", "side"))
        check_unique([row["track"] for _, row in rows], path.name)
        listed = {row["track"]: side_of(row["side"], f"{path.name}, {line}") for line, row in rows}
        return {file.relative_to(audio).as_posix(): "" for file in audio.glob("*/*.wav")} | listed
