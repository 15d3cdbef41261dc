"""Tables of features: FMA's features.csv, GTZAN's features_30_sec.csv, embeddings, any CSV, and NumPy archives."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import datasets
import numpy as np
import pandas as pd
from transformers.utils import logging

from ...errors import ConfigError, DataError, did_you_mean, first_line
from ...features.handmade_features import GTZAN_SUMMARY_COLUMNS, column_names, columns
from ...files import file_state
from ..caching import COMPUTATIONS
from .contract import DatasetCard, TrackSource, track_row
from .feature_rows import join_features
from .features import GENRE_COLUMNS, ID_COLUMNS
from .fma import FMA
from .gtzan import GTZAN, gtzan_row, parse_track_id
from .tables import check_unique, reading, side_of


logger = logging.get_logger(__name__)

# The sampling rates of GTZAN, and of nearly all of FMA.
SAMPLING_RATES = {"fma_518": 44100, "gtzan_57": 22050}
LAYOUTS = (*SAMPLING_RATES, "table")
_FMA_HEADER = ["feature", "statistics", "number"]
# A file name in GTZAN's features_3_sec.csv.
_PART_OF_TRACK = re.compile(r"\.\d{5}\.\d+\.wav$")
# Columns about the track apart from its id and genre; all others are features.
_TRACK_COLUMNS = ("artist", "split")
_ROW_FEATURES = datasets.Features(
    {
        "track_id": datasets.Value("string"),
        "genres": datasets.List(datasets.Value("string")),
        "artist": datasets.Value("string"),
        "split": datasets.Value("string"),
        # [1, columns]: a single frame for the whole track.
        "features": datasets.List(datasets.List(datasets.Value("float32"))),
        "problem": datasets.Value("string"),
    }
)


@dataclass
class FeatureTable(TrackSource):
    """A table with a row of numbers for each track.

    - FMA's features.csv takes genres, artists and the official split from the tracks.csv in its folder.
    - GTZAN's features_30_sec.csv has the artists and published splits of GTZAN.
    - Any other CSV or TSV has a column for the genre (genre, label or genre_top). It may have columns for the id
      (track_id, id or filename), the artist and the split. All other columns are features.
    - A NumPy archive (.npz) has features X [tracks, columns] and genres y [tracks]. It may have track_id [tracks] and
      the names of the columns as columns [columns].
    - A parquet file was written by `hfmgc embed`; each dimension of the embedding is a feature.
    """

    card = DatasetCard(
        name="table", citation="A table of features of tracks; see its origin.", licence="as that of the recordings"
    )
    split_policies = ("official", "grouped", "stratified")  # replaced by those of the dataset for FMA and GTZAN

    file: str  # the table; for FMA also the folder fma_metadata or its zip
    layout: str = ""  # `fma_518`, `gtzan_57` or `table` (any other); detected from the header by default
    subset: str = "medium"  # for FMA: small, medium, large or full

    def __post_init__(self):
        if self.layout not in ("", *LAYOUTS):
            raise ConfigError(f"data_options of table: no layout {self.layout!r}{did_you_mean(self.layout, LAYOUTS)}")
        path = Path(self.file)
        if not self.file:
            raise DataError("data_options of table: file is empty: name the table with --data_options.file FILE")
        if not path.exists():
            raise DataError(f"data_options of table: file {self.file!r}: no such file")
        self._is_fma_metadata = path.is_dir() or path.suffix.lower() == ".zip"
        self.layout = self.layout or ("fma_518" if self._is_fma_metadata else _detect_layout(path))
        # The dataset that the table belongs to.
        self._dataset: FMA | GTZAN | None = None
        if self.layout == "fma_518":
            self._dataset = FMA(subset=self.subset, metadata=str(path if self._is_fma_metadata else path.parent))
        elif self.layout == "gtzan_57":
            self._dataset = GTZAN()
        if self._dataset is not None:
            self.split_policies = self._dataset.split_policies
            card = self._dataset.card
            # FMA's features are those of whole tracks, so they are intact even where the clip of 30 s is broken.
            known_bad = {} if self.layout == "fma_518" else card.known_bad
            self.card = replace(self.card, citation=card.citation, licence=card.licence, known_bad=known_bad)

    @property
    def origin(self) -> str:
        return self.file

    def genres(self) -> list[str]:
        """Return the genres of the dataset, or the genres that occur, sorted."""
        if self._dataset is not None:
            return self._dataset.genres()
        return sorted({genre for genres in self._rows["genres"] for genre in genres} - {""})

    @cached_property
    def columns(self) -> list[str]:
        """The names of the features, in order."""
        if self.layout == "table":
            return _read_table(self._path, self.layout)[1]
        return column_names() if self.layout == "fma_518" else list(GTZAN_SUMMARY_COLUMNS)

    def front_end(self) -> dict[str, Any]:
        """Return the fields of the `HandmadeFeatureExtractor` with these columns."""
        fields = {"feature_extractor_type": "HandmadeFeatureExtractor", "layout": self.layout}
        if self.layout in SAMPLING_RATES:
            return {**fields, "sampling_rate": SAMPLING_RATES[self.layout]}
        return {**fields, "num_features": len(self.columns), "columns": self.columns}

    def published_sides(self, policy: str, fold: int) -> dict[str, list[str]]:
        if self.layout != "gtzan_57":
            return super().published_sides(policy, fold)
        sides = self._dataset.published_sides(policy, fold)
        # Some copies of the table lack the test tracks. Without a test side, the validation side is evaluated.
        return sides if not set(sides["test"]).isdisjoint(self._rows["track_id"]) else {**sides, "test": []}

    def split_note(self, policy: str) -> str | None:
        if policy == "fault_filtered" and not self.published_sides(policy, 1)["test"]:
            return "the table has no tracks of the fault-filtered test side"
        return self._dataset and self._dataset.split_note(policy)

    def artist_waiver(self, policy: str, artist: str) -> str | None:
        return self._dataset and self._dataset.artist_waiver(policy, artist)

    def tracks(self) -> datasets.Dataset:
        """Return the tracks with features [1, columns]; a track with a number that is not finite is unreadable."""
        table = self._rows
        pairs = zip(table["track_id"], table["problem"], strict=True)
        self.unreadable = {track_id: problem for track_id, problem in pairs if problem}
        if self.layout == "fma_518":
            metadata = {track.track_id: track for track in self._dataset.metadata_tracks()}
            table = table.select([row for row, track_id in enumerate(table["track_id"]) if track_id in metadata])
            if not len(table):
                raise DataError(
                    f"{self.location}: no features of the {len(metadata)} tracks of {self.subset}: set another subset"
                )
            if len(table) < len(metadata):
                logger.warning(
                    f"{self.location}: {len(metadata) - len(table)} of {len(metadata)} tracks have no features"
                )
            tracks = map(metadata.get, table["track_id"])
            rows = [track_row(t.track_id, [t.top_genre], artist=t.artist, split=t.side) for t in tracks]
        elif self.layout == "gtzan_57":
            rows = [gtzan_row(track_id) for track_id in table["track_id"]]
        else:
            rows = [
                track_row(
                    row["track_id"], row["genres"], artist=row["artist"], split=side_of(row["split"], self.location)
                )
                for row in table.remove_columns(["features", "problem"])
            ]
        tracks = join_features(rows, table.select_columns(["features"]))
        return tracks.with_format("numpy", columns=["features"], output_all_columns=True)

    @cached_property
    def _path(self) -> Path:
        return self._dataset.features_csv if self._is_fma_metadata else Path(self.file)

    @cached_property
    def _rows(self) -> datasets.Dataset:
        """The rows of the file, read once and cached."""
        try:
            table = datasets.Dataset.from_generator(
                _read_rows,
                features=_ROW_FEATURES,
                # The version is only part of the cache's key, so that a changed file is read again.
                gen_kwargs={
                    "path": str(self._path.resolve()),
                    "layout": self.layout,
                    "version": (COMPUTATIONS["tables"].version, file_state(self._path)),
                },
            )
        except datasets.exceptions.DatasetGenerationError as error:
            if isinstance(error.__cause__, DataError):
                raise error.__cause__ from None
            problem = first_line(error.__cause__ or error)
            raise DataError(f"{self.location}: cannot be read ({problem}): restore the file") from error
        check_unique(table["track_id"], self.location)
        return table


def _detect_layout(path: Path) -> str:
    """Return the layout of a table, which its header shows."""
    if path.suffix.lower() in _READERS:
        return "table"
    header = _header(path)
    if header[:1] == _FMA_HEADER[:1]:
        return "fma_518"
    return "gtzan_57" if "filename" in header and set(header) & set(GTZAN_SUMMARY_COLUMNS) else "table"


def _read_csv(path: Path, **options: Any) -> pd.DataFrame:
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    with reading(path):
        return pd.read_csv(
            path, sep=separator, low_memory=False, encoding="utf-8-sig", keep_default_na=False, **options
        )


def _header(path: Path) -> list[str]:
    """Return the cells of the first row of a CSV or TSV."""
    return [cell.strip() for cell in _read_csv(path, nrows=1, header=None, dtype=str).iloc[0]]


def _numbers(table: pd.DataFrame) -> np.ndarray:
    """Return the cells as float32 [rows, columns]; cells that are not numbers become NaN."""
    with np.errstate(over="ignore"):
        return table.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64).astype(np.float32)


def _read_rows(path: str, layout: str, version: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table as `_ROW_FEATURES`; a row with a number that is not finite has a `problem`."""
    del version
    tracks, names, values = _read_table(Path(path), layout)
    if not len(tracks):
        raise DataError(f"{Path(path).name}: has a header but no tracks: add rows, or name another file")
    for number, (track, row) in enumerate(zip(tracks.to_dict("records"), values, strict=True), 1):
        broken = [names[column] for column in np.flatnonzero(~np.isfinite(row))]
        problem = f"no finite number in column {_abbreviate(broken)}" if broken else ""
        genre = track.pop("genre", "")
        track = {"genres": [genre], "artist": "", "split": "", **track}
        track["track_id"] = track.get("track_id") or f"row {number}"
        yield {**track, "features": [row], "problem": problem}


