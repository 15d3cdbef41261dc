"""A worker of a search: trains trials of the shared study until all are finished.

A search wants a number of trials, with indices from 0. Before a worker trains one it queues the lowest index that has no
result and no attempt under way, with the parameters that earlier attempts drew. This one rule covers new trials, those of
killed workers and those stopped with Ctrl-C, in an order that does not depend on them; `RetryHeartbeatStaleTrialCallback`
covers killed workers only, and `MaxTrialsCallback` lets each worker train one trial too many. Two workers may queue the same
index at once: the later attempt is a duplicate and is not trained.
"""

import gc
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import BaseTrial, FrozenTrial, TrialState

from ...errors import ConfigError
from .arguments import BaseRecipe, SearchArguments
from .space import Parameter
from .trial import (
    DUPLICATE,
    FAILED,
    INDEX,
    INTERRUPTED,
    REASON,
    STOPPED,
    WORKER,
    Objective,
    SharedData,
    TrialFailed,
    has_result,
    outcome,
)


# States of a trial without a result.
NEEDED, WAITING, RUNNING = "needed", "waiting", "running"
# After this many failures in a row the recipe is at fault, not a trial.
_MAX_FAILURES = 3
_MAX_PAUSE = 5.0


@dataclass(frozen=True)
class TrialQueue:
    """The trials of a study that a search wants.

    Args:
        study: Shared by the workers.
        wanted: Number of trials.
        retries: How often a trial is retried after its worker was killed.
        grace_period: Seconds without a heartbeat after which a worker counts as killed.
    """

    study: Study
    wanted: int
    retries: int
    grace_period: int

    def attempts(self) -> list[list[FrozenTrial]]:
        """Return the attempts at each trial, oldest first, without duplicates."""
        attempts: list[list[FrozenTrial]] = [[] for _ in range(self.wanted)]
        for trial in self.study.get_trials(deepcopy=False):
            if trial.user_attrs.get(INDEX, self.wanted) < self.wanted and outcome(trial) != DUPLICATE:
                attempts[trial.user_attrs[INDEX]].append(trial)
        return attempts

    def states(self) -> list[str]:
        """Return for each trial its outcome, or `running`, `waiting`, or `needed` if an attempt must be queued."""
        return [self._state(attempts) for attempts in self.attempts()]

    def _state(self, attempts: Sequence[FrozenTrial]) -> str:
        for deciding in (has_result, lambda trial: not trial.state.is_finished()):
            for trial in filter(deciding, attempts):
                return outcome(trial)
        killed = sum(STOPPED not in trial.user_attrs for trial in attempts)
        return INTERRUPTED if killed > self.retries else NEEDED

    def add_next(self) -> bool:
        """Queue the next trial; return whether a trial is waiting."""
        states = self.states()
        if WAITING in states or NEEDED not in states:
            return WAITING in states
        index = states.index(NEEDED)
        drawn = {name: value for trial in self.attempts()[index] for name, value in trial.params.items()}
        self.study.enqueue_trial(drawn, user_attrs={INDEX: index})
        return True

    def is_duplicate(self, trial: BaseTrial) -> bool:
        """Return whether a trial that has just started is not needed: an older attempt is under way or has a result."""
        index = trial.user_attrs.get(INDEX, self.wanted)
        if index >= self.wanted:  # another worker took the queued trial, or fewer are wanted now
            return True
        return any(
            other.number < trial.number and (has_result(other) or not other.state.is_finished())
            for other in self.attempts()[index]
        )

    def fail_killed(self) -> None:
        """Fail the trials of killed workers."""
        optuna.storages.fail_stale_trials(self.study)
        # Optuna does not see workers that were killed between taking a trial and their first heartbeat.
        latest = datetime.now() - timedelta(seconds=self.grace_period)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if WORKER not in trial.user_attrs and trial.datetime_start < latest:
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def search(
    study: Study,
    recipe: BaseRecipe,
    arguments: SearchArguments,
    parameters: tuple[Parameter, ...],
    data: SharedData,
) -> Counter[str]:
    """Train trials until this worker and the others have finished all of them; return outcome -> number of trials.

    Raises:
        ConfigError: If several trials fail in a row, or this is one of several processes of a run.
        KeyboardInterrupt, SaveError: If the search is stopped, or the disk is full. The trial is repeated by the next worker.
    """
    queue = TrialQueue(study, arguments.trials, arguments.retries, arguments.grace_period)
    if recipe.groups()[2].world_size > 1 and _unfinished(queue.states()):
        raise ConfigError(
            "each trial is trained by one process: start the command once for each device without a launcher; several "
            "processes are for the final fit of a finished search"
        )
    objective = Objective(recipe, arguments, parameters, data, queue.is_duplicate)
    # Garbage is collected after each trial, which takes longer than a small trial unless libraries and data are left out.
    gc.collect()
    gc.freeze()
    waiting = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        while True:
            queue.fail_killed()
            states = queue.states()
            if not _unfinished(states):
                return Counter(states)
            if queue.add_next():
                waiting = False
                _train_one(study, objective, queue)
                continue
            if not waiting:
                print(f"waiting for {states.count(RUNNING)} trials of other workers", flush=True)
                waiting = True
            time.sleep(min(_MAX_PAUSE, arguments.heartbeat_interval / 2))


