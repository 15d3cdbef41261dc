"""Which trials of a study still have to be trained.

A search wants a number of trials, with indices from 0. Before a worker starts one it queues the lowest index that no worker
is training and that has no result. This one rule covers new trials, those of killed workers and those stopped with Ctrl-C: the
parameters drawn by earlier attempts are queued again (`Study.enqueue_trial`). Two workers may queue the same index at once;
the later attempt is a duplicate and is not trained. `MaxTrialsCallback` would train up to one trial too many for each worker.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

import optuna
from optuna.study import Study
from optuna.trial import BaseTrial, FrozenTrial, TrialState


# User attributes of a trial.
INDEX = "index"
OUTCOME = "outcome"  # where Optuna's own state does not say it
REASON = "reason"
WORKER = "worker"
STOPPED = "stopped"  # by Ctrl-C or a full disk: does not count as a retry

DIVERGED, OUT_OF_MEMORY, FAILED, INTERRUPTED, DUPLICATE = (
    "diverged", "out of memory", "failed", "interrupted", "duplicate",
)  # fmt: skip
_OUTCOMES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: INTERRUPTED}


def outcome(trial: FrozenTrial) -> str:
    """Return in a word how a trial ended, or that it is running or waiting."""
    return trial.user_attrs.get(OUTCOME) or _OUTCOMES.get(trial.state, trial.state.name.lower())


def has_result(trial: FrozenTrial) -> bool:
    """Return whether a trial ended by itself, well or not."""
    return trial.state.is_finished() and outcome(trial) not in (INTERRUPTED, DUPLICATE)


@dataclass(frozen=True)
class Progress:
    """The attempts at each trial of a search at one moment, by index, oldest first."""

    attempts: list[list[FrozenTrial]]
    retries: int

    def _ended(self, attempts: list[FrozenTrial]) -> bool:
        killed = sum(outcome(trial) == INTERRUPTED and STOPPED not in trial.user_attrs for trial in attempts)
        live = any(not trial.state.is_finished() for trial in attempts)
        return any(map(has_result, attempts)) or (killed > self.retries and not live)

    @property
    def wanted(self) -> int:
        """How many trials the search wants."""
        return len(self.attempts)

    @property
    def ended(self) -> int:
        """How many trials have a result, or lost their workers too often."""
        return sum(map(self._ended, self.attempts))

    @property
    def waiting(self) -> bool:
        """Whether a queued trial waits for a worker."""
        return any(trial.state == TrialState.WAITING for attempts in self.attempts for trial in attempts)

    @property
    def running(self) -> int:
        """How many trials are being trained."""
        return sum(trial.state == TrialState.RUNNING for attempts in self.attempts for trial in attempts)

    @property
    def next_index(self) -> int | None:
        """The lowest index that nobody trains and that needs an attempt."""
        for index, attempts in enumerate(self.attempts):
            if all(trial.state.is_finished() for trial in attempts) and not self._ended(attempts):
                return index
        return None

    def counts(self) -> dict[str, int]:
        """Return outcome -> number of trials."""
        return dict(Counter(outcome(next(filter(has_result, tries), tries[-1])) for tries in self.attempts if tries))


@dataclass(frozen=True)
class TrialQueue:
    """The trials of a study that a search wants.

    Args:
        study: Shared by the workers.
        wanted: Number of trials.
        retries: How often a trial is retried after its worker was killed.
        grace_period: Seconds without a heartbeat until a worker counts as killed.
    """

    study: Study
    wanted: int
    retries: int
    grace_period: int

    def progress(self) -> Progress:
        """Return the state of the search."""
        attempts: list[list[FrozenTrial]] = [[] for _ in range(self.wanted)]
        for trial in self.study.get_trials(deepcopy=False):
            if trial.user_attrs.get(INDEX, self.wanted) < self.wanted and outcome(trial) != DUPLICATE:
                attempts[trial.user_attrs[INDEX]].append(trial)
        return Progress(attempts, self.retries)

    def fail_killed(self) -> None:
        """Fail the trials of workers without a heartbeat."""
        optuna.storages.fail_stale_trials(self.study)
        # Optuna does not see workers that were killed between taking a trial and their first heartbeat.
        latest = datetime.now() - timedelta(seconds=self.grace_period)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if WORKER not in trial.user_attrs and trial.datetime_start < latest:
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def add_next(self) -> bool:
        """Queue the next trial, with what earlier attempts at it drew; return whether a trial is waiting."""
        progress = self.progress()
        if progress.waiting:
            return True
        index = progress.next_index
        if index is None:
            return False
        drawn = {name: value for trial in progress.attempts[index] for name, value in trial.params.items()}
        self.study.enqueue_trial(drawn, user_attrs={INDEX: index})
        return True

    def is_duplicate(self, trial: BaseTrial) -> bool:
        """Return whether a trial that has just started is not needed: an older attempt is live or has a result."""
        index = trial.user_attrs.get(INDEX, self.wanted)
        if index >= self.wanted:  # taken by accident after another worker took the last one, or fewer are wanted now
            return True
        return any(
            other.number < trial.number and (has_result(other) or not other.state.is_finished())
            for other in self.progress().attempts[index]
        )
