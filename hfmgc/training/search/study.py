"""The study that all workers of a search share: its storage, and the settings that identify the search."""

import contextlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.exceptions import ExperimentalWarning, OptunaError, StorageInternalError
from optuna.pruners import MedianPruner, NopPruner
from optuna.storages import RDBStorage
from optuna.study import Study
from sqlalchemy.exc import SQLAlchemyError

from ...errors import ConfigError, HfmgcError, first_line
from ...evaluation.task import task_of
from ...files import file_lock
from ...text import redact_url
from ..arguments import Groups
from ..base_recipe import BaseRecipe
from ..build import build_config
from ..preparation import PreparedData
from ..run_folder import check_output_folder
from .arguments import SearchArguments


DATABASE, LOCK = "study.db", ".study.lock"
BEST, TABLE, RECORD = "best.yaml", "trials.csv", "search.json"
IDENTITY = "hfmgc"  # user attribute of the study
_FORMAT = 3  # version of the user attributes of study and trials
# Fields that do not change a trial's result, or that the identity holds in another form.
_NOT_COMPARED = (
    "data", "data_options", "split_manifest", "output_dir", "prefix_store", "prefix_store_gigabytes",
    "preprocessing_num_proc", "per_device_eval_batch_size", "disable_tqdm", "use_cpu", "run_name", "project",
)  # fmt: skip
_NOT_COMPARED_PREFIXES = (
    "logging_", "log_", "dataloader_", "save_", "push_", "hub_", "report_", "eval_accumulation", "ddp_", "fsdp", "deepspeed",
)  # fmt: skip
_NOT_COMPARED_IN_SEARCH = ("trials", "study_name", "storage", "retries", "final_fit", "final_seeds")


class SearchStorage(RDBStorage):
    """A database whose heartbeat thread ignores errors: the trial's next report raises them."""

    def record_heartbeat(self, trial_id: int) -> None:
        """Record that the worker of a trial is alive."""
        with contextlib.suppress(OptunaError, SQLAlchemyError, KeyError):
            super().record_heartbeat(trial_id)


def open_storage(arguments: SearchArguments, groups: Groups) -> RDBStorage:
    """Create the search folder, and return the storage of the study.

    Raises:
        ConfigError: If the folder is a file, lies in the data, holds a run, or holds the results of a study that is not in
            the storage; if the storage cannot be reached.
        SaveError: If the folder cannot be written to.
    """
    _, data, run = groups
    folder = Path(run.output_dir)
    check_output_folder("output_dir", folder, data.data)
    if (folder / "results.json").exists():
        raise ConfigError(f"output_dir {folder} holds a run: choose another folder for the search")
    url = arguments.storage or f"sqlite:///{(folder / DATABASE).resolve()}"
    if url in ("sqlite://", "sqlite:///") or ":memory:" in url:
        raise ConfigError(f"search.storage {url} is in the memory of one process: name a file, or leave it out")
    warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats and plots are experimental in Optuna
    with reporting_storage_errors(url, opening=True), file_lock(folder / LOCK):
        storage = SearchStorage(
            url,
            # Seconds to wait while another worker writes to the file.
            engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {},
            heartbeat_interval=arguments.heartbeat_interval,
            grace_period=arguments.grace_period,
        )
        studies = optuna.get_all_study_summaries(storage)
        storage.remove_session()
    if (folder / TABLE).exists():
        record = folder / RECORD  # missing if the search was stopped early
        name = json.loads(record.read_text(encoding="utf-8"))["study"] if record.exists() else arguments.study_name
        if not any(study.study_name == name and study.n_trials for study in studies):
            raise ConfigError(
                f"output_dir {folder} holds the results of study {name!r}, which is not in {redact_url(url)}: restore the "
                f"database, choose another output_dir, or remove {TABLE} and {RECORD} there"
            )
    return storage


def open_study(recipe: BaseRecipe, arguments: SearchArguments, data: PreparedData) -> Study:
    """Create the study of this search, or load it.

    Raises:
        ConfigError: If the storage cannot be reached, or holds a study of this name with another space, recipe or data.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # the worker prints a line for each trial
    model, _, run = groups = recipe.groups()
    task = task_of(build_config(model, data.corpus.genres).problem_type)
    metric = task.best_metric(run.metric_for_best_model) or "loss"
    identity = {
        "format": _FORMAT,
        "objective": {"metric": metric, "of": "best evaluation" if run.load_best_model_at_end else "last evaluation"},
        "recipe": {
            name: value
            for name, value in recipe.values.items()
            if name not in _NOT_COMPARED and not name.startswith(_NOT_COMPARED_PREFIXES)
        },
        "data": {"split": data.manifest.digest, "genres": ", ".join(data.corpus.genres)},
        "search": {name: value for name, value in vars(arguments).items() if name not in _NOT_COMPARED_IN_SEARCH},
    }
    pruner = MedianPruner(arguments.pruner_startup_trials, arguments.pruner_warmup)
    storage = open_storage(arguments, groups)
    with file_lock(Path(run.output_dir, LOCK)):  # the first worker records the identity, the others compare theirs
        study = optuna.create_study(
            study_name=arguments.study_name,
            storage=storage,
            pruner=NopPruner() if arguments.pruner == "none" else pruner,
            direction="maximize" if run.greater_is_better else "minimize",
            load_if_exists=True,
        )
        _check_identity(study, json.loads(json.dumps(identity)), redact_url(storage.url))
    return study


def _check_identity(study: Study, identity: dict[str, Any], url: str) -> None:
    """Record the identity of a new study; raise a ConfigError if the study has another identity."""
    where = f"study {study.study_name!r} in {url}"
    if IDENTITY not in study.user_attrs:
        if study.get_trials(deepcopy=False):
            raise ConfigError(f"{where} was not created by hfmgc: choose another search.study_name")
        study.set_user_attr(IDENTITY, identity)
    stored, wanted = (
        pd.json_normalize(values, sep=" > ").to_dict(orient="records")[0]
        for values in (study.user_attrs[IDENTITY], identity)
    )
    differences = [
        f"{key}: {json.dumps(stored.get(key))} in the study, {json.dumps(wanted.get(key))} now"
        for key in sorted(stored.keys() | wanted.keys())
        if stored.get(key) != wanted.get(key)
    ]
    if differences:
        more = f"; and {len(differences) - 5} more" if len(differences) > 5 else ""
        raise ConfigError(
            f"{where} belongs to another search: {'; '.join(differences[:5])}{more}. Restore these settings, or choose "
            "another search.study_name (or output_dir)"
        )


@contextmanager
def reporting_storage_errors(url: str, *, opening: bool = False) -> Iterator[None]:
    """Turn an error that the database caused into a ConfigError; while `opening` it, any error: drivers raise many types."""
    try:
        yield
    except HfmgcError:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while not opening and cause is not None and not isinstance(cause, (StorageInternalError, SQLAlchemyError)):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ConfigError(
            f"search.storage {redact_url(url)} cannot be reached ({first_line(cause)}): check its URL, driver and server, or "
            "that its folder can be written to; without search.storage the study is a file in output_dir"
        ) from error
