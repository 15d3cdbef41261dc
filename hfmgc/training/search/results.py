"""The files that a finished search writes to its folder."""

import contextlib
import json
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from matplotlib.ticker import NullFormatter
from optuna import importance
from optuna.exceptions import OptunaError
from optuna.study import Study
from optuna.trial import TrialState
from optuna.visualization import matplotlib as plots
from sqlalchemy.exc import SQLAlchemyError

from ...errors import ConfigError, first_line, saving_to
from ...files import atomic_write, write_text
from ...text import redact_url
from ..base_recipe import BaseRecipe
from ..preparation import PreparedData
from ..run_folder import RunRecord, package_versions
from .arguments import SearchArguments
from .space import Parameter, recipe_fields
from .study import BEST, DATABASE, IDENTITY, RECORD, TABLE
from .trial import INDEX, REASON, SEED, WORKER, Outcome


def save_results(
    study: Study,
    outcomes: Counter[Outcome],
    recipe: BaseRecipe,
    arguments: SearchArguments,
    parameters: tuple[Parameter, ...],
    data: PreparedData,
) -> dict[str, Any]:
    """Write the best config, the plots and the record; return the best trial's fields (path -> value).

    Several workers may call this at the same time: files are replaced atomically.

    Raises:
        ConfigError: If no trial is complete.
        SaveError: If the folder cannot be written to.
    """
    groups = recipe.groups()
    folder = Path(groups[2].output_dir)
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise ConfigError(
            f"no trial is complete, so there is no best one: see {folder / TABLE} for the reasons, and search a smaller "
            "space or more trials"
        )
    best = study.best_trial
    best_fields = recipe_fields(parameters, best.params, recipe)
    if not groups[2].should_save:
        return best_fields
    config = {**recipe.with_fields(best_fields), "seed": best.user_attrs[SEED], "output_dir": str(folder / "best")}
    identity, record = study.user_attrs[IDENTITY], RunRecord.from_settings(groups, groups[2])
    with saving_to(folder, "then start the same command again"):
        write_text(
            folder / BEST,
            f"# The best trial of study {study.study_name!r}: trial {best.number}, validation "
            f"{identity['objective']['metric']} {best.value:.4f}.\n# Fields set by the search: {', '.join(best_fields)}."
            "\n\n" + yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        )
        content = {
            "command": record.command,
            "study": study.study_name,
            "storage": redact_url(arguments.storage or DATABASE),
            **{name: value for name, value in identity.items() if name != "recipe"},
            "direction": study.direction.name.lower(),
            "trials": {"wanted": arguments.trials, **outcomes},
            "best": {"trial": best.number, "value": best.value, "settings": best_fields},
            "importances": _plot(study, folder),
            "source": data.corpus.summary(),
            "notes": data.manifest.notes(),
            "versions": package_versions(),
            "settings": record.settings,
        }
        write_text(folder / RECORD, json.dumps(content, indent=2, default=str) + "\n")
    return best_fields


def save_table(study: Study, recipe: BaseRecipe, parameters: Sequence[Parameter]) -> None:
    """Write the table of trials if storage and folder allow it; a search that was stopped has a table too."""
    run = recipe.groups()[2]
    with contextlib.suppress(OptunaError, SQLAlchemyError, OSError, KeyError):
        table = _table(study, parameters)
        if run.should_save and len(table):  # an empty table would count as results
            write_text(Path(run.output_dir) / TABLE, table.to_csv(index=False, lineterminator="\n"))


def show_results(study: Study, outcomes: Counter[Outcome], parameters: Sequence[Parameter], folder: Path) -> None:
    """Print how the trials ended, and the ten best trials."""
    metric = study.user_attrs[IDENTITY]["objective"]["metric"]
    complete = _table(study, parameters).query(f"outcome == '{Outcome.COMPLETE}'")
    best = complete.sort_values("value", ascending=study.direction.name == "MINIMIZE").head(10)
    columns = ["trial", "value", "seconds", *(parameter.name for parameter in parameters)]
    counts = ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))
    print(f"\n{outcomes.total()} trials: {counts}")
    print(best[columns].rename(columns={"value": metric}).to_string(index=False, float_format="{:.4g}".format))
    print(f"search folder: {folder} ({BEST}, {TABLE}, {RECORD}, plots)")


def _table(study: Study, parameters: Sequence[Parameter]) -> pd.DataFrame:
    """Return one row for each attempt at a trial; `attempt_of` is the number of the trial's first attempt."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if Outcome.of(trial) != Outcome.DUPLICATE]
    first = {trial.user_attrs.get(INDEX): trial.number for trial in reversed(trials)}
    rows = [
        {
            "trial": trial.number,
            "outcome": Outcome.of(trial),
            "value": trial.value,
            "evaluations": len(trial.intermediate_values),
            "seconds": round(trial.duration.total_seconds(), 1) if trial.duration else None,
            **trial.user_attrs,
            "attempt_of": first[trial.user_attrs.get(INDEX)],
            **trial.params,
        }
        for trial in trials
    ]
    columns = ["trial", "outcome", "value", "evaluations", "seconds", SEED, "attempt_of", WORKER, REASON]
    table = pd.DataFrame(rows, columns=[*columns, *(parameter.name for parameter in parameters)])
    table["attempt_of"] = table["attempt_of"].where(table["attempt_of"] != table["trial"])
    return table.convert_dtypes(convert_floating=False)


def _plot(study: Study, folder: Path) -> dict[str, float] | None:
    """Plot history, slices and importances; return the importances, or None if they are undefined."""
    metric = f"validation {study.user_attrs[IDENTITY]['objective']['metric']}"
    drawers = {"history.png": plots.plot_optimization_history, "slice.png": plots.plot_slice}
    importances = None
    with warnings.catch_warnings(), matplotlib.rc_context():  # Optuna changes the global style
        warnings.simplefilter("ignore", UserWarning)  # about few trials, and about the space between axes
        try:
            importances = {name: float(value) for name, value in importance.get_param_importances(study).items()}
            drawers["importances.png"] = plots.plot_param_importances
        except (ValueError, RuntimeError) as error:  # a single complete trial, or equal values
            (folder / "importances.png").unlink(missing_ok=True)  # from an earlier search with fewer trials
            print(f"importances.png was not drawn: {first_line(error)}")
        plt.switch_backend("agg")  # needs no display
        for name, draw in drawers.items():
            with atomic_write(folder / name) as temporary:
                axes = np.ravel(draw(study, target_name=metric))
                for axis in axes:
                    axis.xaxis.set_minor_formatter(NullFormatter())  # minor labels of a logarithmic axis overlap
                axes[0].figure.savefig(temporary, format="png", dpi=120, bbox_inches="tight")
                plt.close("all")
    return importances
