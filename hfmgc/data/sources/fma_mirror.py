"""FMA's mirrors on the Hub: several genres for each track, the artist's name, no split and no top genre."""

import datasets

from ...errors import DataError
from ..caching import cached_map
from .contract import TRACK_FEATURES, track_row
from .hub_tables import audio_fields
from .tables import class_names, class_of, sorted_by_id


def mirror_genres(tables: dict[str, datasets.Dataset], location: str) -> list[str]:
    """Return the names of the classes of the column `genres`, in their order."""
    names = [_class_names(table, location) for table in tables.values()]
    if any(other != names[0] for other in names):
        raise DataError(f"FMA ({location}): its splits have different classes in the column 'genres'")
    return names[0]


def occurring_genres(tables: dict[str, datasets.Dataset], location: str) -> list[str]:
    """Return the names of those classes that some track has, in their order: the smaller subsets lack many."""
    names = mirror_genres(tables, location)
    occurring = {label for table in tables.values() for labels in table["genres"] for label in labels or []}
    return [names[label] for label in sorted(occurring) if class_of(label, names)]


def read_mirror(tables: dict[str, datasets.Dataset], location: str) -> datasets.Dataset:
    """Return the rows of a mirror as tracks, sorted by their ids."""
    parts = [
        cached_map(
            table,
            _mirrored,
            ("tables",),
            with_indices=True,
            fn_kwargs={"genres": mirror_genres(tables, location), "part": part},
            features=TRACK_FEATURES,
            remove_columns=table.column_names,
            writer_batch_size=32,
            desc="FMA: naming tracks",
        )
        for part, table in tables.items()
    ]
    return sorted_by_id(datasets.concatenate_datasets(parts))


def _class_names(table: datasets.Dataset, location: str) -> list[str]:
    names = class_names(table.features.get("genres"))
    if not names:
        raise DataError(f"FMA ({location}) has no column 'genres' of named classes: is it a mirror of FMA?")
    return names


def _mirrored(row: dict, index: int, genres: list[str], part: str) -> dict:
    path, content = audio_fields(row["audio"], f"FMA, row {index} of split {part!r}")
    stem = (path or "").replace("\\", "/").rsplit("/", 1)[-1].partition(".")[0]
    # Without the number in the file's name the row is all that names a track.
    track_id = f"{int(stem):06d}" if stem.isdecimal() else f"{part}-{index:06d}"
    names = [name for name in (class_of(label, genres) for label in row["genres"] or []) if name]
    return track_row(
        track_id,
        next(iter(names), ""),
        path=path if content is None else None,
        audio=content,
        genres=names,
        artist=row.get("artist") or "",
    )
