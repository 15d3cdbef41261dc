"""Your own music: a list of files, as CSV or JSON Lines, with their labels."""

import csv
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from ...errors import ConfigError, DataError, nearest
from ...settings import load_json
from ...text import as_text
from .contract import DatasetCard, TrackSource, track_row
from .tables import check_unique, file_table, refuse_other_than_text, side_of


MANIFEST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
GENRES_SEPARATOR = "|"


@dataclass
class Manifest(TrackSource):
    """A row for each track: path and label or genres, and where known artist, split and track_id.

    Paths are relative to the list. Unless there is a column for it, a track's id is its path as it is written there. Of an
    absolute path, which would be published with the split, it is the part below the list's folder; for a file elsewhere,
    its name behind a short digest of its path.

    Attributes:
        file: A CSV with a header, a JSON Lines file, or a JSON list of objects; UTF-8.
        path_column: Column of the paths.
        label_column: Column of the labels; in JSON a label can be a list, for multi-label models.
        genres_column: Column of all genres of a track, for multi-label models, beside `label` (the main one) or in its
            place: a list in JSON, `rock|folk` in a CSV. "" leaves the column aside.
        artist_column: Column of the artists, if there is one.
        split_column: Column of the sides (train, validation, test), if there is one.
        id_column: Column of the track ids, if there is one.
        label_separator: What stands between the labels of a track in a CSV; one label by default. Between genres it is
            `|` by default.
    """

    card = DatasetCard(
        name="manifest",
        citation="A list of audio files with their labels.",
        licence="as its owner says",
    )
    split_policies = ("official", "grouped", "stratified")

    file: str
    path_column: str = "path"
    label_column: str = "label"
    genres_column: str = "genres"
    artist_column: str = "artist"
    split_column: str = "split"
    id_column: str = "track_id"
    label_separator: str = ""

    @property
    def location(self) -> str:
        """The list's own name: its parents are not published."""
        return Path(self.file).name

    @property
    def revision(self) -> str | None:
        """Fingerprint of the list."""
        path = Path(self.file)
        return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else None

    def genres(self) -> list[str]:
        """Return the labels, sorted."""
        labels = {label for row in self._rows() for label in row["genres"]}
        return sorted(label for label in labels if as_text(label) == label)

    def tracks(self) -> datasets.Dataset:
        """Return the rows in their order; one whose file is missing is in it as well."""
        self.unreadable = {}
        return file_table(self._rows(), self.unreadable)

    def _rows(self) -> list[dict[str, Any]]:
        root = Path(self.file).resolve().parent
        numbered = read_rows(Path(self.file))
        if not numbered:
            raise DataError(f"{self.location} has no rows")
        columns = list(dict.fromkeys(column for _, row in numbered for column in row))
        self._check_columns(columns)
        rows, lines, empty = [], {}, []
        for line, row in numbered:
            written = _text(row, self.path_column)
            for column in (self.label_column, self.genres_column):
                refuse_other_than_text(row.get(column), f"{self.location}, {line}, {column!r}")
            labels = self._labels(row)
            if not written or not labels:
                named = self.label_column if self.label_column in columns else self.genres_column
                empty.append((line, self.path_column if not written else named))
                continue
            # Two ways of writing the same path are one file; links are left as they are.
            path = os.path.normpath(root / (written if Path(written).is_absolute() else written.replace("\\", "/")))
            lines.setdefault(path, []).append(line)
            rows.append(
                track_row(
                    _text(row, self.id_column) or written,
                    labels[0],
                    path=path,
                    genres=labels,
                    artist=_text(row, self.artist_column),
                    split=side_of(_text(row, self.split_column), f"{self.location}, {line}"),
                )
            )
        _shorten_ids(rows, root)
        if empty:
            raise DataError(
                f"{self.location}: {len(empty)} row{'s have an' if len(empty) > 1 else ' has an'} empty path or label, "
                f"the first: {empty[0][0]}, {empty[0][1]!r}; fill it or take the row away"
            )
        repeated = {path: where for path, where in lines.items() if len(where) > 1}
        if repeated:
            path, where = next(iter(repeated.items()))
            raise DataError(
                f"{self.location}: {len(repeated)} file{'s are' if len(repeated) > 1 else ' is'} listed more than once, "
                f"the first: {Path(path).name!r} ({', '.join(where)}); keep one row of each"
            )
        check_unique([row["track_id"] for row in rows], self.location)
        return rows

    def _check_columns(self, columns: list[str]) -> None:
        for option in (
            "path_column", "genres_column", "label_column", "artist_column", "split_column", "id_column"
        ):  # fmt: skip
            name = getattr(self, option)
            needed = option == "path_column" or (option == "label_column" and self.genres_column not in columns)
            if not name and option == "genres_column":
                continue
            if name not in columns and (needed or name != type(self).__dataclass_fields__[option].default):
                raise DataError(
                    f"{self.location} has no column {name!r}{nearest(name, columns)}: add it, or name another with "
                    f"data_options {{{option}: ...}}"
                )

    def _labels(self, row: dict[str, Any]) -> list[str]:
        """Return all labels of a row, the main one first."""
        labels = _parts(row, self.label_column, self.label_separator)
        if self.genres_column:
            labels += _parts(row, self.genres_column, self.label_separator or GENRES_SEPARATOR)
        return list(dict.fromkeys(labels))


