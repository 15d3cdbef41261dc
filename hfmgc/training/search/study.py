"""The study that all workers of a search share: opened, compared with what is wanted now, drawn from."""

import json
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, OptunaError, StorageInternalError
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages._rdb.models import NOT_FOUND_MSG
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from ...errors import ConfigError, HfmgcError, first_line
from ...settings_values import load_json
from .arguments import SearchArguments
from .slots import STOPPED, slot_number


DATABASE = "study.db"
BEST, TABLE, RECORD = "best.yaml", "trials.csv", "search.json"
IDENTITY = "hfmgc"
# Seconds that a worker waits for another one's write to a SQLite file.
_SQLITE_PATIENCE = 60
_TRIES = 8
_PAUSE = 0.25


class SamplerOfTrial(BaseSampler):
    """TPE whose random numbers follow from (seed, number of the trial's slot).

    So two workers that start at once never draw the same trial, and a search that is stopped and resumed by one worker
    draws what an undisturbed one would: another attempt at a trial takes a number, and no slot.
    """

    def __init__(self, seed: int, startup_trials: int):
        self.seed = seed
        self.startup_trials = startup_trials
        self._of_trial = self._tpe(0)

    def _tpe(self, number: int) -> TPESampler:
        seed = np.random.SeedSequence([self.seed, number]).generate_state(1)[0]
        return TPESampler(n_startup_trials=self.startup_trials, seed=int(seed), constant_liar=True)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Take the random numbers of this trial."""
        self._of_trial = self._tpe(slot_number(study, trial.number))
        self._of_trial.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As TPE."""
        return self._of_trial.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As TPE."""
        return self._of_trial.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As TPE."""
        return self._of_trial.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """As TPE."""
        self._of_trial.after_trial(study, trial, state, values)


def make_pruner(arguments: SearchArguments) -> BasePruner:
    """Return what ends hopeless trials early: those whose best so far is below the median of the others at that time."""
    if arguments.pruner == "none":
        return NopPruner()
    return MedianPruner(arguments.pruner_startup_trials, arguments.pruner_warmup)


def check_storage(arguments: SearchArguments, folder: Path) -> None:
    """Check the storage before the data are prepared.

    Raises:
        ConfigError: If it cannot be reached, or lacks the study whose results are in the folder: they would be overwritten.
    """
    url = storage_url(arguments, folder)
    if url in ("sqlite://", "sqlite:///") or ":memory:" in url:
        raise ConfigError(f"search.storage {url} lies in the memory of one process: name a file, or leave it out")
    storage = _reached(url, lambda: _open_storage(url, arguments))
    studies = _reached(url, lambda: optuna.get_all_study_summaries(storage))
    storage.remove_session()
    name = _study_of_results(folder, arguments.study_name)
    if name is not None and not any(study.study_name == name and study.n_trials for study in studies):
        raise ConfigError(
            f"output_dir {folder} holds the results of study {name!r}, whose trials are not in {shown_url(url)}: restore "
            f"the database, choose another output_dir, or remove {TABLE} and {RECORD} there"
        )


def _study_of_results(folder: Path, default: str) -> str | None:
    """Return the name of the study whose results a folder holds; None without results."""
    if (folder / RECORD).is_file():
        try:
            return str(load_json((folder / RECORD).read_text(encoding="utf-8"))["study"])
        except (OSError, ValueError, KeyError, TypeError):
            return default
    table = folder / TABLE
    # The table of a search that was stopped before its first trial has its header alone.
    return default if table.is_file() and len(table.read_text(encoding="utf-8").splitlines()) > 1 else None


def open_study(arguments: SearchArguments, folder: Path, identity: Mapping[str, Any], direction: str) -> Study:
    """Return the study, made anew or gone on with.

    Args:
        arguments: The search's.
        folder: Where its database lies unless it has another.
        identity: What must be the same for all trials, as nested mappings of plain values.
        direction: `maximize` or `minimize`.

    Raises:
        ConfigError: If the storage cannot be reached, or the study there is of another space, recipe or data.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # each trial is told by our own lines
    url = storage_url(arguments, folder)
    storage = _reached(url, lambda: _open_storage(url, arguments))
    wanted = json.loads(json.dumps(identity))
    chosen = {
        "study_name": arguments.study_name,
        "storage": storage,
        "sampler": SamplerOfTrial(arguments.sampler_seed, arguments.startup_trials),
        "pruner": make_pruner(arguments),
    }
    return _reached(url, lambda: _opened(chosen, direction, wanted, url))


def storage_url(arguments: SearchArguments, folder: Path) -> str:
    """Return the URL of the study's storage, a file in the folder unless it has another."""
    return arguments.storage or f"sqlite:///{(folder / DATABASE).resolve()}"


def _opened(chosen: Mapping[str, Any], direction: str, identity: dict[str, Any], url: str) -> Study:
    """Return the study; of workers that begin it at once one makes it and notes what it is of, and the others compare."""
    try:
        study = optuna.create_study(**chosen, direction=direction)
        study.set_user_attr(IDENTITY, identity)
    except DuplicatedStudyError:
        study = optuna.load_study(**chosen)
        _compare(study, identity, url)
    return study


