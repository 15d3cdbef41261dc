"""Stored features: spectrograms with track ids and genres, made by `hfmgc extract` or by other programs."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow.dataset
import pyarrow.parquet

from ...errors import DataError, first_line, nearest
from ..caching import code_identity, reading_cache
from .contract import TRACK_FEATURES, DatasetCard, TrackSource
from .feature_rows import kind_of, stored_tracks, with_one_type
from .hub import is_saved_dataset
from .tables import SIDE_NAMES, check_unique, class_names, labels_of, occurring_labels, side_of


# The description that `hfmgc extract` writes with its shards.
EXTRACTION = "extraction.json"
# Compares pages with their checksums, which the files of `hfmgc extract` have.
CHECKED = pyarrow.dataset.ParquetFragmentScanOptions(page_checksum_verification=True)
# The computations that affect the values of extracted features.
EXTRACTED_BY = ("decoding", "features", "fingerprints")
# Columns of `hfmgc extract` about the sound; trusted in its own files only.
SOUND_COLUMNS = ("digest", "fingerprint", "truncation")
# Column names in use for track ids and genres.
ID_COLUMNS = ("track_id", "id", "filename")
GENRE_COLUMNS = ("genre", "label", "genre_top")


@dataclass
class FeatureSet(TrackSource):
    """A parquet file, a folder of them (`train.parquet`, `validation.parquet`, ...: the sides), or a saved dataset.

    Each row is a track: an id, a genre or a list of them, and one column of numbers: un-normalised features [frames, bins] (float), as
    `hfmgc extract` writes them, a spectrogram of levels 0..255 [bins, frames] (uint8), or windows that another program cut
    and normalised [slices, frames, bins].
    """

    card = DatasetCard(
        name="features",
        citation="Stored features; see their origin.",
        licence="as that of the recordings",
    )
    split_policies = ("official", "stratified", "grouped")
    labelled = True  # whether a column of genres is needed; not annotated, or it would be an option

    path: str  # the file or folder
    column: str | None = None  # the column of numbers, if there are several

    @property
    def origin(self) -> str:
        return self.path

    def genres(self) -> list[str]:
        """Return the genres that occur, in the order of the class labels, or sorted where they are text."""
        genre, tables = self._genre_column(), {}
        if genre is None:
            return []
        for part in self._parts:
            part.check_columns(genre)
            tables[part.where] = part.table.select_columns(part.genre_columns(genre))
        return occurring_labels(tables, [genre, "genres"])

    def tracks(self) -> datasets.Dataset:
        """Return the table: track_id, genre, genres, artist, split and features (as stored)."""
        identifier = self._column_of(ID_COLUMNS, "track id")
        genre, values = self._genre_column(), self.column or self._feature_column()
        sound_columns = SOUND_COLUMNS if self._description() is not None else ()
        rows, tables = [], {}
        self.unreadable = {}
        for part in self._parts:
            part.check_columns(identifier, *filter(None, [genre]), values)
            if kind_of(part.table.features[values])[0] not in (2, 3):
                raise DataError(f"{part.where}: column {values!r} holds neither spectrograms nor slices; name another")
            names = class_names(part.table.features[genre]) if genre else None
            known = {identifier, *(part.genre_columns(genre) if genre else ()), "artist", "split"}
            wanted = [name for name in part.table.column_names if name in known]
            for number, row in enumerate(part.table.select_columns(wanted)):
                where = f"{part.where}, row {number}"
                if row[identifier] in (None, ""):
                    self.unreadable[where] = "no track id"
                    row[identifier] = where
                labels = labels_of(row[genre], names, f"{where}, {genre!r}") if genre else []
                rows.append(
                    {
                        "track_id": str(row[identifier]),
                        "genre": next(iter(labels), ""),
                        "genres": row.get("genres") or labels,
                        "artist": str(row.get("artist") or ""),
                        "split": part.side or side_of(str(row.get("split") or ""), part.where),
                    }
                )
            table = part.table.select_columns([values, *sound_columns])
            tables[part.where] = table if values == "features" else table.rename_column(values, "features")
        check_unique([row["track_id"] for row in rows], self.location)
        features = datasets.concatenate_datasets(with_one_type(tables))
        return stored_tracks(rows, features)

    def front_end(self) -> dict[str, Any] | None:
        """Return the front end in the description of `hfmgc extract`, or None for features of other programs."""
        content = self._description()
        return content and content.get("front_end")

    def notes(self) -> list[str]:
        """Return other library versions that extracted the features, or that their origin is unknown."""
        content = self._description()
        if content is None:
            return ["the origin of these features is unknown: they are assumed to come from the run's front end"]
        other = _other_versions(content["code"])
        return [f"these features were extracted with {', '.join(other)}"] if other else []

    @cached_property
    def _parts(self) -> list["_Part"]:
        """The files or splits that have rows."""
        path = Path(self.path)
        if is_saved_dataset(path):
            saved = _read(path, self.path)
            if isinstance(saved, datasets.DatasetDict):
                named = {name: (f"{self.location}, split {name}", table) for name, table in saved.items()}
            else:
                named = {"": (self.location, saved)}
        elif path.is_file():
            named = {"": (self.location, _read(path, self.path))}
        else:
            files = sorted(path.glob("*.parquet"))
            named = {file.stem: (file.name, _read(file, f"{self.path}, {file.name}")) for file in files}
            description, found = self._description(), sum(len(table) for _, table in named.values())
            if description and description["tracks"] != found:
                raise DataError(
                    f"{self.path}: {found} of the {description['tracks']} extracted tracks were found: repeat hfmgc "
                    "extract, which writes the missing shards"
                )
        parts = [
            _Part(where, SIDE_NAMES.get(name.lower(), ""), table)
            for name, (where, table) in named.items()
            if len(table)
        ]
        if not parts:
            raise DataError(f"{self.path}: has no rows: extract the features again, or name another file")
        return parts

    def _description(self) -> dict[str, Any] | None:
        """Return the description of `hfmgc extract`, or None for features of other programs."""
        path = Path(self.path)
        description = (path.parent if path.is_file() else path) / EXTRACTION
        if not description.is_file():
            return None
        try:
            content = json.loads(description.read_text(encoding="utf-8"))
            # Another version of our code computes other values from the same audio.
            if any(name.startswith("hfmgc ") for name in _other_versions(content["code"])):
                raise DataError(
                    f"{self.path}: another version of hfmgc extracted these features: extract them with this one"
                )
            if content["complete"]:
                return {**content, "tracks": int(content["tracks"])}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{description}: damaged; extract the features again into another folder") from error
        raise DataError(f"{self.path}: its extraction was interrupted: repeat hfmgc extract, which resumes it")

    def _genre_column(self) -> str | None:
        """Return the column of the genres; None if there is none and none is needed."""
        if not self.labelled and not set(GENRE_COLUMNS) & set(self._parts[0].table.column_names):
            return None
        return self._column_of(GENRE_COLUMNS, "genre")

    def _column_of(self, known: tuple[str, ...], what: str) -> str:
        columns = self._parts[0].table.column_names
        for name in known:
            if name in columns:
                return name
        raise DataError(
            f"{self.path}: no column for the {what}: one of {', '.join(known)} (it has {', '.join(columns)})"
        )

    def _feature_column(self) -> str:
        """Return the only column that holds lists of lists of numbers."""
        table = self._parts[0].table
        found = [name for name in table.column_names if kind_of(table.features[name])[0] in (2, 3)]
        if len(found) != 1:
            raise DataError(
                f"{self.path}: {len(found)} columns hold spectrograms or slices ({', '.join(found) or 'none'}): "
                "name one with --data_options '{column: NAME}'"
            )
        return found[0]


class _Part(NamedTuple):
    """A file or split: its name in errors, its side or "", and its rows."""

    where: str
    side: str
    table: datasets.Dataset

    def genre_columns(self, genre: str) -> list[str]:
        """Return the columns of the genre and, as hfmgc extract writes it, of all genres of a track."""
        return [genre, "genres"] if self.table.features.get("genres") == TRACK_FEATURES["genres"] else [genre]

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
        # datasets cannot load a file without rows.
        if pyarrow.parquet.read_metadata(path).num_rows == 0:
            return datasets.Dataset.from_dict({})
        with reading_cache():  # a damaged copy in the cache is reported as such
            return datasets.Dataset.from_parquet(str(path), fragment_scan_options=CHECKED)
    except DataError:
        raise
    except Exception as error:  # pyarrow and datasets have many exceptions for a damaged file
        raise DataError(f"{where}: cannot be read as features ({first_line(error)}); extract them again") from error


def is_feature_set(path: Path) -> bool:
    """Return whether a path is a parquet file, a folder with parquet files, or a saved dataset."""
    return path.suffix == ".parquet" if path.is_file() else is_saved_dataset(path) or any(path.glob("*.parquet"))
