"""What a finished search leaves in its folder."""

import contextlib
import csv
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import yaml
from matplotlib.ticker import NullFormatter
from optuna import importance
from optuna.exceptions import ExperimentalWarning, OptunaError
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as plots
from sqlalchemy.exc import SQLAlchemyError

from ...errors import first_line, saving_to
from ...text import one_line
from ..preparation import PreparedData
from ..run_folder import RunRecord, versions
from .arguments import BaseRecipe, SearchArguments
from .slots import REASON, SURPLUS, WORKER, Slots, origin, outcome
from .space import Parameter
from .study import BEST, IDENTITY, RECORD, TABLE, shown_url
from .trial import SEED
from .worker import best_settings, shown


def save_results(
    study: Study,
    slots: Slots,
    recipe: BaseRecipe,
    arguments: SearchArguments,
    parameters: tuple[Parameter, ...],
    data: PreparedData,
) -> dict[str, Any]:
    """Write the table of all trials, the best config, the plots and the record; return the best config's fields.

    Each file appears whole or not at all, so workers that end together may all write them.

    Raises:
        ConfigError: If no trial came to its end (the table is there nonetheless).
        SaveError: If the folder cannot be written to.
    """
    groups = recipe.groups()
    folder = Path(groups[2].output_dir)
    if not groups[2].should_save:  # another process of the same run does
        return best_settings(study, recipe, parameters)[1]
    with saving_to(folder, "then start the same command again"):
        folder.mkdir(parents=True, exist_ok=True)
        _write_table(folder / TABLE, study, parameters)
        trial, chosen = best_settings(study, recipe, parameters)
        _write(folder / BEST, _best_text(trial, chosen, recipe, study, slots))
        importances, missing = _draw(study, folder)
        record = RunRecord.from_settings(groups, groups[2])
        _write(
            folder / RECORD,
            json.dumps(
                {
                    "command": record.command,
                    "study": study.study_name,
                    "storage": shown_url(arguments.storage) if arguments.storage else "study.db",
                    **{name: value for name, value in study.user_attrs[IDENTITY].items() if name != "recipe"},
                    "direction": study.direction.name.lower(),
                    "trials": {"wanted": slots.wanted, **slots.counts()},
                    "best": {"trial": trial.number, "value": trial.value, "settings": chosen},
                    "importances": importances,
                    "plots_left_out": missing,
                    "source": data.corpus.summary(),
                    "notes": data.manifest.notes(),
                    "versions": versions(),
                    "settings": record.settings,
                },
                indent=2,
                default=str,
            )
            + "\n",
        )
    return chosen


def best_config(recipe: BaseRecipe, chosen: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return the recipe's fields with the best values and the trial's seed; its run folder is `best` within the search's."""
    values = recipe.with_fields(chosen)
    return {**values, "seed": seed, "output_dir": str(Path(values["output_dir"]) / "best")}


def save_table(study: Study, recipe: BaseRecipe, parameters: Sequence[Parameter]) -> None:
    """Write the table of all trials as they are now, if that can be done: a search that is stopped leaves it, too."""
    run = recipe.groups()[2]
    if run.should_save:
        with contextlib.suppress(OptunaError, SQLAlchemyError, OSError, KeyError):
            _write_table(Path(run.output_dir) / TABLE, study, parameters)


def show_results(study: Study, slots: Slots, folder: Path, *, most: int = 10) -> None:
    """Print what became of the trials, the best of them first."""
    counts = ", ".join(f"{count} {name}" for name, count in sorted(slots.counts().items()))
    best_first = sorted(
        study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)),
        key=lambda trial: trial.value,
        reverse=study.direction.name == "MAXIMIZE",
    )
    metric = study.user_attrs[IDENTITY]["objective"]["metric"]
    names = list(best_first[0].params)
    rows = [["trial", metric, "seconds", *names]]
    for trial in best_first[:most]:
        drawn = [one_line(shown(trial.params[name])) for name in names]
        rows.append([str(trial.number), f"{trial.value:.4f}", f"{trial.duration.total_seconds():.1f}", *drawn])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(f"\n{slots.wanted} trials: {counts}")
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    print(f"search folder: {folder} ({BEST}, {TABLE}, {RECORD}, plots)")


def _write_table(path: Path, study: Study, parameters: Sequence[Parameter]) -> None:
    names = [parameter.name for parameter in parameters]
    head = ["trial", "outcome", "value", "evaluations", "seconds", "seed", "attempt_of", "worker", "reason", *names]
    with _whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for trial in study.get_trials(deepcopy=False):
            if outcome(trial) == SURPLUS:
                continue
            seconds = round(trial.duration.total_seconds(), 1) if trial.duration else None
            noted = [trial.user_attrs.get(name) for name in (WORKER, REASON)]
            writer.writerow(
                [
                    *(trial.number, outcome(trial), trial.value, len(trial.intermediate_values), seconds),
                    *(trial.user_attrs.get(SEED), origin(trial) if origin(trial) != trial.number else None, *noted),
                    *(trial.params.get(name) for name in names),
                ]
            )


def _best_text(trial: FrozenTrial, chosen: Mapping[str, Any], recipe: BaseRecipe, study: Study, slots: Slots) -> str:
    metric = study.user_attrs[IDENTITY]["objective"]["metric"]
    head = (
        f"# The best of {slots.wanted} trials of study {study.study_name!r}: trial {trial.number}, validation {metric} "
        f"{trial.value:.4f}.\n# Found by the search: {', '.join(chosen)}.\n\n"
    )
    return head + yaml.safe_dump(
        best_config(recipe, chosen, trial.user_attrs[SEED]), sort_keys=False, allow_unicode=True
    )


def _draw(study: Study, folder: Path) -> tuple[dict[str, float] | None, dict[str, str]]:
    """Draw history, slices and importances; return the importances, and for plots that cannot be made the reason."""
    missing: dict[str, str] = {}
    importances = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)  # of matplotlib, about the space between axes
        try:
            importances = {name: float(value) for name, value in importance.get_param_importances(study).items()}
        except (ValueError, RuntimeError) as error:  # one whole trial alone, or all of them alike
            missing["importances.png"] = first_line(error)
        drawers: dict[str, Callable[..., Any]] = {
            "history.png": plots.plot_optimization_history,
            "slice.png": plots.plot_slice,
        }
        if importances is not None:
            drawers["importances.png"] = plots.plot_param_importances
        metric = f"validation {study.user_attrs[IDENTITY]['objective']['metric']}"
        for name, draw in drawers.items():
            _picture(folder / name, partial(draw, study, target_name=metric))
    for name, reason in missing.items():
        (folder / name).unlink(missing_ok=True)  # of an earlier, shorter search
        print(f"{name} cannot be drawn: {reason}")
    return importances, missing


def _picture(path: Path, draw: Callable[[], Any]) -> None:
    before = matplotlib.get_backend()
    plt.switch_backend("agg")  # no display is looked for
    try:
        with matplotlib.rc_context():  # Optuna sets a style for all that is drawn later
            axes = np.ravel(draw())
            for one in axes:
                one.xaxis.set_minor_formatter(NullFormatter())  # those of a logarithmic axis lie upon each other
            figure = axes[0].figure
            with _whole(path) as temporary:
                figure.savefig(temporary, format="png", dpi=120, bbox_inches="tight")
    finally:
        plt.close("all")
        plt.switch_backend(before)


def _write(path: Path, text: str) -> None:
    with _whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _whole(path: Path) -> Any:
    """Give a name of this process's own to write to, which takes the place of `path` at the end."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
