"""Checks for the fields of feature extractors, because transformers does not check them."""

import difflib
import inspect
import reprlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from huggingface_hub.dataclasses import type_validator


def check_types(init: Callable, fields: dict[str, Any]) -> None:
    """Raise a ValueError that names the first field whose value contradicts its type hint in the constructor `init`."""
    for name, parameter in inspect.signature(init).parameters.items():
        if name in fields and parameter.annotation is not parameter.empty:
            try:
                type_validator(name, fields[name], parameter.annotation)
            except TypeError as error:
                raise ValueError(str(error)) from error


def check_positive(**numbers: float | None) -> None:
    """Raise a ValueError that names the first field that is neither None nor a finite number above 0."""
    for name, number in numbers.items():
        if number is not None and not 0 < number < float("inf"):
            raise ValueError(f"{name} must be a finite number above 0, not {number}")


def check_statistics(mean: float | list[float], std: float | list[float], bins: int) -> None:
    """Raise a ValueError unless mean and std are finite, one number or `bins` numbers each, and std is above 0."""
    for name, values in (("mean", np.asarray(mean, np.float64)), ("std", np.asarray(std, np.float64))):
        if values.size not in (1, bins) or not np.isfinite(values).all():
            raise ValueError(
                f"{name} must be one finite number or {bins}, one for each bin, not {reprlib.repr(values.tolist())}"
            )
    if np.min(std) <= 0:
        raise ValueError("std must be above 0 in each bin")


def refuse_misspelt_fields(names: Iterable[str], fields: Iterable[str]) -> None:
    """Raise a ValueError for a name that looks like a misspelt field.

    Other unknown names pass, because transformers adds fields of its own.
    """
    for name in set(names) - set(fields):
        near = difflib.get_close_matches(name, fields, n=1, cutoff=0.75)
        if near:
            raise ValueError(f"{name}: there is no such field: did you mean {near[0]!r}?")
