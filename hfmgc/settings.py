"""Settings of a recipe: one YAML file, overridden on the command line, checked against the types of their fields.

    recipes/finetune_ast.py CONFIG.yaml --learning_rate 1e-4 --front_end.max_windows 20 --bf16

Values on the command line are read as YAML. `--field.entry value` sets one entry of a mapping. A file may begin with
`base: OTHER.yaml` (relative to its own folder): it inherits the other file's fields and overrides them; mappings are
merged entry by entry.
"""

import copy
import dataclasses
import enum
import errno
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.errors import StrictDataclassClassValidationError

from .errors import ConfigError, did_you_mean


# Section of a config that only recipes/search.py reads; the other recipes ignore it.
SEARCH = "search"


class SettingsLoader(yaml.SafeLoader):
    """YAML with the scalars of version 1.2 and without duplicate keys.

    PyYAML reads version 1.1, where `8:1:1` is a number of base 60, `no` is false, `1e-4` is a string and `2024-01-02` a
    date, and it silently keeps the last of duplicate keys.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; a duplicate key raises a ConstructorError with its line."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in lines:
                    problem = f"{key.value!r} is already set in line {lines[key.value]}"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


SettingsLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
     list("-+.0123456789")),
):  # fmt: skip
    SettingsLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def load_yaml(text: str) -> Any:
    """Parse YAML; `yaml.YAMLError` if it is invalid, repeats a key or is nested too deeply."""
    try:
        return copy.deepcopy(_parsed(text))
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None


@lru_cache(maxsize=256)
def _parsed(text: str) -> Any:
    """Parse YAML once for all the configs that share a base."""
    return yaml.load(text, Loader=SettingsLoader)


def yaml_problem(error: yaml.YAMLError) -> str:
    """Return in one line what is wrong with a YAML text, and where."""
    mark = getattr(error, "problem_mark", None)
    line = f" in line {mark.line + 1}" if mark else ""
    return f"not valid YAML{line} ({getattr(error, 'problem', None) or error})"


def load_json(text: str) -> Any:
    """Parse JSON; `ValueError` if it is invalid or nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_settings(
    argv: Sequence[str],
    groups: Sequence[type],
    default_config: Path | None = None,
    *,
    defaults: Mapping[str, Any] | None = None,
) -> tuple[Any, ...]:
    """Return one instance of each dataclass in `groups`, whose fields have different names.

    `argv` is the command line, the config file first; without one `default_config` is read. `defaults` are the recipe's
    own, in place of those of the fields.

    Raises:
        ConfigError: For an unreadable file, an unknown field (with the nearest name) or a value of the wrong type.
        SystemExit: After printing the fields, for `--help`.
    """
    if "--help" in argv or "-h" in argv:
        print(describe_fields(groups))
        raise SystemExit(0)
    values, where = read_values(argv, groups, default_config)
    values.pop(SEARCH, None)
    return settings_from({**(defaults or {}), **values}, groups, where=where)


def read_values(
    argv: Sequence[str], groups: Sequence[type], default_config: Path | None = None
) -> tuple[dict[str, Any], str]:
    """Return the fields set by a config file and the command line, unchecked, and the names of these sources."""
    arguments = list(argv)
    config = default_config
    if arguments and not arguments[0].startswith("--"):
        config = Path(arguments.pop(0))
    values = read_config(config) if config else {}
    sources = [str(config)] if config else []
    if arguments:
        sources.append("command line")
    while arguments:
        word = arguments.pop(0)
        if not word.startswith("--") or word == "--":
            raise ConfigError(f"command line: expected --field, got {word!r}")
        name, equals, text = word[2:].partition("=")
        if not equals:
            text = arguments.pop(0) if arguments and not arguments[0].startswith("--") else "true"
        set_field(values, name, _parse(name, text, groups), "command line")
    return values, " and ".join(sources) or "settings"


