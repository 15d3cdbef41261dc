"""Features kept from before: spectrograms with track ids, extracted once elsewhere; training starts from them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets

from ...errors import DataError, nearest
from ..split_manifest import SIDES
from .contract import DatasetCard, TrackSource
from .tables import SIDE_NAMES, side_of


# What `hfmgc extract` writes beside its shards.
EXTRACTION = "extraction.json"
# What genres and ids are called in the tables that are in use.
ID_COLUMNS = ("track_id", "id", "filename")
GENRE_COLUMNS = ("genre", "label", "genre_top")


@dataclass
class FeatureSet(TrackSource):
    """A parquet file, a folder of them (`train.parquet`, `validation.parquet`, ...: the sides), or a saved dataset.

    One row a track: an id, a genre, and one column of numbers: a spectrogram [bins, frames] (uint8) or [frames, bins]
    (float), or slices [slices, frames, bins], as `hfmgc extract` writes them.
    """

    card = DatasetCard(
        name="features",
        citation="Features extracted before; see their origin.",
        licence="as that of the recordings",
    )
    split_policies = ("official", "stratified", "grouped")

    path: str
    column: str | None = None

    @property
    def location(self) -> str:
        """The file's or folder's own name."""
        return Path(self.path).resolve().name

    def genres(self) -> list[str]:
        """Return the genres that occur, in the order of the class labels, or sorted where there are none."""
        genre = self._named(GENRE_COLUMNS, "genre")
        occurring = {value for _, part in self._parts() for value in part.unique(genre)}
        feature = self._parts()[0][1].features[genre]
        if isinstance(feature, datasets.ClassLabel):
            return [name for index, name in enumerate(feature.names) if index in occurring]
        return sorted({_genre_of(value, None) for value in occurring} - {""})

    def tracks(self) -> datasets.Dataset:
        """Return the table: track_id, genre, genres, artist, split and features (as stored)."""
        identifier, genre = self._named(ID_COLUMNS, "track id"), self._named(GENRE_COLUMNS, "genre")
        values = self.column or self._feature_column()
        tables = []
        for side, part in self._parts():
            for column in (identifier, genre, values):
                if column not in part.column_names:
                    raise DataError(f"{self.path}: no column {column!r}{nearest(column, part.column_names)}")
            table = part.rename_columns(
                {
                    old: new
                    for old, new in ((identifier, "track_id"), (genre, "genre"), (values, "features"))
                    if old != new
                }
            )
            label = table.features["genre"]
            names = label.names if isinstance(label, datasets.ClassLabel) else None
            described = [
                {
                    "track_id": str(row["track_id"]),
                    "genre": _genre_of(row["genre"], names),
                    "artist": str(row.get("artist") or ""),
                    "split": side or side_of(str(row.get("split") or ""), self.path),
                }
                for row in table.remove_columns("features")
            ]
            for row in described:
                row["genres"] = [row["genre"]]
            tables.append(
                datasets.concatenate_datasets(
                    [datasets.Dataset.from_list(described), table.select_columns(["features"])], axis=1
                )
            )
        return datasets.concatenate_datasets(tables)

    def _parts(self) -> list[tuple[str, datasets.Dataset]]:
        """Return (side or "", table) of each part."""
        if not hasattr(self, "_loaded"):
            self._loaded = list(self._load())
        return self._loaded

    def _load(self) -> Iterator[tuple[str, datasets.Dataset]]:
        path = Path(self.path)
        expected = self._extracted_tracks(path / EXTRACTION)
        try:
            if is_saved_dataset(path):
                saved = datasets.load_from_disk(str(path))
                parts = saved.items() if isinstance(saved, datasets.DatasetDict) else [("", saved)]
                yield from ((name if name in SIDES else "", part) for name, part in parts)
                return
            files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
            parts = [
                (
                    SIDE_NAMES.get(file.stem.lower(), "") if path.is_dir() else "",
                    datasets.Dataset.from_parquet(str(file)),
                )
                for file in files
            ]
            found = sum(len(part) for _, part in parts)
            if expected not in (None, found):
                raise DataError(
                    f"{self.path}: {found} of the {expected} extracted tracks are there; call hfmgc extract again for "
                    "the shard that is missing"
                )
            yield from parts
        except DataError:
            raise
        except Exception as error:  # pyarrow and datasets name a damaged file in many ways
            raise DataError(f"{self.path}: cannot be read as features ({str(error).splitlines()[0]})") from error

    def _extracted_tracks(self, description: Path) -> int | None:
        """Return how many tracks `hfmgc extract` wrote, or None for features of another origin."""
        if not description.is_file():
            return None
        try:
            content = json.loads(description.read_text(encoding="utf-8"))
            if content["complete"]:
                return int(content["tracks"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{description}: damaged; extract the features again into another folder") from error
        raise DataError(f"{self.path}: its extraction was interrupted; call hfmgc extract again to finish it")

    def _named(self, known: tuple[str, ...], what: str) -> str:
        columns = self._parts()[0][1].column_names
        found = [name for name in known if name in columns]
        if not found:
            raise DataError(
                f"{self.path}: no column for the {what}: one of {', '.join(known)} (it has {', '.join(columns)})"
            )
        return found[0]

    def _feature_column(self) -> str:
        """Return the only column that holds lists of lists of numbers."""
        part = self._parts()[0][1]
        found = [name for name in part.column_names if _depth(part.features[name]) in (2, 3)]
        if len(found) != 1:
            raise DataError(
                f"{self.path}: {len(found)} columns hold spectrograms or slices ({', '.join(found) or 'none'}): "
                "name one with --data_options '{column: NAME}'"
            )
        return found[0]


def _genre_of(value: object, names: list[str] | None) -> str:
    """Return the name of a genre; "" where there is none (null, or -1 as a class label)."""
    if value is None or (names and value == -1):
        return ""
    return names[value] if names else str(value)


def _depth(feature: object) -> int:
    """Return how deeply a column's lists are nested."""
    if hasattr(feature, "shape"):
        return len(feature.shape)
    return 1 + _depth(feature.feature) if hasattr(feature, "feature") else 0


def is_saved_dataset(path: Path) -> bool:
    """Return whether a folder is what `save_to_disk` writes."""
    return (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file()


def is_feature_set(path: Path) -> bool:
    """Return whether a path is a parquet file, a folder with parquet files, or a saved dataset."""
    return path.suffix == ".parquet" if path.is_file() else is_saved_dataset(path) or any(path.glob("*.parquet"))
