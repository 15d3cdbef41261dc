"""Which trials of a study count.

A search wants a number of trials. Each of them is a slot, which may take several attempts: a trial whose worker was
killed, or stopped by hand, is begun again with the same values under a new number. Of trials that two workers began at
once although one was enough, the later is surplus and is not trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


# What became of a trial beside Optuna's own states, in its user attributes.
OUTCOME = "outcome"
REASON = "reason"
WORKER = "worker"
STOPPED = "stopped"  # by hand, or because nothing could be written: none of the killed workers' attempts
DIVERGED, OUT_OF_MEMORY, FAILED, SURPLUS = "diverged", "out of memory", "failed", "surplus"


def origin(trial: FrozenTrial) -> int:
    """Return the number of the first attempt of a trial's slot."""
    return trial.system_attrs.get("failed_trial", trial.number)


def outcome(trial: FrozenTrial) -> str:
    """Return in a word what became of a trial."""
    if OUTCOME in trial.user_attrs:
        return trial.user_attrs[OUTCOME]
    return {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "interrupted"}.get(
        trial.state, trial.state.name.lower()
    )


def slot_number(study: Study, number: int) -> int:
    """Return how many slots were begun before that of a trial."""
    trials = _counted(study)
    slot = _slot(trials, number)
    return len({origin(trial) for trial in trials if origin(trial) < slot})


def _counted(study: Study) -> list[FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if outcome(trial) != SURPLUS]


def _slot(trials: Sequence[FrozenTrial], number: int) -> int:
    return next(origin(trial) for trial in trials if trial.number == number)


def is_settled(trial: FrozenTrial) -> bool:
    """Return whether a trial came to an end of its own."""
    return trial.state.is_finished() and outcome(trial) not in ("interrupted", SURPLUS)


def is_surplus(study: Study, number: int, wanted: int) -> bool:
    """Return whether a trial that has just begun is one too many: the search has enough, or its slot is taken."""
    if slot_number(study, number) >= wanted:
        return True
    trials = _counted(study)
    slot = _slot(trials, number)
    return any(origin(trial) == slot and trial.number < number and outcome(trial) != "interrupted" for trial in trials)


@dataclass(frozen=True)
class Slots:
    """The attempts at each trial that is wanted, oldest first; fewer than wanted while not all were begun."""

    attempts: list[list[FrozenTrial]]
    wanted: int
    retries: int

    @classmethod
    def of(cls, study: Study, wanted: int, retries: int) -> "Slots":
        """Look at a study as it is now."""
        by_slot: dict[int, list[FrozenTrial]] = {}
        for trial in _counted(study):
            by_slot.setdefault(origin(trial), []).append(trial)
        return cls([by_slot[slot] for slot in sorted(by_slot)][:wanted], wanted, retries)

    def _ended(self, attempts: Sequence[FrozenTrial]) -> bool:
        """Return whether a slot needs nothing more: it was settled, or its workers were killed too often."""
        if any(is_settled(trial) for trial in attempts):
            return True
        killed = sum(STOPPED not in trial.user_attrs for trial in attempts)
        return all(trial.state.is_finished() for trial in attempts) and killed > self.retries

    @property
    def finished(self) -> int:
        """How many need nothing more."""
        return sum(map(self._ended, self.attempts))

    @property
    def done(self) -> bool:
        """Whether nothing more is to be done."""
        return self.finished >= self.wanted

    @property
    def can_begin(self) -> bool:
        """Whether there is a trial for a worker without one."""
        queued = any(trial.state == TrialState.WAITING for attempts in self.attempts for trial in attempts)
        return queued or len(self.attempts) < self.wanted

    @property
    def running(self) -> list[FrozenTrial]:
        """The trials that some worker is at, or was when it was killed."""
        return [trial for attempts in self.attempts for trial in attempts if trial.state == TrialState.RUNNING]

    def lost(self, seconds: int) -> list[FrozenTrial]:
        """Return the last attempts of slots that nobody is at and nobody queued again within this time.

        A worker that is killed just after it failed another one's trial leaves such a slot.
        """
        latest = datetime.now() - timedelta(seconds=seconds)
        return [
            attempts[-1]
            for attempts in self.attempts
            if not self._ended(attempts)
            and all(trial.state.is_finished() for trial in attempts)
            and attempts[-1].datetime_complete < latest
        ]

    def unborn(self, seconds: int) -> list[FrozenTrial]:
        """Return trials whose worker was killed between taking them and its first sign of life, which no heartbeat shows."""
        latest = datetime.now() - timedelta(seconds=seconds)
        return [trial for trial in self.running if WORKER not in trial.user_attrs and trial.datetime_start < latest]

    def counts(self) -> dict[str, int]:
        """Return outcome -> number of slots that ended so."""
        counts: dict[str, int] = {}
        for attempts in self.attempts:
            name = outcome(next((trial for trial in attempts if is_settled(trial)), attempts[-1]))
            counts[name] = counts.get(name, 0) + 1
        return counts
