"""A recipe that runs several times with different fields: trials of a search, seeds, latent sizes."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..settings import set_field, settings_from
from .arguments import RECIPE_GROUPS, Groups
from .check import check_recipe
from .run_folder import RUN_FILE, RunRecord, read_json, release_run_folders


@dataclass(frozen=True)
class BaseRecipe:
    """The fields of a recipe and, for error messages, their source `where`.

    `chosen` in its methods maps the paths of fields (`model.latent_size`) to values that replace the recipe's.
    """

    values: dict[str, Any]
    where: str

    def groups(self, chosen: Mapping[str, Any] | None = None) -> Groups:
        """Return the settings of the recipe with the chosen values.

        Raises:
            ConfigError: If a field does not exist, or a value does not fit.
        """
        return settings_from(self.with_fields(chosen or {}), RECIPE_GROUPS, where=self.where)

    def with_fields(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the recipe with the chosen values."""
        values = copy.deepcopy(self.values)
        for path, value in chosen.items():
            set_field(values, path, copy.deepcopy(value), self.where)
        return values

    def fit_once(
        self, chosen: Mapping[str, Any], folder: Path, fit: Callable[[Groups], Any], *, title: str
    ) -> dict[str, Any]:
        """Return the results of the run in a folder; train it by `fit` unless it is finished with the same settings."""
        chosen = {**chosen, "output_dir": str(folder)}
        groups, results = check_recipe(self.groups(chosen)).groups, folder / "results.json"
        if not (folder / RUN_FILE).exists():
            status, start = "", {}
        elif RunRecord.from_settings(groups, groups[2]).changes(folder) != {}:
            status, start = ": restarted, because the earlier run had other settings", {"overwrite": True}
        elif not (folder / "README.md").exists():  # the last file of a run
            status, start = ": resumed", {"resume_from_checkpoint": "last"}
        elif read_json(results) is None:
            status, start = ": restarted, because results.json is missing or damaged", {"overwrite": True}
        else:
            status, start = ": finished earlier", None
        groups[2].distributed_state.wait_for_everyone()  # a process may write only after all have read
        print(f"\n{title}{status}", flush=True)
        if start is not None:
            try:
                fit(self.groups({**chosen, **start}))
            finally:
                release_run_folders()
        return read_json(results)
