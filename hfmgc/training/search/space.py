"""The space of a search: the fields of a recipe that vary, and their ranges."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna import Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ...errors import ConfigError, HfmgcError, nearest
from ..check import check_recipe
from .arguments import OF_TRIALS, BaseRecipe


# Up to here a float represents each whole number exactly.
_LARGEST = 2**53
_RANGE_KEYS = {"low", "high", "log", "int", "step", "times"}
# Trials with different values of these could not be compared, or would not share their data.
_FIXED = (
    "data", "data_options", "split_policy", "split_ratios", "split_seed", "split_fold", "split_manifest", "allow_leaks",
    "fit_statistics", "model_type", "model_name_or_path", "output_dir", "seed", "data_seed", "metric_for_best_model",
    "greater_is_better", "eval_strategy", "eval_steps", "load_best_model_at_end", "use_cpu", "reuse_frozen_prefix",
    "prefix_store", "prefix_store_gigabytes", "prefix_dtype",
)  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """One field that is searched.

    Args:
        path: The field, with dots for an entry of a mapping.
        distribution: What Optuna draws from.
        choices: Drawn text -> value, for choices that are lists or mappings.
        times: Field by whose value the drawn number is multiplied.
        given: The parameter's entry in the config.
    """

    path: str
    distribution: BaseDistribution
    choices: Mapping[Any, Any]
    times: str | None
    given: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name in the study: the field, or with `times` the ratio that is drawn."""
        return self.path if self.times is None else f"{self.path} / {self.times}"

    def draw(self, trial: Trial) -> Any:
        """Return the value that a trial draws."""
        kind = self.distribution
        if isinstance(kind, CategoricalDistribution):
            return trial.suggest_categorical(self.name, kind.choices)
        if isinstance(kind, IntDistribution):
            return trial.suggest_int(self.name, kind.low, kind.high, step=kind.step, log=kind.log)
        return trial.suggest_float(self.name, kind.low, kind.high, step=kind.step, log=kind.log)

    def limits(self) -> list[Any]:
        """Return the values to check: both ends of a range, every choice."""
        kind = self.distribution
        return list(kind.choices) if isinstance(kind, CategoricalDistribution) else [kind.low, kind.high]


def read_space(space: Mapping[str, Any], recipe: BaseRecipe) -> tuple[Parameter, ...]:
    """Return the parameters of a space, checked against the recipe.

    Raises:
        ConfigError: Naming the field.
    """
    where = f"{recipe.where}: search.space"
    parameters = tuple(_parameter(str(path), given, where) for path, given in space.items())
    _check_paths([parameter.path for parameter in parameters], recipe, where)
    _check_limits(parameters, recipe)
    return parameters


def fields_of(parameters: Sequence[Parameter], drawn: Mapping[str, Any], recipe: BaseRecipe) -> dict[str, Any]:
    """Return path -> value of the recipe's fields for a trial's parameters (name -> drawn value)."""
    values = {
        parameter.path: parameter.choices.get(drawn[parameter.name], drawn[parameter.name]) for parameter in parameters
    }
    plain = dict(values)
    for parameter in parameters:
        if parameter.times is not None:
            values[parameter.path] *= _factor(parameter, plain, recipe)
    return values


def _factor(parameter: Parameter, values: Mapping[str, Any], recipe: BaseRecipe) -> float:
    factor: Any = recipe.with_fields(values)
    for part in str(parameter.times).split("."):
        factor = factor.get(part) if isinstance(factor, Mapping) else None
    if isinstance(factor, bool) or not isinstance(factor, (int, float)):
        raise ConfigError(
            f"{recipe.where}: search.space.{parameter.path}: times {parameter.times}: the config must give it, or the "
            "space must, as a number"
        )
    return factor


