"""Settings of a recipe: a YAML file and overrides from the command line, checked against the types of the fields.

    recipes/finetune_ast.py CONFIG.yaml --learning_rate 1e-4 --front_end.max_windows 20 --bf16

Values on the command line are parsed as YAML. `--field.entry value` sets one entry of a mapping. A file that begins
with `base: OTHER.yaml` (a path relative to its own folder) inherits the fields of the other file. It can override
them; mappings are merged entry by entry.
"""

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
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.errors import StrictDataclassClassValidationError

from .errors import ConfigError, did_you_mean
from .text import one_line


# Section of a config that only recipes/search.py reads; the other recipes ignore it.
SEARCH = "search"


class SettingsLoader(yaml.SafeLoader):
    """Loader for the scalars of YAML 1.2 that refuses duplicate keys.

    PyYAML follows YAML 1.1, where `8:1:1` is a number in base 60, `no` is false, `1e-4` is a string and `2024-01-02`
    is a date. It also keeps the last of duplicate keys without a warning.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; raise a ConstructorError that names the line of a duplicate key."""
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
    """Parse YAML; raise a one-line ValueError if it is invalid, repeats a key or is nested too deeply."""
    try:
        return yaml.load(text, Loader=SettingsLoader)
    except RecursionError:
        raise ValueError("not valid YAML (nested too deeply)") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise ValueError(f"not valid YAML{line} ({getattr(error, 'problem', None) or error})") from error


