"""Your own music: a folder with one subfolder for each genre."""

from dataclasses import dataclass
from pathlib import Path

import datasets

from ...errors import DataError
from ..audio import AUDIO_SUFFIXES, FOREIGN_AUDIO_SUFFIXES
from .contract import DatasetCard, TrackSource, track_row
from .tables import file_table


@dataclass
class Folder(TrackSource):
    """`folder/<genre>/**/<track>`; a track's id is its path below the folder.

    Subfolders and files whose names begin with a dot are left out, and so are files that are no audio by their suffix.
    """

    card = DatasetCard(
        name="folder",
        citation="A folder of audio files with one subfolder for each genre.",
        licence="as its owner says",
    )

    folder: str

    @property
    def location(self) -> str:
        """The folder's own name: the path above it is nobody's business."""
        return Path(self.folder).resolve().name

    def genres(self) -> list[str]:
        """Return the names of the subfolders, sorted."""
        root = Path(self.folder)
        if not root.is_dir():
            raise DataError(f"data {self.folder!r} is not a folder: give one that has a subfolder for each genre")
        genres = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        if not genres:
            raise DataError(
                f"data {self.folder!r} has no subfolders: put the tracks of each genre into one of its own"
            )
        return genres

    def tracks(self) -> datasets.Dataset:
        """Return the files of all genres, sorted by genre and path."""
        root = Path(self.folder)
        rows = []
        for genre in self.genres():
            files = sorted(path for path in (root / genre).rglob("*") if _is_audio(path, root))
            rows += [track_row(path.relative_to(root).as_posix(), genre, path=str(path.resolve())) for path in files]
        if not rows:
            raise DataError(
                f"data {self.folder!r}: its {len(self.genres())} subfolders hold no audio files "
                f"({', '.join(AUDIO_SUFFIXES)}): put the tracks of each genre into one of its own"
            )
        return file_table(rows)


def _is_audio(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.suffix.lower() in AUDIO_SUFFIXES + FOREIGN_AUDIO_SUFFIXES and not hidden and path.is_file()
