"""The best config, trained with several seeds: what to expect of it, and how far a single run may be from that."""

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
from ..run_folder import RUN_FILE, RunRecord, leave_runs
from ..starting_point import adopt_checkpoint
from .arguments import BaseRecipe, Groups


FOLDER, RESULT, LOCK = "final", "final.json", ".final.lock"
LEVEL = 0.95
# How a run is begun says nothing of what it is.
_IGNORED = ("resume_from_checkpoint", "overwrite", "output_dir", "push_to_hub")


def final_fit(
    recipe: BaseRecipe,
    chosen: Mapping[str, Any],
    seeds: Sequence[int],
    fit: Callable[[Groups], EvaluationReport],
) -> dict[str, Any] | None:
    """Train the recipe with the chosen fields once for each seed; return the mean of each figure and its interval.

    Each is an ordinary run with a folder of its own, `final/seed_N`; those that are finished are not repeated, one that was cut
    off is gone on with, and those of other settings are replaced.

    Args:
        recipe: What was searched.
        chosen: Path -> value of the best trial.
        seeds: Of the training; the split has its own.
        fit: Runs all stages of the recipe.

    Returns:
        What `final.json` holds, or None if another worker is at it, or this is not the first of several processes.

    Raises:
        ConfigError: If another worker is at it and this is one of several processes, or a run's record cannot be read.
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
            if recipe.groups()[2].world_size > 1:  # the processes beside this one would wait for it for ever
                raise ConfigError(f"{folder}: the final fit is being made by another worker") from error
            print("the final fit is being made by another worker")
            return None
    try:
        for seed in seeds:
            _fit_seed(recipe, {**chosen, "seed": seed}, folder / FOLDER / f"seed_{seed}", fit)
        if not is_first:
            return None
        result = _summary([folder / FOLDER / f"seed_{seed}" for seed in seeds], seeds)
        with saving_to(folder, "then start the same command again"):
            path = folder / RESULT
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
            temporary.replace(path)
        return result
    finally:
        lock.release()


def _fit_seed(
    recipe: BaseRecipe, chosen: dict[str, Any], folder: Path, fit: Callable[[Groups], EvaluationReport]
) -> None:
    """Run one seed, unless that was done before with the same settings."""
    chosen = {**chosen, "output_dir": str(folder)}
    groups = recipe.groups(chosen)
    adopt_checkpoint(groups[0], groups[2])  # as a run does before it is recorded
    begun = _begun_with(folder)
    groups[2].distributed_state.wait_for_everyone()  # all have looked before the first one writes
    if begun is None:
        print(f"\nfinal fit, {folder.name}", flush=True)
    elif begun != _comparable(RunRecord.from_settings(groups, groups[2]).settings):
        print(f"\nfinal fit, {folder.name}: anew, because its earlier run had other settings", flush=True)
        groups = recipe.groups({**chosen, "overwrite": True})
    elif not (folder / "README.md").exists():  # the last file of a run
        groups = recipe.groups({**chosen, "resume_from_checkpoint": "last"})
    elif _result(folder) is None:
        print(f"\nfinal fit, {folder.name}: anew, because its results.json is missing or damaged", flush=True)
        groups = recipe.groups({**chosen, "overwrite": True})
    else:
        print(f"\nfinal fit, {folder.name}: finished earlier", flush=True)
        return
    try:
        fit(groups)
    finally:
        leave_runs()


def _begun_with(folder: Path) -> dict[str, Any] | None:
    """Return the settings of the run in a folder, or None where there is none."""
    path = folder / RUN_FILE
    if not path.is_file():
        return None
    try:
        return _comparable(load_yaml(path.read_text(encoding="utf-8"))["settings"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} cannot be read: remove {folder}, then start the same command again") from error


def _result(folder: Path) -> dict[str, Any] | None:
    """Return the result of the run in a folder, or None where it cannot be read."""
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
        "interval_method": f"{LEVEL:.0%} t-interval of the mean over {len(seeds)} seeds, within 0 and 1: it holds the spread of the "
        "training alone, not that of the tracks, which each run's own interval holds",
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
    """Return mean, standard deviation and 95 % t-interval of the mean, within [0, 1]; of one value there is no spread."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return {"mean": mean, "standard_deviation": None, "interval": None}
    deviation = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * deviation / math.sqrt(len(values))
    return {"mean": mean, "standard_deviation": deviation, "interval": [max(0.0, mean - half), min(1.0, mean + half)]}


def show_final_fit(result: Mapping[str, Any], folder: Path) -> None:
    """Print the runs, and what they come to."""
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
