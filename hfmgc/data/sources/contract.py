"""The contract of every dataset: its card, its options and its table of tracks."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import datasets

from ...errors import ConfigError
from ...settings import check_fields, check_path_length
from ...text import to_unicode


NOT_UTF8 = "its path or genre is not UTF-8: rename it"
if sys.getfilesystemencoding().lower() != "utf-8":
    NOT_UTF8 = f"its path or genre is not {sys.getfilesystemencoding()}: rename it, or set PYTHONUTF8=1"

# A track: audio as path or bytes (never decoded by datasets); all genres of the track, and the first of them as `genre`;
# artist and split (the official side: train, validation or test) are "" where unknown.
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
# Columns of a track beside its audio.
LABEL_FEATURES = {name: kind for name, kind in TRACK_FEATURES.items() if name != "audio"}


def track_row(
    track_id: str,
    genres: Sequence[str],
    *,
    path: str | None = None,
    audio: bytes | None = None,
    artist: str = "",
    split: str = "",
) -> dict[str, Any]:
    """Return one row of `TRACK_FEATURES`."""
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
    """Return the name of a repository, or the last part of a path on disk: its parents are not published."""
    return Path(origin).resolve().name if Path(origin).exists() else origin


@dataclass(frozen=True)
class DatasetCard:
    """The facts about a dataset that its users need."""

    name: str
    citation: str
    licence: str
    synthetic: bool = False
    # Track id -> reason, of tracks that are broken or too short in every copy; they are skipped.
    known_bad: Mapping[str, str] = field(default_factory=dict)
    # Repository on the Hub -> its pinned commit, or "".
    repositories: Mapping[str, str] = field(default_factory=dict)
    # The authors' file -> `sha1:...` or `sha256:...`.
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass
class TrackSource(ABC):
    """A dataset. Its fields are the options that `data_options` sets; a subclass is a `@dataclass` too."""

    card: ClassVar[DatasetCard]
    split_policies: ClassVar[tuple[str, ...]] = ("stratified",)

    # Not annotated, or they would be options of `data_options`.
    repository_revision = None  # an option of sources with a repository
    excluded = MappingProxyType({})  # track id -> why the user excludes it, see `exclusions`
    unreadable = MappingProxyType({})  # track id -> why it cannot be opened; set by `tracks`

    @property
    @abstractmethod
    def origin(self) -> str:
        """The path of the data on disk, or the name of a repository on the Hub."""

    @property
    def location(self) -> str:
        """The origin as it is published."""
        return public_location(self.origin)

    @property
    def title(self) -> str:
        """The name of the dataset with its location, for messages."""
        return f"{self.card.name} ({self.location})"

    @property
    def revision(self) -> str | None:
        """The commit of a repository, by default the pinned one; None for data on disk."""
        if Path(self.origin).exists():
            return None
        return self.repository_revision or self.card.repositories.get(self.origin) or None

    @abstractmethod
    def genres(self) -> list[str]:
        """Return the genres in the order of the labels."""

    def empty_genres(self) -> list[str]:
        """Return the genres without tracks; they are skipped."""
        return []

    @abstractmethod
    def tracks(self) -> datasets.Dataset:
        """Return all tracks as a table of `TRACK_FEATURES`, in a fixed order.

        A listed track whose file is missing stays in the table: decoding reports it. The genre of an unlabelled track,
        which can serve for pre-training, is "". Track ids are published: they contain no absolute path.

        Raises:
            DataError: If the data cannot be found.
        """

    def file_table(self, rows: list[dict[str, Any]], unreadable: Mapping[str, str] | None = None) -> datasets.Dataset:
        """Return rows of `track_row` with paths as the table for `tracks`.

        Its fingerprint depends on the rows and on the state of the files. Tracks whose names are not UTF-8 are skipped, and
        their names escaped. `unreadable`: track id -> why a file cannot be opened.
        """
        self.unreadable = dict(unreadable or {})
        rows = [_as_text(row, self.unreadable) for row in rows]
        # Size and modification time are part of the fingerprint: a replaced file must be decoded.
        states = [_state(row["audio"]["path"]) for row in rows]
        return datasets.Dataset.from_generator(
            _rows, gen_kwargs={"rows": rows, "states": states}, features=TRACK_FEATURES, split="train"
        )

    def known_problem(self, track_id: str) -> str | None:
        """Return the known problem of a track of this dataset, or None."""
        return self.card.known_bad.get(track_id)

    def reason_to_skip(self, track_id: str) -> str | None:
        """Return why a track is skipped without being decoded, or None."""
        if track_id in self.excluded:
            return f"excluded: {self.excluded[track_id]}"
        return self.unreadable.get(track_id) or self.known_problem(track_id)

    def notes(self) -> list[str]:
        """Return the notes that results on these data need."""
        if self.revision or Path(self.origin).exists():
            return []
        return [f"{self.origin} is not pinned to a commit: set repository_revision to repeat results"]

    def front_end(self) -> dict[str, Any] | None:
        """Return the fields of the front end that made stored features; None for audio, or where unknown."""
        return None

    def published_sides(self, policy: str, fold: int) -> dict[str, list[str]]:
        """Return the track ids of each side of a published split, including tracks that cannot be used.

        By default the policy is `official`, the column split of the tracks. `fold`, from 1, is the test side of a policy
        that has folds.
        """
        sides: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
        tracks = self.tracks()
        for track_id, side in zip(tracks["track_id"][:], tracks["split"][:], strict=True):
            if side:
                sides[side].append(track_id)
        return sides

    def split_note(self, policy: str) -> str | None:
        """Return the note that results with `policy` need, or None."""
        return None

    def artist_waiver(self, policy: str, artist: str) -> str | None:
        """Return why the published split `policy` may have this artist on two sides, or None."""
        return None

    def describe(self) -> dict[str, Any]:
        """Return the record of the data in a result."""
        return {
            "name": self.card.name,
            "location": self.location,
            "revision": self.revision,
            "licence": self.card.licence,
            "citation": self.card.citation,
            "synthetic": self.card.synthetic,
            "notes": self.notes(),
        }


def _state(path: str | None) -> tuple[int, int] | None:
    """Return size and modification time of a file; None if it has none, which decoding reports."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError, TypeError):
        return None
    return status.st_size, status.st_mtime_ns


def _as_text(row: dict[str, Any], unreadable: dict[str, str]) -> dict[str, Any]:
    """Return a row that can be stored: as it is, or escaped and without audio."""
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
    """Return the source with its options, refusing unknown and missing ones."""
    where = f"data_options of {source_class.card.name}"
    for name, value in options.items():
        check_path_length(f"data_options: {name}", value)
    values = check_fields(source_class, options, where)
    for option in fields(source_class):
        if option.name not in values and option.default is MISSING:
            raise ConfigError(f"{where}: {option.name!r} is missing: write {{{option.name}: ...}}")
    return source_class(**values)
