"""What every dataset states about itself, and the plain table of tracks that it gives."""

import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar

import datasets

from ...errors import ConfigError, nearest
from ...settings import coerce, refuse_long_path


# A track: audio as path or bytes (never decoded by datasets); artist and split (the official side: train, validation
# or test) are "" where they are not known; genres are all that the dataset gives it, the first or only one as `genre`.
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


def track_row(
    track_id: str,
    genre: str,
    *,
    path: str | None = None,
    audio: bytes | None = None,
    genres: Sequence[str] = (),
    artist: str = "",
    split: str = "",
) -> dict[str, Any]:
    """Return one row of `TRACK_FEATURES`."""
    return {
        "track_id": track_id,
        "audio": {"path": path, "bytes": audio},
        "genre": genre,
        "genres": list(genres) or ([genre] if genre else []),
        "artist": artist,
        "split": split,
    }


@dataclass(frozen=True)
class DatasetCard:
    """What a user must know before using a dataset."""

    name: str
    citation: str
    licence: str
    homepage: str = ""
    synthetic: bool = False
    # Tracks that are broken or too short in every copy, with the reason: skipped before they are decoded.
    known_bad: Mapping[str, str] = field(default_factory=dict)
    # Repositories of the Hub, each with its pinned commit, or "" where none is known.
    repositories: Mapping[str, str] = field(default_factory=dict)
    # Files of the authors, each as `sha1:...` or `sha256:...`.
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass
class TrackSource(ABC):
    """A dataset. Its fields are the options that `data_options` sets."""

    card: ClassVar[DatasetCard]
    split_policies: ClassVar[tuple[str, ...]] = ("stratified",)

    # Of an instance, but no option of `data_options` (so without annotations): track id -> why it is skipped.
    excluded = MappingProxyType({})  # what the user leaves out, see `exclusions`
    unreadable = MappingProxyType({})  # what `tracks` found and cannot be opened

    @property
    @abstractmethod
    def location(self) -> str:
        """Where the tracks are: a folder, or a repository of the Hub."""

    @property
    def revision(self) -> str | None:
        """Which state of the data this is: a commit of the Hub, a seed, or None for a folder of the user's."""
        return None

    @abstractmethod
    def genres(self) -> list[str]:
        """Return the genres in the order of the labels."""

    def empty_genres(self) -> list[str]:
        """Return genres that the data name without having a track of them; they are skipped."""
        return []

    @abstractmethod
    def tracks(self) -> datasets.Dataset:
        """Return all tracks as a table of `TRACK_FEATURES`, in an order that does not change.

        A track that the dataset lists stays in the table when its file is missing: decoding reports it. One without a
        genre has "" there; it serves pre-training.

        Raises:
            DataError: If they cannot be found, naming the place and the way out.
        """

    def known_problem(self, track_id: str) -> str | None:
        """Return what the dataset is known to have wrong with a track, or None."""
        return self.card.known_bad.get(track_id)

    def reason_to_skip(self, track_id: str) -> str | None:
        """Return why a track is skipped without being decoded, or None."""
        if track_id in self.excluded:
            return f"excluded: {self.excluded[track_id]}"
        return self.unreadable.get(track_id) or self.known_problem(track_id)

    def notes(self) -> list[str]:
        """Return what a reader of results must be told about this way of getting the data."""
        return []

    def front_end(self) -> dict[str, Any] | None:
        """Return the fields of the front end that made stored features; None for audio, or where unknown."""
        return None

    def split_note(self, policy: str) -> str | None:
        """Return what a reader of results under `policy` must be told, or None."""
        return None

    def artist_waiver(self, policy: str, artist: str) -> str | None:
        """Return why this artist is on two sides under `policy` by the making of the split's authors, or None."""
        return None

    def describe(self) -> dict[str, Any]:
        """Return what is written beside a result."""
        return {
            "name": self.card.name,
            "location": self.location,
            "revision": self.revision,
            "licence": self.card.licence,
            "citation": self.card.citation,
            "synthetic": self.card.synthetic,
            "notes": self.notes(),
        }


def make_source(source_class: type[TrackSource], options: dict[str, Any]) -> TrackSource:
    """Return the source with its options, refusing an unknown one with the nearest name."""
    known = [option.name for option in fields(source_class)]
    for name in options:
        if name not in known:
            raise ConfigError(f"data_options: {source_class.card.name} has no option {name!r}{nearest(name, known)}")
    for name, value in options.items():
        refuse_long_path(f"data_options: {name}", value)
    for option in fields(source_class):
        if option.name not in options and option.default is MISSING and option.default_factory is MISSING:
            raise ConfigError(f"data_options: {source_class.card.name} needs the option {option.name!r}")
    hints = typing.get_type_hints(source_class)
    return source_class(
        **{
            name: coerce(name, value, hints[name], f"data_options of {source_class.card.name}")
            for name, value in options.items()
        }
    )