def load_json(text: str) -> Any:
    """Parse JSON; raise a ValueError if it is invalid or nested too deeply."""
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
    """Return one instance of each dataclass in `groups`, which share no field name.

    Args:
        argv: The command line, without the program's name. It may begin with the config file.
        groups: The dataclasses.
        default_config: The config file if `argv` names none.
        defaults: Replace the default values of the fields.

    Raises:
        ConfigError: If a file cannot be read, a field does not exist or a value has the wrong type.
        SystemExit: After printing the help text, for `--help`.
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
    """Return the unchecked fields that a config file and the command line set, and where they were set, for errors."""
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
        if not equals and arguments and not arguments[0].startswith("--"):
            text = arguments.pop(0)
        elif not equals:
            if _is_text(name, groups):
                raise ConfigError(f"command line: field {name!r} needs a value")
            text = "true"
        set_field(values, name, _parse_argument(name, text, groups), "command line")
    return values, " and ".join(sources) or "settings"


def read_config(path: Path) -> dict[str, Any]:
    """Return the fields of a config file, including those that it inherits."""
    path = Path(path)
    values, seen = _read_yaml(path), [path.resolve()]
    while "base" in values:
        name = values.pop("base")
        if not isinstance(name, str):
            raise ConfigError(f"{path}: base must name another config file, not {name!r}")
        path = path.parent / name
        if path.resolve() in seen:
            raise ConfigError(f"{path}: is based on itself through {seen[-1].name}: remove the base there")
        seen.append(path.resolve())
        values = _merge(_read_yaml(path), values)
    return values


def settings_from(values: dict[str, Any], groups: Sequence[type], *, where: str) -> tuple[Any, ...]:
    """Return one instance of each dataclass in `groups`; errors begin with `where`, the source of the values."""
    group_of = _group_of_each_field(groups)
    fields: dict[type, dict[str, Any]] = {group: {} for group in groups}
    for name, value in values.items():
        if name not in group_of:
            hint = did_you_mean(name, group_of, otherwise="; --help lists all fields")
            raise ConfigError(f"{where}: unknown field {name!r}{hint}")
        group = group_of[name]
        fields[group][name] = coerce(name, value, typing.get_type_hints(group)[name], where)
    try:
        return tuple(group(**fields[group]) for group in groups)
    except (ValueError, TypeError, ConfigError) as error:
        raise ConfigError(f"{where}: {one_line(error)}") from error


def describe_fields(groups: Iterable[type], *, prefix: str = "") -> str:
    """Return the help text: choices, default and description of each field; `prefix` precedes the names."""
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
    """Return the type hint of each parameter of the constructors of `target` and its base classes."""
    hints: dict[str, Any] = {}
    for base in reversed(target.__mro__):
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters
            hints |= {name: parameter.annotation for name, parameter in parameters.items()}
    return {name: hint for name, hint in hints.items() if name not in ("self", "args", "kwargs")}


def check_fields(target: type, fields: dict[str, Any], group: str) -> dict[str, Any]:
    """Return the fields, coerced to the types of `target`: the class of a config or feature extractor, or a dataclass.

    Raises:
        ConfigError: If a field is unknown, a value has the wrong type or a nested config cannot be built. The message
            begins with `group`, the field of the recipe that holds these fields.
    """
    hints = known_fields(target)
    values = {}
    for name, value in fields.items():
        if name not in hints:
            raise ConfigError(f"{group}: {target.__name__} has no field {name!r}{did_you_mean(str(name), hints)}")
        nested = getattr(target, "sub_configs", {}).get(name)
        # transformers' configs accept unknown fields, so nested ones are checked here. AutoConfig is not one of them.
        if hasattr(nested, "model_type") and isinstance(value, dict):
            with_fields(nested, value, f"{group}.{name}")
        # The constructors of transformers have no type hints, or hints as text.
        hint = Any if hints[name] is inspect.Parameter.empty or isinstance(hints[name], str) else hints[name]
        values[name] = coerce(name, value, hint, group)
    return values


def with_fields(target: type, fields: dict[str, Any], group: str, **more: Any) -> Any:
    """Build a `target` from `fields`, checked by `check_fields`, and from the keyword arguments `more`.

    Raises:
        ConfigError: If `check_fields` or the class refuses a field or value.
    """
    values = check_fields(target, fields, group)
    try:
        return target(**values, **more)
    except Exception as error:
        # This error names only the method that compared the fields; its cause names the fields.
        cause = error.__cause__ if isinstance(error, StrictDataclassClassValidationError) else error
        raise ConfigError(f"{group}: {one_line(cause)}") from error


def coerce(name: str, value: Any, hint: Any, where: str) -> Any:
    """Convert the value of a field to its type: an int to float, a number to text, and the items of a list likewise.

    Raises:
        ConfigError: If the value has another type or holds a number that is not finite; the message begins with
            `where`.
    """
    if not _is_finite(value):
        raise ConfigError(f"{where}: field {name!r} takes finite numbers, not {value!r}")
    kinds = _kinds(hint)
    if Any in kinds or typing.Literal in kinds or (value is None and type(None) in kinds):
        return value  # a class checks its own literals
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
            return value  # an enumeration converts its own values
    expected = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
    raise ConfigError(f"{where}: field {name!r} takes {expected}, not {value!r}")


def check_path_length(what: str, value: object) -> None:
    """Raise a ConfigError if a text is too long for the operating system to look up as a path."""
    try:
        if isinstance(value, str):
            Path(value).stat()
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENAMETOOLONG:
            raise ConfigError(
                f"{what} {value[:40]!r}... ({len(value)} characters) is too long for a path: shorten it"
            ) from error


def _kinds(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the only type, without type parameters."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = typing.get_args(hint) if is_union else (hint,)
    return tuple(typing.get_origin(kind) or kind for kind in kinds)


def _is_finite(value: Any) -> bool:
    """Return whether all numbers in a value are finite; 1e400, for instance, is parsed as infinity."""
    if isinstance(value, (dict, list)):
        return all(map(_is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int | float) or abs(value) <= sys.float_info.max


def _coerce_items(name: str, values: list[Any], hint: Any, where: str) -> list[Any]:
    for kind in (hint, *typing.get_args(hint)):
        if typing.get_origin(kind) is list:
            (item,) = typing.get_args(kind)
            return [coerce(f"{name}[{index}]", value, item, where) for index, value in enumerate(values)]
    return values


def _merge(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    merged = {**base, **overrides}
    for name in base.keys() & overrides.keys():
        if isinstance(base[name], dict) and isinstance(overrides[name], dict):
            merged[name] = _merge(base[name], overrides[name])
    return merged


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such config file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ConfigError(f"{path}: a config is a mapping of field names to values")
    return content


def _group_of_each_field(groups: Sequence[type]) -> dict[str, type]:
    return {field.name: group for group in groups for field in dataclasses.fields(group) if field.init}


def _kinds_of_field(name: str, groups: Sequence[type]) -> tuple[Any, ...]:
    group = _group_of_each_field(groups).get(name)
    return _kinds(typing.get_type_hints(group)[name]) if group else ()


def _is_text(name: str, groups: Sequence[type]) -> bool:
    kinds = _kinds_of_field(name, groups)
    return str in kinds and not {bool, dict, list} & set(kinds)


def _parse_argument(name: str, text: str, groups: Sequence[type]) -> Any:
    """Parse a value from the command line as YAML, unless its field is text."""
    kinds = _kinds_of_field(name, groups)
    if _is_text(name, groups):
        return None if text == "null" and type(None) in kinds else text
    try:
        return load_yaml(text) if text else text
    except ValueError as error:
        if dict in kinds:
            raise ConfigError(f"command line: field {name!r}: {error}") from error
        return text


def set_field(values: dict[str, Any], path: str, value: Any, where: str) -> None:
    """Set a field, or an entry of a mapping such as `model.hidden_size`; errors begin with `where`."""
    *parents, last = path.split(".")
    for depth, parent in enumerate(parents):
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            prefix = ".".join(parents[: depth + 1])
            raise ConfigError(f"{where}: {prefix} is not a mapping, so entry {last!r} cannot be set")
    values[last] = value
