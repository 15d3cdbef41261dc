"""GTZAN (Tzanetakis and Cook, 2002): parquet mirrors on the Hub, the authors' archive, or a folder on disk."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import datasets
from transformers.utils import logging

from ...errors import ConfigError, DataError
from ..archives import is_archive, unpack
from ..audio import AUDIO_SUFFIXES
from . import gtzan_lists
from .contract import DatasetCard, TrackSource, track_row
from .hub import audio_fields, download, load_tables, map_to_tracks
from .tables import check_unique, labels_of, side_of, sort_by_id


logger = logging.get_logger(__name__)

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
ARCHIVE_REPOSITORY = "marsyas/gtzan"
ARCHIVE_FILE = "data/genres.tar.gz"
# Folders that hold the genres in the authors' archive, Kaggle's copy and other copies.
_ROOTS = ("", "genres", "genres_original", "Data/genres_original", "gtzan/genres")
_NAME = re.compile(rf"({'|'.join(GENRES)})[._](\d{{5}})")


@dataclass
class GTZAN(TrackSource):
    """1000 tracks of 30 s in ten genres, of which 999 are usable.

    In all copies a track's id is its name in the authors' archive, such as `blues.00000`. The artist is an anonymous
    group, known for 948 tracks. GTZAN's authors made no split; the side is that of the fault-filtered partition, ""
    for the 70 tracks that the partition excludes.
    """

    card = DatasetCard(
        name="gtzan",
        citation="G. Tzanetakis and P. Cook, Musical genre classification of audio signals, IEEE TSAP 10(5), 2002",
        licence="unstated by its authors; for research",
        known_bad={"jazz.00054": "broken in every copy of GTZAN"},
        repositories={
            "sanchit-gandhi/gtzan": "4bd857132cb0e731bef3ec68558e7acc0a85f144",
            "confit/gtzan-parquet": "",
            ARCHIVE_REPOSITORY: "",
        },
    )
    split_policies = ("fault_filtered", "artist_folds", "grouped", "stratified")

    repository: str = "sanchit-gandhi/gtzan"  # a parquet mirror on the Hub, or a copy of a mirror on disk
    repository_revision: str | None = None  # commit of the repository; by default the pinned commit, if there is one
    archive: str = ""  # instead of a mirror: the path of `genres.tar.gz`, or `marsyas/gtzan` to download it
    archive_checksum: str = ""  # `sha256:...` of the archive
    folder: str = ""  # instead of both: a folder of genres with files such as `blues.00000.au` or `blues_00000.wav`

    def __post_init__(self):
        if self.archive and self.folder:
            raise ConfigError("data_options of gtzan: give archive or folder, not both")

    @property
    def origin(self) -> str:
        return self.folder or self.archive or self.repository

    def genres(self) -> list[str]:
        return list(GENRES)

    def published_sides(self, policy: str, fold: int) -> dict[str, list[str]]:
        """Return the fault-filtered sides, or an artist fold as test side and the other folds as training side."""
        if policy == "fault_filtered":
            return gtzan_lists.fault_filtered()
        folds = gtzan_lists.artist_folds()
        if not 1 <= fold <= len(folds):
            raise ConfigError(f"split_fold {fold}: no such fold: choose 1 to {len(folds)}")
        train = [track_id for number, members in enumerate(folds, 1) if number != fold for track_id in members]
        return {"train": train, "validation": [], "test": folds[fold - 1]}

    def tracks(self) -> datasets.Dataset:
        if self.folder:
            return self._from_folder(Path(self.folder))
        if not self.archive:
            tables = load_tables(
                "GTZAN",
                self.repository,
                revision=self.revision,
                way_out="download the archive and name it in --data_options as {archive: PATH} or, unpacked, as {folder: PATH}",
            )
            # A mirror can declare a wrong rate (32 kHz for bytes of 22.05 kHz), so `datasets` must not decode them.
            where, options = f"GTZAN ({self.location})", {"has_sides": len(tables) > 1}
            return sort_by_id(map_to_tracks(tables, _mirror_track, where, **options))
        path, checksum = Path(self.archive), self.archive_checksum
        if not path.exists() and not is_archive(path):
            path = download("GTZAN", self.archive, [ARCHIVE_FILE], self.revision) / ARCHIVE_FILE
            # The cache names large files by the sha256 that the Hub states, but nothing has verified their content.
            blob = path.resolve().name
            checksum = checksum or (f"sha256:{blob}" if re.fullmatch(r"[0-9a-f]{64}", blob) else "")
        return self._from_folder(unpack(path, checksum=checksum, wanted=_is_track, selection="tracks"))

    def split_note(self, policy: str) -> str | None:
        """Return why results with this policy are not comparable; None for the fault-filtered split."""
        if policy == "fault_filtered":
            return None
        if policy in ("artist_folds", "grouped"):
            return (
                f"The {policy} split of GTZAN separates artists but keeps repeated and mislabelled recordings: its results are "
                "not comparable with those of the fault-filtered split"
            )
        return (
            f"A {policy} split of GTZAN has artists and repeated recordings on more than one side: its results are "
            "5 to 8 points higher than those of the fault-filtered split, and not comparable with them"
        )

    def artist_waiver(self, policy: str, artist: str) -> str | None:
        """Return the only contradiction between the fault-filtered partition and the artist groups, or None."""
        if policy == "fault_filtered" and artist == "group 138":
            return "the fault-filtered partition has disco.00049 and disco.00073 in train and disco.00069 in test"
        return None

    def _from_folder(self, folder: Path) -> datasets.Dataset:
        root = next((folder / name for name in _ROOTS if any((folder / name / g).is_dir() for g in GENRES)), None)
        if root is None:
            raise DataError(
                f"data_options of gtzan: {self.location} has no subfolder named after a genre of GTZAN: give the folder that "
                f"holds {', '.join(GENRES)}"
            )
        found = []
        for path in (path for genre in GENRES for path in (root / genre).rglob("*")):
            name = PurePosixPath(path.relative_to(root).as_posix())
            if _is_track(name):
                track_id, genre = parse_track_id(name.name), name.parts[0]
                if track_id is None or not track_id.startswith(f"{genre}."):
                    raise DataError(
                        f"GTZAN: {name}: not a name of a track of its genre ({genre}.00000 or {genre}_00000): rename or "
                        "remove the file"
                    )
                found.append((track_id, path))
        found.sort()
        check_unique([track_id for track_id, _ in found], f"GTZAN ({self.location})")
        if len(found) < 1000:
            logger.warning(f"GTZAN: only {len(found)} of the 1000 tracks are in {self.location}")
        return self.file_table([gtzan_row(track_id, path=str(path.resolve())) for track_id, path in found])


def _is_track(member: PurePosixPath) -> bool:
    """Return whether a path is that of an audio file in the folder of a genre."""
    audio = member.suffix.lower() in AUDIO_SUFFIXES and not member.name.startswith(".")
    return audio and not set(member.parts[:-1]).isdisjoint(GENRES)


def parse_track_id(name: str) -> str | None:
    """Return the track id at the beginning of a file name, such as `blues.00000`, or None."""
    match = _NAME.match(name)
    return f"{match[1]}.{match[2]}" if match else None


def gtzan_row(track_id: str, **audio: Any) -> dict[str, Any]:
    """Return the row of a track with its genre, artist group and fault-filtered side."""
    sides = gtzan_lists.fault_filtered()
    return track_row(
        track_id,
        [track_id.partition(".")[0]],
        artist=gtzan_lists.artist_groups().get(track_id, ""),
        split=next((side for side, members in sides.items() if track_id in members), ""),
        **audio,
    )


def _mirror_track(
    row: dict, index: int, where: str, split: str, classes: dict[str, list[str]], has_sides: bool
) -> dict[str, Any]:
    where = f"{where}, row {index} of split {split!r}"
    path, content = audio_fields(row["audio"], where)
    side = side_of(split, where) if has_sides else ""
    name = (row.get("file") or path or "").replace("\\", "/").rsplit("/", 1)[-1]
    track_id = parse_track_id(name)
    if track_id:
        track = gtzan_row(track_id, path=None if content else path, audio=content)
        if has_sides and side != track["split"]:
            raise DataError(
                f"{where}: the fault-filtered partition has {track_id} on {track['split'] or 'no side'}: use a copy whose "
                "splits are those of the partition, or a copy without splits"
            )
        return track
    # A mirror without file names shows only the genre and the side of a track.
    column = "genre" if row.get("genre") is not None else "label"
    genre = next(iter(labels_of(row.get(column), classes.get(column), where)), row.get(column))
    if genre not in GENRES:
        raise DataError(f"{where}: {genre!r} is not a genre of GTZAN, and there is no file name: use another copy")
    return track_row(f"{genre}.{split}-{index:05d}", [genre], audio=content, split=side)
