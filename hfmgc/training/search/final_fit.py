"""The final fit: the best config trained with several seeds, with mean and interval of each metric."""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ...errors import saving_to
from ...evaluation.report import EvaluationReport
from ...files import hold, write_text
from ...settings import load_json
from ..arguments import Groups
from ..check import check_recipe
from ..run_folder import RUN_FILE, RunRecord, leave_runs
from .arguments import BaseRecipe


FOLDER, RESULT, LOCK = "final", "final.json", ".final.lock"
LEVEL = 0.95


def final_fit(
    recipe: BaseRecipe,
    chosen: Mapping[str, Any],
    seeds: Sequence[int],
    fit: Callable[[Groups], EvaluationReport],
) -> dict[str, Any]:
    """Train the recipe with the best trial's fields (path -> value) once for each seed; return the content of `final.json`.

    `fit` runs all stages of a recipe. Each seed is an ordinary run in its own folder, `final/seed_N`. Finished runs are not
    repeated, unfinished ones are resumed, and runs with other settings are replaced. A second worker waits for the first.
    """
    run = recipe.groups()[2]
    folder = Path(run.output_dir)
    others = f"{folder}: another worker is making the final fit"
    # Several processes of a run would wait for their first one until they time out.
    lock = hold(folder / LOCK, in_use=others if run.world_size > 1 else "", waiting=f"{others}: waiting")
    with lock if run.should_save else contextlib.nullcontext():
        folders = [folder / FOLDER / f"seed_{seed}" for seed in seeds]
        for seed, run_folder in zip(seeds, folders, strict=True):
            fit_once(recipe, {**chosen, "seed": seed}, run_folder, fit, title=f"final fit, {run_folder.name}")
        result = _summary(folders, seeds)
        if run.should_save:
            with saving_to(folder, "then start the same command again"):
                write_text(folder / RESULT, json.dumps(result, indent=2) + "\n")
        return result


def fit_once(
    recipe: BaseRecipe,
    chosen: dict[str, Any],
    folder: Path,
    fit: Callable[[Groups], EvaluationReport],
    *,
    title: str,
) -> None:
    """Train the recipe with the chosen fields in a folder, unless a finished run in it has the same settings."""
    chosen = {**chosen, "output_dir": str(folder)}
    groups = check_recipe(recipe.groups(chosen)).groups
    if not (folder / RUN_FILE).exists():
        how, start = "", {}
    elif RunRecord.from_settings(groups, groups[2]).changes(folder) != {}:
        how, start = ": restarted, because the earlier run had other settings", {"overwrite": True}
    elif not (folder / "README.md").exists():  # the last file of a run
        how, start = ": resumed", {"resume_from_checkpoint": "last"}
    elif read_results(folder) is None:
        how, start = ": restarted, because results.json is missing or damaged", {"overwrite": True}
    else:
        how, start = ": finished earlier", None
    groups[2].distributed_state.wait_for_everyone()  # no process writes before all have read
    print(f"\n{title}{how}", flush=True)
    if start is not None:
        try:
            fit(recipe.groups({**chosen, **start}))
        finally:
            leave_runs()


def read_results(folder: Path) -> dict[str, Any] | None:
    """Return the results of a run, or None if they are missing or damaged."""
    try:
        return load_json((folder / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _summary(folders: Sequence[Path], seeds: Sequence[int]) -> dict[str, Any]:
    reports = [read_results(folder) for folder in folders]
    metrics = [report["metrics"] for report in reports]
    numbers = [name for name, value in metrics[0].items() if isinstance(value, (int, float))]
    return {
        "seeds": list(seeds),
        **{name: reports[0][name] for name in ("side", "tracks", "split", "notes")},
        "interval_method": f"{LEVEL:.0%} t-interval of the mean over {len(seeds)} seeds, within 0 and 1: it covers "
        "the variation of the training; each run's own interval covers that of the tracks",
        "metrics": {
            name: mean_and_interval([values[name] for values in metrics])
            for name in numbers
            if all(values[name] is not None for values in metrics)
        },
        "runs": [
            {"seed": seed, "folder": f"{FOLDER}/{folder.name}", "metrics": values}
            for seed, folder, values in zip(seeds, folders, metrics, strict=True)
        ],
    }


def mean_and_interval(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, standard deviation and 95 % t-interval of the mean within [0, 1]; the last two are None for one value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return {"mean": mean, "standard_deviation": None, "interval": None}
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values))
    interval = [max(0.0, mean - half), min(1.0, mean + half)]
    return {"mean": mean, "standard_deviation": float(np.std(values, ddof=1)), "interval": interval}


def show_final_fit(result: Mapping[str, Any], folder: Path) -> None:
    """Print the runs, their mean and its interval."""
    main = next(
        (name.removesuffix("_interval") for name in result["runs"][0]["metrics"] if name.endswith("_interval")),
        next(iter(result["metrics"])),
    )
    print(f"\nfinal fit, {main} on the {result['side']} side ({result['tracks']} tracks)")
    for run in result["runs"]:
        interval = _interval_text(run["metrics"].get(f"{main}_interval"), "tracks")
        print(f"  seed {run['seed']:<6} {run['metrics'][main]:.3f}{interval}")
    of_all = result["metrics"][main]
    print(f"  mean        {of_all['mean']:.3f}{_interval_text(of_all['interval'], 'seeds')}")
    print(f"final fit: {folder / RESULT}; runs in {folder / FOLDER}")


def _interval_text(interval: Sequence[float] | None, over: str) -> str:
    return f"  ({LEVEL:.0%} interval over {over} {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
