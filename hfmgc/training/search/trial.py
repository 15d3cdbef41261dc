"""One trial: an ordinary training run on one device that saves nothing but its metrics."""

import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from accelerate.utils import release_memory
from accelerate.utils.memory import should_reduce_batch_size
from optuna import Trial, TrialPruned
from optuna.exceptions import OptunaError
from optuna.samplers import TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

from ...errors import SaveError, TrainingError, first_line
from ..base_recipe import BaseRecipe
from ..check import check_recipe
from ..fit import fit
from ..prefix_store import StoreFullError
from ..preparation import SharedData
from ..progress import epoch_line
from .arguments import TRIAL_FIELDS, SearchArguments
from .space import Parameter, recipe_fields


logger = logging.get_logger(__name__)

# User attributes of a trial.
INDEX = "index"
SEED = "seed"
OUTCOME = "outcome"  # set where Optuna's own state is not enough
REASON = "reason"
WORKER = "worker"
STOPPED = "stopped"  # stopped by Ctrl-C or a full disk; does not count as a retry
# Errors that are not the fault of the trial: they stop the search, and the trial is repeated later.
_STOPPING = (KeyboardInterrupt, SaveError, StoreFullError)
_FAILED = math.nan  # Optuna records a trial with this value as failed


class Outcome(StrEnum):
    """The state of a trial, in more detail than Optuna's `TrialState`."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out of memory"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # the worker was killed or stopped
    DUPLICATE = "duplicate"
    RUNNING = "running"
    WAITING = "waiting"
    NEEDED = "needed"  # not queued yet

    @classmethod
    def of(cls, trial: FrozenTrial) -> "Outcome":
        """Return the outcome of an attempt at a trial."""
        state = "interrupted" if trial.state == TrialState.FAIL else trial.state.name.lower()
        return cls(trial.user_attrs.get(OUTCOME, state))


@dataclass
class ReportToStudy(TrainerCallback):
    """Reports the metric that chooses the best checkpoint to the study; stops a run that diverges or is pruned."""

    trial: Trial
    values: list[float] = field(default_factory=list)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        _check_finite("training loss", kwargs["logs"].get("loss"), state)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        metrics: Mapping[str, float] = kwargs["metrics"]
        metric = args.metric_for_best_model or "loss"
        value = metrics[f"eval_{metric}"]
        _check_finite("validation loss", metrics.get("eval_loss"), state)
        _check_finite(metric, value, state)
        self.values.append(value)
        self.trial.report(value, step=len(self.values))
        print(f"  trial {self.trial.number}, {epoch_line(args, state, None, metrics)}", flush=True)
        # After its last step a trial is complete.
        if state.global_step < state.max_steps and self.trial.should_prune():
            raise TrialPruned()


def _check_finite(name: str, value: float | None, state: TrainerState) -> None:
    if value is not None and not math.isfinite(value):
        raise TrainingError(f"{name} {value} after {state.global_step} steps")


@dataclass
class Objective:
    """The function that Optuna calls with each trial; returns the metric to optimise."""

    recipe: BaseRecipe
    arguments: SearchArguments
    parameters: Sequence[Parameter]
    data: SharedData
    is_duplicate: Callable[[Trial], bool]
    trial_number: int | None = None

    def __call__(self, trial: Trial) -> float:
        """Train. Ctrl-C, a lost storage and a full disk or store stop the search; other errors end only the trial."""
        self.trial_number = trial.number
        trial.set_user_attr(WORKER, f"{platform.node()}:{os.getpid()}")
        if self.is_duplicate(trial):
            trial.set_user_attr(OUTCOME, Outcome.DUPLICATE)
            return _FAILED
        try:
            return self._train(trial)
        except (TrialPruned, OptunaError):
            raise
        except _STOPPING:
            trial.set_user_attr(STOPPED, True)
            raise
        except Exception as error:
            outcome, reason = _classify(error), first_line(error)[:300]
            if outcome == Outcome.FAILED:
                logger.warning(f"trial {trial.number} failed", exc_info=error)
        finally:
            release_memory()
        trial.set_user_attr(OUTCOME, outcome)
        trial.set_user_attr(REASON, reason)
        if outcome == Outcome.FAILED:
            return _FAILED
        raise TrialPruned(reason)  # TPE learns from pruned trials and ignores failed ones

    def _train(self, trial: Trial) -> float:
        index = trial.user_attrs[INDEX]
        trial.study.sampler = trial_sampler(self.arguments, index)
        drawn = {parameter.name: parameter.draw(trial) for parameter in self.parameters}
        fields = recipe_fields(self.parameters, drawn, self.recipe)
        model, data, run = self.recipe.groups({**fields, **TRIAL_FIELDS})
        if self.arguments.trial_seeds == "own":
            run = run.with_values(seed=run.seed + index)
        trial.set_user_attr(SEED, run.seed)
        recipe = check_recipe((model, data, run))
        report = ReportToStudy(trial)
        prepared = self.data(*recipe.groups[1:], recipe.extractor)
        trainer = fit(recipe.groups, prepared, [report])
        trainer.accelerator.free_memory()
        if not report.values:
            raise ValueError("the training ended before its first evaluation: see eval_strategy and eval_steps")
        # The recipe itself would end with its best checkpoint, or with its last weights.
        if not self.recipe.groups()[2].load_best_model_at_end:
            return report.values[-1]
        return max(report.values) if trial.study.direction == StudyDirection.MAXIMIZE else min(report.values)


def trial_sampler(arguments: SearchArguments, index: int) -> TPESampler:
    """Return TPE, seeded by the sampler's seed and the index of the trial.

    So workers that start together draw different trials, and a resumed search draws what an uninterrupted one does.
    """
    seed = np.random.SeedSequence([arguments.sampler_seed, index]).generate_state(1)[0]
    return TPESampler(n_startup_trials=arguments.startup_trials, seed=int(seed), constant_liar=True)


def _classify(error: Exception) -> Outcome:
    if isinstance(error, TrainingError):
        return Outcome.DIVERGED
    # On the CPU and MPS, PyTorch raises a plain RuntimeError, which Accelerate recognises.
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or should_reduce_batch_size(error):
        return Outcome.OUT_OF_MEMORY
    return Outcome.FAILED
