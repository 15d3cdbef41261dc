"""One trial: an ordinary training of one device that keeps its figures and nothing else."""

import gc
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from optuna import Trial, TrialPruned
from optuna.exceptions import OptunaError
from optuna.study import Study
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

from ...errors import SaveError, first_line
from ..arguments import DataArguments, ModelArguments, RunArguments, best_metric
from ..assembly import adapt_model, build_feature_extractor, build_model, build_trainer
from ..prefix_reuse import check_reuse, reused_prefix
from ..prefix_store import PrefixStore, StoreFullError
from ..preparation import PreparedData, balanced_class_weights, check_data_arguments, prepare_data
from ..starting_point import adopt_checkpoint
from .arguments import BaseRecipe, SearchArguments
from .slots import DIVERGED, FAILED, OUT_OF_MEMORY, OUTCOME, REASON, STOPPED, SURPLUS, WORKER, is_surplus, origin
from .space import Parameter, fields_of


logger = logging.get_logger(__name__)

SEED = "seed"
# They are no trial's fault: the search stops, and the trial is left in the queue.
STOPPING = (KeyboardInterrupt, SaveError, StoreFullError)
# What libraries say when memory runs out, beside the exceptions that are made for it.
_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "killed by signal: Killed")


class Diverged(Exception):
    """A loss or a figure of the validation side that is no number any more."""


class SurplusTrial(Exception):
    """A trial that another worker was faster with; it is not trained."""


@dataclass
class SharedData:
    """The data of all trials of a worker, prepared once as long as they want the same."""

    seed: int
    # Frozen layers' output of the trials so far: each store is checked when the first of them opens it.
    stores: dict[str, PrefixStore] = field(default_factory=dict)
    _wanted: Any = None
    _prepared: PreparedData | None = None

    def prepared_for(self, model: ModelArguments, data: DataArguments, run: RunArguments) -> PreparedData:
        """Return the data as these settings want them, with windows and augmentations drawn from the recipe's seed."""
        extractor = build_feature_extractor(model)
        check_data_arguments(data, model, extractor)
        check_reuse(data, run)
        # What mixup and class weights make of the data is made in the training.
        wanted = ({**vars(data), "mixup_alpha": 0.0, "class_weights": "none"}, extractor.to_dict())
        if wanted != self._wanted:
            seed, run.seed = run.seed, self.seed
            try:
                self._prepared = prepare_data(data, run, extractor)
            finally:
                run.seed = seed
            self._wanted = wanted
            self.stores.clear()  # of other windows
        return self._prepared


@dataclass
class ReportToStudy(TrainerCallback):
    """Tells the study the figure of each evaluation, and ends the training where the study says so."""

    trial: Trial
    metric: str
    values: list[float] = field(default_factory=list)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs,
    ) -> None:
        """End a training whose loss is no number."""
        self._check("training loss", (logs or {}).get("loss"), state)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **kwargs,
    ) -> None:
        """Report, and end a training that diverged or is hopeless."""
        value = metrics[f"eval_{self.metric}"]
        self._check("validation loss", metrics.get("eval_loss"), state)
        self._check(self.metric, value, state)
        self.values.append(value)
        self.trial.report(value, step=len(self.values))
        loss = f", loss {metrics['eval_loss']:.4f}" if "eval_loss" in metrics and self.metric != "loss" else ""
        print(
            f"  trial {self.trial.number}, epoch {state.epoch or 0:.4g} of {state.num_train_epochs:g}: "
            f"{self.metric} {value:.4f}{loss}",
            flush=True,
        )
        # A training that is at its end costs nothing more, and counts as a whole one.
        if state.global_step < state.max_steps and self.trial.should_prune():
            raise TrialPruned()

    @staticmethod
    def _check(name: str, value: float | None, state: TrainerState) -> None:
        if value is not None and not math.isfinite(value):
            raise Diverged(f"{name} {value} after {state.global_step} steps")


