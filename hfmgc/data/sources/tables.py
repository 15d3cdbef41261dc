"""Tables of tracks from files on disk."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets

from ...errors import DataError
from ...text import as_text
from .contract import TRACK_FEATURES, track_row


NOT_UTF8 = "its path or genre is not UTF-8: rename it"
if sys.getfilesystemencoding().lower() != "utf-8":
    NOT_UTF8 = f"its path or genre is not {sys.getfilesystemencoding()}: rename it, or set PYTHONUTF8=1"

# What the many writers of lists call the three sides.
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
    """Return `train`, `validation`, `test` or "" for what a list calls a side, refusing any other name."""
    side = SIDE_NAMES.get(name.strip().lower())
    if side is None:
        raise DataError(f"{where}: {name!r} is no side of a split; write train, validation or test")
    return side


def check_unique(track_ids: Sequence[str], where: str) -> None:
    """Refuse a track id that occurs twice: it could come to lie on two sides of a split."""
    repeated = [track_id for track_id, count in Counter(track_ids).items() if count > 1]
    if repeated:
        more = f" (and {len(repeated) - 1} more)" if len(repeated) > 1 else ""
        raise DataError(
            f"{where}: track id {repeated[0]!r}{more} occurs more than once: give each track one of its own"
        )


def sorted_by_id(tracks: datasets.Dataset) -> datasets.Dataset:
    """Return the tracks in the order of their ids.

    `Dataset.sort` says where nulls go in a way that newer pyarrow warns of.
    """
    ids = list(tracks["track_id"])
    return tracks.select(sorted(range(len(ids)), key=ids.__getitem__))


def class_of(number: int, names: Sequence[str]) -> str:
    """Return the name of a class; "" of a number that none has, such as -1, which stands for an unlabelled example."""
    return names[number] if 0 <= number < len(names) else ""


def class_names(feature: Any) -> list[str] | None:
    """Return the names of a column of classes, or of lists of classes, in their order; None for any other column."""
    feature = getattr(feature, "feature", feature)
    return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None


def refuse_other_than_text(label: Any, where: str) -> None:
    """Refuse a label, or a list of labels, that is neither text nor missing: 1, 1.0 and true are no names of genres."""
    for one in label if isinstance(label, list) else [label]:
        if one is not None and not isinstance(one, str):
            raise DataError(f"{where}: the label {one!r} is no text: write the name of the genre")


def file_table(rows: list[dict[str, Any]], unreadable: dict[str, str]) -> datasets.Dataset:
    """Return rows of `track_row` whose audio is a path as a table, cached by the rows and the state of the files.

    What is not UTF-8 is escaped, and the track is added to `unreadable` (track id -> why it is skipped).
    """
    rows = [_as_text(row, unreadable) for row in rows]
    # Size and time of change are part of what datasets fingerprints: a file that was replaced is decoded anew.
    states = []
    for row in rows:
        path = row["audio"]["path"]
        try:
            status = path and Path(path).stat()
            states.append((status.st_size, status.st_mtime_ns) if path else None)
        except (OSError, ValueError):  # missing, or no possible name: decoding says so
            states.append(None)
    return datasets.Dataset.from_generator(
        _rows, gen_kwargs={"rows": rows, "states": states}, features=TRACK_FEATURES, split="train"
    )


def _as_text(row: dict[str, Any], unreadable: dict[str, str]) -> dict[str, Any]:
    """Return a row that can be stored: as it is, or escaped and without audio."""
    texts = [row["track_id"], row["audio"]["path"] or "", row["artist"], row["genre"], *row["genres"]]
    if all(as_text(text) == text for text in texts):
        return row
    track_id = as_text(row["track_id"])
    unreadable[track_id] = NOT_UTF8
    genres = [as_text(genre) for genre in row["genres"]]
    return track_row(track_id, as_text(row["genre"]), genres=genres, artist=as_text(row["artist"]), split=row["split"])


def _rows(rows: list[dict[str, Any]], states: list[tuple[int, int] | None]) -> Iterator[dict[str, Any]]:
    del states
    for row in rows:
        yield track_row(
            row["track_id"],
            row["genre"],
            path=row["audio"]["path"],
            genres=row["genres"],
            artist=row["artist"],
            split=row["split"],
        )
