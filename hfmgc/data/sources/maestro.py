"""MAESTRO v3 (Hawthorne et al., 2019): 1276 piano recordings without genres, for pre-training."""

import csv
from dataclasses import dataclass
from pathlib import Path

import datasets

from ...errors import ConfigError, DataError
from ..archives import is_archive, unpacked
from .contract import DatasetCard, TrackSource, track_row
from .crops import crop_stream
from .hub_files import download, download_tree, list_files
from .hub_tables import shown_location, unpinned_notes
from .tables import check_unique, file_table, side_of


CSV_NAME = "maestro-v3.0.0.csv"
NEEDED = ("canonical_composer", "canonical_title", "split", "year", "midi_filename", "audio_filename", "duration")
# The authors' files are WAV; copies are kept in smaller formats.
_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


@dataclass(frozen=True)
class Recording:
    """A row of MAESTRO's csv."""

    track_id: str
    audio_filename: str
    composer: str
    title: str
    side: str
    year: int
    seconds: float


@dataclass
class MAESTRO(TrackSource):
    """Classical piano, 199 hours; a track's id is its audio file without the suffix, `2018/MIDI-...wav--1`.

    The artist is the composer: pieces are on one side only, and composers are not; group by them for a stricter split.

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
        homepage="https://magenta.tensorflow.org/datasets/maestro",
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
    def location(self) -> str:
        """The repository of the Hub, or the name of the folder."""
        return shown_location(self.audio or self.repository)

    @property
    def revision(self) -> str | None:
        """The commit of the repository."""
        return None if self.audio else self.repository_revision

    def notes(self) -> list[str]:
        """Say when the repository is not pinned."""
        return [] if self.audio else unpinned_notes(self.repository, self.repository_revision)

    def genres(self) -> list[str]:
        """MAESTRO has none."""
        return []

    def artist_waiver(self, policy: str, artist: str) -> str | None:
        """The official split keeps pieces apart, and not composers."""
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
            places = self._places(recordings)
        else:
            tree = self._tree()
            files = [tree + recording.audio_filename for recording in recordings]
            root = download_tree("MAESTRO", self.repository, files, self.revision) / tree
            places = {recording.track_id: str(root / recording.audio_filename) for recording in recordings}
        self.unreadable = {}
        return file_table(
            [
                track_row(
                    recording.track_id,
                    "",
                    path=places[recording.track_id],
                    artist=recording.composer,
                    split=recording.side,
                )
                for recording in recordings
            ],
            self.unreadable,
        )

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
        if side not in ("", "train", "validation", "test"):
            raise ConfigError(f"MAESTRO has no side {side!r}: train, validation or test")
        recordings = [recording for recording in self.recordings() if side in ("", recording.side)]
        if self.audio:
            places = self._places(recordings)
        else:
            at = f"@{self.revision}" if self.revision else ""
            tree = f"hf://datasets/{self.repository}{at}/{self._tree()}"
            places = {recording.track_id: tree + recording.audio_filename for recording in recordings}
        return crop_stream(places, seconds, sampling_rate, seed=seed, epoch=epoch, per_track=per_track)

    def _folder(self) -> Path:
        path = Path(self.audio)
        if is_archive(path):
            path = unpacked(
                path,
                checksum=self.card.checksums.get(path.name, "") if self.verify else "",
                wanted=lambda member: member.suffix in _SUFFIXES or member.name == CSV_NAME,
                selection="recordings",
            )
        elif not path.is_dir():
            raise DataError(f"data_options of maestro: audio {self.audio!r} is neither a folder nor a zip")
        return path / "maestro-v3.0.0" if (path / "maestro-v3.0.0").is_dir() else path

    def _places(self, recordings: list[Recording]) -> dict[str, str]:
        """Return the path of each recording in whatever format it is kept, or the declared one where it is missing."""
        root = self._folder().resolve()
        places = {}
        for recording in recordings:
            stem = root / recording.track_id
            kept = (stem.with_name(stem.name + suffix) for suffix in _SUFFIXES)
            places[recording.track_id] = str(next((p for p in kept if p.is_file()), root / recording.audio_filename))
        return places

    def _tree(self) -> str:
        """Return the folder of the repository that the csv lies in, as "" or with a slash."""
        files = list_files("MAESTRO", self.repository, self.revision)
        found = next((name for name in files if name.rsplit("/", 1)[-1] == CSV_NAME), None)
        if found is None:
            raise DataError(
                f"{self.repository} has no {CSV_NAME}: name another repository, or a copy on disk as audio"
            )
        return found[: -len(CSV_NAME)]


def read_recordings(path: Path) -> list[Recording]:
    """Return the rows of `maestro-v3.0.0.csv`, sorted by track id.

    Raises:
        DataError: If the file or a column is missing, or if a row cannot be read.
    """
    recordings = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = [column for column in NEEDED if column not in (rows.fieldnames or ())]
            if missing:
                raise DataError(f"{path.name} has no column {', '.join(missing)}: take {CSV_NAME} from MAESTRO v3")
            for row in rows:
                where = f"{path.name}, line {rows.line_num}"
                name = row["audio_filename"] or ""
                # From a list that was downloaded: it must not lead out of the folder.
                if not name or name.startswith("/") or ".." in name.split("/"):
                    raise DataError(f"{where}: audio_filename {name!r} is no path below MAESTRO's folder")
                recordings.append(
                    Recording(
                        track_id=name.rpartition(".")[0],
                        audio_filename=name,
                        composer=row["canonical_composer"],
                        title=row["canonical_title"],
                        side=side_of(row["split"], where),
                        year=int(row["year"]),
                        seconds=float(row["duration"]),
                    )
                )
    except OSError as error:
        raise DataError(f"{path.name}: no such file beside MAESTRO's recordings; name it as metadata") from error
    except (ValueError, TypeError, AttributeError, csv.Error) as error:
        raise DataError(f"{path.name} cannot be read ({error}): fetch it again") from error
    check_unique([recording.track_id for recording in recordings], path.name)
    if not recordings:
        raise DataError(f"{path.name} has no rows: fetch it again")
    return sorted(recordings, key=lambda recording: recording.track_id)
