"""The contract of a dataset: its card, its options and its table of tracks."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import datasets

from ...errors import ConfigError
from ...files import file_state
from ...settings import check_fields, check_path_length
from ...text import to_unicode


NOT_UTF8 = "its path or genre is not UTF-8: rename it"
if sys.getfilesystemencoding().lower() != "utf-8":
    NOT_UTF8 = f"its path or genre is not {sys.getfilesystemencoding()}: rename it, or set PYTHONUTF8=1"

# The columns of a table of tracks. `audio` holds a path or bytes, which `datasets` never decodes. `genres` holds all
# genres of the track, and `genre` the first. `artist` and `split` (the official side: train, validation or test) are
# "" if unknown.
TRACK_FEATURES = datasets.Features(
    {
        "track_id": datasets.Value("string"),
        "audio": {"path": datasets.Value("string"), "bytes": datasets.Value("binary")},
        "genre": datasets.Value("string"),
        "genres": datasets.List(datasets.Value("string")),
        "artist": datasets.Value("string"),
        "split": datasets.Value("string"),
    }
)
# The columns apart from the audio.
LABEL_FEATURES = {name: kind for name, kind in TRACK_FEATURES.items() if name != "audio"}


def track_row(
    track_id: str,
    genres: Iterable[str],
    *,
    path: str | None = None,
    audio: bytes | None = None,
    artist: str = "",
    split: str = "",
) -> dict[str, Any]:
    """Return a row of a table of `TRACK_FEATURES`."""
    genres = [genre for genre in genres if genre]
    return {
        "track_id": track_id,
        "audio": {"path": path, "bytes": audio},
        "genre": next(iter(genres), ""),
        "genres": genres,
        "artist": artist,
        "split": split,
    }


def public_location(origin: str) -> str:
    """Return the name of a repository, or the last part of a path on disk, whose parents must not be published."""
    return Path(origin).resolve().name if Path(origin).exists() else origin


@dataclass(frozen=True)
class DatasetCard:
    """Facts about a dataset.

    Args:
        name: Name in `--data`.
        citation: The publication.
        licence: The licence of the recordings.
        synthetic: Whether results say nothing about real music.
        known_bad: Track id -> problem, for tracks that are broken or too short in every copy. They are skipped.
        repositories: Repository on the Hub -> pinned commit, or "".
        checksums: Name of the authors' file -> `sha1:...` or `sha256:...`.
    """

    name: str
    citation: str
    licence: str
    synthetic: bool = False
    known_bad: Mapping[str, str] = field(default_factory=dict)
    repositories: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass
class TrackSource(ABC):
    """A dataset; subclasses are dataclasses, whose fields are the options that `data_options` sets."""

    card: ClassVar[DatasetCard]
    split_policies: ClassVar[tuple[str, ...]] = ("stratified",)

    # These attributes have no annotation, or `data_options` could set them.
    repository_revision = None  # sources with a repository make this an option
    excluded = MappingProxyType({})  # track id -> reason in the user's exclusion list, see `exclusions`
    unreadable = MappingProxyType({})  # track id -> why it cannot be opened; set by `tracks`

    @property
    @abstractmethod
    def origin(self) -> str:
        """The path of the data on disk, or the name of a repository on the Hub."""

    @property
    def location(self) -> str:
        """The origin in the form that is published."""
        return public_location(self.origin)

    @property
    def title(self) -> str:
        """The name of the dataset with its location, for messages."""
        return f"{self.card.name} ({self.location})"

    @property
    def revision(self) -> str | None:
        """The commit of the repository, by default the pinned commit; None for data on disk."""
        if Path(self.origin).exists():
            return None
        return self.repository_revision or self.card.repositories.get(self.origin) or None

    @abstractmethod
    def genres(self) -> list[str]:
        """Return the genres in the order of the labels."""

    def empty_genres(self) -> list[str]:
        """Return the genres without tracks, which are skipped."""
        return []

    @abstractmethod
    def tracks(self) -> datasets.Dataset:
        """Return all tracks as a table of `TRACK_FEATURES`, in a fixed order.

        A track whose file is missing stays in the table, and decoding reports it. The genre of an unlabelled track,
        which can be used for pre-training, is "". Track ids are published, so they contain no absolute path.

        Raises:
            DataError: If the data cannot be found.
        """

    def file_table(self, rows: list[dict[str, Any]], unreadable: Mapping[str, str] | None = None) -> datasets.Dataset:
        """Turn rows of `track_row` with paths into the table that `tracks` returns, and set `unreadable`.

        The table's fingerprint depends on the rows, and on the size and time of the files, so a replaced file is
        decoded again. Tracks whose path or genre is not UTF-8 are skipped under an escaped name.

        Args:
            rows: The rows.
            unreadable: Track id -> why its file cannot be opened.
        """
        self.unreadable = dict(unreadable or {})
        rows = [_escape_row(row, self.unreadable) for row in rows]
        states = [file_state(row["audio"]["path"]) for row in rows]
        return datasets.Dataset.from_generator(
            _rows, gen_kwargs={"rows": rows, "states": states}, features=TRACK_FEATURES, split="train"
        )

    def known_problem(self, track_id: str) -> str | None:
        """Return the problem that a track has in every copy of the dataset, or None."""
        return self.card.known_bad.get(track_id)

    def reason_to_skip(self, track_id: str) -> str | None:
        """Return why a track is skipped before it is decoded, or None."""
        if track_id in self.excluded:
            return f"excluded: {self.excluded[track_id]}"
        return self.unreadable.get(track_id) or self.known_problem(track_id)

    def notes(self) -> list[str]:
        """Return what a reader of results on these data must know."""
        if self.revision or Path(self.origin).exists():
            return []
        return [f"{self.origin} is not pinned to a commit: set repository_revision to make results repeatable"]

    def front_end(self) -> dict[str, Any] | None:
        """Return the fields of the front end that extracted stored features; None for audio, or if unknown."""
        return None

    def published_sides(self, policy: str, fold: int) -> dict[str, list[str]]:
        """Return the track ids of each side of a published split, including unusable tracks.

        This implementation is for the policy `official`, the column `split` of the tracks. For a policy with folds,
        `fold` (from 1) is the test side.
        """
        sides: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
        tracks = self.tracks()
        for track_id, side in zip(tracks["track_id"][:], tracks["split"][:], strict=True):
            if side:
                sides[side].append(track_id)
        return sides

    def split_note(self, policy: str) -> str | None:
        """Return what a reader of results with this split policy must know, or None."""
        return None

    def artist_waiver(self, policy: str, artist: str) -> str | None:
        """Return why this artist may be on two sides of the published split `policy`, or None."""
        return None

    def describe(self) -> dict[str, Any]:
        """Return the description of the data for results."""
        return {
            "name": self.card.name,
            "location": self.location,
            "revision": self.revision,
            "licence": self.card.licence,
            "citation": self.card.citation,
            "synthetic": self.card.synthetic,
            "notes": self.notes(),
        }


def _escape_row(row: dict[str, Any], unreadable: dict[str, str]) -> dict[str, Any]:
    """Return a row that is UTF-8: unchanged, or escaped, without audio, and recorded in `unreadable`."""
    texts = [row["track_id"], row["audio"]["path"] or "", row["artist"], *row["genres"]]
    if all(to_unicode(text) == text for text in texts):
        return row
    track_id, genres = to_unicode(row["track_id"]), [to_unicode(genre) for genre in row["genres"]]
    unreadable[track_id] = NOT_UTF8
    return track_row(track_id, genres, artist=to_unicode(row["artist"]), split=row["split"])


def _rows(rows: list[dict[str, Any]], states: list[tuple[int, int] | None]) -> Iterator[dict[str, Any]]:
    del states
    yield from rows


def make_source(source_class: type[TrackSource], options: dict[str, Any]) -> TrackSource:
    """Return the source with these options; raise a ConfigError if one is unknown or missing."""
    where = f"data_options of {source_class.card.name}"
    for name, value in options.items():
        check_path_length(f"data_options: {name}", value)
    values = check_fields(source_class, options, where)
    for option in fields(source_class):
        if option.name not in values and option.default is MISSING:
            raise ConfigError(f"{where}: {option.name!r} is missing: add {{{option.name}: ...}}")
    return source_class(**values)
