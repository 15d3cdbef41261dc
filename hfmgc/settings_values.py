"""Values of settings: YAML as people mean it, and checked against the type of their field."""

import errno
import json
import re
import sys
import types
import typing
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigError


class SettingsLoader(yaml.SafeLoader):
    """YAML with the scalars of version 1.2 alone, in which a mapping names each key once.

    PyYAML reads version 1.1, where `8:1:1` is a number of base 60, `no` is false, `1e-4` is a string and `2024-01-02` a
    date; and of a key that occurs twice it keeps the last value without a word.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; ConstructorError, with the line, for a key that was there before."""
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if key.value in seen:
                    problem = f"{key.value!r} is already set in line {seen[key.value]}"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen[key.value] = line
        return super().construct_mapping(node, deep)


SettingsLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+.0123456789"),
):  # fmt: skip
    SettingsLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first) + ([""] if _tag == "null" else [])
    )


def load_yaml(text: str) -> Any:
    """Return what a YAML text holds; `yaml.YAMLError` if it is none, repeats a key or nests too deeply."""
    try:
        return yaml.load(text, Loader=SettingsLoader)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None


def yaml_problem(error: yaml.YAMLError) -> str:
    """Return in one line what is wrong with a YAML text, and where."""
    mark = getattr(error, "problem_mark", None)
    line = f" in line {mark.line + 1}" if mark else ""
    return f"not valid YAML{line} ({getattr(error, 'problem', None) or error})"


def load_json(text: str) -> Any:
    """Return what a JSON text holds; `ValueError` if it is none or nests too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def kinds_of(hint: Any) -> tuple[Any, ...]:
    """Return the types that a type hint allows, without their parameters."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = typing.get_args(hint) if is_union else (hint,)
    return tuple(typing.get_origin(kind) or kind for kind in kinds)


def coerce(name: str, value: Any, hint: Any, where: str) -> Any:
    """Return `value` as what the field `name` takes.

    Whole numbers serve as fractions, numbers as text; nothing else is converted. The same goes for the items of a list,
    where the type hint says what they are.

    Raises:
        ConfigError: If it is of another kind, or a number that is not finite; `where` it comes from is named.
    """
    if not _is_finite(value):
        raise ConfigError(f"{where}: field {name!r} takes finite numbers, not {value!r}")
    kinds = kinds_of(hint)
    if Any in kinds or (value is None and type(None) in kinds):
        return value
    if isinstance(value, bool):
        if bool in kinds:
            return value
    elif value is not None:
        if list in kinds and str not in kinds and isinstance(value, str):
            value = [value]  # one of them, without brackets
        if isinstance(value, list) and list in kinds:
            return _coerce_items(name, value, hint, where)
        if isinstance(value, tuple(kind for kind in kinds if isinstance(kind, type))):
            return value
        if float in kinds and isinstance(value, int):
            return float(value)
        if str in kinds and isinstance(value, (int, float)):
            return str(value)
        if not any(kind in (int, float, str, bool, dict, list) for kind in kinds):
            return value  # enumerations and the like convert themselves
    expected = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
    raise ConfigError(f"{where}: field {name!r} takes {expected}, not {value!r}")


def _is_finite(value: Any) -> bool:
    """Return whether all numbers in a value are finite: 1e400 is read as infinity."""
    if isinstance(value, (dict, list)):
        return all(map(_is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int | float) or abs(value) <= sys.float_info.max


def _coerce_items(name: str, values: list[Any], hint: Any, where: str) -> list[Any]:
    """Return the items of a list as what the field's type hint says of them, if it says anything."""
    for kind in (hint, *typing.get_args(hint)):
        if typing.get_origin(kind) is list:
            (item,) = typing.get_args(kind)
            return [coerce(f"{name}[{index}]", value, item, where) for index, value in enumerate(values)]
    return values


def refuse_long_path(what: str, value: object) -> None:
    """Refuse a text that the operating system cannot look up as a path: every look at the disk would fail on it.

    Raises:
        ConfigError: If it is too long.
    """
    try:
        if isinstance(value, str):
            Path(value).stat()
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENAMETOOLONG:
            raise ConfigError(
                f"{what} {value[:40]!r}... ({len(value)} characters) is too long for the name of anything: shorten it"
            ) from error
