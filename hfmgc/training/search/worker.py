"""A worker of a search: takes trials of the shared study until all that are wanted are finished."""

import gc
import time
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, OptunaError, StorageInternalError
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ...data.targets import is_multi_label
from ...errors import ConfigError, saving_to
from ..assembly import build_config
from ..preparation import PreparedData
from ..run_folder import checked_folder
from .arguments import BaseRecipe, Groups, SearchArguments
from .slots import FAILED, REASON, SURPLUS, Slots, outcome
from .space import Parameter, fields_of
from .study import again, open_study
from .trial import CAUGHT, STOPPING, Objective, SharedData, is_minimized, searched_metric


# After so many failures in a row it is the recipe that is wrong, not a trial.
_MOST_FAILURES = 3
_LONGEST_PAUSE = 5.0

# Fields that change nothing of what a trial finds out, or that `identity` holds in another form.
_UNCOMPARED = (
    "data", "data_options", "split_manifest", "output_dir", "prefix_store", "prefix_store_gigabytes",
    "preprocessing_num_proc", "per_device_eval_batch_size", "disable_tqdm", "use_cpu", "run_name", "project",
)  # fmt: skip
_UNCOMPARED_BEGINNINGS = (
    "logging_", "log_", "dataloader_", "save_", "push_", "hub_", "report_", "eval_accumulation", "ddp_", "fsdp", "deepspeed",
)  # fmt: skip


def begin_search(groups: Groups) -> Path:
    """Return the folder that the workers of a search share, made ready.

    Raises:
        ConfigError: If it holds a run, is a file, or lies in the data.
        SaveError: If it cannot be written to.
    """
    _, data, run = groups
    folder = checked_folder(run, data.data)
    if (folder / "results.json").exists():
        raise ConfigError(f"output_dir {folder} holds a run: choose another folder for the search")
    with saving_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def shared_study(
    recipe: BaseRecipe, arguments: SearchArguments, parameters: tuple[Parameter, ...], data: PreparedData
) -> Study:
    """Return the study of this search in its output_dir, or wherever its storage is.

    Raises:
        ConfigError: If it cannot be reached or is of another search.
    """
    run = recipe.groups()[2]
    metric = _metric(recipe, data)
    identity = {
        "space": {parameter.path: dict(parameter.given) for parameter in parameters},
        "objective": {"metric": metric, "of": "best evaluation" if run.load_best_model_at_end else "last evaluation"},
        "recipe": {
            name: value
            for name, value in recipe.values.items()
            if name not in _UNCOMPARED and not name.startswith(_UNCOMPARED_BEGINNINGS)
        },
        "data": {"split": data.manifest.digest, "genres": ", ".join(data.corpus.genres)},
        "trial seeds": arguments.trial_seeds,
        "sampler": {"name": "TPE", "seed": arguments.sampler_seed, "startup_trials": arguments.startup_trials},
        "pruner": {
            "name": arguments.pruner,
            "startup_trials": arguments.pruner_startup_trials,
            "warmup_evaluations": arguments.pruner_warmup,
        },
        # With others a worker would take the living trials of the rest for dead.
        "heartbeat": {"interval": arguments.heartbeat_interval, "grace_period": arguments.grace_period},
    }
    return open_study(arguments, Path(run.output_dir), identity, "minimize" if is_minimized(metric) else "maximize")


def _metric(recipe: BaseRecipe, data: PreparedData) -> str:
    model, _, run = recipe.groups()
    return searched_metric(run, multi_label=is_multi_label(build_config(model, data.corpus.genres)))


def search(
    study: Study,
    recipe: BaseRecipe,
    arguments: SearchArguments,
    parameters: tuple[Parameter, ...],
    shared: SharedData,
) -> Slots:
    """Train trials until all that are wanted are finished, by this worker or by others.

    Raises:
        ConfigError: If trials fail one after the other, or this is one of several processes of a run.
        KeyboardInterrupt, SaveError: If it is stopped, or nothing can be written; its trial is queued again before.
    """
    run = recipe.groups()[2]
    if run.world_size > 1 and not Slots.of(study, arguments.trials, arguments.retries).done:
        raise ConfigError(
            "each trial is trained by one process: start the command once for each device without a launcher; several "
            "processes are for the final fit of a finished search"
        )
    objective = Objective(
        recipe=recipe,
        arguments=arguments,
        parameters=parameters,
        data=shared,
        study=study,
        takes_best=run.load_best_model_at_end,
    )
    waited = False
    # Each trial collects its garbage. Libraries and data stay: to look through them each time takes longer than a small trial.
    gc.collect()
    gc.freeze()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        try:
            while not (slots := _look(study, arguments)).done:
                if slots.can_begin:
                    waited = False
                    _one_trial(study, objective)
                    _tell(study, objective, arguments)
                    continue
                if not waited:
                    print(f"waiting for {len(slots.running)} trials of other workers", flush=True)
                    waited = True
                time.sleep(min(_LONGEST_PAUSE, arguments.heartbeat_interval / 2))
        except STOPPING:
            _queue_again(study, objective, arguments)
            raise
    return slots


