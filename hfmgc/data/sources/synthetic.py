"""The embedded corpus: procedural music in GTZAN's ten genres, always marked as synthetic."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import datasets

from ...errors import ConfigError
from ..synthesis.corpus import CORPUS_VERSION, write_corpus
from ..synthesis.styles import GENRES
from .contract import DatasetCard, TrackSource
from .folder import Folder


@dataclass
class Synthetic(TrackSource):
    """The corpus, which is rendered once, as FLAC files in the cache of `datasets`."""

    card = DatasetCard(
        name="synthetic",
        citation="Procedural music rendered by hfmgc. It is synthetic and says nothing about real genres.",
        licence="CC0-1.0",
        synthetic=True,
    )

    tracks_per_genre: int = 24
    seconds: float = 12.0
    seed: int = 0

    def __post_init__(self):
        if self.tracks_per_genre < 1 or self.seconds < 1:
            raise ConfigError("data_options of synthetic: tracks_per_genre and seconds must be at least 1")

    @property
    def location(self) -> str:
        return f"{self.tracks_per_genre} tracks of {self.seconds:g} s for each genre"

    @property
    def revision(self) -> str:
        """The seed, on which all tracks depend."""
        return f"seed {self.seed}"

    @property
    def origin(self) -> str:
        """The folder of the corpus in the cache of `datasets`."""
        key = f"{CORPUS_VERSION}-{self.tracks_per_genre}-{float(self.seconds)}-{self.seed}"
        name = f"hfmgc-synthetic-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
        return str(Path(datasets.config.HF_DATASETS_CACHE) / name)

    def genres(self) -> list[str]:
        return list(GENRES)

    def tracks(self) -> datasets.Dataset:
        """Render missing tracks, and return all tracks."""
        write_corpus(Path(self.origin), **asdict(self))
        return Folder(self.origin).tracks()