def read_config(path: Path) -> dict[str, Any]:
    """Return the fields of a config file and of the files it is based on."""
    path = Path(path)
    values, seen = _read_yaml(path), [path.resolve()]
    while "base" in values:
        name = values.pop("base")
        if not isinstance(name, str):
            raise ConfigError(f"{path}: base is the name of another config file, not {name!r}")
        path = path.parent / name
        if path.resolve() in seen:
            raise ConfigError(f"{path}: is based on itself through {seen[-1].name}")
        seen.append(path.resolve())
        values = _merged(_read_yaml(path), values)
    return values


def settings_from(values: dict[str, Any], groups: Sequence[type], *, where: str) -> tuple[Any, ...]:
    """Return one instance of each dataclass in `groups`; errors name the source of the values, `where`."""
    owners = _owners(groups)
    chosen: dict[type, dict[str, Any]] = {group: {} for group in groups}
    for name, value in values.items():
        if name not in owners:
            hint = did_you_mean(name, owners)
            hint = hint if hint.startswith(" (did") else "; --help lists all fields"
            raise ConfigError(f"{where}: unknown field {name!r}{hint}")
        chosen[owners[name]][name] = coerce(name, value, typing.get_type_hints(owners[name])[name], where)
    try:
        return tuple(group(**chosen[group]) for group in groups)
    except (ValueError, TypeError, ConfigError) as error:
        raise ConfigError(f"{where}: {error}") from error


def describe_fields(groups: Iterable[type], *, prefix: str = "") -> str:
    """Return the help text: all fields with choices, defaults and help; `prefix` is the section's name and a dot."""
    lines = [] if prefix else [__doc__.strip(), ""]
    for group in groups:
        lines.append(f"{group.__name__}:")
        hints = typing.get_type_hints(group)
        for field in dataclasses.fields(group):
            default = "" if field.default is dataclasses.MISSING else f" (default: {field.default})"
            text = " ".join(str(field.metadata.get("help", "")).split())
            enums = [kind for kind in _kinds(hints[field.name]) if isinstance(kind, enum.EnumType)]
            choices = field.metadata.get("choices") or [member.value for kind in enums for member in kind]
            one_of = f" {{{','.join(choices)}}}" if choices else ""
            lines.append(f"  --{prefix}{field.name}{one_of}{default}  {text}")
        lines.append("")
    return "\n".join(lines)


def known_fields(target: type) -> dict[str, Any]:
    """Return the fields that the constructors of `target` and of its bases name, with their type hints."""
    hints: dict[str, Any] = {}
    for base in reversed(target.__mro__):
        if "__init__" in vars(base):
            hints |= {name: given.annotation for name, given in inspect.signature(base.__init__).parameters.items()}
    return {name: hint for name, hint in hints.items() if name not in ("self", "args", "kwargs")}


def check_fields(target: type, fields: dict[str, Any], group: str) -> dict[str, Any]:
    """Return the fields as the types that `target` takes: a config, a feature extractor or a dataclass.

    Raises:
        ConfigError: For an unknown field, with the nearest name, a value of the wrong type or an impossible nested config.
    """
    hints = known_fields(target)
    values = {}
    for name, value in fields.items():
        if name not in hints:
            raise ConfigError(f"{group}: {target.__name__} has no field {name!r}{did_you_mean(str(name), hints)}")
        nested = getattr(target, "sub_configs", {}).get(name)
        # AutoConfig has no fields: the config itself checks those of the backbone's class.
        if hasattr(nested, "model_type") and isinstance(value, dict):
            with_fields(nested, value, f"{group}.{name}")  # transformers' configs keep unknown fields
        # Constructors of transformers have no hints, or hints as text.
        hint = Any if hints[name] is inspect.Parameter.empty or isinstance(hints[name], str) else hints[name]
        values[name] = coerce(name, value, hint, group)
    return values


def with_fields(target: type, fields: dict[str, Any], group: str, **more: Any) -> Any:
    """Return a config or feature extractor with the recipe's `fields` and the toolkit's own, `more`.

    Raises:
        ConfigError: As `check_fields`, or if the class refuses a value.
    """
    values = check_fields(target, fields, group)
    try:
        return target(**values, **more)
    except Exception as error:
        # The cause names the fields; the error itself only the method that compared them.
        shown = error.__cause__ if isinstance(error, StrictDataclassClassValidationError) else error
        raise ConfigError(f"{group}: {' '.join(str(shown).split())}") from error


