"""Your own music: a folder with a subfolder per genre."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets

from ...errors import DataError
from ...text import to_unicode
from ..audio import AUDIO_SUFFIXES, FOREIGN_AUDIO_SUFFIXES
from .contract import DatasetCard, TrackSource, track_row


_LOOP = "a link to one of its parent folders"


@dataclass
class Folder(TrackSource):
    """Files `folder/<genre>/**/<track>`. A track's id is its path relative to the folder.

    Hidden files and subfolders, files without an audio suffix and subfolders without audio files are skipped.
    """

    card = DatasetCard(
        name="folder",
        citation="A folder of audio files with a subfolder per genre.",
        licence="as its owner says",
    )

    folder: str

    @property
    def origin(self) -> str:
        return self.folder

    def genres(self) -> list[str]:
        """Return the names of the subfolders with audio files, sorted."""
        return self._genres(with_files=True)

    def empty_genres(self) -> list[str]:
        """Return the names of the subfolders without audio files, sorted."""
        return self._genres(with_files=False)

    def _genres(self, *, with_files: bool) -> list[str]:
        parents = {Path(self.folder).resolve()}
        return [
            genre
            for path in self._subfolders()
            if (genre := self._genre_of(path)) and (next(_files(path, parents), None) is not None) == with_files
        ]

    def tracks(self) -> datasets.Dataset:
        """Return the files, sorted by genre and path; links to folders are followed."""
        entries = self._entries()
        if not entries:
            raise DataError(
                f"data {self.folder!r}: no audio files ({', '.join(AUDIO_SUFFIXES)}): put the tracks of each genre into a "
                "subfolder"
            )
        rows, unreadable = [], {}
        for path, genre, problem in entries:
            track_id = path.relative_to(self.folder).as_posix()
            if problem:
                unreadable[to_unicode(track_id)] = problem
            rows.append(track_row(track_id, [genre], path=None if problem else str(path.resolve())))
        return self.file_table(rows, unreadable)

    def _entries(self) -> list[tuple[Path, str, str]]:
        """Return the path, genre and problem of each audio file and of each entry that cannot be opened."""
        root = Path(self.folder)
        entries = [
            (path, self._genre_of(subfolder), problem)
            for subfolder in self._subfolders()
            for path, problem in _files(subfolder, {root.resolve()})
        ]
        return entries + [(path, "", problem) for path in sorted(root.iterdir()) if (problem := _link_problem(path))]

    def _genre_of(self, subfolder: Path) -> str:
        """Return the genre of a subfolder; "" if its name is not UTF-8 or it is a link to the folder itself."""
        is_loop = subfolder.resolve() == Path(self.folder).resolve()
        return "" if is_loop or to_unicode(subfolder.name) != subfolder.name else subfolder.name

    def _subfolders(self) -> list[Path]:
        root = Path(self.folder)
        if not root.is_dir():
            raise DataError(f"data {self.folder!r}: not a folder: give a folder that has a subfolder per genre")
        subfolders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        if not subfolders:
            raise DataError(f"data {self.folder!r}: no subfolders: put the tracks of each genre into a subfolder")
        return subfolders


@dataclass
class AudioFolder(Folder):
    """All audio files in a folder and its subfolders, without genres, for pre-training."""

    def genres(self) -> list[str]:
        return []

    def empty_genres(self) -> list[str]:
        return []

    def _entries(self) -> list[tuple[Path, str, str]]:
        return [(path, "", problem) for path, problem in _files(Path(self.folder), set())]


def _files(folder: Path, parents: set[Path]) -> Iterator[tuple[Path, str]]:
    """Yield the path of each audio file with "", and of each entry that cannot be opened with its problem.

    `parents` are the resolved parent folders, by which a link to one of them is recognised.
    """
    target = folder.resolve()
    if target in parents:
        yield folder, _LOOP
        return
    try:
        entries = [(path, path.is_dir()) for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    except OSError as error:
        yield folder, f"cannot be opened ({error.strerror})"
        return
    for path, is_folder in entries:
        if is_folder:
            yield from _files(path, parents | {target})
        elif problem := _link_problem(path):
            yield path, problem
        elif path.suffix.lower() in AUDIO_SUFFIXES + FOREIGN_AUDIO_SUFFIXES and path.is_file():
            yield path, ""


def _link_problem(path: Path) -> str:
    """Return why a link cannot be followed, or ""."""
    try:
        if path.is_symlink():
            path.stat()
    except OSError as error:
        return _LOOP if error.errno == errno.ELOOP else "a link to a missing file"
    return ""
