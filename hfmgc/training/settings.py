"""Reading a recipe: one YAML file, overridden on the command line, into dataclasses.

    recipes/finetune_ast.py CONFIG.yaml --learning_rate 1e-4 --front_end.max_windows 20 --bf16

Values on the command line are read as YAML. A field that is a mapping takes single entries as `--field.entry value`.
A file may begin with `base: OTHER.yaml` (beside it): it has the other's fields, and its own in place of them; mappings are
merged entry by entry.
"""

import dataclasses
import enum
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError, nearest
from ..settings_values import coerce, kinds_of, load_yaml, yaml_problem


BASE = "base"
# Sections of a config that one recipe alone reads (recipes/search.py); the others pass over them.
SEARCH = "search"


def read_settings(argv: Sequence[str], groups: Sequence[type], default_config: Path | None = None) -> tuple[Any, ...]:
    """Return one instance of each dataclass in `groups`.

    Args:
        argv: Arguments of the command line, the config file first if there is one.
        groups: Dataclasses with fields of different names.
        default_config: The file to read when none is given.

    Raises:
        ConfigError: For a file that cannot be read, a field that does not exist (with the nearest name) or a value of
            the wrong kind.
        SystemExit: After printing the fields, for `--help`.
    """
    if "--help" in argv or "-h" in argv:
        print(describe_fields(groups))
        raise SystemExit(0)
    values, where = read_values(argv, groups, default_config)
    if SEARCH not in _owners(groups):
        values.pop(SEARCH, None)
    return settings_from(values, groups, where=where)


def read_values(
    argv: Sequence[str], groups: Sequence[type], default_config: Path | None = None
) -> tuple[dict[str, Any], str]:
    """Return the fields that a config file and the command line give, not yet checked, and where they come from.

    Args and errors: as `read_settings`.
    """
    arguments = list(argv)
    config = default_config
    if arguments and not arguments[0].startswith("--"):
        config = Path(arguments.pop(0))
    values = read_config(config) if config else {}
    overrides = _read_overrides(arguments)
    for name, text in overrides:
        _override(values, name, _read_value(name, text, groups))
    where = " and ".join(filter(None, (str(config) if config else "", "command line" if overrides else "")))
    return values, where or "settings"


def read_config(path: Path) -> dict[str, Any]:
    """Return the fields of a config file and of the files that it is based on."""
    path = Path(path)
    values, seen = read_yaml(path), [path.resolve()]
    while BASE in values:
        name = values.pop(BASE)
        if not isinstance(name, str):
            raise ConfigError(f"{path}: {BASE} is the name of another config file, not {name!r}")
        path = path.parent / name
        if path.resolve() in seen:
            raise ConfigError(f"{path}: based on itself, by way of {seen[-1].name}")
        seen.append(path.resolve())
        values = _merged(read_yaml(path), values)
    return values


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = {**below, **above}
    for name in below.keys() & above.keys():
        if isinstance(below[name], dict) and isinstance(above[name], dict):
            merged[name] = _merged(below[name], above[name])
    return merged


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that a config file holds."""
    try:
        content = load_yaml(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such config file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {yaml_problem(error)}") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ConfigError(f"{path}: a config is a mapping of field names to values")
    return content


def settings_from(values: dict[str, Any], groups: Sequence[type], *, where: str) -> tuple[Any, ...]:
    """Return one instance of each dataclass in `groups` with these values; `where` they come from is for errors."""
    owners = _owners(groups)
    chosen: dict[type, dict[str, Any]] = {group: {} for group in groups}
    for name, value in values.items():
        if name not in owners:
            raise ConfigError(f"{where}: unknown field {name!r}{_near(name, owners)}")
        hint = typing.get_type_hints(owners[name])[name]
        chosen[owners[name]][name] = coerce(name, value, hint, where)
    instances = []
    for group in groups:
        try:
            instances.append(group(**chosen[group]))
        except (ValueError, TypeError, ConfigError) as error:
            raise ConfigError(f"{where}: {error}") from error
    return tuple(instances)


def describe_fields(groups: Sequence[type], *, prefix: str = "") -> str:
    """Return all fields with their choices, defaults and help; those of a section have its name and a dot before theirs."""
    lines = [__doc__.strip(), ""] if not prefix else []
    for group in groups:
        lines.append(f"{group.__name__}:")
        hints = typing.get_type_hints(group)
        for field in dataclasses.fields(group):
            default = "" if field.default is dataclasses.MISSING else f" (default: {field.default})"
            text = " ".join(str(field.metadata.get("help", "")).split())
            choices = field.metadata.get("choices") or _members(hints[field.name])
            one_of = f" {{{','.join(choices)}}}" if choices else ""
            lines.append(f"  --{prefix}{field.name}{one_of}{default}  {text}")
        lines.append("")
    return "\n".join(lines)


def _members(hint: Any) -> list[str]:
    """Return the values of the enumeration that a type hint allows, if it does."""
    return [
        member.value
        for kind in kinds_of(hint)
        if isinstance(kind, type) and issubclass(kind, enum.Enum)
        for member in kind
    ]


def _read_overrides(arguments: list[str]) -> list[tuple[str, str]]:
    overrides = []
    position = 0
    while position < len(arguments):
        word = arguments[position]
        if not word.startswith("--") or word == "--":
            raise ConfigError(f"command line: expected --field, got {word!r}")
        name, equals, text = word[2:].partition("=")
        position += 1
        if not equals:
            if position < len(arguments) and not arguments[position].startswith("--"):
                text = arguments[position]
                position += 1
            else:
                text = "true"  # a bare flag
        overrides.append((name, text))
    return overrides


def _read_value(name: str, text: str, groups: Sequence[type]) -> Any:
    """Read a value of the command line as YAML, but take it as it stands where the field holds text."""
    owner = _owners(groups).get(name)
    kinds = kinds_of(typing.get_type_hints(owner)[name]) if owner else ()
    if str in kinds and not {bool, dict, list} & set(kinds):
        return None if text == "null" and type(None) in kinds else text
    try:
        return load_yaml(text) if text else text
    except yaml.YAMLError as error:
        if dict in kinds:
            raise ConfigError(f"command line: field {name!r}: {yaml_problem(error)}") from error
        return text


def _owners(groups: Sequence[type]) -> dict[str, type]:
    """Return which dataclass a field belongs to."""
    return {field.name: group for group in groups for field in dataclasses.fields(group) if field.init}


def _override(values: dict[str, Any], name: str, value: Any) -> None:
    """Set a field, or an entry of a mapping that is named with dots."""
    *parents, last = name.split(".")
    for depth, parent in enumerate(parents):
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(
                f"command line: {'.'.join(parents[: depth + 1])} is no mapping, so it has no entry {last!r}"
            )
    values[last] = value


def _near(name: str, known: Sequence[str]) -> str:
    """As `nearest`, but silent where nothing is near: TrainingArguments has over a hundred fields."""
    hint = nearest(name, known)
    return hint if hint.startswith(" (did") else "; --help lists all fields"
