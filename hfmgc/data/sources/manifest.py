"""Your own music: a list of files with their labels, as CSV or JSON Lines."""

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

    Paths are relative to the list. Without a column for it, a track's id is its path as written. Ids are published with
    the split, so of an absolute path the id is only the part below the list's folder; for a file outside of it, its name
    after a short digest of its path.
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
    genres_column: str = (
        "genres"  # beside or instead of a label: a list, or `rock|folk` in a CSV; "" ignores the column
    )
    artist_column: str = "artist"
    split_column: str = "split"  # the sides: train, validation, test
    id_column: str = "track_id"
    label_separator: str = ""  # between the labels of a track in a CSV; by default a track has one label

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
        """Return the rows in their order, whether their files exist or not."""
        return self.file_table(self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        root = Path(self.file).resolve().parent
        numbered = read_rows(Path(self.file))
        if not numbered:
            raise DataError(f"{self.location} has no rows")
        columns = list(dict.fromkeys(column for _, row in numbered for column in row))
        self._check_columns(columns)
        rows, line_of = [], {}
        for line, row in numbered:
            where = f"{self.location}, {line}"
            written, labels = _text(row, self.path_column), self._labels(row, where)
            if not written or not labels:
                label_column = self.label_column if self.label_column in columns else self.genres_column
                empty = label_column if written else self.path_column
                raise DataError(f"{where}: {empty!r} is empty: fill it, or remove the row")
            # Two spellings of a path are one file; links are not followed.
            path = os.path.normpath(root / (written if Path(written).is_absolute() else written.replace("\\", "/")))
            if line_of.setdefault(path, line) != line:
                raise DataError(
                    f"{where}: {written!r} is already listed in {line_of[path]}: remove one of the rows (several labels of "
                    "a track go into one row)"
                )
            rows.append(
                track_row(
                    _published_id(_text(row, self.id_column) or written, root),
                    labels,
                    path=path,
                    artist=_text(row, self.artist_column),
                    split=side_of(_text(row, self.split_column), where),
                )
            )
        check_unique([row["track_id"] for row in rows], self.location)
        return rows

    def _check_columns(self, columns: list[str]) -> None:
        """Refuse a list without its path or label column, or without a column that the user named."""
        needed = {"path_column"} if self.genres_column in columns else {"path_column", "label_column"}
        # A column that the user named comes first: without it, a default may be missing too.
        for option in sorted(fields(self), key=lambda option: getattr(self, option.name) == option.default):
            name = getattr(self, option.name)
            is_needed = option.name in needed or name != option.default
            if option.name.endswith("_column") and name and is_needed and name not in columns:
                raise DataError(
                    f"{self.location} has no column {name!r}{did_you_mean(name, columns)}: add it, or name another with "
                    f"data_options {{{option.name}: ...}}"
                )

    def _labels(self, row: dict[str, Any], where: str) -> list[str]:
        """Return all labels of a row, the main one first."""
        labels: list[str] = []
        for column, separator in (
            (self.label_column, self.label_separator),
            (self.genres_column, self.label_separator or GENRES_SEPARATOR),
        ):
            found = labels_of(row.get(column), None, f"{where}, {column!r}") if column else []
            if separator and not isinstance(row.get(column), list):
                found = [part for label in found for part in label.split(separator)]
            labels += [label.strip() for label in found if label.strip()]
        return list(dict.fromkeys(labels))


def _published_id(track_id: str, root: Path) -> str:
    """Return a track id without the parents of an absolute path; it does not depend on the other rows."""
    path = Path(os.path.normpath(track_id))
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}/{path.name}" if path.is_absolute() else track_id


def _text(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    return "" if value is None else str(value).strip()
