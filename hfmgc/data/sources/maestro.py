"""MAESTRO v3 (Hawthorne et al., 2019): 1276 piano recordings without genres, for pre-training."""

from dataclasses import dataclass
from pathlib import Path

import datasets

from ...errors import ConfigError, DataError
from ..archives import folder_or_archive
from ..split_manifest import SIDES
from .contract import DatasetCard, TrackSource, track_row
from .crops import crop_stream
from .hub import download, download_tree, list_files
from .tables import check_unique, read_rows, side_of


CSV_NAME = "maestro-v3.0.0.csv"
# The authors' files are WAV; copies may be in smaller formats.
_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


@dataclass(frozen=True)
class Recording:
    """A row of MAESTRO's csv."""

    track_id: str
    audio_filename: str
    composer: str
    side: str


@dataclass
class MAESTRO(TrackSource):
    """Classical piano, 199 hours; a track's id is its audio file without the suffix, `2018/MIDI-...wav--1`.

    The artist is the composer. The official split separates pieces, not composers; `grouped` separates these as well.

    Attributes:
        audio: The authors' folder (`maestro-v3.0.0`) or archive; by default the repository is read.
        metadata: `maestro-v3.0.0.csv`; the one in the folder by default.
        repository: A repository of the Hub with the authors' tree.
        repository_revision: Its commit.
        verify: Whether an archive named as the authors' must have their sha256.
    """

    card = DatasetCard(
        name="maestro",
        citation="C. Hawthorne et al., Enabling factorized piano music modeling and generation with the MAESTRO dataset, "
        "ICLR 2019",
        licence="CC-BY-NC-SA-4.0",
        repositories={"ddPn08/maestro-v3.0.0": ""},
        checksums={
            "maestro-v3.0.0.zip": "sha256:6680fea5be2339ea15091a249fbd70e49551246ddbd5ca50f1b2352c08c95291",
        },
    )
    split_policies = ("official", "grouped")

    audio: str = ""
    metadata: str = ""
    repository: str = "ddPn08/maestro-v3.0.0"
    repository_revision: str | None = None
    verify: bool = True

    @property
    def place(self) -> str:
        """The authors' folder or archive, or the repository."""
        return self.audio or self.repository

    def genres(self) -> list[str]:
        """MAESTRO has none."""
        return []

    def artist_waiver(self, policy: str, artist: str) -> str | None:
        """Return that the official split separates pieces but not composers."""
        return "MAESTRO's official split keeps pieces apart, not composers" if policy == "official" else None

    def recordings(self) -> list[Recording]:
        """Return the rows of the csv, sorted by track id."""
        if self.metadata:
            return read_recordings(Path(self.metadata))
        if self.audio:
            return read_recordings(self._folder() / CSV_NAME)
        return read_recordings(download("MAESTRO", self.repository, self._tree() + CSV_NAME, self.revision)[0])

    def tracks(self) -> datasets.Dataset:
        """Return all recordings, sorted by their ids; from the Hub this fetches all of them (120 GB)."""
        recordings = self.recordings()
        if self.audio:
            root = self._folder().resolve()
        else:
            tree = self._tree()
            files = [tree + recording.audio_filename for recording in recordings]
            root = download_tree("MAESTRO", self.repository, files, self.revision) / tree
        rows = [
            track_row(one.track_id, "", path=_path(root, one), artist=one.composer, split=one.side)
            for one in recordings
        ]
        return self.file_table(rows)

    def crops(
        self,
        seconds: float,
        sampling_rate: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        per_track: int = 1,
        side: str = "",
    ) -> datasets.IterableDataset:
        """Return a stream of crops, read from disk or from the Hub without fetching or holding a recording.

        Args:
            seconds: Length of a crop.
            sampling_rate: Wanted rate in Hz.
            seed: Seed of the run.
            epoch: Number of the pass: each has other crops.
            per_track: Crops of each recording.
            side: `train`, `validation` or `test` of the official split; all by default.

        Returns:
            Rows of track_id, start (seconds) and waveform (float32 [seconds * sampling_rate]).
        """
        if side not in ("", *SIDES):
            raise ConfigError(f"MAESTRO has no side {side!r}: train, validation or test")
        recordings = [recording for recording in self.recordings() if side in ("", recording.side)]
        if self.audio:
            root = self._folder().resolve()
            places = {recording.track_id: _path(root, recording) for recording in recordings}
        else:
            commit = f"@{self.revision}" if self.revision else ""
            tree = f"hf://datasets/{self.repository}{commit}/{self._tree()}"
            places = {recording.track_id: tree + recording.audio_filename for recording in recordings}
        return crop_stream(places, seconds, sampling_rate, seed=seed, epoch=epoch, per_track=per_track)

    def _folder(self) -> Path:
        folder = folder_or_archive(
            self.audio,
            "data_options of maestro: audio",
            checksum=self.card.checksums.get(Path(self.audio).name, "") if self.verify else "",
            wanted=lambda member: member.suffix in _SUFFIXES or member.name == CSV_NAME,
            selection="recordings",
        )
        inner = folder / "maestro-v3.0.0"
        return inner if inner.is_dir() else folder

    def _tree(self) -> str:
        """Return the repository's folder with the csv, as "" or with a slash at the end."""
        files = list_files("MAESTRO", self.repository, self.revision)
        found = next((name for name in files if name.rsplit("/", 1)[-1] == CSV_NAME), None)
        if found is None:
            raise DataError(
                f"{self.repository} has no {CSV_NAME}: name another repository, or a copy on disk as audio"
            )
        return found.removesuffix(CSV_NAME)


def _path(root: Path, recording: Recording) -> str:
    """Return the path of a recording in its format on disk, or as declared if it is missing."""
    copies = (root / f"{recording.track_id}{suffix}" for suffix in _SUFFIXES)
    return str(next((path for path in copies if path.is_file()), root / recording.audio_filename))


def read_recordings(path: Path) -> list[Recording]:
    """Return the rows of `maestro-v3.0.0.csv`, sorted by track id.

    Raises:
        DataError: If the file or a column is missing, or a row cannot be used.
    """
    recordings = []
    for line, row in read_rows(path, needed=("canonical_composer", "split", "audio_filename")):
        name, where = row["audio_filename"], f"{path.name}, {line}"
        # The list was downloaded: it must not lead out of the folder.
        if not name or name.startswith("/") or ".." in name.split("/"):
            raise DataError(f"{where}: audio_filename {name!r} is not a path below MAESTRO's folder")
        side = side_of(row["split"], where)
        recordings.append(Recording(name.rpartition(".")[0], name, row["canonical_composer"], side))
    check_unique([recording.track_id for recording in recordings], path.name)
    if not recordings:
        raise DataError(f"{path.name} has no rows: download it again")
    return sorted(recordings, key=lambda recording: recording.track_id)
