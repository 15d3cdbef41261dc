"""The section `search` of a config."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...settings import SEARCH, describe_fields, read_values, settings_from
from ..arguments import RECIPE_GROUPS, check_fields_of, setting
from ..base_recipe import BaseRecipe


@dataclass
class SearchArguments:
    """How the hyper-parameters of a recipe are searched."""

    space: dict[str, Any] = setting(
        dict,
        "FIELD (model.head_hidden_size for an entry of a mapping) -> {low, high}, optionally with log, int and step, or "
        "{choices: [...]}. With times: OTHER_FIELD, the drawn value is multiplied by that field.",
    )
    trials: int = setting(35, "Number of trials of all workers together, including pruned ones.", limits="[1, inf)")
    study_name: str = setting("search", "Name of the study in its storage.")
    storage: str | None = setting(
        None, "URL of the database that the workers share (sqlite, postgresql, mysql); none: study.db in output_dir."
    )
    sampler_seed: int = setting(0, "With the index of a trial, the seed of its values.", limits="[0, inf)")
    startup_trials: int = setting(10, "Trials drawn at random before TPE starts.", limits="[0, inf)")
    pruner: str = setting("median", "median: stop trials worse than the median.", choices=("median", "none"))
    pruner_startup_trials: int = setting(5, "Complete trials before the first is pruned.", limits="[0, inf)")
    pruner_warmup: int = setting(3, "Evaluations of a trial before it can be pruned.", limits="[0, inf)")
    trial_seeds: str = setting(
        "same",
        "same: each trial trains with the recipe's seed; own: with that seed plus the index of the trial.",
        choices=("same", "own"),
    )
    heartbeat_interval: int = setting(60, "Seconds between two heartbeats of a trial.", limits="[1, inf)")
    grace_period: int | None = setting(
        None, "Seconds without a heartbeat after which a worker counts as killed; none: three times the interval."
    )
    retries: int = setting(3, "How often a trial is retried after its worker was killed.", limits="[0, inf)")
    final_fit: bool = setting(False, "Train the best config with each of final_seeds.")
    final_seeds: list[int] = setting(lambda: [0, 1, 2], "Seeds of the final fit.")

    def __post_init__(self):
        check_fields_of(self)
        if not self.space:
            raise ValueError("space is empty: name the fields to search, see recipes/configs/ast_search.yaml")
        if self.grace_period is None:
            self.grace_period = 3 * self.heartbeat_interval
        if self.grace_period <= self.heartbeat_interval:
            raise ValueError(
                f"grace_period {self.grace_period} must be longer than heartbeat_interval {self.heartbeat_interval}, or "
                "running workers would count as killed"
            )
        if not self.final_seeds or min(self.final_seeds) < 0 or len(set(self.final_seeds)) < len(self.final_seeds):
            raise ValueError(f"final_seeds {self.final_seeds}: give one or more different integers from 0")


# Fields that a search sets for every trial: a trial keeps its metrics, and no checkpoint.
TRIAL_FIELDS = {
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "resume_from_checkpoint": None,
    "overwrite": False,
    "push_to_hub": False,
    "report_to": "none",
    "disable_tqdm": True,
    "logging_nan_inf_filter": False,  # the filter would hide losses that are not finite
}


def read_search(argv: Sequence[str], default_config: Path) -> tuple[BaseRecipe, SearchArguments]:
    """Return the recipe of a config and its section `search` (`--search.trials 10` sets a field of the section).

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
        raise ConfigError(f"{where}: eval_strategy no: a search needs validation metrics: set epoch or steps")
    return recipe, arguments
