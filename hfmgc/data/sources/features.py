"""Stored features: spectrograms with track ids and genres, written by `hfmgc extract` or by other programs."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow.dataset
import pyarrow.parquet

from ...errors import DataError, first_line
from ..caching import code_identity, reading_cache
from .contract import TRACK_FEATURES, DatasetCard, TrackSource, track_row
from .feature_rows import depth_and_type, join_features, unify_types
from .hub import is_saved_dataset
from .tables import SIDE_NAMES, check_unique, class_names, labels_of, occurring_labels, side_of


# The file in which `hfmgc extract` describes its shards.
EXTRACTION = "extraction.json"
# The parquet files of `hfmgc extract` have checksums.
_VERIFY_CHECKSUMS = pyarrow.dataset.ParquetFragmentScanOptions(page_checksum_verification=True)
# The computations that affect the values of extracted features.
EXTRACTED_BY = ("decoding", "features", "fingerprints")
# Columns of `hfmgc extract` about the audio; ignored in files of other programs.
_AUDIO_COLUMNS = ("digest", "fingerprint", "truncation")
# Common names of the columns for track ids and genres.
ID_COLUMNS = ("track_id", "id", "filename")
GENRE_COLUMNS = ("genre", "label", "genre_top")


@dataclass
class FeatureSet(TrackSource):
    """Stored features: a parquet file, a folder of parquet files, or a saved dataset.

    Files and splits that are named after a side, such as `train.parquet`, are that side. Each row is a track: an id, a
    genre or a list of genres, and a column of numbers. The numbers are unnormalised features as `hfmgc extract` writes
    them (float [frames, bins]), a spectrogram with levels 0..255 (uint8 [bins, frames]), or windows that another
    program cut and normalised ([slices, frames, bins]).
    """

    card = DatasetCard(
        name="features",
        citation="Stored features; see their origin.",
        licence="as that of the recordings",
    )
    split_policies = ("official", "stratified", "grouped")
    labelled = True  # whether a column of genres is required; without an annotation, or `data_options` could set it

    path: str  # the file or folder
    column: str | None = None  # the column of numbers, if there are several

    @property
    def origin(self) -> str:
        return self.path

    def genres(self) -> list[str]:
        """Return the genres that occur: class labels in the order of the classes, text sorted."""
        return occurring_labels({part.where: part.table for part in self._parts}, ["genre", "genres"])

    def tracks(self) -> datasets.Dataset:
        """Return the table with the columns track_id, genre, genres, artist, split and features (as stored)."""
        rows, tables, self.unreadable = [], {}, {}
        for where, side, table in self._parts:
            content = [name for name in ("features", *_AUDIO_COLUMNS) if name in table.column_names]
            tables[where] = table.select_columns(content)
            names = class_names(table.features.get("genre"))
            for number, row in enumerate(table.remove_columns(content)):
                place = f"{where}, row {number}"
                if row["track_id"] in (None, ""):
                    self.unreadable[place] = "no track id"
                    row["track_id"] = place
                labels = labels_of(row.get("genre"), names, f"{place}, 'genre'")
                genres = dict.fromkeys([*labels, *(row.get("genres") or [])])
                split = side or side_of(str(row.get("split") or ""), where)
                rows.append(track_row(str(row["track_id"]), genres, artist=str(row.get("artist") or ""), split=split))
        check_unique([row["track_id"] for row in rows], self.location)
        return join_features(rows, datasets.concatenate_datasets(unify_types(tables)))

    def front_end(self) -> dict[str, Any] | None:
        """Return the front end that `hfmgc extract` recorded; None for features of other programs."""
        return self._description and self._description.get("front_end")

    def notes(self) -> list[str]:
        """Return a note if other versions of libraries extracted the features, or if their origin is unknown."""
        if self._description is None:
            return ["the origin of these features is unknown: they are assumed to come from the run's front end"]
        versions = _changed_versions(self._description["code"])
        return [f"these features were extracted with {', '.join(versions)}"] if versions else []

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
            description, count = self._description, sum(len(table) for _, table in named.values())
            if description and description["tracks"] != count:
                raise DataError(
                    f"{self.path}: has {count} of the {description['tracks']} extracted tracks: repeat hfmgc extract, which "
                    "writes the missing shards"
                )
        parts = [
            _Part(where, SIDE_NAMES.get(name.lower(), ""), self._with_known_columns(where, table))
            for name, (where, table) in named.items()
            if len(table)
        ]
        if not parts:
            raise DataError(f"{self.path}: has no rows: extract the features again, or name another file")
        return parts

    @cached_property
    def _description(self) -> dict[str, Any] | None:
        """The content of the file `EXTRACTION`; None for features of other programs."""
        path = Path(self.path)
        description = (path.parent if path.is_file() else path) / EXTRACTION
        if not description.is_file():
            return None
        try:
            content = json.loads(description.read_text(encoding="utf-8"))
            # Another version of our code computes different values from the same audio.
            if any(name.startswith("hfmgc ") for name in _changed_versions(content["code"])):
                raise DataError(
                    f"{self.path}: another version of hfmgc extracted these features: extract them again with this version"
                )
            if content["complete"]:
                return {**content, "tracks": int(content["tracks"])}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{description}: damaged: extract the features again into another folder") from error
        raise DataError(f"{self.path}: the extraction was interrupted: repeat hfmgc extract, which resumes it")

    def _with_known_columns(self, where: str, table: datasets.Dataset) -> datasets.Dataset:
        """Select the columns in use, and give those of the id, genre and features their standard names."""
        columns = table.column_names
        arrays = [name for name in columns if depth_and_type(table.features[name])[0] in (2, 3)]
        values = [name for name in arrays if self.column in (None, name)]
        if len(values) != 1:
            raise DataError(
                f"{where}: {len(arrays)} columns hold spectrograms or slices ({', '.join(arrays) or 'none'}): name one with "
                "--data_options '{column: NAME}'"
            )
        renamed = {values[0]: "features"}
        for what, known in (("track id", ID_COLUMNS), ("genre", GENRE_COLUMNS)):
            if name := next((name for name in known if name in columns), None):
                renamed[name] = known[0]
            elif what == "track id" or self.labelled:
                raise DataError(
                    f"{where}: no column for the {what}, only {', '.join(columns)}: name it {' or '.join(known)}"
                )
        optional = {"artist", "split", *(_AUDIO_COLUMNS if self._description is not None else ())}
        if table.features.get("genres") == TRACK_FEATURES["genres"]:  # as hfmgc extract writes it
            optional.add("genres")
        return table.select_columns([*renamed, *(name for name in columns if name in optional)]).rename_columns(
            renamed
        )


class _Part(NamedTuple):
    """A file or split: its name in errors, its side (or ""), and its rows."""

    where: str
    side: str
    table: datasets.Dataset


def _changed_versions(code: dict[str, str]) -> list[str]:
    """Return the components whose version has changed since the extraction, with the old and new versions."""
    now = code_identity(*EXTRACTED_BY)
    return [f"{name} {version} (now {now.get(name)})" for name, version in code.items() if now.get(name) != version]


def _read(path: Path, where: str) -> datasets.Dataset | datasets.DatasetDict:
    try:
        if path.is_dir():
            return datasets.load_from_disk(str(path))
        # datasets cannot load a file without rows.
        if pyarrow.parquet.read_metadata(path).num_rows == 0:
            return datasets.Dataset.from_dict({})
        with reading_cache():  # reports a damaged copy in the cache
            return datasets.Dataset.from_parquet(str(path), fragment_scan_options=_VERIFY_CHECKSUMS)
    except DataError:
        raise
    except Exception as error:  # pyarrow and datasets raise many kinds of errors for a damaged file
        raise DataError(f"{where}: cannot be read as features ({first_line(error)}): extract them again") from error


def is_feature_set(path: Path) -> bool:
    """Return whether a path is a parquet file, a folder with parquet files, or a saved dataset."""
    return path.suffix == ".parquet" if path.is_file() else is_saved_dataset(path) or any(path.glob("*.parquet"))
