"""Your own music: a list of files with labels, as CSV, TSV, JSON or JSON Lines."""

import hashlib
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import datasets

from ...errors import DataError, did_you_mean
from ...text import to_unicode
from .contract import DatasetCard, TrackSource, track_row
from .tables import check_unique, labels_of, read_rows, side_of


GENRES_SEPARATOR = "|"


@dataclass
class Manifest(TrackSource):
    """A list of tracks: path, label or genres, and optionally artist, split and track_id.

    Paths are relative to the folder of the list. By default a track's id is its path as written. Ids are published
    with the split, so they omit the parents of an absolute path: the id is the path relative to the list's folder or,
    for a file outside this folder, a short digest of the path and the file name.
    """

    card = DatasetCard(
        name="manifest",
        citation="A list of audio files with their labels.",
        licence="as its owner says",
    )
    split_policies = ("official", "grouped", "stratified")

    file: str  # a CSV or TSV with a header, a JSON Lines file, or a JSON list of objects; UTF-8
    path_column: str = "path"
    label_column: str = "label"  # in JSON a label can be a list, for multi-label models
    genres_column: str = "genres"  # in addition to a label or instead: a list, or `rock|folk` in a CSV; "" ignores it
    artist_column: str = "artist"
    split_column: str = "split"  # train, validation or test
    id_column: str = "track_id"
    label_separator: str = ""  # between the labels of a track in a CSV; by default a track has a single label

    @property
    def origin(self) -> str:
        return self.file

    @property
    def revision(self) -> str | None:
        path = Path(self.file)
        return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else None

    def genres(self) -> list[str]:
        """Return the labels, sorted."""
        labels = {label for row in self._rows() for label in row["genres"]}
        return sorted(label for label in labels if to_unicode(label) == label)

    def tracks(self) -> datasets.Dataset:
        """Return the rows in order, whether or not their files exist."""
        return self.file_table(self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        root = Path(self.file).resolve().parent
        numbered = read_rows(Path(self.file))
        if not numbered:
            raise DataError(f"{self.location}: no rows: add tracks")
        columns = list(dict.fromkeys(column for _, row in numbered for column in row))
        self._check_columns(columns)
        rows, line_of = [], {}
        for line, row in numbered:
            where = f"{self.location}, {line}"
            file, labels = _text(row, self.path_column), self._labels(row, where)
            if not file or not labels:
                label_column = self.label_column if self.label_column in columns else self.genres_column
                empty = label_column if file else self.path_column
                raise DataError(f"{where}: {empty!r} is empty: fill it, or remove the row")
            for label in labels:  # genres are published
                if Path(label).is_absolute() and len(Path(label).parts) > 2:
                    raise DataError(f"{where}: genre {label!r} is a path: use its last part, {Path(label).name!r}")
            # Different spellings of a path are one file; links are not followed.
            path = os.path.normpath(root / (file if Path(file).is_absolute() else file.replace("\\", "/")))
            if line_of.setdefault(path, line) != line:
                raise DataError(
                    f"{where}: {file!r} is already listed in {line_of[path]}: remove one of the rows (several labels of a "
                    "track go into one row)"
                )
            rows.append(
                track_row(
                    _public_id(_text(row, self.id_column) or file, root),
                    labels,
                    path=path,
                    artist=_text(row, self.artist_column),
                    split=side_of(_text(row, self.split_column), where),
                )
            )
        check_unique([row["track_id"] for row in rows], self.location)
        return rows

    def _check_columns(self, columns: list[str]) -> None:
        """Raise a DataError if the column of paths or labels, or one that the user named, is missing."""
        required = {"path_column"} if self.genres_column in columns else {"path_column", "label_column"}
        # Columns that the user named come first: if one is misspelt, a default may seem to be missing too.
        for option in sorted(fields(self), key=lambda option: getattr(self, option.name) == option.default):
            name = getattr(self, option.name)
            is_required = option.name in required or name != option.default
            if option.name.endswith("_column") and name and is_required and name not in columns:
                raise DataError(
                    f"{self.location}: no column {name!r}{did_you_mean(name, columns)}: add it, or name another in "
                    f"data_options {{{option.name}: ...}}"
                )

    def _labels(self, row: dict[str, Any], where: str) -> list[str]:
        """Return all labels of a row, the main one first."""
        labels: list[str] = []
        for column, separator in (
            (self.label_column, self.label_separator),
            (self.genres_column, self.label_separator or GENRES_SEPARATOR),
        ):
            column_labels = labels_of(row.get(column), None, f"{where}, {column!r}") if column else []
            if separator and not isinstance(row.get(column), list):
                column_labels = [part for label in column_labels for part in label.split(separator)]
            labels += [label.strip() for label in column_labels if label.strip()]
        return list(dict.fromkeys(labels))


def _public_id(track_id: str, root: Path) -> str:
    """Return a track id without the parents of an absolute path; it does not depend on other rows."""
    path = Path(os.path.normpath(track_id))
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}/{path.name}" if path.is_absolute() else track_id


def _text(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    return "" if value is None else str(value).strip()
