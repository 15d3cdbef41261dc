"""The section `search` of a config, and the recipe that is searched."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...settings import SEARCH, describe_fields, read_values, settings_from
from ..arguments import RECIPE_GROUPS, DataArguments, ModelArguments, RunArguments, check_fields_of


Groups = tuple[ModelArguments, DataArguments, RunArguments]


@dataclass
class SearchArguments:
    """How the hyper-parameters of a recipe are searched."""

    space: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "Field (model.head_hidden_size for an entry of a mapping) -> {low, high} with log, int or step, or "
            "{choices: [...]}; times: FIELD multiplies the drawn value by another field."
        },
    )
    trials: int = field(default=35, metadata={"help": "Trials of all workers together, pruned ones included."})
    study_name: str = field(default="search", metadata={"help": "Name of the study within its storage."})
    storage: str | None = field(
        default=None,
        metadata={
            "help": "URL of the database that the workers share (sqlite, postgresql, mysql); default: study.db in output_dir."
        },
    )
    sampler_seed: int = field(
        default=0, metadata={"help": "With the index of a trial, the seed of the values that the trial draws."}
    )
    startup_trials: int = field(default=10, metadata={"help": "Trials drawn at random before TPE starts."})
    pruner: str = field(default="median", metadata={"choices": ("median", "none"), "help": "Ends hopeless trials."})
    pruner_startup_trials: int = field(default=5, metadata={"help": "Complete trials before the first may be pruned."})
    pruner_warmup: int = field(default=3, metadata={"help": "Evaluations of a trial before it may be pruned."})
    trial_seeds: str = field(
        default="same",
        metadata={
            "choices": ("same", "own"),
            "help": "same: each trial trains with the recipe's seed; own: with that seed plus the index of the trial.",
        },
    )
    heartbeat_interval: int = field(default=60, metadata={"help": "Seconds between two heartbeats of a trial."})
    grace_period: int | None = field(
        default=None,
        metadata={
            "help": "Seconds without a heartbeat after which a worker counts as killed; default: three times the interval."
        },
    )
    retries: int = field(default=3, metadata={"help": "How often a trial is retried after its worker was killed."})
    final_fit: bool = field(default=False, metadata={"help": "Train the best config with each of final_seeds."})
    final_seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds of the final fit."})

    def __post_init__(self):
        check_fields_of(self)
        if not self.space:
            raise ValueError("space is empty: name the fields to search, see recipes/configs/ast_search.yaml")
        least = {"trials": 1, "heartbeat_interval": 1}
        for name, value in vars(self).items():
            if type(value) is int and value < least.get(name, 0):
                raise ValueError(f"{name} must be at least {least.get(name, 0)}, not {value}")
        if self.grace_period is None:
            self.grace_period = 3 * self.heartbeat_interval
        if self.grace_period <= self.heartbeat_interval:
            raise ValueError(
                f"grace_period {self.grace_period} must be longer than heartbeat_interval {self.heartbeat_interval}, or "
                "running workers would count as killed"
            )
        seeds = self.final_seeds
        if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
            raise ValueError(f"final_seeds {seeds}: give one or more different numbers from 0")


# A trial keeps its metrics and no checkpoint.
OF_TRIALS = {
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "resume_from_checkpoint": None,
    "overwrite": False,
    "push_to_hub": False,
    "report_to": "none",
    "disable_tqdm": True,
    "logging_nan_inf_filter": False,  # the filter would hide losses that are not finite
}


@dataclass(frozen=True)
class BaseRecipe:
    """The recipe that is searched: its fields, and their source for error messages."""

    values: dict[str, Any]
    where: str

    def groups(self, chosen: Mapping[str, Any] | None = None) -> Groups:
        """Return the settings of the recipe with the chosen values (path -> value).

        Raises:
            ConfigError: If a field does not exist, or a value does not fit.
        """
        return settings_from(self.with_fields(chosen or {}), RECIPE_GROUPS, where=self.where)

    def of_trial(self, chosen: Mapping[str, Any]) -> Groups:
        """As `groups`, for a training that saves nothing but its metrics."""
        return self.groups({**chosen, **OF_TRIALS})

    def with_fields(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the recipe with the chosen values (path -> value)."""
        values = copy.deepcopy(self.values)
        for path, value in chosen.items():
            *parents, last = path.split(".")
            mapping = values
            for parent in parents:
                mapping = mapping.setdefault(parent, {})
                if not isinstance(mapping, dict):
                    raise ConfigError(f"{self.where}: {parent} is not a mapping, so it has no {path}")
            mapping[last] = copy.deepcopy(value)
        return values


def read_search(argv: Sequence[str], default_config: Path) -> tuple[BaseRecipe, SearchArguments]:
    """Return the recipe in a config, and how to search it.

    Args:
        argv: Command line: the config, then fields (`--search.trials 10` for those of the section).
        default_config: The file to read if the command line names none.

    Raises:
        ConfigError: As `read_settings`, or if there is no section `search`.
        SystemExit: After printing the fields, for `--help`.
    """
    if "--help" in argv or "-h" in argv:
        print(describe_fields(RECIPE_GROUPS))
        print(describe_fields([SearchArguments], prefix=f"{SEARCH}."))
        raise SystemExit(0)
    values, where = read_values(argv, RECIPE_GROUPS, default_config)
    section = values.pop(SEARCH, None)
    if not isinstance(section, dict):
        raise ConfigError(f"{where}: no section {SEARCH!r}: see recipes/configs/ast_search.yaml for an example")
    (arguments,) = settings_from(section, [SearchArguments], where=f"{where}: {SEARCH}")
    recipe = BaseRecipe(values, where)
    run = recipe.groups()[2]
    if run.overwrite or run.resume_from_checkpoint:
        raise ConfigError(
            f"{where}: a search resumes by itself: leave out overwrite and resume_from_checkpoint; for a new search, "
            "choose another output_dir or search.study_name"
        )
    if run.eval_strategy == "no":
        raise ConfigError(f"{where}: eval_strategy no: a search needs validation metrics")
    return recipe, arguments