def _look(study: Study, arguments: SearchArguments) -> Slots:
    """Return how far the study is, after trials of killed workers were failed and queued again."""
    optuna.storages.fail_stale_trials(study)
    slots = Slots.of(study, arguments.trials, arguments.retries)
    for trial in slots.unborn(arguments.grace_period):
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    for trial in slots.lost(arguments.grace_period):
        again(arguments.retries)(study, _copy(study, trial.number))
    return Slots.of(study, arguments.trials, arguments.retries)


def _one_trial(study: Study, objective: Objective) -> None:
    """Train one trial; if others took this worker for dead meanwhile, the trial is theirs and the figure is dropped."""
    objective.current = None
    try:
        study.optimize(objective, n_trials=1, catch=CAUGHT)
    except (ValueError, OptunaError) as error:
        if isinstance(error, StorageInternalError) or objective.current is None:
            raise
        if outcome(_copy(study, objective.current)) != "interrupted":
            raise
        print(
            f"trial {objective.current}: no sign of life for longer than search.grace_period, so it was given to "
            "another worker",
            flush=True,
        )


def _queue_again(study: Study, objective: Objective, arguments: SearchArguments) -> None:
    """Leave a trial that was stopped for whoever goes on."""
    if objective.current is None:
        return
    trial = _copy(study, objective.current)
    taken = {other.system_attrs.get("retry_history", [None])[-1] for other in study.get_trials(deepcopy=False)}
    if trial.state == TrialState.FAIL and outcome(trial) == "interrupted" and trial.number not in taken:
        again(arguments.retries)(study, trial)


def _copy(study: Study, number: int) -> FrozenTrial:
    return study.get_trials()[number]


def _tell(study: Study, objective: Objective, arguments: SearchArguments) -> None:
    """Say in a line what became of the trial, and stop where everything fails."""
    trial = _copy(study, objective.current)
    if outcome(trial) in (SURPLUS, "interrupted"):
        return
    slots = Slots.of(study, arguments.trials, arguments.retries)
    what = outcome(trial)
    if trial.value is not None and what in ("complete", "pruned"):
        what += f" at {trial.value:.4f}"
    if REASON in trial.user_attrs:
        what += f" ({trial.user_attrs[REASON]})"
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = f"; best {study.best_value:.4f} (trial {study.best_trial.number})" if complete else ""
    drawn = ", ".join(f"{name} {shown(value)}" for name, value in trial.params.items())
    print(
        f"trial {trial.number}, {what}, {trial.duration.total_seconds():.1f} s: {drawn}; {slots.finished} of "
        f"{slots.wanted} finished{best}",
        flush=True,
    )
    ended = [one for one in study.get_trials(deepcopy=False) if one.state.is_finished() and outcome(one) != SURPLUS]
    last = sorted(ended, key=lambda one: one.datetime_complete)[-_MOST_FAILURES:]
    if len(last) == _MOST_FAILURES and all(outcome(one) == FAILED for one in last):
        raise ConfigError(
            f"the last {_MOST_FAILURES} trials failed, the last one for: {last[-1].user_attrs.get(REASON, '')}. Put that "
            "right; the same command then goes on"
        )


def shown(value: Any) -> str:
    """Return a value as people read it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def best_settings(
    study: Study, recipe: BaseRecipe, parameters: tuple[Parameter, ...]
) -> tuple[FrozenTrial, dict[str, Any]]:
    """Return the best trial, and path -> value of the fields that it trained with.

    Raises:
        ConfigError: If no trial came to its end.
    """
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise ConfigError(
            "no trial came to its end, so there is no best one: see trials.csv for what became of them, and search a "
            "smaller space or more trials"
        )
    trial = study.best_trial
    return trial, fields_of(parameters, trial.params, recipe)


def print_space(parameters: tuple[Parameter, ...], arguments: SearchArguments) -> None:
    """Say what is searched."""
    print(
        f"search: {arguments.trials} trials, TPE after {arguments.startup_trials} at random, pruner {arguments.pruner}"
    )
    for parameter in parameters:
        entries = ", ".join(f"{key} {value}" for key, value in parameter.given.items())
        print(f"  {parameter.path}: {entries}")
