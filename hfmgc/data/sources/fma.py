"""FMA small, medium, large and full (Defferrard et al., 2017), from the authors' archives or mirrors on the Hub."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pandas as pd
from transformers.utils import logging

from ...errors import ConfigError, DataError, did_you_mean
from ..archives import folder_or_archive, is_archive
from .contract import DatasetCard, TrackSource, track_row
from .hub import audio_fields, load_tables, map_to_tracks
from .tables import check_unique, class_names, labels_of, occurring_labels, read_rows, reading, side_of, sort_by_id


logger = logging.get_logger(__name__)

SUBSETS = ("small", "medium", "large", "full")
SMALL_GENRES = ("Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop", "Rock")
TOP_GENRES = (
    "Blues", "Classical", "Country", "Easy Listening", "Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental",
    "International", "Jazz", "Old-Time / Historic", "Pop", "Rock", "Soul-RnB", "Spoken",
)  # fmt: skip
_SHORT = "too short or empty in the authors' clips of 30 s"
# The first six are in small, and all in medium.
_SHORT_IDS = (
    98565, 98567, 98569, 99134, 108925, 133297, 1486, 5574, 65753, 80391, 98558, 98559, 98560, 98566, 98568, 98571,
    105247, 108924, 126981, 127336, 143992,
)  # fmt: skip
_COLUMNS = [("set", "split"), ("set", "subset"), ("track", "genre_top"), ("track", "genres_all"), ("artist", "id")]


class FMATrack(NamedTuple):
    """The columns of a row of `tracks.csv` that labels and splits need."""

    track_id: str
    side: str
    subset: str
    top_genre: str
    genre_ids: tuple[int, ...]
    artist: str


@dataclass
class FMA(TrackSource):
    """Tracks of the Free Music Archive. A track's id is its number with six digits, as in the file name.

    The authors' metadata have the top genre or all genres of the hierarchy, the artist's number and the official
    split. The mirrors have several genres per track and the artist's name, but no top genre and no official split.
    """

    card = DatasetCard(
        name="fma",
        citation="M. Defferrard, K. Benzi, P. Vandergheynst and X. Bresson, FMA: a dataset for music analysis, ISMIR 2017",
        licence="metadata CC-BY-4.0; each track as its artist chose (Creative Commons)",
        known_bad={f"{number:06d}": _SHORT for number in _SHORT_IDS},
        repositories={f"benjamin-paine/free-music-archive-{subset}": "" for subset in SUBSETS},
        checksums={
            "fma_metadata.zip": "sha1:f0df49ffe5f2a6008d7dc83c6915b31835dfe733",
            "fma_small.zip": "sha1:ade154f733639d52e35e32f5593efe5be76c6d70",
            "fma_medium.zip": "sha1:c67b69ea232021025fca9231fc1c7c1a063ab50b",
            "fma_large.zip": "sha1:497109f4dd721066b5ce5e5f250ec604dc78939e",
            "fma_full.zip": "sha1:0f0ace23fbe9ba30ecb7e95f763e435ea802b8ab",
        },
    )
    split_policies = ("official", "grouped", "stratified")

    subset: str = "small"  # 8,000 clips of 8 genres; medium: 25,000 of 16; large: 106,574 clips; full: whole tracks
    audio: str = ""  # the authors' folder `fma_small` or archive `fma_small.zip`
    metadata: str = ""  # the authors' folder `fma_metadata` or archive `fma_metadata.zip`
    labels: str = ""  # `top` (default with metadata): one genre per track; `all`: all genres of the hierarchy
    repository: str = ""  # instead of both: a mirror; by default `benjamin-paine/free-music-archive-<subset>`
    repository_revision: str | None = None  # commit of the repository
    verify: bool = True  # whether an archive with the name of an authors' archive must have its sha1

    def __post_init__(self):
        where = "data_options of fma"
        if self.subset not in SUBSETS:
            raise ConfigError(f"{where}: no subset {self.subset!r}{did_you_mean(self.subset, SUBSETS)}")
        if self.labels not in ("", "top", "all"):
            raise ConfigError(f"{where}: labels must be top or all, not {self.labels!r}")
        if self.audio and not self.metadata:
            raise ConfigError(f"{where}: audio needs metadata for its labels: give the folder fma_metadata or its zip")
        if self.repository and (self.audio or self.metadata):
            raise ConfigError(f"{where}: give a repository, or audio and metadata, not both")
        if not self.metadata and self.labels == "top":
            raise ConfigError(f"{where}: the mirrors have no top genre: set labels: all, or give audio and metadata")
        self._top_genres = SMALL_GENRES if self.subset == "small" else TOP_GENRES
        self.repository = self.repository or f"benjamin-paine/free-music-archive-{self.subset}"

    @property
    def origin(self) -> str:
        return self.audio or self.metadata or self.repository

    @property
    def revision(self) -> str | None:
        """The commit of the mirror, or the checksum of the metadata if it is verified."""
        return (self._checksum(self.metadata) or None) if self.metadata else super().revision

    def notes(self) -> list[str]:
        if self.metadata:
            return []
        note = "the mirrors of FMA lack the official split and the top genre: results are not comparable with others"
        return [note, *super().notes()]

    def known_problem(self, track_id: str) -> str | None:
        """Return the problem of a clip that is too short; none for `full`, which has whole tracks."""
        return None if self.subset == "full" else super().known_problem(track_id)

    def genres(self) -> list[str]:
        """Return the top genres in alphabetical order, or the genres of the hierarchy that occur, by id."""
        if not self.metadata:
            return occurring_labels(self._mirror_tables(), ["genres"])
        if self.labels != "all":
            return list(self._top_genres)
        occurring = {genre_id for track in self.metadata_tracks() for genre_id in track.genre_ids}
        return [title for genre_id, title in self._titles().items() if genre_id in occurring]

    @property
    def features_csv(self) -> Path:
        """The path of the authors' file with 518 hand-made features of each track."""
        return self._metadata_file("features.csv")

    def metadata_tracks(self) -> list[FMATrack]:
        """Return the rows of `tracks.csv` for this subset, sorted by id, without reading the audio."""
        wanted = SUBSETS[: SUBSETS.index(self.subset) + 1]  # larger subsets contain the smaller ones
        tracks = [track for track in read_tracks(self._metadata_file("tracks.csv")) if track.subset in wanted]
        if not tracks:
            raise DataError(f"tracks.csv: no tracks of the subset {self.subset!r}: download fma_metadata.zip again")
        check_unique([track.track_id for track in tracks], "tracks.csv")
        for track in tracks:
            if track.top_genre and track.top_genre not in self._top_genres:
                raise DataError(
                    f"tracks.csv: unknown top genre {track.top_genre!r} of {track.track_id}: download fma_metadata.zip again"
                )
        return tracks

    def tracks(self) -> datasets.Dataset:
        """Return the tracks of the subset, sorted by id, whether or not their files exist."""
        if not self.metadata:
            tables = self._mirror_tables()
            return sort_by_id(map_to_tracks(tables, _mirror_track, f"FMA ({self.location})"))
        if not self.audio:
            raise DataError(f"data_options of fma: give audio, the folder fma_{self.subset} or its zip")
        tracks = self.metadata_tracks()
        root = self._folder(self.audio, f"fma_{self.subset}", {f"{track.track_id}.mp3" for track in tracks})
        titles = self._titles() if self.labels == "all" else None
        rows = []
        for track in tracks:
            path = str((root / track.track_id[:3] / f"{track.track_id}.mp3").resolve())
            genres = _genres_of(track, titles) if titles else [track.top_genre]
            rows.append(track_row(track.track_id, genres, path=path, artist=track.artist, split=track.side))
        if unlabelled := sum(not row["genre"] for row in rows):
            logger.warning(
                f"FMA: {unlabelled} of {len(rows)} tracks have no genre with labels: {self.labels or 'top'}"
            )
        return self.file_table(rows)

    def _titles(self) -> dict[int, str]:
        return read_genres(self._metadata_file("genres.csv"))

    def _metadata_file(self, name: str) -> Path:
        if not self.metadata:
            raise DataError("data_options of fma: give metadata, the folder fma_metadata or fma_metadata.zip")
        # features.csv has almost a gigabyte and is rarely needed.
        wanted = {name} if name == "features.csv" else {"tracks.csv", "genres.csv"}
        path = self._folder(self.metadata, "fma_metadata", wanted) / name
        if not path.is_file():
            raise DataError(f"{Path(self.metadata).name} has no {name}: use the authors' fma_metadata.zip")
        return path

    def _folder(self, origin: str, inner: str, wanted: set[str]) -> Path:
        """Return the authors' folder: `origin`, its subfolder `inner`, or the wanted files of an archive."""
        path = folder_or_archive(
            origin,
            "data_options of fma:",
            checksum=self._checksum(origin),
            wanted=lambda member: member.name in wanted,
            selection=hashlib.sha256(" ".join(sorted(wanted)).encode()).hexdigest(),
        )
        if is_archive(origin):  # the archive of a larger subset has another name inside
            return next(path.glob("fma_*"), path)
        return path / inner if (path / inner).is_dir() else path

    def _checksum(self, origin: str) -> str:
        return self.card.checksums.get(Path(origin).name, "") if self.verify else ""

    def _mirror_tables(self) -> dict[str, datasets.Dataset]:
        tables = load_tables(
            "FMA",
            self.repository,
            revision=self.revision,
            way_out="fetch the authors' archives and name them in --data_options as {audio: PATH, metadata: PATH}",
        )
        for table in tables.values():
            if class_names(table.features.get("genres")) is None:
                raise DataError(f"FMA ({self.location}): no column 'genres' of class labels: use a mirror of FMA")
        return tables


