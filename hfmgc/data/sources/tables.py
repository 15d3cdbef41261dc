"""Lists of tracks on disk, and the labels, sides and track ids in their columns."""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets

from ...errors import ConfigError, DataError, first_line
from ...settings import load_json


LIST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")

# Common names of the sides of a split -> our names.
SIDE_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "": "",
}


def side_of(name: str, where: str) -> str:
    """Return `train`, `validation`, `test` or "" for a common name of a side.

    Raises:
        DataError: If the name is unknown; the message begins with `where`.
    """
    side = SIDE_NAMES.get(name.strip().lower())
    if side is None:
        raise DataError(f"{where}: {name!r} is not a side of a split: write train, validation or test")
    return side


def class_names(feature: Any) -> list[str] | None:
    """Return the class names of a column of class labels or lists of class labels; None for any other column."""
    feature = getattr(feature, "feature", feature)
    return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None


def labels_of(value: Any, names: Sequence[str] | None, where: str) -> list[str]:
    """Return the labels in the value of a column, which is one label or a list.

    With `names`, the names of the classes, labels are class numbers; without, they are text. Missing labels, and
    numbers without a class (such as -1 for unlabelled examples), are skipped.

    Raises:
        DataError: If a label that should be text is not; the message begins with `where`.
    """
    labels = value if isinstance(value, list) else [value]
    if names is not None:
        labels = [names[label] for label in labels if label is not None and 0 <= label < len(names)]
    for label in labels:
        if label is not None and not isinstance(label, str):
            raise DataError(f"{where}: the label {label!r} is not text: write the name of the genre")
    return [label for label in labels if label]


def occurring_labels(tables: Mapping[str, datasets.Dataset], columns: Sequence[str]) -> list[str]:
    """Return the labels that occur in these columns: class labels in the order of the classes, then text, sorted.

    `tables` maps the name of each table, for errors, to the table. Columns that a table lacks are skipped.
    """
    ordered: dict[str, None] = {}
    occurring: set[str] = set()
    for where, table in tables.items():
        for column in columns:
            if column in table.column_names:
                names = class_names(table.features[column])
                ordered |= dict.fromkeys(names or ())
                for value in table[column]:
                    occurring.update(labels_of(value, names, f"{where}, {column!r}"))
    return [name for name in ordered if name in occurring] + sorted(occurring.difference(ordered))


def check_unique(track_ids: Sequence[str], where: str) -> None:
    """Raise a DataError for a repeated track id, whose rows could be on two sides of a split."""
    if repeated := [track_id for track_id, count in Counter(track_ids).items() if count > 1]:
        more = f" (and {len(repeated) - 1} more)" if len(repeated) > 1 else ""
        raise DataError(f"{where}: track id {repeated[0]!r}{more} occurs more than once: make the ids unique")


def sort_by_id(tracks: datasets.Dataset) -> datasets.Dataset:
    """Sort tracks by id, without `Dataset.sort`, for which newer versions of pyarrow print warnings."""
    ids = tracks["track_id"][:]
    return tracks.select(sorted(range(len(ids)), key=ids.__getitem__))


def read_rows(path: Path, *, required: Sequence[str] = (), line_field: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Return the rows of a list, each with its place in the file, such as `line 3` or `item 2`.

    Args:
        path: A CSV or TSV file with a header, a JSON Lines file, or a JSON file with a list of objects, in UTF-8.
        required: Columns that a CSV or TSV file must have.
        line_field: If given, `path` can also be a `.txt` file. Each of its lines is the value of this field.

    Raises:
        DataError: If the file cannot be read or lacks a column.
        ConfigError: If the suffix is unknown.
    """
    suffix, suffixes = path.suffix.lower(), (*LIST_SUFFIXES, ".txt") if line_field else LIST_SUFFIXES
    if suffix not in suffixes:
        raise ConfigError(f"{path.name}: not a list of tracks: give a file that ends in {', '.join(suffixes)}")
    csv.field_size_limit(1 << 24)  # fields such as biographies exceed the default limit
    with reading(path):
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark before the first column
        lines = [(f"line {number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        if suffix in (".csv", ".tsv"):
            rows = _csv_rows(text, "\t" if suffix == ".tsv" else ",", path.name, required)
        elif suffix == ".txt":
            rows = [(place, {line_field: line.strip()}) for place, line in lines]
        elif suffix == ".json" and text.lstrip().startswith("["):
            rows = [(f"item {number}", row) for number, row in enumerate(load_json(text), 1)]
        else:
            rows = [(place, _json_line(line, place)) for place, line in lines]
    for place, row in rows:
        if not isinstance(row, dict):
            raise DataError(f"{path.name}, {place}: not an object: write the fields of a track as {{...}}")
    return rows


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn every error in reading a list or table into a DataError that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: not UTF-8 (byte {error.start}): save it as UTF-8") from error
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path.name}: cannot be read ({first_line(error)}): correct or restore it") from error


def _json_line(line: str, place: str) -> Any:
    try:
        return load_json(line)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _csv_rows(text: str, delimiter: str, name: str, required: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    header = [column.strip() for column in next(reader, [])]
    if len(set(header)) != len(header):
        raise DataError(f"{name}: two columns of the header have the same name: rename one")
    if missing := [column for column in required if column not in header]:
        raise DataError(f"{name}: no column {', '.join(missing)}: add it, or use the original file")
    rows = []
    for values in reader:
        if not any(value.strip() for value in values):
            continue
        if len(values) != len(header):
            raise DataError(
                f"{name}, line {reader.line_num}: {len(values)} fields for a header of {len(header)}: put text with a comma "
                "in quotes"
            )
        rows.append((f"line {reader.line_num}", dict(zip(header, values, strict=True))))
    return rows
