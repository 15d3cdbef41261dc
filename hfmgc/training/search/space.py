"""The space of a search: which fields of a recipe vary, and over which values."""

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
from .arguments import TRIAL_FIELDS


# Fields that must be equal in all trials: otherwise trials could not be compared, or would not share their data.
_FIXED_FIELDS = (
    "data", "data_options", "split_policy", "split_ratios", "split_seed", "split_fold", "split_manifest", "allow_leaks",
    "fit_statistics", "model_type", "model_name_or_path", "output_dir", "seed", "data_seed", "metric_for_best_model",
    "greater_is_better", "eval_strategy", "eval_steps", "load_best_model_at_end", "use_cpu", "reuse_frozen_prefix",
    "prefix_store", "prefix_store_gigabytes", "prefix_dtype",
)  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """A field to search, with its entry in the section `space`: a range or a list of choices.

    Args:
        path: The field, with dots for an entry of a mapping.
        times: Another field; the drawn number is multiplied by its value.
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
        choices = self.choices or []
        if len({_to_stored(value) for value in choices}) < len(choices):  # 1, 1.0 and true are equal
            raise ValueError(f"choices {choices} must differ from each other")
        self.distribution  # noqa: B018 (Optuna refuses impossible ranges)

    @property
    def name(self) -> str:
        """The parameter's name in the study: the field, or with `times` the ratio of both fields."""
        return self.path if self.times is None else f"{self.path} / {self.times}"

    @property
    def distribution(self) -> BaseDistribution:
        """The distribution from which Optuna draws."""
        if self.choices is not None:
            return CategoricalDistribution([_to_stored(value) for value in self.choices])
        if self.int:
            step = 1 if self.step is None else round(self.step)
            return IntDistribution(round(self.low), round(self.high), self.log, step)
        return FloatDistribution(self.low, self.high, self.log, self.step)

    def draw(self, trial: Trial) -> Any:
        """Draw a value for a trial, and return it as Optuna stores it."""
        kind = self.distribution
        if isinstance(kind, CategoricalDistribution):
            return trial.suggest_categorical(self.name, kind.choices)
        suggest = trial.suggest_int if isinstance(kind, IntDistribution) else trial.suggest_float
        return suggest(self.name, kind.low, kind.high, step=kind.step, log=kind.log)

    def value(self, drawn: Any) -> Any:
        """Return the field's value for a drawn value: the number, or the choice that Optuna stores as text."""
        return next((choice for choice in self.choices or [] if _to_stored(choice) == drawn), drawn)

    def limits(self) -> list[Any]:
        """Return both ends of the range, or all choices, as Optuna stores them."""
        kind = self.distribution
        return list(kind.choices) if isinstance(kind, CategoricalDistribution) else [kind.low, kind.high]


def _to_stored(choice: Any) -> Any:
    """Return a choice as Optuna stores it: lists and mappings as text."""
    return json.dumps(choice) if isinstance(choice, (list, dict)) else choice


def read_space(space: Mapping[str, Any], recipe: BaseRecipe) -> tuple[Parameter, ...]:
    """Return the parameters of a space, after checking each limit and choice with the recipe.

    Raises:
        ConfigError: If a field does not exist, must not vary or has no effect, or the recipe refuses one of its values.
    """
    where, space = f"{recipe.where}: search.space", {str(path): entry for path, entry in space.items()}
    for path, entry in space.items():
        if path.split(".")[0] in (*_FIXED_FIELDS, *TRIAL_FIELDS):
            raise ConfigError(f"{where}.{path}: this field must be the same for all trials")
        if not isinstance(entry, dict):
            raise ConfigError(f"{where}.{path} must be {{low: ..., high: ...}} or {{choices: [...]}}, not {entry!r}")
    parameters = tuple(
        settings_from({**entry, "path": path}, [Parameter], where=f"{where}.{path}")[0]
        for path, entry in space.items()
    )
    has_adapter = "adapter" in space or recipe.groups()[0].adapter != "none"
    for path in space:
        for inner in space:
            if inner.startswith(f"{path}."):
                raise ConfigError(f"{where}: {inner} is part of {path}: search only one of them")
        if not has_adapter and path.startswith("adapter_"):
            raise ConfigError(
                f"{where}.{path}: the recipe has no adapter, so this field has no effect: set adapter, or leave out the field"
            )
    # One parameter varies at a time; the others stay at their first limit.
    first = {parameter.name: parameter.limits()[0] for parameter in parameters}
    for parameter in parameters:
        for limit in parameter.limits():
            try:
                fields = recipe_fields(parameters, {**first, parameter.name: limit}, recipe)
                check_recipe(recipe.groups({**fields, **TRIAL_FIELDS}))
            except HfmgcError as error:
                raise ConfigError(f"{where}.{parameter.path}, value {limit!r}: {error}") from error
    return parameters


def recipe_fields(parameters: Sequence[Parameter], drawn: Mapping[str, Any], recipe: BaseRecipe) -> dict[str, Any]:
    """Return the recipe's fields (path -> value) for the parameters of a trial (name -> drawn value)."""
    values = {parameter.path: parameter.value(drawn[parameter.name]) for parameter in parameters}
    fields = recipe.with_fields(values)
    for parameter in parameters:
        if parameter.times is not None:
            factor: Any = fields
            for part in parameter.times.split("."):
                factor = factor.get(part) if isinstance(factor, Mapping) else None
            if isinstance(factor, bool) or not isinstance(factor, (int, float)):
                raise ConfigError(
                    f"{recipe.where}: search.space.{parameter.path}: times {parameter.times}: not a number: set the field "
                    "in the config, or search it"
                )
            values[parameter.path] *= factor
    return values
