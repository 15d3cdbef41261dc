"""A worker of a search: trains trials of the shared study until all are finished.

Trials have indices from 0. Before a worker trains one, it queues the lowest index without a result or a running attempt, with
the parameters that earlier attempts drew. This rule covers new trials, those of killed workers and those stopped with Ctrl-C;
Optuna's `RetryHeartbeatStaleTrialCallback` covers killed workers only, and its `MaxTrialsCallback` lets each worker train one
trial too many. If two workers queue the same index, the later attempt is a duplicate and is not trained.
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
from ..base_recipe import BaseRecipe
from ..preparation import SharedData
from .arguments import SearchArguments
from .space import Parameter
from .trial import INDEX, REASON, STOPPED, WORKER, Objective, Outcome, TrialFailed


# After this many failures in a row the recipe is at fault, not a trial.
_MAX_FAILURES = 3
_MAX_PAUSE = 5.0


@dataclass(frozen=True)
class TrialQueue:
    """The trials of a search, by index."""

    study: Study
    arguments: SearchArguments

    def attempts(self) -> list[list[FrozenTrial]]:
        """Return the attempts at each trial, oldest first, without duplicates."""
        attempts: list[list[FrozenTrial]] = [[] for _ in range(self.arguments.trials)]
        for trial in self.study.get_trials(deepcopy=False):
            index = trial.user_attrs.get(INDEX)
            if index is not None and index < len(attempts) and Outcome.of(trial) != Outcome.DUPLICATE:
                attempts[index].append(trial)
        return attempts

    def outcomes(self) -> list[Outcome]:
        """Return the outcome of each trial, of all attempts together."""
        outcomes = []
        for attempts in self.attempts():
            killed = sum(STOPPED not in trial.user_attrs for trial in attempts)
            unfinished = Outcome.INTERRUPTED if killed > self.arguments.retries else Outcome.NEEDED
            ends = (Outcome.of(trial) for trial in attempts)
            outcomes.append(next((end for end in ends if end != Outcome.INTERRUPTED), unfinished))
        return outcomes

    def add_next(self) -> bool:
        """Queue the next trial; return whether a trial is waiting."""
        outcomes = self.outcomes()
        if Outcome.WAITING in outcomes or Outcome.NEEDED not in outcomes:
            return Outcome.WAITING in outcomes
        index = outcomes.index(Outcome.NEEDED)
        drawn = {name: value for trial in self.attempts()[index] for name, value in trial.params.items()}
        self.study.enqueue_trial(drawn, user_attrs={INDEX: index})
        return True

    def is_duplicate(self, trial: BaseTrial) -> bool:
        """Return whether a trial that has just started is not needed: an older attempt is under way or has a result."""
        index = trial.user_attrs.get(INDEX)
        # Another worker took the queued trial, or `trials` is lower now.
        if index is None or index >= self.arguments.trials:
            return True
        older = [other for other in self.attempts()[index] if other.number < trial.number]
        return any(Outcome.of(other) != Outcome.INTERRUPTED for other in older)

    def fail_killed(self) -> None:
        """Fail the trials of killed workers."""
        optuna.storages.fail_stale_trials(self.study)
        # Optuna does not see workers that were killed between taking a trial and their first heartbeat.
        latest = datetime.now() - timedelta(seconds=self.arguments.grace_period)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if WORKER not in trial.user_attrs and trial.datetime_start < latest:
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def search(
    study: Study,
    recipe: BaseRecipe,
    arguments: SearchArguments,
    parameters: tuple[Parameter, ...],
    data: SharedData,
) -> Counter[Outcome]:
    """Train trials until this worker and the others have finished all of them; return outcome -> number of trials.

    Raises:
        ConfigError: If several trials fail in a row, or this is one of several processes of a run.
        KeyboardInterrupt, SaveError: If the search is stopped, or the disk is full. The trial is repeated by the next worker.
    """
    queue = TrialQueue(study, arguments)
    if recipe.groups()[2].world_size > 1 and _unfinished(queue.outcomes()):
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
            outcomes = queue.outcomes()
            if not _unfinished(outcomes):
                return Counter(outcomes)
            if queue.add_next():
                waiting = False
                _train_one(study, objective, queue)
                continue
            if not waiting:
                print(f"waiting for {outcomes.count(Outcome.RUNNING)} trials of other workers", flush=True)
                waiting = True
            time.sleep(min(_MAX_PAUSE, arguments.heartbeat_interval / 2))


def _unfinished(outcomes: Sequence[Outcome]) -> int:
    return sum(outcome in (Outcome.NEEDED, Outcome.WAITING, Outcome.RUNNING) for outcome in outcomes)


def _train_one(study: Study, objective: Objective, queue: TrialQueue) -> None:
    """Train one trial; drop its result if other workers have failed it because its heartbeats were missing."""
    try:
        study.optimize(objective, n_trials=1, catch=(TrialFailed,), callbacks=[partial(_report, queue)])
    except (ValueError, UpdateFinishedTrialError):  # Optuna's, of a trial that is finished already
        trial = study.get_trials(deepcopy=False)[objective.trial_number]
        if Outcome.of(trial) != Outcome.INTERRUPTED:
            raise
        print(
            f"trial {trial.number}: no heartbeat for longer than search.grace_period, so the trial is repeated",
            flush=True,
        )


def _report(queue: TrialQueue, study: Study, trial: FrozenTrial) -> None:
    """Print how a trial ended; stop the search with a ConfigError if it is the last of several that failed."""
    if Outcome.of(trial) == Outcome.DUPLICATE:
        return
    ended = [one for one in study.get_trials(deepcopy=False) if one.state.is_finished()]
    trials = [one for one in ended if Outcome.of(one) != Outcome.DUPLICATE]
    value = f" at {trial.value:.4f}" if trial.value is not None else ""
    reason = f" ({trial.user_attrs[REASON]})" if REASON in trial.user_attrs else ""
    drawn = ", ".join(f"{name} {x:.4g}" if isinstance(x, float) else f"{name} {x}" for name, x in trial.params.items())
    complete = any(one.state == TrialState.COMPLETE for one in trials)
    best = f"; best {study.best_value:.4f} (trial {study.best_trial.number})" if complete else ""
    print(
        f"trial {trial.number}, {Outcome.of(trial)}{value}{reason}, {trial.duration.total_seconds():.1f} s: {drawn}; "
        f"{queue.arguments.trials - _unfinished(queue.outcomes())} of {queue.arguments.trials} finished{best}",
        flush=True,
    )
    last = sorted(trials, key=lambda one: one.datetime_complete)[-_MAX_FAILURES:]
    if len(last) == _MAX_FAILURES and all(Outcome.of(one) == Outcome.FAILED for one in last):
        raise ConfigError(
            f"the last {_MAX_FAILURES} trials failed, the last one with: {last[-1].user_attrs.get(REASON, '')}. Fix the "
            "cause; the same command then resumes"
        )
