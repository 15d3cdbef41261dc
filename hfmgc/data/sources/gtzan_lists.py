"""Published lists for GTZAN: the fault-filtered partition and the artist-filtered folds."""

from collections.abc import Iterator
from functools import cache
from importlib.resources import files


@cache
def fault_filtered() -> dict[str, list[str]]:
    """Return the sorted track ids of train (443, with the broken `jazz.00054`), validation (197) and test (290)."""
    sides: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for side, genre, numbers in _lines("gtzan_fault_filtered.txt"):
        sides[side] += _ids(genre, numbers)
    return {side: sorted(members) for side, members in sides.items()}


@cache
def artist_folds() -> list[list[str]]:
    """Return the sorted track ids of the three folds (315, 316 and 317 tracks); no artist group is in two folds."""
    folds: list[list[str]] = [[], [], []]
    for fold, _, genre, numbers in _lines("gtzan_artist_folds.txt"):
        folds[int(fold) - 1] += _ids(genre, numbers)
    return [sorted(members) for members in folds]


@cache
def artist_groups() -> dict[str, str]:
    """Return the artist group (`group 12`) of the 948 tracks for which it is known."""
    lines = _lines("gtzan_artist_folds.txt")
    return {name: f"group {group}" for _, group, genre, numbers in lines for name in _ids(genre, numbers)}


def _lines(name: str) -> Iterator[list[str]]:
    text = files(__package__).joinpath("lists", name).read_text(encoding="utf-8")
    return (line.split("\t") for line in text.splitlines() if line and not line.startswith("#"))


def _ids(genre: str, numbers: str) -> list[str]:
    """Return `blues.00003`, `blues.00004`, `blues.00007` for `3-4,7`."""
    ranges = (part.partition("-") for part in numbers.split(","))
    return [f"{genre}.{n:05d}" for first, _, last in ranges for n in range(int(first), int(last or first) + 1)]