def _parameter(path: str, given: Any, where: str) -> Parameter:
    where = f"{where}.{path}"
    if path.split(".")[0] in (*_FIXED, *OF_TRIALS):
        raise ConfigError(f"{where}: this field must be the same for all trials")
    if not isinstance(given, Mapping) or not given:
        raise ConfigError(f"{where} must be a mapping, {{low: ..., high: ...}} or {{choices: [...]}}, not {given!r}")
    if "choices" in given:
        _refuse_unknown(given, {"choices"}, where)
        return _choices(path, given, where)
    _refuse_unknown(given, _RANGE_KEYS, where)
    for key in ("low", "high", "step"):
        value = given.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"{where}.{key} must be a number, not {value!r}")
        _refuse_inexact(value, f"{where}.{key}")
        if key == "step" and value <= 0:
            raise ConfigError(f"{where}.step must be above 0, not {value}")
        if key != "step" and key not in given:
            raise ConfigError(f"{where}: {key} is missing")
    for key in ("log", "int"):
        if not isinstance(given.get(key, False), bool):
            raise ConfigError(f"{where}.{key} must be true or false, not {given[key]!r}")
    times = given.get("times")
    if times is not None and (not isinstance(times, str) or times == path):
        raise ConfigError(f"{where}.times must be the name of another field, not {times!r}")
    try:
        if given["low"] > given["high"]:
            raise ValueError(f"low {given['low']} is above high {given['high']}")
        options = {"log": given.get("log", False), "step": given.get("step")}
        if given.get("int"):
            if not all(float(given.get(key, 1)).is_integer() for key in ("low", "high", "step")):
                raise ValueError("int needs whole numbers for low, high and step")
            whole = {key: int(given[key]) for key in ("low", "high")}
            distribution = IntDistribution(**whole, log=options["log"], step=int(options["step"] or 1))
        else:
            distribution = FloatDistribution(float(given["low"]), float(given["high"]), **options)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
    return Parameter(path, distribution, {}, times, dict(given))


def _refuse_inexact(value: Any, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where} must be finite, not {value}")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise ConfigError(f"{where} must lie within ±2^53, where a float represents each whole number exactly")


def _refuse_unknown(given: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise ConfigError(f"{where} has no entry {key!r}{nearest(str(key), known)}")


def _choices(path: str, given: Mapping[str, Any], where: str) -> Parameter:
    values = given["choices"]
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{where}.choices must be a list of values, not {values!r}")
    for value in values:
        _refuse_inexact(value, f"{where}.choices")
    # Optuna stores only scalars as categories: lists and mappings are stored as text.
    names = [json.dumps(value) if isinstance(value, (list, dict)) else value for value in values]
    if any(name in names[:index] for index, name in enumerate(names)):  # 1, 1.0 and true are one category
        raise ConfigError(f"{where}.choices {values}: each must differ")
    decoded = {name: value for name, value in zip(names, values, strict=True) if isinstance(value, (list, dict))}
    return Parameter(path, CategoricalDistribution(names), decoded, None, dict(given))


def _check_paths(paths: Sequence[str], recipe: BaseRecipe, where: str) -> None:
    """Refuse fields within another field of the space, and fields without effect."""
    without_adapter = "adapter" not in paths and recipe.groups()[0].adapter == "none"
    for path in paths:
        for other in paths:
            if other.startswith(f"{path}."):
                raise ConfigError(f"{where}: {other} is part of {path}: search only one of them")
        if without_adapter and path.startswith("adapter_"):
            raise ConfigError(f"{where}.{path}: the recipe has no adapter, so the field has no effect")


def _check_limits(parameters: Sequence[Parameter], recipe: BaseRecipe) -> None:
    """Refuse limits that the recipe or its model refuses; one parameter varies at a time, the others have their first limit."""
    first = {parameter.name: parameter.limits()[0] for parameter in parameters}
    for parameter in parameters:
        for limit in parameter.limits():
            try:
                fields = fields_of(parameters, {**first, parameter.name: limit}, recipe)
                check_recipe(recipe.of_trial(fields))
            except HfmgcError as error:
                raise ConfigError(
                    f"{recipe.where}: search.space.{parameter.path}, value {limit!r}: {error}"
                ) from error
