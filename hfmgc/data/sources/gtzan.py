"""GTZAN (Tzanetakis and Cook, 2002): parquet mirrors on the Hub, the authors' archive, or a folder on disk."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import datasets
from transformers.utils import logging

from ...errors import ConfigError, DataError
from ..archives import unpacked
from ..audio import AUDIO_SUFFIXES
from ..caching import cached_map
from . import gtzan_lists
from .contract import TRACK_FEATURES, DatasetCard, TrackSource, track_row
from .hub_files import download
from .hub_tables import audio_fields, is_local, load_tables, shown_location, unpinned_notes
from .tables import check_unique, class_names, class_of, file_table, side_of, sorted_by_id


logger = logging.get_logger(__name__)

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
ARCHIVE_REPOSITORY = "marsyas/gtzan"
ARCHIVE_FILE = "data/genres.tar.gz"
# The authors' archive, Kaggle's and hand-made copies.
_ROOTS = ("", "genres", "genres_original", "Data/genres_original", "gtzan/genres")
_NAME = re.compile(rf"({'|'.join(GENRES)})[._](\d{{5}})")


@dataclass
class GTZAN(TrackSource):
    """1000 tracks of 30 s in ten genres, of which 999 can be used.

    A track's id is its name in the authors' archive, `blues.00000`, whichever way it comes. The artist is an anonymous
    group, known for 948 tracks; the side is that of the fault-filtered partition, "" for the 70 tracks left out of it.
    GTZAN's authors made no split.

    Attributes:
        repository: A parquet mirror on the Hub, or a copy of one on disk.
        repository_revision: Its commit; the pinned one by default, where one is known.
        archive: Instead of a mirror: the path of `genres.tar.gz`, or `marsyas/gtzan` to fetch it from there.
        archive_checksum: `sha256:...` of the archive, if you know it.
        folder: Instead of both: a folder with a subfolder for each genre, files named `blues.00000.wav`,
            `blues.00000.au` or `blues_00000.wav`.
    """

    card = DatasetCard(
        name="gtzan",
        citation="G. Tzanetakis and P. Cook, Musical genre classification of audio signals, IEEE TSAP 10(5), 2002",
        licence="unstated by its authors; for research",
        homepage="http://marsyas.info/downloads/datasets.html",
        known_bad={"jazz.00054": "broken in every copy of GTZAN"},
        repositories={
            "sanchit-gandhi/gtzan": "4bd857132cb0e731bef3ec68558e7acc0a85f144",
            "confit/gtzan-parquet": "",
            ARCHIVE_REPOSITORY: "",
        },
    )
    split_policies = ("fault_filtered", "artist_folds", "grouped", "stratified")

    repository: str = "sanchit-gandhi/gtzan"
    repository_revision: str | None = None
    archive: str = ""
    archive_checksum: str = ""
    folder: str = ""

    def __post_init__(self):
        if self.archive and self.folder:
            raise ConfigError("data_options of gtzan: give archive or folder, not both")

    @property
    def location(self) -> str:
        """The repository of the Hub, or the name of what is on disk."""
        return shown_location(self.folder or self.archive or self.repository)

    @property
    def revision(self) -> str | None:
        """The commit of the repository, pinned by default."""
        place = self.folder or self.archive or self.repository
        if is_local(place):
            return None
        return self.repository_revision or self.card.repositories.get(place) or None

    def notes(self) -> list[str]:
        """Say when the state of a repository is not pinned."""
        return unpinned_notes(self.folder or self.archive or self.repository, self.revision)

    def genres(self) -> list[str]:
        """Return the ten genres in alphabetical order."""
        return list(GENRES)

    def fault_filtered_sides(self) -> dict[str, list[str]]:
        """Return the ids of the fault-filtered train (with the broken `jazz.00054`), validation and test side."""
        return {side: list(members) for side, members in gtzan_lists.fault_filtered().items()}

    def artist_groups(self) -> dict[str, str]:
        """Return the anonymous artist group of each track for which one is known (948)."""
        return dict(gtzan_lists.artist_groups())

    def artist_folds(self) -> list[list[str]]:
        """Return the ids of three folds between which no artist group is divided (948 tracks in all)."""
        return [list(fold) for fold in gtzan_lists.artist_folds()]

    def tracks(self) -> datasets.Dataset:
        """Return the tracks, sorted by their ids."""
        if self.folder:
            return self._from_folder(Path(self.folder))
        if self.archive:
            path, checksum = self._archive()
            return self._from_folder(unpacked(path, checksum=checksum, wanted=_is_track, selection="tracks"))
        return self._from_mirror()

    def split_note(self, policy: str) -> str | None:
        """Random splits of GTZAN put the same artists, and repeated recordings, on two sides."""
        if policy == "fault_filtered":
            return None
        if policy in ("artist_folds", "grouped"):
            return (
                f"{policy} of GTZAN keeps artists apart and keeps its repeated and mislabelled recordings: its results "
                "are not comparable with those of the fault-filtered split"
            )
        return (
            f"A {policy} split of GTZAN has artists and repeated recordings on more than one side: its results are "
            "5 to 8 points higher than, and not comparable with, those of the fault-filtered split"
        )

    def artist_waiver(self, policy: str, artist: str) -> str | None:
        """The fault-filtered partition and the artist groups come from different people, and disagree once."""
        if policy == "fault_filtered" and artist == "group 138":
            return "the fault-filtered partition has disco.00049 and disco.00073 in train and disco.00069 in test"
        return None

    def _archive(self) -> tuple[Path, str]:
        if is_local(self.archive) or self.archive.lower().endswith((".gz", ".tgz", ".zip")):
            return Path(self.archive), self.archive_checksum
        path, checksum = download("GTZAN", self.archive, ARCHIVE_FILE, self.revision)
        return path, self.archive_checksum or checksum

    def _from_folder(self, folder: Path) -> datasets.Dataset:
        root = next((folder / name for name in _ROOTS if any((folder / name / g).is_dir() for g in GENRES)), None)
        if root is None:
            raise DataError(
                f"data_options of gtzan: {self.location} has no subfolder named after one of GTZAN's genres "
                f"({', '.join(GENRES)}): give the folder that has"
            )
        found = sorted(_files(root))
        check_unique([track_id for track_id, _ in found], f"GTZAN ({self.location})")
        if len(found) < 1000:
            logger.warning(f"GTZAN: {len(found)} of its 1000 tracks are in {self.location}")
        self.unreadable = {}
        return file_table([_row(track_id, path=str(path.resolve())) for track_id, path in found], self.unreadable)

    def _from_mirror(self) -> datasets.Dataset:
        tables = load_tables(
            "GTZAN",
            self.repository,
            revision=self.revision,
            way_out="fetch the archive and name it in --data_options as {archive: PATH} or, unpacked, as {folder: PATH}",
        )
        # The rate that a mirror declares can be wrong (32 kHz for bytes of 22.05 kHz); we read the bytes ourselves.
        parts = [
            cached_map(
                table,
                _mirrored,
                ("tables",),
                with_indices=True,
                fn_kwargs={"side": side, "sides_matter": len(tables) > 1, "genres": _label_names(table)},
                features=TRACK_FEATURES,
                remove_columns=table.column_names,
                writer_batch_size=32,
                desc="GTZAN: naming tracks",
            )
            for side, table in tables.items()
        ]
        tracks = sorted_by_id(datasets.concatenate_datasets(parts))
        check_unique(tracks["track_id"], f"GTZAN ({self.location})")
        return tracks


def _is_track(member: PurePosixPath) -> bool:
    """Tell whether a member of an archive is audio of a genre."""
    audio = member.suffix.lower() in AUDIO_SUFFIXES and not member.name.startswith(".")
    return audio and not set(member.parts[:-1]).isdisjoint(GENRES)


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    for genre in GENRES:
        for path in (root / genre).rglob("*"):
            if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("."):
                track_id = _track_id(path.name)
                if track_id is None or not track_id.startswith(genre + "."):
                    raise DataError(
                        f"GTZAN: {path.relative_to(root).as_posix()} is not named as a track of its genre "
                        f"({genre}.00000 or {genre}_00000): rename it or take it away"
                    )
                yield track_id, path


def _track_id(name: str) -> str | None:
    """Read `blues.00000` from the name of a file."""
    match = _NAME.match(name)
    return f"{match[1]}.{match[2]}" if match else None


def _row(track_id: str, **audio: Any) -> dict[str, Any]:
    sides = _sides()
    return track_row(
        track_id,
        track_id.partition(".")[0],
        artist=gtzan_lists.artist_groups().get(track_id, ""),
        split=sides.get(track_id, ""),
        **audio,
    )


def _sides() -> dict[str, str]:
    return {track_id: side for side, members in gtzan_lists.fault_filtered().items() for track_id in members}


def _label_names(table: datasets.Dataset) -> dict[str, list[str]]:
    named = {name: class_names(feature) for name, feature in table.features.items()}
    return {name: names for name, names in named.items() if names}


def _mirrored(row: dict, index: int, side: str, sides_matter: bool, genres: dict[str, list[str]]) -> dict:
    path, content = audio_fields(row["audio"], f"GTZAN, row {index} of split {side!r}")
    name = (row.get("file") or path or "").replace("\\", "/").rsplit("/", 1)[-1]
    track_id = _track_id(name)
    if track_id:
        named = _row(track_id, path=None if content else path, audio=content)
        if sides_matter and side_of(side, "GTZAN") != named["split"]:
            raise DataError(
                f"GTZAN: {track_id} is on the side {side!r} of this copy, and in the fault-filtered partition it is in "
                f"{named['split'] or 'none'}: take a copy that keeps to the partition, or one without splits"
            )
        return named
    # A mirror without file names: its own side is all that is known of a track beside its genre.
    column = next((column for column in ("genre", "label") if row.get(column) is not None), None)
    if column is None:
        raise DataError(f"GTZAN: row {index} of split {side!r} has neither the name of a track nor a genre")
    genre = class_of(row[column], genres[column]) if column in genres else str(row[column])
    if genre not in GENRES:
        said = genre or row[column]
        raise DataError(f"GTZAN: row {index} of split {side!r} has the genre {said!r}, which is none of its ten")
    known_side = side_of(side, "GTZAN") if sides_matter else ""
    return track_row(f"{genre}.{side}-{index:05d}", genre, path=None, audio=content, split=known_side)