@dataclass
class Objective:
    """What Optuna calls with each trial; returns the figure that the search goes by."""

    recipe: BaseRecipe
    arguments: SearchArguments
    parameters: Sequence[Parameter]
    data: SharedData
    study: Study
    # Whether a run of the recipe would end with its best checkpoint, or with its last weights.
    takes_best: bool
    current: int | None = None

    def __call__(self, trial: Trial) -> float:
        """Train, and return the figure; all but a lost storage, a full disk or store, and Ctrl-C ends with the trial alone."""
        self.current = trial.number
        trial.set_user_attr(WORKER, f"{platform.node()}:{os.getpid()}")
        if is_surplus(self.study, trial.number, self.arguments.trials):
            trial.set_user_attr(OUTCOME, SURPLUS)
            raise SurplusTrial
        ended = None
        try:
            return self._train(trial)
        except (TrialPruned, OptunaError):
            raise
        except STOPPING:
            trial.set_user_attr(STOPPED, True)
            raise
        except Exception as error:
            ended = _ended_by(error)
            if ended == FAILED:
                logger.warning(f"trial {trial.number} failed", exc_info=error)
            reason = first_line(error)[:300]
        finally:
            _free_memory()
        trial.set_user_attr(OUTCOME, ended)
        trial.set_user_attr(REASON, reason)
        if ended == FAILED:
            raise _EndedTrial(reason)
        raise TrialPruned(reason)  # TPE keeps away from what was pruned; what failed it does not look at

    def _train(self, trial: Trial) -> float:
        drawn = {parameter.name: parameter.draw(trial) for parameter in self.parameters}
        model_arguments, data_arguments, run = self.recipe.of_trial(fields_of(self.parameters, drawn, self.recipe))
        if self.arguments.trial_seeds == "own":
            # Of the first attempt, so that a trial that is begun again is the same.
            run.seed += origin(self.study.get_trials(deepcopy=False)[trial.number])
        trial.set_user_attr(SEED, run.seed)
        adopt_checkpoint(model_arguments, run)
        data = self.data.prepared_for(model_arguments, data_arguments, run)
        if data_arguments.class_weights == "balanced":
            model_arguments.model = {**model_arguments.model, "class_weights": balanced_class_weights(data)}
        model = adapt_model(build_model(model_arguments, data.corpus.genres, run), model_arguments)
        with reused_prefix(model, data, run, opened=self.data.stores) as learnt:
            trainer = build_trainer(
                model,
                run,
                data.corpus.genres,
                train=learnt.train,
                validation=learnt.validation,
                mixup_alpha=data_arguments.mixup_alpha,
            )
            for callback in list(trainer.callback_handler.callbacks):
                if type(callback).__name__ == "PrinterCallback":
                    trainer.remove_callback(callback)
            report = ReportToStudy(trial, (run.metric_for_best_model or "loss").removeprefix("eval_"))
            trainer.add_callback(report)
            try:
                trainer.train()
            finally:
                trainer.accelerator.free_memory()
        if not report.values:
            raise ValueError("the training ended before its first evaluation: see eval_strategy and eval_steps")
        best = min if is_minimized(report.metric) else max
        return best(report.values) if self.takes_best else report.values[-1]


class _EndedTrial(Exception):
    """A trial that failed for a reason that is noted with it."""


CAUGHT = (SurplusTrial, _EndedTrial)


def searched_metric(run: RunArguments, *, multi_label: bool) -> str:
    """Return the figure of the validation side that a search goes by: what best means in the recipe."""
    return (best_metric(run, multi_label=multi_label) or "loss").removeprefix("eval_")


def is_minimized(metric: str) -> bool:
    """Return whether less of it is better."""
    return metric == "loss"


def _ended_by(error: Exception) -> str:
    if isinstance(error, Diverged):
        return DIVERGED
    memory = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in _MEMORY_SIGNS)
    )
    return OUT_OF_MEMORY if memory else FAILED


def _free_memory() -> None:
    """Give back what a trial held, so that the tenth needs no more than the first."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
