"""The space of a search: the fields of a recipe that vary, and their ranges."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna import Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ...errors import ConfigError, HfmgcError
from ...settings import settings_from
from ..base_recipe import BaseRecipe
from ..check import check_recipe
from .arguments import OF_TRIALS


# Trials with different values of these could not be compared, or would not share their data.
_FIXED = (
    "data", "data_options", "split_policy", "split_ratios", "split_seed", "split_fold", "split_manifest", "allow_leaks",
    "fit_statistics", "model_type", "model_name_or_path", "output_dir", "seed", "data_seed", "metric_for_best_model",
    "greater_is_better", "eval_strategy", "eval_steps", "load_best_model_at_end", "use_cpu", "reuse_frozen_prefix",
    "prefix_store", "prefix_store_gigabytes", "prefix_dtype",
)  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """One field that is searched, and its entry in the section `space`: a range or choices.

    Args:
        path: The field, with dots for an entry of a mapping.
        times: Field by whose value the drawn number is multiplied.
        int: Whether a range has whole numbers only.
    """

    path: str
    choices: list[Any] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    times: str | None = None
    int: bool = False

    def __post_init__(self):
        if self.times == self.path:
            raise ValueError("times must name another field")
        if self.choices is None and (self.low is None or self.high is None):
            raise ValueError("give low and high, or choices")
        if self.int and not all(value is None or value.is_integer() for value in (self.low, self.high, self.step)):
            raise ValueError("int needs whole numbers for low, high and step")
        names = [_stored(value) for value in self.choices or []]
        if any(name in names[:index] for index, name in enumerate(names)):  # 1, 1.0 and true are equal
            raise ValueError(f"choices {self.choices} must differ")
        self.distribution  # noqa: B018 (Optuna refuses impossible ranges)

    @property
    def name(self) -> str:
        """Its name in the study: the field, or with `times` the ratio that is drawn."""
        return self.path if self.times is None else f"{self.path} / {self.times}"

    @property
    def distribution(self) -> BaseDistribution:
        """What Optuna draws from."""
        if self.choices is not None:
            return CategoricalDistribution([_stored(value) for value in self.choices])
        if self.int:
            step = 1 if self.step is None else round(self.step)
            return IntDistribution(round(self.low), round(self.high), self.log, step)
        return FloatDistribution(self.low, self.high, self.log, self.step)

    def draw(self, trial: Trial) -> Any:
        """Return the value that a trial draws, as Optuna stores it."""
        kind = self.distribution
        if isinstance(kind, CategoricalDistribution):
            return trial.suggest_categorical(self.name, kind.choices)
        suggest = trial.suggest_int if isinstance(kind, IntDistribution) else trial.suggest_float
        return suggest(self.name, kind.low, kind.high, step=kind.step, log=kind.log)

    def value(self, drawn: Any) -> Any:
        """Return the choice or number of a drawn value."""
        return next((value for value in self.choices or [] if _stored(value) == drawn), drawn)

    def limits(self) -> list[Any]:
        """Return both ends of a range, or all choices, as they are drawn."""
        kind = self.distribution
        return list(kind.choices) if isinstance(kind, CategoricalDistribution) else [kind.low, kind.high]


def _stored(value: Any) -> Any:
    """Return a choice as Optuna stores it: lists and mappings as text."""
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def read_space(space: Mapping[str, Any], recipe: BaseRecipe) -> tuple[Parameter, ...]:
    """Return the parameters of a space, checked against the recipe.

    Raises:
        ConfigError: Naming the field.
    """
    where, space = f"{recipe.where}: search.space", {str(path): given for path, given in space.items()}
    for path, given in space.items():
        if path.split(".")[0] in (*_FIXED, *OF_TRIALS):
            raise ConfigError(f"{where}.{path}: this field must be the same for all trials")
        if not isinstance(given, dict):
            raise ConfigError(f"{where}.{path} must be {{low: ..., high: ...}} or {{choices: [...]}}, not {given!r}")
    parameters = tuple(
        settings_from({**given, "path": path}, [Parameter], where=f"{where}.{path}")[0]
        for path, given in space.items()
    )
    without_adapter = "adapter" not in space and recipe.groups()[0].adapter == "none"
    for path in space:
        for other in space:
            if other.startswith(f"{path}."):
                raise ConfigError(f"{where}: {other} is part of {path}: search only one of them")
        if without_adapter and path.startswith("adapter_"):
            raise ConfigError(f"{where}.{path}: the recipe has no adapter, so the field has no effect")
    # One parameter varies at a time, the others have their first limit.
    first = {parameter.name: parameter.limits()[0] for parameter in parameters}
    for parameter in parameters:
        for limit in parameter.limits():
            try:
                fields = fields_of(parameters, {**first, parameter.name: limit}, recipe)
                check_recipe(recipe.groups({**fields, **OF_TRIALS}))
            except HfmgcError as error:
                raise ConfigError(f"{where}.{parameter.path}, value {limit!r}: {error}") from error
    return parameters


def fields_of(parameters: Sequence[Parameter], drawn: Mapping[str, Any], recipe: BaseRecipe) -> dict[str, Any]:
    """Return path -> value of the recipe's fields for a trial's parameters (name -> drawn value)."""
    values = {parameter.path: parameter.value(drawn[parameter.name]) for parameter in parameters}
    fields = recipe.with_fields(values)
    for parameter in parameters:
        if parameter.times is not None:
            factor: Any = fields
            for part in parameter.times.split("."):
                factor = factor.get(part) if isinstance(factor, Mapping) else None
            if isinstance(factor, bool) or not isinstance(factor, (int, float)):
                raise ConfigError(
                    f"{recipe.where}: search.space.{parameter.path}: times {parameter.times}: the config or the space "
                    "must give this field as a number"
                )
            values[parameter.path] *= factor
    return values