_Table = tuple[pd.DataFrame, list[str], np.ndarray]
"""The data frame of the tracks, the names of the features, and the features [tracks, columns].

The data frame has columns of `_ROW_FEATURES`, but at least one of `genres` and `genre`, a single genre.
"""


def _read_table(path: Path, layout: str) -> _Table:
    if layout == "fma_518":
        return _read_fma(path)
    if layout == "gtzan_57":
        return _read_gtzan(path)
    return _READERS.get(path.suffix.lower(), _read_plain)(path)


def _read_fma(path: Path) -> _Table:
    table = _read_csv(path, header=[0, 1, 2], index_col=0)
    actual, expected = list(table.columns), columns()
    if list(table.columns.names) != _FMA_HEADER or sorted(actual) != sorted(expected):
        names = _abbreviate(["-".join(map(str, column)) for column in sorted(set(actual) ^ set(expected))])
        raise DataError(
            f"{path.name}: must have the three header rows and {len(expected)} columns of FMA's features.csv, but has "
            f"{len(actual)} columns (missing or unknown: {names or 'none'}): take it from fma_metadata.zip"
        )
    ids = table.index.astype(str)
    if invalid := [number for number in ids if not number.isdecimal()]:
        raise DataError(f"{path.name}: {invalid[0]!r} is not a track id of FMA: delete the row")
    return pd.DataFrame({"track_id": ids.str.zfill(6)}), column_names(), _numbers(table[expected])


