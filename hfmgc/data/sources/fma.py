"""FMA (Defferrard et al., 2017), small, medium, large and full: the authors' archives on disk, or the Hub mirrors."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import datasets
from transformers.utils import logging

from ...errors import ConfigError, DataError, nearest
from ..archives import is_archive, unpacked
from . import fma_mirror
from .contract import DatasetCard, TrackSource, track_row
from .fma_csv import SUBSETS, FMATrack, read_genres, read_tracks
from .hub_tables import is_local, load_tables, shown_location, unpinned_notes
from .tables import check_unique, file_table


logger = logging.get_logger(__name__)

SMALL_GENRES = ("Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop", "Rock")
TOP_GENRES = tuple(
    sorted(
        {*SMALL_GENRES, "Blues", "Classical", "Country", "Easy Listening", "Jazz", "Old-Time / Historic"}
        | {"Soul-RnB", "Spoken"}
    )
)
_SHORT = "too short or empty in the authors' clips of 30 s"
# The first six are in small, all are in medium.
_SHORT_IDS = (
    98565, 98567, 98569, 99134, 108925, 133297, 1486, 5574, 65753, 80391, 98558, 98559, 98560, 98566, 98568, 98571,
    105247, 108924, 126981, 127336, 143992,
)  # fmt: skip


@dataclass
class FMA(TrackSource):
    """Tracks of the Free Music Archive; a track's id is its number with six digits, as in its file name.

    With the authors' metadata: top genre or all genres of the hierarchy, the artist's number, the official split. The
    mirrors have several genres for each track, the artist's name, and neither a top genre nor the official split.

    Attributes:
        subset: small (8,000 clips, 8 genres), medium (25,000, 16 genres), large (all 106,574 as clips) or full (the
            same, whole).
        audio: The authors' folder (`fma_small`) or archive (`fma_small.zip`).
        metadata: The authors' folder `fma_metadata` or archive `fma_metadata.zip`.
        labels: `top` (one genre for each track) or `all` (those of the hierarchy, for multi-label models); top with
            metadata and all without by default.
        repository: Instead of audio and metadata: a mirror; `benjamin-paine/free-music-archive-<subset>` by default.
        repository_revision: Its commit.
        verify: Whether archives named as the authors' must have their sha1.
    """

    card = DatasetCard(
        name="fma",
        citation="M. Defferrard, K. Benzi, P. Vandergheynst and X. Bresson, FMA: a dataset for music analysis, ISMIR 2017",
        licence="metadata CC-BY-4.0; each track as its artist chose (Creative Commons)",
        homepage="https://github.com/mdeff/fma",
        known_bad={f"{number:06d}": _SHORT for number in _SHORT_IDS},
        repositories={f"benjamin-paine/free-music-archive-{subset}": "" for subset in (*SUBSETS, "full")},
        checksums={
            "fma_metadata.zip": "sha1:f0df49ffe5f2a6008d7dc83c6915b31835dfe733",
            "fma_small.zip": "sha1:ade154f733639d52e35e32f5593efe5be76c6d70",
            "fma_medium.zip": "sha1:c67b69ea232021025fca9231fc1c7c1a063ab50b",
            "fma_large.zip": "sha1:497109f4dd721066b5ce5e5f250ec604dc78939e",
            "fma_full.zip": "sha1:0f0ace23fbe9ba30ecb7e95f763e435ea802b8ab",
        },
    )
    split_policies = ("official", "grouped", "stratified")

    subset: str = "small"
    audio: str = ""
    metadata: str = ""
    labels: str = ""
    repository: str = ""
    repository_revision: str | None = None
    verify: bool = True

    def __post_init__(self):
        where = "data_options of fma"
        if self.subset not in (*SUBSETS, "full"):
            raise ConfigError(f"{where}: no subset {self.subset!r}{nearest(self.subset, (*SUBSETS, 'full'))}")
        if self.labels not in ("", "top", "all"):
            raise ConfigError(f"{where}: labels are top or all, not {self.labels!r}")
        if self.audio and not self.metadata:
            raise ConfigError(f"{where}: audio has no labels without metadata (the folder fma_metadata or its zip)")
        if self.repository and (self.audio or self.metadata):
            raise ConfigError(f"{where}: give a repository, or audio and metadata, not both")
        if not self.metadata and self.labels == "top":
            raise ConfigError(f"{where}: the mirrors have no top genre; set labels: all, or give audio and metadata")

    @property
    def mirror(self) -> str:
        """The repository that is read where there is no metadata."""
        return self.repository or f"benjamin-paine/free-music-archive-{self.subset}"

    @property
    def location(self) -> str:
        """The repository of the Hub, or the name of what is on disk."""
        return shown_location(self.audio or self.metadata or self.mirror)

    @property
    def revision(self) -> str | None:
        """The commit of the mirror, or the checksum of the metadata where it was verified."""
        if self.metadata:
            return self._checksum(self.metadata) or None
        return None if is_local(self.mirror) else self.repository_revision

    def notes(self) -> list[str]:
        """Say what the mirrors lack."""
        if self.metadata:
            return []
        return [
            "the mirrors of FMA lack the official split and the top genre: results are not comparable with others",
            *unpinned_notes(self.mirror, self.repository_revision),
        ]

    def known_problem(self, track_id: str) -> str | None:
        """Return that a clip is too short; in `full` the tracks are whole."""
        return None if self.subset == "full" else super().known_problem(track_id)

    def genres(self) -> list[str]:
        """Return the top genres in alphabetical order, or those of the hierarchy that occur, by their ids."""
        if not self.metadata:
            return fma_mirror.occurring_genres(self._mirror_tables(), self.location)
        if self.labels != "all":
            return list(SMALL_GENRES if self.subset == "small" else TOP_GENRES)
        occurring = {genre_id for track in self.metadata_tracks() for genre_id in track.genre_ids}
        return [title for genre_id, title in self._titles().items() if genre_id in occurring]

    @property
    def features_csv(self) -> Path:
        """The authors' 518 hand-made features of all tracks."""
        path = self._metadata_file("features.csv")
        if not path.is_file():
            raise DataError("features.csv: no such file in FMA's metadata; unpack all of fma_metadata.zip")
        return path

    def metadata_tracks(self) -> list[FMATrack]:
        """Return the rows of `tracks.csv` of this subset, by their ids (audio is not needed for them)."""
        tracks = read_tracks(self._metadata_file("tracks.csv"))
        wanted = SUBSETS[: SUBSETS.index(self.subset) + 1] if self.subset in SUBSETS else SUBSETS
        tracks = [track for track in tracks if track.subset in wanted]
        if not tracks:
            raise DataError(f"tracks.csv has no tracks of the subset {self.subset!r}: fetch fma_metadata.zip again")
        check_unique([track.track_id for track in tracks], "tracks.csv")
        return tracks

    def tracks(self) -> datasets.Dataset:
        """Return the tracks of the subset, sorted by their ids; those whose file is missing are in it as well."""
        if not self.metadata:
            return self._from_mirror()
        if not self.audio:
            raise DataError(f"data_options of fma: give audio, the folder fma_{self.subset} or its zip")
        root = self._folder(
            self.audio, f"fma_{self.subset}", lambda: {f"{track.track_id}.mp3" for track in self.metadata_tracks()}
        )
        titles = self._titles() if self.labels == "all" else {}
        tops = set(SMALL_GENRES if self.subset == "small" else TOP_GENRES)
        rows = []
        for track in self.metadata_tracks():
            if track.top_genre and track.top_genre not in tops:
                raise DataError(f"tracks.csv: {track.track_id} has the unknown top genre {track.top_genre!r}")
            genres = self._titles_of(track, titles) if self.labels == "all" else []
            path = root / track.track_id[:3] / f"{track.track_id}.mp3"
            genre = track.top_genre if self.labels != "all" or track.top_genre in genres else next(iter(genres), "")
            rows.append(
                track_row(
                    track.track_id,
                    genre,
                    path=str(path.resolve()),
                    genres=genres,
                    artist=track.artist,
                    split=track.side,
                )
            )
        unlabelled = sum(not row["genre"] for row in rows)
        if unlabelled:
            logger.warning(
                f"FMA: {unlabelled} of {len(rows)} tracks have no genre under labels: {self.labels or 'top'}"
            )
        self.unreadable = {}
        return file_table(rows, self.unreadable)

    def _titles(self) -> dict[int, str]:
        return read_genres(self._metadata_file("genres.csv"))

    def _titles_of(self, track: FMATrack, titles: dict[int, str]) -> list[str]:
        missing = [genre_id for genre_id in track.genre_ids if genre_id not in titles]
        if missing:
            raise DataError(f"tracks.csv: {track.track_id} has the genre {missing[0]}, which genres.csv does not name")
        names = [titles[genre_id] for genre_id in track.genre_ids]
        return sorted(names, key=lambda name: (name != track.top_genre, names.index(name)))

    def _metadata_file(self, name: str) -> Path:
        if not self.metadata:
            raise DataError("data_options of fma: give metadata, the folder fma_metadata or fma_metadata.zip")
        # features.csv alone has a gigabyte, and few ask for it.
        wanted = {name} if name == "features.csv" else {"tracks.csv", "genres.csv"}
        return self._folder(self.metadata, "fma_metadata", lambda: wanted) / name

    def _folder(self, place: str, inner: str, files: Callable[[], set[str]]) -> Path:
        """Return the authors' folder: itself, the one around it, or the named files of its archive."""
        path = Path(place)
        if is_archive(path):
            wanted = files()
            selection = hashlib.sha256(" ".join(sorted(wanted)).encode()).hexdigest()
            path = unpacked(
                path,
                checksum=self._checksum(place),
                wanted=lambda member: member.name in wanted,
                selection=selection,
            )
            # The archive of a larger subset has a smaller one in it.
            inner = next((found.name for found in sorted(path.glob("fma_*"))), inner)
        elif not path.is_dir():
            raise DataError(f"data_options of fma: {place!r} is neither a folder nor a zip")
        return path / inner if (path / inner).is_dir() else path

    def _checksum(self, place: str) -> str:
        return self.card.checksums.get(Path(place).name, "") if self.verify else ""

    def _mirror_tables(self) -> dict[str, datasets.Dataset]:
        return load_tables(
            "FMA",
            self.mirror,
            revision=self.repository_revision,
            way_out="fetch the authors' archives and name them in --data_options as {audio: PATH, metadata: PATH}",
        )

    def _from_mirror(self) -> datasets.Dataset:
        tracks = fma_mirror.read_mirror(self._mirror_tables(), self.location)
        check_unique(tracks["track_id"], f"FMA ({self.location})")
        return tracks