def _unfinished(states: Sequence[str]) -> int:
    return sum(state in (NEEDED, WAITING, RUNNING) for state in states)


def _train_one(study: Study, objective: Objective, queue: TrialQueue) -> None:
    """Train one trial; drop its result if other workers have failed it because its heartbeats were missing."""
    try:
        study.optimize(objective, n_trials=1, catch=(TrialFailed,), callbacks=[partial(_report, queue)])
    except (ValueError, UpdateFinishedTrialError):  # Optuna's, of a trial that is finished already
        trial = study.get_trials(deepcopy=False)[objective.trial_number]
        if outcome(trial) != INTERRUPTED:
            raise
        print(f"trial {trial.number}: no heartbeat for longer than search.grace_period, so it is repeated", flush=True)


def _report(queue: TrialQueue, study: Study, trial: FrozenTrial) -> None:
    """Print how a trial ended.

    Raises:
        ConfigError: If it is the last of several that failed.
    """
    trials = [one for one in study.get_trials(deepcopy=False) if one.state.is_finished() and outcome(one) != DUPLICATE]
    if outcome(trial) == DUPLICATE:
        return
    value = f" at {trial.value:.4f}" if trial.value is not None else ""
    reason = f" ({trial.user_attrs[REASON]})" if REASON in trial.user_attrs else ""
    drawn = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in trial.params.items()
    )
    complete = any(one.state == TrialState.COMPLETE for one in trials)
    best = f"; best {study.best_value:.4f} (trial {study.best_trial.number})" if complete else ""
    print(
        f"trial {trial.number}, {outcome(trial)}{value}{reason}, {trial.duration.total_seconds():.1f} s: {drawn}; "
        f"{queue.wanted - _unfinished(queue.states())} of {queue.wanted} finished{best}",
        flush=True,
    )
    last = sorted(trials, key=lambda one: one.datetime_complete)[-_MAX_FAILURES:]
    if len(last) == _MAX_FAILURES and all(outcome(one) == FAILED for one in last):
        raise ConfigError(
            f"the last {_MAX_FAILURES} trials failed, the last one with: {last[-1].user_attrs.get(REASON, '')}. Fix the "
            "cause; the same command then resumes"
        )


def print_space(arguments: SearchArguments) -> None:
    """Print what is searched."""
    print(
        f"search: {arguments.trials} trials, TPE after {arguments.startup_trials} at random, pruner {arguments.pruner}"
    )
    for path, given in arguments.space.items():
        print(f"  {path}: {', '.join(f'{key} {value}' for key, value in given.items())}")
