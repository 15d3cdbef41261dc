"""The embedded default: procedural music in GTZAN's ten genres, made on the spot and always called synthetic."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import datasets

from ..synthesis.corpus import CORPUS_VERSION, write_corpus
from ..synthesis.styles import GENRES
from .contract import DatasetCard, TrackSource
from .folder import Folder


@dataclass
class Synthetic(TrackSource):
    """Renders the corpus once into the cache of datasets, as FLAC files that can be listened to."""

    card = DatasetCard(
        name="synthetic",
        citation="Procedural music rendered by hfmgc; synthetic, it says nothing about real genres.",
        licence="CC0-1.0",
        synthetic=True,
    )

    tracks_per_genre: int = 24
    seconds: float = 12.0
    seed: int = 0

    @property
    def location(self) -> str:
        """What the corpus is made of."""
        return f"{self.tracks_per_genre} tracks of {self.seconds:g} s for each genre"

    @property
    def revision(self) -> str:
        """The seed, from which everything follows."""
        return f"seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where the corpus is rendered."""
        key = f"{CORPUS_VERSION}-{self.tracks_per_genre}-{float(self.seconds)}-{self.seed}"
        name = f"hfmgc-synthetic-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
        return Path(datasets.config.HF_DATASETS_CACHE) / name

    def genres(self) -> list[str]:
        """Return GTZAN's ten genres."""
        return list(GENRES)

    def tracks(self) -> datasets.Dataset:
        """Render what is not there yet, and return it."""
        write_corpus(
            self.folder,
            tracks_per_genre=self.tracks_per_genre,
            seconds=self.seconds,
            seed=self.seed,
        )
        return Folder(str(self.folder)).tracks()