def _read_gtzan(path: Path) -> _Table:
    header, names = _header(path), list(GTZAN_SUMMARY_COLUMNS)
    _require(path, header, ["filename", *names])
    table = _read_csv(path, names=header, header=0, dtype={"filename": str})
    for file in table["filename"]:
        if _PART_OF_TRACK.search(file):
            raise DataError(f"{path.name}: {file!r} is a part of a track: use features_30_sec.csv, for whole tracks")
        if parse_track_id(file) is None:
            raise DataError(
                f"{path.name}: filename {file!r} is not a track of GTZAN such as blues.00000.wav: delete the row"
            )
    return pd.DataFrame({"track_id": table["filename"].map(parse_track_id)}), names, _numbers(table[names])


def _read_plain(path: Path) -> _Table:
    header = _header(path)
    if repeated := [name for name in header if header.count(name) > 1]:
        raise DataError(f"{path.name}: two columns are named {repeated[0]!r}: rename one of them")
    if "" in header:  # often the row numbers of a saved data frame, which are not a feature
        raise DataError(f"{path.name}: column {header.index('') + 1} has no name: name or remove it")
    names = [name for name in header if name not in (*ID_COLUMNS, *GENRE_COLUMNS, *_TRACK_COLUMNS)]
    known = {"track_id": ID_COLUMNS, "genre": GENRE_COLUMNS, **{name: (name,) for name in _TRACK_COLUMNS}}
    column_of = {
        field: next(name for name in known[field] if name in header) for field in known if {*known[field]} & {*header}
    }
    if "genre" not in column_of:
        raise DataError(f"{path.name}: no column for the genre, only {_abbreviate(header)}: add a column genre")
    if not names:
        raise DataError(f"{path.name}: no columns of features, only {_abbreviate(header)}: add columns of numbers")
    table = _read_csv(path, names=header, header=0, dtype=dict.fromkeys(column_of.values(), str))
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus fields for an index
        raise DataError(f"{path.name}: rows have more fields than the header: put text with a comma in quotes")
    values = _numbers(table[names])
    if len(table) and (texts := [names[column] for column in np.flatnonzero(np.isnan(values).all(axis=0))]):
        raise DataError(
            f"{path.name}: no numbers in column {_abbreviate(texts)}: remove columns that are not features"
        )
    tracks = {field: table[name].fillna("").str.strip() for field, name in column_of.items()}
    return pd.DataFrame(tracks), names, values