def shown_url(url: str) -> str:
    """Return a storage's URL without its password, and of a local file the name alone."""
    try:
        parts = make_url(url)
    except (SQLAlchemyError, ValueError):
        return url.split("@")[-1]
    if parts.drivername.startswith("sqlite"):
        return f"sqlite:///{Path(parts.database or '').name}"
    return parts.render_as_string(hide_password=True)


def again(max_retries: int) -> RetryHeartbeatStaleTrialCallback:
    """Return what puts a trial whose worker ended back into the queue, with the values that it had drawn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return _Retry(max_retries)


class _Retry(RetryHeartbeatStaleTrialCallback):
    """Optuna's, without what the ended worker noted of the trial; attempts that were stopped by hand do not count."""

    def __init__(self, max_retries: int):
        super().__init__()
        self._most = max_retries

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        trials = study.get_trials(deepcopy=False)
        attempts = [*trial.system_attrs.get("retry_history", []), trial.number]
        if sum(STOPPED not in trials[number].user_attrs for number in attempts) > self._most:
            return
        trial.user_attrs = {}
        super().__call__(study, trial)


def _open_storage(url: str, arguments: SearchArguments) -> RDBStorage:
    patience = {"connect_args": {"timeout": _SQLITE_PATIENCE}} if url.startswith("sqlite") else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return RDBStorage(
            url,
            engine_kwargs=patience,
            heartbeat_interval=arguments.heartbeat_interval,
            grace_period=arguments.grace_period,
            heartbeat_stale_trial_callback=again(arguments.retries),
        )


def _reached(url: str, attempt: Any) -> Any:
    """Return what `attempt` does; workers that start at once may be making the same tables."""
    for left in reversed(range(_TRIES)):
        try:
            return attempt()
        except (OptunaError, SQLAlchemyError, ImportError, OSError, ValueError, RuntimeError) as error:
            text = f"{error} {error.__cause__ or ''}"
            made_meanwhile = any(
                sign in text for sign in ("already exists", "UNIQUE", "duplicate", "locked", "no such table")
            )
            if left and made_meanwhile:
                time.sleep(_PAUSE)
                continue
            raise unreachable(url, error) from error
    raise AssertionError


@contextmanager
def reaching_storage(arguments: SearchArguments, folder: Path) -> Iterator[None]:
    """Turn what Optuna and its heartbeat thread raise once the storage is lost into one ConfigError."""
    before = threading.excepthook

    def quiet(thread: threading.ExceptHookArgs) -> None:
        if _storage_error(thread.exc_value) is None:  # the next use of the storage tells it
            before(thread)

    threading.excepthook = quiet
    try:
        yield
    except HfmgcError:
        raise
    except Exception as error:  # where Optuna cannot write how a trial ended, it raises what it likes
        lost = _storage_error(error)
        if lost is None:
            raise
        raise unreachable(storage_url(arguments, folder), lost) from error
    finally:
        threading.excepthook = before


def _storage_error(error: BaseException | None) -> BaseException | None:
    """Return the error of the storage that an exception is or was raised after, or None."""
    while error is not None:
        missing = isinstance(error, KeyError) and error.args == (NOT_FOUND_MSG,)  # the database was replaced
        if missing or isinstance(error, (StorageInternalError, SQLAlchemyError)):
            return error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def unreachable(url: str, error: Exception) -> ConfigError:
    """Return the error of a storage that does not answer."""
    deepest: BaseException = error
    while deepest.__cause__ is not None:
        deepest = deepest.__cause__
    reason = first_line(deepest)
    if isinstance(deepest, ImportError):
        reason += "; install the driver that the URL asks for"
    if url.startswith("sqlite"):
        way_out = "check its folder, who may write there and the room on the disk"
    else:
        way_out = (
            "check the URL (of a database, such as postgresql://: no other storage has signs of life), the server and its "
            "driver, or leave it out for a file in output_dir"
        )
    return ConfigError(f"search.storage {shown_url(url)} cannot be reached ({reason}): {way_out}")


def _compare(study: Study, identity: dict[str, Any], url: str) -> None:
    """Refuse a study that is of something else."""
    for _ in range(_TRIES):  # whoever is making it notes at once what it is of
        if IDENTITY in study.user_attrs:
            break
        if study.get_trials(deepcopy=False):
            raise ConfigError(
                f"study {study.study_name!r} in {shown_url(url)} was not made by this recipe: choose another "
                "search.study_name"
            )
        time.sleep(_PAUSE)
    else:  # or was killed before
        study.set_user_attr(IDENTITY, identity)
    differences = list(_differences(study.user_attrs[IDENTITY], identity))
    if differences:
        shown = "; ".join(differences[:5]) + (f"; and {len(differences) - 5} more" if len(differences) > 5 else "")
        raise ConfigError(
            f"study {study.study_name!r} in {shown_url(url)} is of another search: {shown}. Restore it, or choose another "
            "search.study_name (or output_dir)"
        )


def _differences(before: Any, now: Any, path: str = "") -> Any:
    """Yield in words where two nested mappings differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from _differences(before.get(key), now.get(key), f"{path} > {key}" if path else key)
    elif before != now:
        yield f"{path}: {_said(before)} there, {_said(now)} here"


def _said(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
