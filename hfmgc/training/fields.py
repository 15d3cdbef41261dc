"""Fields of configs and feature extractors as a recipe gives them: known ones alone, of the right kind."""

import inspect
from typing import Any

from ..errors import ConfigError, nearest
from ..settings_values import coerce


def known_fields(target: type) -> dict[str, Any]:
    """Return the fields that the constructors of `target` and of its bases name, with their type hints."""
    hints: dict[str, Any] = {}
    for base in reversed(target.__mro__):
        if "__init__" in vars(base):
            hints |= {name: given.annotation for name, given in inspect.signature(base.__init__).parameters.items()}
    return {name: hint for name, hint in hints.items() if name not in ("self", "args", "kwargs")}


def check_fields(target: type, fields: dict[str, Any], group: str) -> dict[str, Any]:
    """Return the fields as what `target` takes.

    Raises:
        ConfigError: If it has no such field (the nearest is named), or a value is of another kind.
    """
    hints = known_fields(target)
    values = {}
    for name, value in fields.items():
        if name not in hints:
            raise ConfigError(f"{group}: {target.__name__} has no field {name!r}{nearest(str(name), hints)}")
        nested = getattr(target, "sub_configs", {}).get(name)
        if nested is not None and isinstance(value, dict):
            with_fields(nested, value, f"{group}.{name}")  # transformers' configs keep whatever they are given
        # transformers' own constructors say little of types, and check for themselves.
        hint = Any if hints[name] is inspect.Parameter.empty or isinstance(hints[name], str) else hints[name]
        values[name] = coerce(name, value, hint, group)
    return values


def with_fields(target: type, fields: dict[str, Any], group: str, **more: Any) -> Any:
    """Return an instance of `target` with the recipe's fields, and `more` that are ours.

    Raises:
        ConfigError: As `check_fields`, or if the values do not go together.
    """
    values = check_fields(target, fields, group)
    try:
        return target(**values, **more)
    except Exception as error:  # configs of transformers validate their fields with exceptions of their own
        raise ConfigError(f"{group}: {' '.join(str(error).split())}") from error
