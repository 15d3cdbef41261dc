"""Names of artists and genres, compared as people read them."""

import unicodedata
from collections.abc import Iterable


def comparable(name: str) -> str:
    """Return a name without differences of case, blanks and Unicode form (NFKC)."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def one_spelling(names: Iterable[str]) -> dict[str, str]:
    """Return the spelling to use of each name: the first of those that are `comparable`."""
    first: dict[str, str] = {}
    return {name: first.setdefault(comparable(name), name) for name in names}