def coerce(name: str, value: Any, hint: Any, where: str) -> Any:
    """Return `value` as the type of the field `name`: int to float, number to text, items of a list likewise.

    Raises:
        ConfigError: For a value of another type or a number that is not finite; it names the source `where`.
    """
    if not _is_finite(value):
        raise ConfigError(f"{where}: field {name!r} takes finite numbers, not {value!r}")
    kinds = _kinds(hint)
    if Any in kinds or typing.Literal in kinds or (value is None and type(None) in kinds):
        return value  # classes check their literals themselves
    if isinstance(value, bool):
        if bool in kinds:
            return value
    elif value is not None:
        if list in kinds and str not in kinds and isinstance(value, str):
            value = [value]  # a single item without brackets
        if isinstance(value, list) and list in kinds:
            return _coerce_items(name, value, hint, where)
        if isinstance(value, tuple(kind for kind in kinds if isinstance(kind, type))):
            return value
        if float in kinds and isinstance(value, int):
            return float(value)
        if str in kinds and isinstance(value, (int, float)):
            return str(value)
        if not any(kind in (int, float, str, bool, dict, list) for kind in kinds):
            return value  # enumerations convert themselves
    expected = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
    raise ConfigError(f"{where}: field {name!r} takes {expected}, not {value!r}")


def check_path_length(what: str, value: object) -> None:
    """Raise a ConfigError for a text that is too long for the operating system to look up as a path."""
    try:
        if isinstance(value, str):
            Path(value).stat()
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENAMETOOLONG:
            raise ConfigError(
                f"{what} {value[:40]!r}... ({len(value)} characters) is too long for a path: shorten it"
            ) from error


def _kinds(hint: Any) -> tuple[Any, ...]:
    """Return the types that a type hint allows, without their parameters."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = typing.get_args(hint) if is_union else (hint,)
    return tuple(typing.get_origin(kind) or kind for kind in kinds)


def _is_finite(value: Any) -> bool:
    """Return whether all numbers in a value are finite: 1e400 is read as infinity."""
    if isinstance(value, (dict, list)):
        return all(map(_is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int | float) or abs(value) <= sys.float_info.max


def _coerce_items(name: str, values: list[Any], hint: Any, where: str) -> list[Any]:
    for kind in (hint, *typing.get_args(hint)):
        if typing.get_origin(kind) is list:
            (item,) = typing.get_args(kind)
            return [coerce(f"{name}[{index}]", value, item, where) for index, value in enumerate(values)]
    return values


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = {**below, **above}
    for name in below.keys() & above.keys():
        if isinstance(below[name], dict) and isinstance(above[name], dict):
            merged[name] = _merged(below[name], above[name])
    return merged


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such config file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {yaml_problem(error)}") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ConfigError(f"{path}: a config is a mapping of field names to values")
    return content


def _owners(groups: Sequence[type]) -> dict[str, type]:
    """Return the dataclass of each field."""
    return {field.name: group for group in groups for field in dataclasses.fields(group) if field.init}


def _parse(name: str, text: str, groups: Sequence[type]) -> Any:
    """Parse a value of the command line as YAML; text fields take it literally."""
    owner = _owners(groups).get(name)
    kinds = _kinds(typing.get_type_hints(owner)[name]) if owner else ()
    if str in kinds and not {bool, dict, list} & set(kinds):
        return None if text == "null" and type(None) in kinds else text
    try:
        return load_yaml(text) if text else text
    except yaml.YAMLError as error:
        if dict in kinds:
            raise ConfigError(f"command line: field {name!r}: {yaml_problem(error)}") from error
        return text


def set_field(values: dict[str, Any], path: str, value: Any, where: str) -> None:
    """Set a field, or an entry of a mapping named with dots; errors name the source of the value, `where`."""
    *parents, last = path.split(".")
    for depth, parent in enumerate(parents):
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            prefix = ".".join(parents[: depth + 1])
            raise ConfigError(f"{where}: {prefix} is not a mapping, so it has no entry {last!r}")
    values[last] = value
