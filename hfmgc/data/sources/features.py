"""Stored features: spectrograms with track ids, from which training starts."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow.dataset
import pyarrow.parquet
from transformers.utils import logging

from ...errors import DataError, nearest
from ..caching import code_identity, reading_cache
from ..split_manifest import SIDES
from .contract import TRACK_FEATURES, DatasetCard, TrackSource
from .feature_rows import depth_of, made_alike
from .tables import SIDE_NAMES, check_unique, class_names, refuse_other_than_text, side_of


logger = logging.get_logger(__name__)

# What `hfmgc extract` writes beside its shards.
EXTRACTION = "extraction.json"
# Pages are held against their checksums where they have any, as those of `hfmgc extract`.
CHECKED = pyarrow.dataset.ParquetFragmentScanOptions(page_checksum_verification=True)
# What decides the values of extracted features.
EXTRACTED_BY = ("decoding", "features", "fingerprints")
# What `hfmgc extract` says of the sound; such columns of other origin are not trusted.
OWN_COLUMNS = ("digest", "fingerprint", "truncation")
# What genres and ids are called in the tables that are in use.
ID_COLUMNS = ("track_id", "id", "filename")
GENRE_COLUMNS = ("genre", "label", "genre_top")


@dataclass
class FeatureSet(TrackSource):
    """A parquet file, a folder of them (`train.parquet`, `validation.parquet`, ...: the sides), or a saved dataset.

    One row a track: an id, a genre, and one column of numbers: un-normalised features [frames, bins] (float), as
    `hfmgc extract` writes them, a spectrogram of levels 0..255 [bins, frames] (uint8), or windows that another program cut
    and normalised [slices, frames, bins].
    """

    card = DatasetCard(
        name="features",
        citation="Features extracted before; see their origin.",
        licence="as that of the recordings",
    )
    split_policies = ("official", "stratified", "grouped")

    path: str
    column: str | None = None

    def __post_init__(self):
        self._loaded: list[_Part] = []
        self._nameless: set[str] = set()

    @property
    def location(self) -> str:
        """The file's or folder's own name."""
        return Path(self.path).resolve().name

    def genres(self) -> list[str]:
        """Return the genres that occur, in the order of the class labels, or sorted where there are none."""
        genre = self._named(GENRE_COLUMNS, "genre")
        ordered: dict[str, None] = {}
        occurring = set()
        for part in self._parts():
            part.check_columns(genre)
            names = part.class_names(genre)
            ordered |= dict.fromkeys(names or ())
            # By name: a number can mean another genre in another part.
            occurring |= {_genre_of(value, names) for value in part.table.unique(genre)}
            if part.has_genres:
                occurring |= {name for row in part.table["genres"] for name in row or ()}
        occurring.discard("")
        return [name for name in ordered if name in occurring] + sorted(occurring.difference(ordered))

    def tracks(self) -> datasets.Dataset:
        """Return the table: track_id, genre, genres, artist, split and features (as stored)."""
        identifier, genre = self._named(ID_COLUMNS, "track id"), self._named(GENRE_COLUMNS, "genre")
        values = self.column or self._feature_column()
        described, kept = [], {}
        extracted = self._description() is not None
        for part in self._parts():
            part.check_columns(identifier, genre, values)
            names = part.class_names(genre)
            wanted = [name for name in (identifier, genre, "artist", "split") if name in part.table.column_names]
            if part.has_genres:
                wanted.append("genres")
            for number, row in enumerate(part.table.select_columns(wanted)):
                if names is None:
                    refuse_other_than_text(row[genre], f"{part.where}, row {number}, {genre!r}")
                name = _genre_of(row[genre], names)
                described.append(
                    {
                        "track_id": self._id_of(row[identifier], part, number),
                        "genre": name,
                        "artist": str(row.get("artist") or ""),
                        "split": part.side or side_of(str(row.get("split") or ""), part.where),
                        "genres": row.get("genres") or [name],
                    }
                )
            if depth_of(part.table.features[values]) not in (2, 3):
                raise DataError(f"{part.where}: column {values!r} holds neither spectrograms nor slices; name another")
            table = part.table.select_columns([values, *(OWN_COLUMNS if extracted else ())])
            kept[part.where] = table if values == "features" else table.rename_column(values, "features")
        check_unique([row["track_id"] for row in described], self.location)
        features = datasets.concatenate_datasets(made_alike(kept))
        return datasets.concatenate_datasets([datasets.Dataset.from_list(described), features], axis=1)

    def front_end(self) -> dict[str, Any] | None:
        """Return what `hfmgc extract` wrote of the front end, or None for features of another origin."""
        content = self._description()
        return content and content.get("front_end")

    def notes(self) -> list[str]:
        """Say by which other versions the features were made, or that it is unknown how."""
        content = self._description()
        if content is None:
            return ["nothing says how these features were made: the front end's fields are taken to be theirs"]
        other = _other_versions(content["code"])
        return [f"these features were extracted with {', '.join(other)}"] if other else []

    def known_problem(self, track_id: str) -> str | None:
        """Return that a row has no track id."""
        return "no track id" if track_id in self._nameless else super().known_problem(track_id)

    def _id_of(self, value: object, part: "_Part", number: int) -> str:
        """Return a row's id, or a name to report it by."""
        if value not in (None, ""):
            return str(value)
        place = f"{part.where}, row {number}"
        self._nameless.add(place)
        return place

    def _parts(self) -> list["_Part"]:
        if not self._loaded:
            parts = list(self._load())
            for part in parts:
                if not len(part.table) and any(len(other.table) for other in parts):
                    logger.warning(f"{part.where} has no rows")
            self._loaded = [part for part in parts if len(part.table)]
            if not self._loaded:
                raise DataError(f"{self.path}: no rows in it; extract the features again, or name another file")
        return self._loaded

    def _load(self) -> Iterator["_Part"]:
        path = Path(self.path)
        description = self._description()
        expected = description and description["tracks"]
        if is_saved_dataset(path):
            saved = _read(path, self.path)
            parts = saved.items() if isinstance(saved, datasets.DatasetDict) else [("", saved)]
            for name, table in parts:
                where = f"{self.location}, split {name}" if name else self.location
                yield _Part(where, name if name in SIDES else "", table)
            return
        if path.is_file():
            yield _Part(self.location, "", _read(path, self.path))
            return
        parts = [
            _Part(file.name, SIDE_NAMES.get(file.stem.lower(), ""), _read(file, f"{self.path}, {file.name}"))
            for file in sorted(path.glob("*.parquet"))
        ]
        found = sum(len(part.table) for part in parts)
        if expected not in (None, found):
            raise DataError(
                f"{self.path}: {found} of the {expected} extracted tracks are there; call hfmgc extract again for "
                "the shard that is missing"
            )
        yield from parts

    def _description(self) -> dict[str, Any] | None:
        """Return what `hfmgc extract` wrote beside its shards, or None for features of another origin."""
        path = Path(self.path)
        description = (path.parent if path.is_file() else path) / EXTRACTION
        if not description.is_file():
            return None
        try:
            content = json.loads(description.read_text(encoding="utf-8"))
            # Other versions of our code compute other values from the same audio.
            if any(
                name.startswith("hfmgc ") for name in _other_versions(content.get("code", {"hfmgc features": "1"}))
            ):
                raise DataError(f"{self.path}: another version of hfmgc extracted these features: extract them again")
            if content["complete"]:
                return {**content, "tracks": int(content["tracks"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{description}: damaged; extract the features again into another folder") from error
        raise DataError(f"{self.path}: its extraction was interrupted; call hfmgc extract again to finish it")

    def _named(self, known: tuple[str, ...], what: str) -> str:
        columns = self._parts()[0].table.column_names
        found = [name for name in known if name in columns]
        if not found:
            raise DataError(
                f"{self.path}: no column for the {what}: one of {', '.join(known)} (it has {', '.join(columns)})"
            )
        return found[0]

    def _feature_column(self) -> str:
        """Return the only column that holds lists of lists of numbers."""
        table = self._parts()[0].table
        found = [name for name in table.column_names if depth_of(table.features[name]) in (2, 3)]
        if len(found) != 1:
            raise DataError(
                f"{self.path}: {len(found)} columns hold spectrograms or slices ({', '.join(found) or 'none'}): "
                "name one with --data_options '{column: NAME}'"
            )
        return found[0]


@dataclass(frozen=True)
class _Part:
    """A file or split: how errors call it, its side or "", and its rows."""

    where: str
    side: str
    table: datasets.Dataset

    @property
    def has_genres(self) -> bool:
        """Whether there is a column of all genres of each track, as hfmgc extract writes it."""
        return self.table.features.get("genres") == TRACK_FEATURES["genres"]

    def class_names(self, column: str) -> list[str] | None:
        return class_names(self.table.features[column])

    def check_columns(self, *columns: str) -> None:
        for column in columns:
            if column not in self.table.column_names:
                raise DataError(f"{self.where}: no column {column!r}{nearest(column, self.table.column_names)}")


def _other_versions(code: dict[str, str]) -> list[str]:
    """Return the components whose version differs from the extraction's, with old and new version."""
    now = code_identity(*EXTRACTED_BY)
    return [f"{name} {version} (now {now.get(name)})" for name, version in code.items() if now.get(name) != version]


def _read(path: Path, where: str) -> datasets.Dataset | datasets.DatasetDict:
    try:
        if path.is_dir():
            return datasets.load_from_disk(str(path))
        # datasets refuses a file without rows with an error of its inner workings.
        if pyarrow.parquet.read_metadata(path).num_rows == 0:
            return datasets.Dataset.from_dict({})
        with (
            reading_cache()
        ):  # a damaged file has an error of datasets' own, a damaged copy in the cache one of pyarrow's
            return datasets.Dataset.from_parquet(str(path), fragment_scan_options=CHECKED)
    except DataError:
        raise
    except Exception as error:  # pyarrow and datasets name a damaged file in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{where}: cannot be read as features ({reason}); extract them again") from error


def _genre_of(value: object, names: list[str] | None) -> str:
    """Return the name of a genre; "" where there is none (null, or -1 as a class label)."""
    if names is None:
        return "" if value is None else str(value)
    return names[value] if value is not None and 0 <= value < len(names) else ""


def is_saved_dataset(path: Path) -> bool:
    """Return whether a folder is what `save_to_disk` writes."""
    return (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file()


def is_feature_set(path: Path) -> bool:
    """Return whether a path is a parquet file, a folder with parquet files, or a saved dataset."""
    return path.suffix == ".parquet" if path.is_file() else is_saved_dataset(path) or any(path.glob("*.parquet"))
