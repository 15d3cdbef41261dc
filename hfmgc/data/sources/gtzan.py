"""GTZAN (Tzanetakis and Cook, 2002) from its parquet mirror on the Hub."""

from dataclasses import dataclass

import datasets

from ...errors import DataError
from .contract import TRACK_FEATURES, DatasetCard, TrackSource, track_row


GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")


@dataclass
class GTZAN(TrackSource):
    """999 tracks of 30 s in ten genres (`jazz.00054` is broken in every copy and not among them)."""

    card = DatasetCard(
        name="gtzan",
        citation="G. Tzanetakis and P. Cook, Musical genre classification of audio signals, IEEE TSAP 10(5), 2002",
        licence="unstated by its authors; for research",
    )

    repository: str = "sanchit-gandhi/gtzan"
    repository_revision: str = "4bd857132cb0e731bef3ec68558e7acc0a85f144"

    @property
    def location(self) -> str:
        """The repository of the Hub."""
        return self.repository

    @property
    def revision(self) -> str:
        """Its pinned commit."""
        return self.repository_revision

    def genres(self) -> list[str]:
        """Return the ten genres in alphabetical order."""
        return list(GENRES)

    def tracks(self) -> datasets.Dataset:
        """Return the tracks, named as in the authors' archive (`blues.00000`) and sorted by that name."""
        try:
            dataset = datasets.load_dataset(self.repository, revision=self.repository_revision, split="train")
        except (OSError, datasets.exceptions.DatasetNotFoundError) as error:
            raise DataError(
                f"GTZAN could not be loaded from {self.repository} on the Hub "
                f"({type(error).__name__}: {str(error).splitlines()[0]}): check the network and HF_HUB_OFFLINE, "
                "or unpack the archive and give its folder as --data"
            ) from error
        # The declared rate of the audio column is wrong (32 kHz for 22.05 kHz bytes); we read the bytes ourselves.
        dataset = dataset.cast_column("audio", datasets.Audio(decode=False))
        return dataset.map(
            _as_track, features=TRACK_FEATURES, remove_columns=dataset.column_names, desc="GTZAN: naming tracks"
        ).sort("track_id")

    def split_note(self, policy: str) -> str | None:
        """Random splits of GTZAN put the same artists, and repeated recordings, on two sides."""
        if policy == "fault_filtered":
            return None
        return (
            f"A {policy} split of GTZAN has artists and repeated recordings on more than one side: its results are "
            "5 to 8 points higher than, and not comparable with, those of the fault-filtered split"
        )


def _as_track(row: dict) -> dict:
    name = (row["file"] or row["audio"]["path"]).replace("\\", "/").rsplit("/", 1)[-1]
    genre, number = name.split(".")[:2]
    return track_row(f"{genre}.{number}", genre, path=row["audio"]["path"], audio=row["audio"]["bytes"])
