"""A worker of a search: trains trials of the shared study until all are finished.

Trials have indices from 0. Before training, a worker queues the lowest index that has neither a result nor a running attempt,
with the parameters that earlier attempts drew. This one rule covers new trials, trials of killed workers and trials stopped
with Ctrl-C; Optuna's `RetryHeartbeatStaleTrialCallback` covers only killed workers, and with its `MaxTrialsCallback` each
worker can train one trial too many. If two workers queue the same index, the later attempt is a duplicate and is not trained.
"""

import gc
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import BaseTrial, FrozenTrial, TrialState

from ...errors import ConfigError
from ..base_recipe import BaseRecipe
from ..preparation import SharedData
from .arguments import SearchArguments
from .space import Parameter
from .trial import INDEX, REASON, STOPPED, WORKER, Objective, Outcome


# After this many failures in a row the recipe is at fault, not a trial.
_MAX_FAILURES = 3


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
        """Return the outcome of each trial, from all of its attempts."""
        outcomes = []
        for attempts in self.attempts():
            killed = sum(STOPPED not in trial.user_attrs for trial in attempts)
            unfinished = Outcome.INTERRUPTED if killed > self.arguments.retries else Outcome.NEEDED
            ends = (Outcome.of(trial) for trial in attempts)
            outcomes.append(next((end for end in ends if end != Outcome.INTERRUPTED), unfinished))
        return outcomes

    def add_next(self) -> bool:
        """Queue the next trial unless one is waiting already; return whether a trial is waiting now."""
        outcomes = self.outcomes()
        if Outcome.WAITING in outcomes or Outcome.NEEDED not in outcomes:
            return Outcome.WAITING in outcomes
        index = outcomes.index(Outcome.NEEDED)
        drawn = {name: value for trial in self.attempts()[index] for name, value in trial.params.items()}
        self.study.enqueue_trial(drawn, user_attrs={INDEX: index})
        return True

    def is_duplicate(self, trial: BaseTrial) -> bool:
        """Return whether a trial that has just started is not needed: an older attempt is running or has a result."""
        index = trial.user_attrs.get(INDEX)
        # No index: another worker took the queued trial. A higher index: `trials` was lowered.
        if index is None or index >= self.arguments.trials:
            return True
        older = [attempt for attempt in self.attempts()[index] if attempt.number < trial.number]
        return any(Outcome.of(attempt) != Outcome.INTERRUPTED for attempt in older)

    def fail_killed(self) -> None:
        """Mark the trials of killed workers as failed."""
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
    if recipe.groups()[2].world_size > 1 and _count_unfinished(queue.outcomes()):
        raise ConfigError(
            "each trial is trained by one process: start the command once for each device without a launcher; use several "
            "processes only for the final fit of a finished search"
        )
    objective = Objective(recipe, arguments, parameters, data, queue.is_duplicate)
    # Garbage is collected after each trial. That would take longer than a small trial if it scanned libraries and data.
    gc.collect()
    gc.freeze()
    is_waiting = False
    while True:
        queue.fail_killed()
        outcomes = queue.outcomes()
        if not _count_unfinished(outcomes):
            return Counter(outcomes)
        if queue.add_next():
            is_waiting = False
            _train_one(study, objective, queue)
            continue
        if not is_waiting:
            print(f"waiting for {outcomes.count(Outcome.RUNNING)} trials of other workers", flush=True)
            is_waiting = True
        time.sleep(1)


def _count_unfinished(outcomes: Sequence[Outcome]) -> int:
    return sum(outcome in (Outcome.NEEDED, Outcome.WAITING, Outcome.RUNNING) for outcome in outcomes)


def _train_one(study: Study, objective: Objective, queue: TrialQueue) -> None:
    """Train one trial; drop its result if another worker has failed the trial because its heartbeats were missing."""
    try:
        study.optimize(objective, n_trials=1, callbacks=[partial(_report, queue)])
    except (ValueError, UpdateFinishedTrialError):  # Optuna raises both for a trial that has ended already
        trial = study.get_trials(deepcopy=False)[objective.trial_number]
        if Outcome.of(trial) != Outcome.INTERRUPTED:
            raise
        print(f"trial {trial.number}: no heartbeat for search.grace_period, so the trial is repeated", flush=True)


def _report(queue: TrialQueue, study: Study, trial: FrozenTrial) -> None:
    """Print how a trial ended; raise a ConfigError if the last `_MAX_FAILURES` trials failed."""
    if Outcome.of(trial) == Outcome.DUPLICATE:
        return
    ended = [attempt for attempts in queue.attempts() for attempt in attempts if attempt.state.is_finished()]
    value = f" at {trial.value:.4f}" if trial.value is not None else ""
    reason = f" ({trial.user_attrs[REASON]})" if REASON in trial.user_attrs else ""
    drawn = ", ".join(f"{name} {x:.4g}" if isinstance(x, float) else f"{name} {x}" for name, x in trial.params.items())
    has_best = any(attempt.state == TrialState.COMPLETE for attempt in ended)
    best = f"; best {study.best_value:.4f} (trial {study.best_trial.number})" if has_best else ""
    print(
        f"trial {trial.number}, {Outcome.of(trial)}{value}{reason}, {trial.duration.total_seconds():.1f} s: {drawn}; "
        f"{queue.arguments.trials - _count_unfinished(queue.outcomes())} of {queue.arguments.trials} finished{best}",
        flush=True,
    )
    latest = sorted(ended, key=lambda attempt: attempt.datetime_complete)[-_MAX_FAILURES:]
    if len(latest) == _MAX_FAILURES and all(Outcome.of(attempt) == Outcome.FAILED for attempt in latest):
        raise ConfigError(
            f"the last {_MAX_FAILURES} trials failed, the latest with: {latest[-1].user_attrs.get(REASON, '')}. Fix the "
            "cause, then start the same command again"
        )
