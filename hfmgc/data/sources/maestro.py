"""MAESTRO v3 (Hawthorne et al., 2019): 1276 piano recordings without genres, for pre-training."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import datasets

from ...errors import ConfigError, DataError
from ..archives import folder_or_archive
from ..audio import AUDIO_SUFFIXES
from ..split_manifest import SIDES
from .contract import DatasetCard, TrackSource, track_row
from .crops import crop_stream
from .hub import download
from .tables import check_unique, read_rows, side_of


CSV_NAME = "maestro-v3.0.0.csv"


class Recording(NamedTuple):
    """A row of MAESTRO's CSV."""

    track_id: str
    audio_filename: str
    composer: str
    side: str


@dataclass
class MAESTRO(TrackSource):
    """199 hours of classical piano. A track's id is its audio file without the suffix, such as `2018/MIDI-...wav--1`.

    The artist is the composer. The official split separates pieces but not composers; `grouped` separates both.
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

    audio: str = ""  # the authors' folder `maestro-v3.0.0` or its archive; by default the repository is read
    metadata: str = ""  # the path of `maestro-v3.0.0.csv`; by default it is in the folder
    repository: str = "ddPn08/maestro-v3.0.0"  # a repository with the files of the authors' folder
    repository_revision: str | None = None  # commit of the repository
    verify: bool = True  # whether an archive with the name of the authors' archive must have its sha256

    @property
    def origin(self) -> str:
        return self.audio or self.repository

    def genres(self) -> list[str]:
        return []

    def artist_waiver(self, policy: str, artist: str) -> str | None:
        """Return that the official split separates pieces but not composers."""
        return "MAESTRO's official split separates pieces, not composers" if policy == "official" else None

    def recordings(self) -> list[Recording]:
        """Return the rows of the CSV, sorted by track id.

        Raises:
            DataError: If the file or a column is missing, or a row is invalid.
        """
        path = Path(self.metadata) if self.metadata else self._root() / CSV_NAME
        recordings = []
        for line, row in read_rows(path, required=("canonical_composer", "split", "audio_filename")):
            name, where = row["audio_filename"], f"{path.name}, {line}"
            # The list was downloaded, so its paths must not lead out of the folder.
            if not name or name.startswith("/") or ".." in name.split("/"):
                raise DataError(f"{where}: audio_filename {name!r}: not a path in MAESTRO's folder: correct it")
            side = side_of(row["split"], where)
            recordings.append(Recording(name.rpartition(".")[0], name, row["canonical_composer"], side))
        check_unique([recording.track_id for recording in recordings], path.name)
        if not recordings:
            raise DataError(f"{path.name}: no rows: download it again")
        return sorted(recordings)

    def tracks(self) -> datasets.Dataset:
        """Return all recordings, sorted by id; without `audio` this downloads them from the Hub (120 GB)."""
        recordings = self.recordings()
        root = self._root("*.wav").resolve()
        return self.file_table(
            [track_row(r.track_id, [], path=_path(root, r), artist=r.composer, split=r.side) for r in recordings]
        )

    def crops(self, seconds: float, sampling_rate: int, *, side: str = "", **options: Any) -> datasets.IterableDataset:
        """Return a stream of random crops, read from disk or from the Hub without downloading whole recordings.

        Args:
            seconds: Length of a crop.
            sampling_rate: Rate of a crop in Hz.
            side: A side of the official split; by default all recordings.
            options: Other arguments of `crop_stream`.
        """
        if side not in ("", *SIDES):
            raise ConfigError(f"MAESTRO has no side {side!r}: choose train, validation or test")
        recordings = [recording for recording in self.recordings() if side in ("", recording.side)]
        root = self._root()
        if self.audio:
            places = {recording.track_id: _path(root.resolve(), recording) for recording in recordings}
        else:
            commit = f"@{self.revision}" if self.revision else ""
            tree = PurePosixPath("datasets", self.repository + commit, root.relative_to(self._snapshot()).as_posix())
            places = {recording.track_id: f"hf://{tree / recording.audio_filename}" for recording in recordings}
        return crop_stream(places, seconds, sampling_rate, **options)

    def _root(self, *patterns: str) -> Path:
        """Return the folder of the CSV; download it and the files that match the patterns if they are on the Hub."""
        if not self.audio:
            csv_file = next(self._snapshot(*patterns).rglob(CSV_NAME), None)
            if csv_file is None:
                raise DataError(
                    f"{self.repository}: no {CSV_NAME}: name another repository, or a copy on disk as audio"
                )
            return csv_file.parent
        folder = folder_or_archive(
            self.audio,
            "data_options of maestro: audio",
            checksum=self.card.checksums.get(Path(self.audio).name, "") if self.verify else "",
            wanted=lambda member: member.suffix in AUDIO_SUFFIXES or member.name == CSV_NAME,
            selection="recordings",
        )
        inner = folder / "maestro-v3.0.0"
        return inner if inner.is_dir() else folder

    def _snapshot(self, *patterns: str) -> Path:
        return download("MAESTRO", self.repository, [f"*{CSV_NAME}", *patterns], self.revision)


def _path(root: Path, recording: Recording) -> str:
    """Return the path of a recording or of a copy in another format; if there is neither, the path in the CSV."""
    copies = (root / f"{recording.track_id}{suffix}" for suffix in AUDIO_SUFFIXES)
    return str(next((path for path in copies if path.is_file()), root / recording.audio_filename))