def _read_npz(path: Path) -> _Table:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("X", "y", "track_id", "columns") if name in file}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise DataError(
            f"{path.name}: not a NumPy archive of plain arrays: write it with np.savez(..., X=X, y=y.astype(str))"
        ) from error
    _require(path, list(arrays), ["X", "y"])
    features, tracks = arrays["X"], len(arrays["y"])
    if features.ndim != 2 or features.dtype.kind not in "fiu" or len(features) != tracks:
        raise DataError(
            f"{path.name}: X must be numbers [tracks, columns] for the {tracks} genres of y, not {features.dtype} "
            f"{list(features.shape)}"
        )
    names = arrays.get("columns", np.array([f"feature_{index:03d}" for index in range(features.shape[1])]))
    ids = arrays.get("track_id", np.full(tracks, ""))
    for name, array, length in (("track_id", ids, tracks), ("columns", names, features.shape[1])):
        if array.shape != (length,):
            raise DataError(f"{path.name}: {name} must have {length} entries, not {list(array.shape)}")
    labels = pd.DataFrame({"track_id": ids.astype(str), "genre": arrays["y"].astype(str)})
    with np.errstate(over="ignore"):
        return labels, names.astype(str).tolist(), features.astype(np.float32)


def _read_embeddings(path: Path) -> _Table:
    """Read what `hfmgc embed` writes, without `--windows`."""
    with reading(path):
        table = pd.read_parquet(path)
    _require(path, list(table), ["track_id", "genres", *_TRACK_COLUMNS, "embedding"])
    if "window" in table:
        raise DataError(f"{path.name}: has a row per window, not per track: run `hfmgc embed` without --windows")
    values = np.stack(table["embedding"])
    names = [f"embedding_{index:04d}" for index in range(values.shape[1])]
    table["genres"] = table["genres"].map(list)
    return table[["track_id", "genres", *_TRACK_COLUMNS]], names, values


# By suffix; other files are read as CSV or TSV.
_READERS = {".npz": _read_npz, ".parquet": _read_embeddings}


def _require(path: Path, header: list[str], required: list[str]) -> None:
    if missing := [name for name in required if name not in header]:
        raise DataError(
            f"{path.name}: no column {_abbreviate(missing)}, only {_abbreviate(header)}: add it, or use the original file"
        )


def _abbreviate(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
