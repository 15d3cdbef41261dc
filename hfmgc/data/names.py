"""Names of artists and genres, compared regardless of case, blanks and Unicode form."""

import unicodedata
from collections.abc import Iterable

import datasets


def normalize_name(name: str) -> str:
    """Return a name without differences of case, blanks and Unicode form (NFKC)."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).casefold().split())  # folding can undo the form


def one_spelling(names: Iterable[str]) -> dict[str, str]:
    """Return name -> the spelling to use: the first of the names with the same `normalize_name` form."""
    first: dict[str, str] = {}
    return {name: first.setdefault(normalize_name(name), name) for name in names}


def distinct_names(names: Iterable[str]) -> list[str]:
    """Return names in their order, in one spelling each."""
    return list(dict.fromkeys(one_spelling(names).values()))


def spelling_note(genres: Iterable[str]) -> str | None:
    """Return which spellings of genres are merged, or None if there are none."""
    others = [f"{other!r} as {genre!r}" for other, genre in one_spelling(genres).items() if other != genre]
    return f"genres that differ only in case, blanks or Unicode form are one: {', '.join(others)}" if others else None


def genres_of(tracks: datasets.Dataset) -> list[list[str]]:
    """Return all genres of each track; without a column `genres`, its one genre."""
    if "genres" in tracks.column_names:
        return [list(genres) for genres in tracks["genres"][:]]
    return [[genre] for genre in tracks["genre"][:]]
