"""A worker of a search: trains trials of the shared study until all are done."""

import gc
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.exceptions import ExperimentalWarning, OptunaError, StorageInternalError
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ...data.targets import is_multi_label
from ...errors import ConfigError, saving_to
from ..build import build_config
from ..preparation import PreparedData
from ..run_folder import refuse_folder
from .arguments import BaseRecipe, Groups, SearchArguments
from .queue import DUPLICATE, FAILED, INTERRUPTED, REASON, STOPPED, Progress, TrialQueue, outcome
from .space import Parameter
from .study import open_study
from .trial import Objective, SharedData, TrialFailed, is_minimized, searched_metric


# After this many failures in a row the recipe is at fault, not a trial.
_MAX_FAILURES = 3
_MAX_PAUSE = 5.0

# Layout of a study's user attributes.
_FORMAT = 2
# Fields that do not change a trial's result, or that the study's identity holds in another form.
_NOT_COMPARED = (
    "data", "data_options", "split_manifest", "output_dir", "prefix_store", "prefix_store_gigabytes",
    "preprocessing_num_proc", "per_device_eval_batch_size", "disable_tqdm", "use_cpu", "run_name", "project",
)  # fmt: skip
_NOT_COMPARED_PREFIXES = (
    "logging_", "log_", "dataloader_", "save_", "push_", "hub_", "report_", "eval_accumulation", "ddp_", "fsdp", "deepspeed",
)  # fmt: skip


def make_search_folder(groups: Groups) -> Path:
    """Create the folder that the workers of a search share.

    Raises:
        ConfigError: If it holds a run, is a file, or lies in the data.
        SaveError: If it cannot be written to.
    """
    _, data, run = groups
    folder = Path(run.output_dir)
    refuse_folder("output_dir", folder, data.data)
    if (folder / "results.json").exists():
        raise ConfigError(f"output_dir {folder} holds a run: choose another folder for the search")
    with saving_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def shared_study(
    recipe: BaseRecipe, arguments: SearchArguments, parameters: tuple[Parameter, ...], data: PreparedData
) -> Study:
    """Return the study of this search.

    Raises:
        ConfigError: If its storage cannot be reached or it belongs to another search.
    """
    model, _, run = recipe.groups()
    metric = searched_metric(run, multi_label=is_multi_label(build_config(model, data.corpus.genres)))
    identity = {
        "format": _FORMAT,
        "space": {parameter.path: dict(parameter.given) for parameter in parameters},
        "objective": {"metric": metric, "of": "best evaluation" if run.load_best_model_at_end else "last evaluation"},
        "recipe": {
            name: value
            for name, value in recipe.values.items()
            if name not in _NOT_COMPARED and not name.startswith(_NOT_COMPARED_PREFIXES)
        },
        "data": {"split": data.manifest.digest, "genres": ", ".join(data.corpus.genres)},
        "trial seeds": arguments.trial_seeds,
        "sampler": {"name": "TPE", "seed": arguments.sampler_seed, "startup_trials": arguments.startup_trials},
        "pruner": {
            "name": arguments.pruner,
            "startup_trials": arguments.pruner_startup_trials,
            "warmup_evaluations": arguments.pruner_warmup,
        },
        # A worker with a shorter grace period would fail the running trials of the others.
        "heartbeat": {"interval": arguments.heartbeat_interval, "grace_period": arguments.grace_period},
    }
    return open_study(arguments, Path(run.output_dir), identity, "minimize" if is_minimized(metric) else "maximize")


def search(
    study: Study,
    recipe: BaseRecipe,
    arguments: SearchArguments,
    parameters: tuple[Parameter, ...],
    data: SharedData,
) -> Progress:
    """Train trials until this worker and the others have finished all of them.

    Raises:
        ConfigError: If several trials fail in a row, or this is one of several processes of a run.
        KeyboardInterrupt, SaveError: If the search is stopped, or nothing can be written. The trial is repeated by whichever
            worker comes next.
    """
    run = recipe.groups()[2]
    queue = TrialQueue(study, arguments.trials, arguments.retries, arguments.grace_period)
    if run.world_size > 1 and queue.progress().ended < arguments.trials:
        raise ConfigError(
            "each trial is trained by one process: start the command once for each device without a launcher; several "
            "processes are for the final fit of a finished search"
        )
    objective = Objective(recipe, arguments, parameters, data, queue)
    # Garbage is collected after each trial; without freezing, going through libraries and data takes longer than a small trial.
    gc.collect()
    gc.freeze()
    waiting = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        while True:
            queue.fail_killed()
            progress = queue.progress()
            if progress.ended == progress.wanted:
                return progress
            if queue.add_next():
                waiting = False
                _train_one(study, objective)
                continue
            if not waiting:
                print(f"waiting for {progress.running} trials of other workers", flush=True)
                waiting = True
            time.sleep(min(_MAX_PAUSE, arguments.heartbeat_interval / 2))


def _train_one(study: Study, objective: Objective) -> None:
    """Train one trial; its result is dropped if other workers took this one for killed meanwhile."""
    objective.trial_number = None
    try:
        study.optimize(objective, n_trials=1, catch=(TrialFailed,), callbacks=[ReportTrial(objective.queue)])
    except (ValueError, OptunaError) as error:
        if isinstance(error, StorageInternalError) or objective.trial_number is None:
            raise
        trial = study.get_trials(deepcopy=False)[objective.trial_number]
        if outcome(trial) != INTERRUPTED or STOPPED in trial.user_attrs:
            raise
        print(f"trial {trial.number}: no heartbeat for longer than search.grace_period, so it is repeated", flush=True)


@dataclass
class ReportTrial:
    """Callback of Optuna that prints a line for each trial, and stops a search in which every trial fails."""

    queue: TrialQueue

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Print how the trial ended."""
        how = outcome(trial)
        if how == DUPLICATE:
            return
        if trial.value is not None and how in ("complete", "pruned"):
            how += f" at {trial.value:.4f}"
        if REASON in trial.user_attrs:
            how += f" ({trial.user_attrs[REASON]})"
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        best = f"; best {study.best_value:.4f} (trial {study.best_trial.number})" if complete else ""
        progress = self.queue.progress()
        print(
            f"trial {trial.number}, {how}, {trial.duration.total_seconds():.1f} s: {shown_values(trial.params)}; "
            f"{progress.ended} of {progress.wanted} finished{best}",
            flush=True,
        )
        ended = [
            one for one in study.get_trials(deepcopy=False) if one.state.is_finished() and outcome(one) != DUPLICATE
        ]
        last = sorted(ended, key=lambda one: one.datetime_complete)[-_MAX_FAILURES:]
        if len(last) == _MAX_FAILURES and all(outcome(one) == FAILED for one in last):
            raise ConfigError(
                f"the last {_MAX_FAILURES} trials failed, the last one with: {last[-1].user_attrs.get(REASON, '')}. Fix the "
                "cause; the same command then resumes"
            )


def shown_values(values: Mapping[str, Any]) -> str:
    """Return values with their names in one line, numbers rounded."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def print_space(parameters: tuple[Parameter, ...], arguments: SearchArguments) -> None:
    """Print what is searched."""
    print(
        f"search: {arguments.trials} trials, TPE after {arguments.startup_trials} at random, pruner {arguments.pruner}"
    )
    for parameter in parameters:
        entries = ", ".join(f"{key} {value}" for key, value in parameter.given.items())
        print(f"  {parameter.path}: {entries}")
