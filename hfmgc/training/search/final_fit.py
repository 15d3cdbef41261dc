"""The final fit: the best config trained with several seeds, with mean and interval of each metric."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from filelock import FileLock, Timeout
from scipy import stats

from ...errors import ConfigError, saving_to
from ...evaluation.report import EvaluationReport
from ...settings_values import load_json, load_yaml
from ..check import check_recipe
from ..run_folder import RUN_FILE, RunRecord, leave_runs
from .arguments import BaseRecipe, Groups
from .results import write_whole


FOLDER, RESULT, LOCK = "final", "final.json", ".final.lock"
LEVEL = 0.95
# Settings that may differ between a finished run and one that is wanted.
_IGNORED = ("resume_from_checkpoint", "overwrite", "output_dir", "push_to_hub")


def final_fit(
    recipe: BaseRecipe,
    chosen: Mapping[str, Any],
    seeds: Sequence[int],
    fit: Callable[[Groups], EvaluationReport],
) -> dict[str, Any] | None:
    """Train the recipe with the chosen fields once for each seed; return mean and interval of each metric.

    Each is an ordinary run in its own folder, `final/seed_N`. Finished runs are not repeated, an unfinished one is resumed,
    and runs with other settings are replaced.

    Args:
        recipe: The recipe that was searched.
        chosen: Path -> value of the best trial's fields.
        seeds: Of the training; the split has its own.
        fit: Runs all stages of the recipe.

    Returns:
        The content of `final.json`; None if another worker makes the final fit, or this is not the first of several processes.

    Raises:
        ConfigError: If another worker makes it and this is one of several processes, or a run's record cannot be read.
        SaveError: If `final.json` cannot be written.
    """
    folder = Path(recipe.groups()[2].output_dir)
    lock = FileLock(folder / LOCK)
    is_first = recipe.groups()[2].should_save  # of several processes of one run
    if is_first:
        try:
            with saving_to(folder):
                lock.acquire(blocking=False)
        except Timeout as error:
            if recipe.groups()[2].world_size > 1:  # the other processes would wait for it forever
                raise ConfigError(f"{folder}: another worker is making the final fit") from error
            print("another worker is making the final fit")
            return None
    try:
        for seed in seeds:
            _fit_seed(recipe, {**chosen, "seed": seed}, folder / FOLDER / f"seed_{seed}", fit)
        if not is_first:
            return None
        result = _summary([folder / FOLDER / f"seed_{seed}" for seed in seeds], seeds)
        with saving_to(folder, "then start the same command again"):
            write_whole(folder / RESULT, json.dumps(result, indent=2) + "\n")
        return result
    finally:
        lock.release()


def _fit_seed(
    recipe: BaseRecipe, chosen: dict[str, Any], folder: Path, fit: Callable[[Groups], EvaluationReport]
) -> None:
    """Train with one seed, unless a finished run has the same settings."""
    chosen = {**chosen, "output_dir": str(folder)}
    groups = check_recipe(recipe.groups(chosen)).groups
    earlier = _recorded_settings(folder)
    groups[2].distributed_state.wait_for_everyone()  # no process writes before all have read
    if earlier is None:
        print(f"\nfinal fit, {folder.name}", flush=True)
    elif earlier != _comparable(RunRecord.from_settings(groups, groups[2]).settings):
        print(f"\nfinal fit, {folder.name}: restarted, because the earlier run had other settings", flush=True)
        groups = recipe.groups({**chosen, "overwrite": True})
    elif not (folder / "README.md").exists():  # the last file of a run
        groups = recipe.groups({**chosen, "resume_from_checkpoint": "last"})
    elif _result(folder) is None:
        print(f"\nfinal fit, {folder.name}: restarted, because results.json is missing or damaged", flush=True)
        groups = recipe.groups({**chosen, "overwrite": True})
    else:
        print(f"\nfinal fit, {folder.name}: finished earlier", flush=True)
        return
    try:
        fit(groups)
    finally:
        leave_runs()


def _recorded_settings(folder: Path) -> dict[str, Any] | None:
    """Return the settings of the run in a folder, or None without a run."""
    path = folder / RUN_FILE
    if not path.is_file():
        return None
    try:
        return _comparable(load_yaml(path.read_text(encoding="utf-8"))["settings"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} cannot be read: remove {folder}, then start the same command again") from error


def _result(folder: Path) -> dict[str, Any] | None:
    """Return the result of the run in a folder, or None if it cannot be read."""
    try:
        result = load_json((folder / "results.json").read_text(encoding="utf-8"))
        return result if "metrics" in result else None
    except (OSError, ValueError, TypeError):
        return None


def _comparable(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        f"{group}.{name}": value
        for group, values in settings.items()
        for name, value in values.items()
        if name not in _IGNORED
    }


def _summary(folders: Sequence[Path], seeds: Sequence[int]) -> dict[str, Any]:
    reports = [_result(folder) for folder in folders]
    figures = [name for name, value in reports[0]["metrics"].items() if isinstance(value, (int, float))]
    interval = next((name for name in reports[0]["metrics"] if name.endswith("_interval")), None)
    return {
        "seeds": list(seeds),
        "side": reports[0]["side"],
        "tracks": reports[0]["tracks"],
        "split": reports[0]["split"],
        "notes": reports[0]["notes"],
        "interval_method": f"{LEVEL:.0%} t-interval of the mean over {len(seeds)} seeds, within 0 and 1: it covers "
        "the variation of the training; each run's own interval covers that of the tracks",
        "metrics": {
            name: mean_and_interval([report["metrics"][name] for report in reports])
            for name in figures
            if all(report["metrics"][name] is not None for report in reports)
        },
        "runs": [
            {
                "seed": seed,
                "folder": f"{FOLDER}/{folder.name}",
                "metrics": {name: report["metrics"][name] for name in (*figures, interval) if name is not None},
            }
            for seed, folder, report in zip(seeds, folders, reports, strict=True)
        ],
    }


def mean_and_interval(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, standard deviation and 95 % t-interval of the mean within [0, 1]; the last two are None for one value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return {"mean": mean, "standard_deviation": None, "interval": None}
    deviation = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * deviation / math.sqrt(len(values))
    return {"mean": mean, "standard_deviation": deviation, "interval": [max(0.0, mean - half), min(1.0, mean + half)]}


def show_final_fit(result: Mapping[str, Any], folder: Path) -> None:
    """Print the runs, their mean and its interval."""
    interval = next((name for name in result["runs"][0]["metrics"] if name.endswith("_interval")), None)
    main = interval.removesuffix("_interval") if interval else next(iter(result["metrics"]))
    print(f"\nfinal fit, {main} on the {result['side']} side ({result['tracks']} tracks)")
    for run in result["runs"]:
        own = run["metrics"].get(interval) if interval else None
        between = f"  (95 % interval over tracks {own[0]:.3f} to {own[1]:.3f})" if own else ""
        print(f"  seed {run['seed']:<6} {run['metrics'][main]:.3f}{between}")
    of_all = result["metrics"][main]
    between = of_all["interval"]
    spread = f"  (95 % interval over seeds {between[0]:.3f} to {between[1]:.3f})" if between else "  (one seed)"
    print(f"  mean        {of_all['mean']:.3f}{spread}")
    print(f"final fit: {folder / RESULT}; runs in {folder / FOLDER}")
