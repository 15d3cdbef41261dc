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
from ...files import file_lock, write_text
from ..arguments import Groups
from ..base_recipe import BaseRecipe


FOLDER, RESULT, LOCK = "final", "final.json", ".final.lock"
LEVEL = 0.95


def final_fit(
    recipe: BaseRecipe,
    best_fields: Mapping[str, Any],
    seeds: Sequence[int],
    fit: Callable[[Groups], EvaluationReport],
) -> dict[str, Any]:
    """Train the recipe with the best trial's fields (path -> value) once for each seed; return the content of `final.json`.

    `fit` runs all stages of a recipe. Each seed is an ordinary run in its own folder, `final/seed_N`. Finished runs are
    reused, unfinished runs are resumed, and runs with other settings are replaced. A second worker waits for the first.

    Raises:
        ConfigError: If another worker is making the final fit, and this is one of several processes.
        SaveError: If `final.json` cannot be written.
    """
    run = recipe.groups()[2]
    folder = Path(run.output_dir)
    others = f"{folder}: another worker is making the final fit"
    # Several processes of a run would wait for their first one until they time out.
    lock = file_lock(folder / LOCK, in_use=others if run.world_size > 1 else "", waiting=f"{others}: waiting")
    with lock if run.should_save else contextlib.nullcontext():
        reports = {}
        for seed in seeds:
            run_folder = folder / FOLDER / f"seed_{seed}"
            title = f"final fit, {run_folder.name}"
            reports[seed] = recipe.fit_once({**best_fields, "seed": seed}, run_folder, fit, title=title)
        result = _summarize(reports)
        if run.should_save:
            with saving_to(folder, "then start the same command again"):
                write_text(folder / RESULT, json.dumps(result, indent=2) + "\n")
        return result


def _summarize(reports: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """Return the content of `final.json` from the results of each seed."""
    first, metrics = next(iter(reports.values())), [report["metrics"] for report in reports.values()]
    numbers = [name for name in metrics[0] if all(isinstance(values[name], (int, float)) for values in metrics)]
    return {
        "seeds": list(reports),
        **{name: first[name] for name in ("side", "tracks", "split", "notes")},
        "interval_method": f"{LEVEL:.0%} t-interval of the mean over {len(reports)} seeds, within 0 and 1: it covers "
        "the variation between training runs; the interval of each run covers the choice of tracks",
        "metrics": {name: mean_and_interval([values[name] for values in metrics]) for name in numbers},
        "runs": [
            {"seed": seed, "folder": f"{FOLDER}/seed_{seed}", "metrics": report["metrics"]}
            for seed, report in reports.items()
        ],
    }


def mean_and_interval(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, standard deviation and 95 % t-interval of the mean within [0, 1]; the last two are None for one value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return {"mean": mean, "standard_deviation": None, "interval": None}
    # `stats.t.interval` returns NaN for equal values.
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values))
    interval = [max(0.0, mean - half), min(1.0, mean + half)]
    return {"mean": mean, "standard_deviation": float(np.std(values, ddof=1)), "interval": interval}


def show_final_fit(result: Mapping[str, Any], folder: Path) -> None:
    """Print each run with its interval over tracks, then the mean with its interval over seeds."""
    main = next(iter(result["metrics"]))  # a task's main measure is its first
    mean = result["metrics"][main]
    rows = [
        (f"seed {run['seed']}", run["metrics"][main], run["metrics"].get(f"{main}_interval")) for run in result["runs"]
    ]
    print(f"\nfinal fit, {main} on the {result['side']} side ({result['tracks']} tracks), with {LEVEL:.0%} intervals")
    for name, value, interval in [*rows, ("mean", mean["mean"], mean["interval"])]:
        print(f"  {name:<12}{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""))
    print(f"final fit: {folder / RESULT}; runs in {folder / FOLDER}")