def _shorten_ids(rows: list[dict[str, Any]], root: Path) -> None:
    """Replace ids that are absolute paths by the part below `root`, or by the file's name behind a digest of its path.

    So an id does not depend on what else is listed.
    """
    for row in rows:
        path = Path(os.path.normpath(row["track_id"]))
        if path.is_relative_to(root):
            row["track_id"] = path.relative_to(root).as_posix()
        elif path.is_absolute():
            row["track_id"] = f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}/{path.name}"


def _parts(row: dict[str, Any], column: str, separator: str) -> list[str]:
    """Return what a list holds, or the parts of a text."""
    value = row.get(column)
    if isinstance(value, list):
        parts = [part.strip() for part in value if part is not None]
    else:
        text = _text(row, column)
        parts = [part.strip() for part in (text.split(separator) if separator else [text])]
    return [part for part in parts if part]


def _text(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    return "" if value is None else str(value).strip()


def read_rows(path: Path, *, line_field: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Return the rows of a list with the place of each, as `line 3` or `item 2`.

    With `line_field` the list may also be a `.txt`, whose lines hold that field alone.
    """
    suffixes = (*MANIFEST_SUFFIXES, ".txt") if line_field else MANIFEST_SUFFIXES
    if path.suffix.lower() not in suffixes:
        raise ConfigError(f"{path.name} is no list of tracks: it must end in {', '.join(suffixes)}")
    try:
        # A byte order mark, as spreadsheets write it, is no part of the first column's name.
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() in (".csv", ".tsv"):
            rows = _read_csv(text, "\t" if path.suffix.lower() == ".tsv" else ",", path.name)
        elif path.suffix.lower() == ".txt":
            lines = enumerate(text.split("\n"), 1)
            rows = [(f"line {number}", {line_field: line.strip()}) for number, line in lines if line.strip()]
        elif path.suffix.lower() == ".json" and text.lstrip().startswith("["):
            rows = [(f"item {number}", row) for number, row in enumerate(load_json(text), 1)]
        else:
            lines = enumerate(text.split("\n"), 1)
            rows = [(f"line {number}", _parse(line, number)) for number, line in lines if line.strip()]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path.name} cannot be read ({error})") from error
    for place, row in rows:
        if not isinstance(row, dict):
            raise DataError(f"{path.name}, {place} is no object with the fields of a track")
    return rows


def _parse(line: str, number: int) -> Any:
    try:
        return load_json(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error


def _read_csv(text: str, delimiter: str, name: str) -> list[tuple[str, dict[str, Any]]]:
    # Lines are kept as csv wants them: a quoted field may hold line breaks.
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    header = [column.strip() for column in next(reader, [])]
    if len(set(header)) != len(header):
        raise DataError(f"{name}: two columns have the same name in its header")
    rows = []
    for values in reader:
        if not any(value.strip() for value in values):
            continue
        if len(values) != len(header):
            raise DataError(
                f"{name}, line {reader.line_num} has {len(values)} fields and the header {len(header)}: put text with a "
                "comma in quotes"
            )
        rows.append((f"line {reader.line_num}", dict(zip(header, values, strict=True))))
    return rows
