"""Checks of the fields of feature extractors, which transformers accepts unchecked."""

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from huggingface_hub.dataclasses import type_validator


def check_types(init: Callable, fields: dict[str, Any]) -> None:
    """Raise a ValueError naming the first field whose value does not fit its type hint in the constructor `init`."""
    for name, parameter in inspect.signature(init).parameters.items():
        if name in fields and parameter.annotation is not parameter.empty:
            try:
                type_validator(name, fields[name], parameter.annotation)
            except TypeError as error:
                raise ValueError(str(error)) from error


def check_positive(**numbers: float | None) -> None:
    """Raise a ValueError naming the first field that is neither None nor a finite number above 0."""
    for name, number in numbers.items():
        if number is not None and not 0 < number < float("inf"):
            raise ValueError(f"{name} must be a finite number above 0, not {number}")


def refuse_misspelt(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise a ValueError for a name close to a known field; other unknown names pass, because transformers adds fields."""
    for name in set(names) - set(known):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        if near:
            raise ValueError(f"there is no field {name!r}; did you mean {near[0]!r}?")
