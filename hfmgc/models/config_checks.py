"""What the configs refuse before a model is built of them: each check names the field."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any


def check_sizes(least: int = 1, **sizes: Any) -> None:
    """Raise a ValueError unless each field is a whole number of at least `least`."""
    for name, size in sizes.items():
        if not _is_whole(size):
            raise ValueError(f"{name} must be a whole number, not {size!r}")
        if size < least:
            raise ValueError(f"{name} must be at least {least}, not {size}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_size_lists(**lists: Any) -> None:
    """Raise a ValueError unless each field is a list of one or more whole numbers of at least 1."""
    for name, sizes in lists.items():
        if not isinstance(sizes, (list, tuple)) or not sizes or any(not _is_whole(size) or size < 1 for size in sizes):
            raise ValueError(f"{name} must be one or more whole numbers of at least 1, not {sizes!r}")


def check_numbers(least: float = 0.0, **numbers: Any) -> None:
    """Raise a ValueError unless each field is a finite number of at least `least`."""
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, Real) or not math.isfinite(number):
            raise ValueError(f"{name} must be a number, not {number!r}")
        if number < least:
            raise ValueError(f"{name} must be at least {least:g}, not {number}")


def check_rates(**rates: Any) -> None:
    """Raise a ValueError unless each field lies in [0, 1), as the rate of a dropout does."""
    for name, rate in rates.items():
        check_numbers(-math.inf, **{name: rate})
        if not 0 <= rate < 1:
            raise ValueError(f"{name} must lie in [0, 1), not {rate}")


def check_flags(**flags: Any) -> None:
    """Raise a ValueError unless each field is True or False: a text would count as True."""
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise ValueError(f"{name} must be true or false, not {flag!r}")


def check_choice(name: str, value: Any, known: Sequence[str]) -> None:
    """Raise a ValueError unless a field is one of the known names."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
