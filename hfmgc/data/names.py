"""Comparing names of artists and genres regardless of case, whitespace and Unicode form."""

import unicodedata
from collections.abc import Iterable

import datasets


def normalize_name(name: str) -> str:
    """Return the form of a name that is equal for all spellings that differ in case, whitespace or Unicode form."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).casefold().split())  # casefold can undo NFKC


def one_spelling(names: Iterable[str]) -> dict[str, str]:
    """Return name -> the first of the names with the same normalised form."""
    first: dict[str, str] = {}
    return {name: first.setdefault(normalize_name(name), name) for name in names}


def distinct_names(names: Iterable[str]) -> list[str]:
    """Return the first spelling of each name, in order."""
    return list(dict.fromkeys(one_spelling(names).values()))


def spelling_note(genres: Iterable[str]) -> str | None:
    """Return a note on spellings of genres that are merged, or None if there are none."""
    merged = ", ".join(f"{name!r} as {genre!r}" for name, genre in one_spelling(genres).items() if name != genre)
    return f"genres that differ only in case, whitespace or Unicode form are merged: {merged}" if merged else None


def genres_of(tracks: datasets.Dataset) -> list[list[str]]:
    """Return all genres of each track: the column `genres`, or else the one in `genre`."""
    if "genres" in tracks.column_names:
        return [list(genres) for genres in tracks["genres"][:]]
    return [[genre] for genre in tracks["genre"][:]]
