"""The study that all workers of a search share: its storage, its identity, its pruner."""

import contextlib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, OptunaError, StorageInternalError
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.storages import RDBStorage
from optuna.study import Study
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from ...errors import ConfigError, HfmgcError, first_line
from ...settings import load_json
from .arguments import SearchArguments


DATABASE, LOCK = "study.db", ".study.lock"
BEST, TABLE, RECORD = "best.yaml", "trials.csv", "search.json"
IDENTITY = "hfmgc"
# Seconds to wait while another worker writes to a SQLite file.
_SQLITE_TIMEOUT = 60
# What opening a storage raises beside errors of the database: a missing driver, a malformed URL, another Optuna's tables.
_OPENING_ERRORS = (OptunaError, ImportError, OSError, ValueError, RuntimeError)


class SearchStorage(RDBStorage):
    """A database whose heartbeat thread is silent when the database is lost: the trial's next report raises the error."""

    def record_heartbeat(self, trial_id: int) -> None:
        """Record that the worker of a trial is alive."""
        with contextlib.suppress(OptunaError, SQLAlchemyError, KeyError):
            super().record_heartbeat(trial_id)


def check_storage(arguments: SearchArguments, folder: Path) -> None:
    """Check the storage before the data are prepared.

    Raises:
        ConfigError: If it cannot be reached, or lacks the study whose results are in the folder, which would be overwritten.
    """
    url = storage_url(arguments, folder)
    if url in ("sqlite://", "sqlite:///") or ":memory:" in url:
        raise ConfigError(f"search.storage {url} is in the memory of one process: name a file, or leave it out")
    with reporting_storage_errors(url, _OPENING_ERRORS):
        storage = _open_storage(url, arguments, folder)
        studies = optuna.get_all_study_summaries(storage)
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
    """Create or load the study.

    Args:
        arguments: The search's.
        folder: The search's `output_dir`, which holds the database unless `storage` names another.
        identity: What must be the same for all trials, as nested mappings of plain values.
        direction: `maximize` or `minimize`.

    Raises:
        ConfigError: If the storage cannot be reached, or its study has another space, recipe or data.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # we print a line for each trial ourselves
    url = storage_url(arguments, folder)
    with reporting_storage_errors(url, _OPENING_ERRORS):
        storage = _open_storage(url, arguments, folder)
        with FileLock(folder / LOCK):  # one worker creates the study and its identity, the others compare
            study = optuna.create_study(
                study_name=arguments.study_name,
                storage=storage,
                pruner=make_pruner(arguments),
                direction=direction,
                load_if_exists=True,
            )
            _check_identity(study, json.loads(json.dumps(identity)), url)
    return study


def make_pruner(arguments: SearchArguments) -> BasePruner:
    """Return the pruner: none, or one that ends trials whose best value is below the median of the others at that step."""
    if arguments.pruner == "none":
        return NopPruner()
    return MedianPruner(arguments.pruner_startup_trials, arguments.pruner_warmup)


def storage_url(arguments: SearchArguments, folder: Path) -> str:
    """Return the URL of the study's storage, by default a file in the folder."""
    return arguments.storage or f"sqlite:///{(folder / DATABASE).resolve()}"


def shown_url(url: str) -> str:
    """Return a storage's URL without its password; of a local file only the name."""
    try:
        parts = make_url(url)
    except (SQLAlchemyError, ValueError):
        return url.split("@")[-1]
    if parts.drivername.startswith("sqlite"):
        return f"sqlite:///{Path(parts.database or '').name}"
    return parts.render_as_string(hide_password=True)


def _open_storage(url: str, arguments: SearchArguments, folder: Path) -> RDBStorage:
    timeout = {"connect_args": {"timeout": _SQLITE_TIMEOUT}} if url.startswith("sqlite") else {}
    with warnings.catch_warnings(), FileLock(folder / LOCK):  # one worker creates the tables
        warnings.simplefilter("ignore", ExperimentalWarning)
        return SearchStorage(
            url,
            engine_kwargs=timeout,
            heartbeat_interval=arguments.heartbeat_interval,
            grace_period=arguments.grace_period,
        )


@contextmanager
def reporting_storage_errors(url: str, other_errors: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn an error of the storage, or one that followed from it, into one ConfigError.

    Args:
        url: The storage's.
        other_errors: Exceptions that mean an error of the storage here.
    """
    try:
        yield
    except HfmgcError:
        raise
    except Exception as error:
        cause = _database_error(error)
        if cause is None and not isinstance(error, other_errors):
            raise
        raise _unreachable(url, cause or error) from error


def _database_error(error: BaseException | None) -> BaseException | None:
    """Return the database's error that led to an exception, or None."""
    while error is not None and not isinstance(error, (StorageInternalError, SQLAlchemyError)):
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return error


def _unreachable(url: str, error: BaseException) -> ConfigError:
    while error.__cause__ is not None:
        error = error.__cause__
    reason = first_line(error)
    if isinstance(error, ImportError):
        reason += "; install the driver that the URL asks for"
    if url.startswith("sqlite"):
        way_out = "check that its folder exists and can be written to, and that the disk is not full"
    else:
        way_out = (
            "check the URL (a database such as postgresql://, because heartbeats need one), the server and its driver, or "
            "leave it out to use a file in output_dir"
        )
    return ConfigError(f"search.storage {shown_url(url)} cannot be reached ({reason}): {way_out}")


def _check_identity(study: Study, identity: dict[str, Any], url: str) -> None:
    """Record the identity of a new study; refuse a study with another one."""
    if IDENTITY not in study.user_attrs:
        if study.get_trials(deepcopy=False):
            raise ConfigError(
                f"study {study.study_name!r} in {shown_url(url)} was not created by this recipe: choose another "
                "search.study_name"
            )
        study.set_user_attr(IDENTITY, identity)
    differences = list(_differences(study.user_attrs[IDENTITY], identity))
    if differences:
        more = f"; and {len(differences) - 5} more" if len(differences) > 5 else ""
        raise ConfigError(
            f"study {study.study_name!r} in {shown_url(url)} belongs to another search: {'; '.join(differences[:5])}{more}. "
            "Restore these settings, or choose another search.study_name (or output_dir)"
        )


def _differences(stored: Any, wanted: Any, path: str = "") -> Iterator[str]:
    """Describe where two nested mappings differ."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        for key in sorted(stored.keys() | wanted.keys()):
            yield from _differences(stored.get(key), wanted.get(key), f"{path} > {key}" if path else key)
    elif stored != wanted:
        stored, wanted = (
            "nothing" if value is None else json.dumps(value, ensure_ascii=False) for value in (stored, wanted)
        )
        yield f"{path}: {stored} in the study, {wanted} now"