def _genres_of(track: FMATrack, titles: dict[int, str]) -> list[str]:
    """Return the names of all genres of a track, its top genre first."""
    if missing := [genre_id for genre_id in track.genre_ids if genre_id not in titles]:
        raise DataError(
            f"tracks.csv: genre {missing[0]} of {track.track_id} is not in genres.csv: download fma_metadata.zip again"
        )
    return sorted((titles[genre_id] for genre_id in track.genre_ids), key=lambda name: name != track.top_genre)


def _mirror_track(row: dict, index: int, where: str, split: str, classes: dict[str, list[str]]) -> dict[str, Any]:
    where = f"{where}, row {index} of split {split!r}"
    path, content = audio_fields(row["audio"], where)
    stem = (path or "").replace("\\", "/").rsplit("/", 1)[-1].partition(".")[0]
    return track_row(
        f"{int(stem):06d}" if stem.isdecimal() else f"{split}-{index:06d}",
        labels_of(row["genres"] or [], classes["genres"], where),
        path=path if content is None else None,
        audio=content,
        artist=row.get("artist") or "",
    )


def read_tracks(path: Path) -> list[FMATrack]:
    """Return all tracks of `tracks.csv`, sorted by id.

    Raises:
        DataError: If the file or a column is missing, or a row cannot be read.
    """
    with reading(path):
        table = pd.read_csv(path, header=[0, 1], index_col=0, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    if missing := [str(column) for column in _COLUMNS if column not in table.columns]:
        raise DataError(
            f"{path.name}: no column {', '.join(missing)} in its first two rows: take the file from fma_metadata.zip"
        )
    tracks = []
    for number, split, subset, top_genre, genre_ids, artist in table[_COLUMNS].itertuples(name=None):
        where = f"{path.name}, track {number}"
        try:
            track_id, ids = f"{int(number):06d}", tuple(map(int, json.loads(genre_ids or "[]")))
        except (ValueError, TypeError) as error:
            raise DataError(f"{where}: cannot be read ({error}): download the file again") from error
        tracks.append(FMATrack(track_id, side_of(split, where), subset, top_genre, ids, artist))
    return sorted(tracks)


def read_genres(path: Path) -> dict[int, str]:
    """Return id -> name of all genres of the hierarchy, sorted by id; a name that occurs twice ends with its id."""
    titles: dict[int, str] = {}
    for line, row in read_rows(path, required=("genre_id", "title")):
        try:
            titles[int(row["genre_id"])] = row["title"]
        except ValueError as error:
            raise DataError(f"{path.name}, {line}: genre_id is not a number: download the file again") from error
    counts = Counter(titles.values())
    return {number: title if counts[title] == 1 else f"{title} ({number})" for number, title in sorted(titles.items())}
