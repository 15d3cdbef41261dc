"""The folder of a run: locking, resuming or replacing it; its checkpoints; its record `run.yaml`."""

import contextlib
import importlib.metadata
import math
import os
import platform
import re
import shlex
import shutil
import sys
import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from .. import __version__
from ..errors import ConfigError, first_line
from ..evaluation.checkpoints import PIPELINE_FILE
from ..evaluation.plots import IMPORTANCES, RESTORED, TRAINING_CURVE
from ..evaluation.report import EXPERT_USAGE_PICTURE
from ..evaluation.task import MULTI_LABEL, SINGLE_LABEL
from ..files import file_lock, write_text
from ..settings import check_path_length, load_json, load_yaml
from ..text import redact_url
from .arguments import RunArguments, changed_fields


logger = logging.get_logger(__name__)

RUN_FILE = "run.yaml"
RUN_FILES = (
    RUN_FILE, "config.json", "model.safetensors", "preprocessor_config.json", "README.md", "results.json", "split.json",
    "confusion_matrix.json", SINGLE_LABEL.picture, MULTI_LABEL.picture, EXPERT_USAGE_PICTURE, TRAINING_CURVE,
    PIPELINE_FILE, IMPORTANCES, RESTORED,
)  # fmt: skip
LOCK_FILE = ".hfmgc.lock"
RESUME = "then resume with --resume_from_checkpoint last"  # end of error messages
# Settings that do not change the result; a resumed run may change them.
_START_SETTINGS = {"resume_from_checkpoint", "overwrite", "output_dir", "logging_dir", "push_to_hub"}
_LOCKS = contextlib.ExitStack()  # on the run folders that this process uses
_TRAINER_STATE = "trainer_state.json"  # the last file of a complete checkpoint
_PACKAGES = (
    "accelerate", "audiomentations", "datasets", "deepspeed", "huggingface-hub", "librosa", "numpy", "optuna", "peft",
    "scikit-learn", "skops", "soundfile", "soxr", "torch", "transformers",
)  # fmt: skip


def begin_run(run: RunArguments, record: "RunRecord") -> Path | None:
    """Lock and prepare the run's folder; return the checkpoint to resume from, or None to start from the beginning.

    Raises:
        ConfigError: If the folder holds an earlier run, and neither --resume_from_checkpoint nor --overwrite is given; if it
            holds a finished run without checkpoints, and --overwrite is not given; if it holds a run's files but no run,
            is in use by another run, or lacks the requested checkpoint.
        SaveError: If it cannot be written to.
    """
    folder, checkpoint = Path(run.output_dir), None
    requested = run.resume_from_checkpoint
    if requested in (True, "last"):
        checkpoint = _last_readable_checkpoint(folder)
        if checkpoint is None:
            if _has_result(folder) and (folder / "README.md").exists() and not run.overwrite:
                raise ConfigError(
                    f"output_dir {folder} holds a finished run without checkpoints to resume from: add --overwrite to "
                    "replace it, or choose another folder"
                )
            logger.warning(f"{folder} has no complete checkpoint yet: starting from the beginning")
    elif requested:
        checkpoint = Path(requested)
        damage = (
            _find_damage(checkpoint) if _is_complete(checkpoint) else f"{requested} has no complete {_TRAINER_STATE}"
        )
        if damage:
            raise ConfigError(f"resume_from_checkpoint: {damage}: resume from an earlier one, or from last")
    with run.main_process_first(local=False, desc="preparing the run folder"):
        # Only the first process: the others would read the folder while the first removes files.
        if run.should_save:
            in_use = f"output_dir {folder} is in use by another run: choose another folder"
            _LOCKS.enter_context(file_lock(folder / LOCK_FILE, in_use=in_use))
            if not requested:
                _clear_folder(folder, run.overwrite)
            elif checkpoint:
                for name, (before, now) in (record.changes(folder) or {}).items():
                    logger.warning(f"resuming with a different {name}: {now} (the run started with {before})")
    return checkpoint


def check_output_folder(field: str, folder: Path, data: str) -> None:
    """Raise a ConfigError if the path in a field is too long, is a file or below one, or lies in the data folder."""
    check_path_length(field, str(folder))
    check_path_length("data", data)
    existing = nearest_existing(folder)
    if not existing.is_dir():
        raise ConfigError(f"{field} {folder}: {existing} is a file: name a folder")
    if data and Path(data).is_dir() and folder.resolve().is_relative_to(Path(data).resolve()):
        raise ConfigError(
            f"{field} {folder} lies in the data folder, whose subfolders are genres: choose another folder"
        )


def nearest_existing(path: Path) -> Path:
    """Return a path, or its nearest parent folder that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def release_run_folders() -> None:
    """Release the locks of this process on run folders."""
    _LOCKS.close()


def _clear_folder(folder: Path, overwrite: bool) -> None:
    """Remove an earlier run; raise a ConfigError without `overwrite`, or if the folder holds similar files of no run."""
    if _has_result(folder) or _complete_checkpoints(folder):
        if not overwrite:
            resume = "--resume_from_checkpoint last to resume it, " if _complete_checkpoints(folder) else ""
            raise ConfigError(
                f"output_dir {folder} holds an earlier run: add {resume}--overwrite to replace it, or choose another folder"
            )
        for path in (*folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), *folder.glob("adapter")):
            shutil.rmtree(path)
        for name in RUN_FILES:  # the user's own files stay
            (folder / name).unlink(missing_ok=True)
    elif not (folder / RUN_FILE).exists():
        foreign = sorted(name for name in RUN_FILES if (folder / name).exists())
        if foreign:
            raise ConfigError(
                f"output_dir {folder} holds {', '.join(foreign)} but no {RUN_FILE}, so it is not a run: choose another folder"
            )


def _has_result(folder: Path) -> bool:
    return (folder / "results.json").exists() or read_record(folder, "pretraining") is not None


def _complete_checkpoints(folder: Path) -> list[Path]:
    """Return the completely written checkpoints, newest first."""
    prefix = f"{PREFIX_CHECKPOINT_DIR}-"
    complete = [
        path for path in folder.glob(f"{prefix}*") if path.name.removeprefix(prefix).isdecimal() and _is_complete(path)
    ]
    return sorted(complete, key=lambda path: int(path.name.removeprefix(prefix)), reverse=True)


def _last_readable_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint without a damaged file; log a warning for each skipped one.

    Raises:
        ConfigError: If all are damaged: a restart would delete files that the user may be able to repair.
    """
    for checkpoint in (checkpoints := _complete_checkpoints(folder)):
        damage = _find_damage(checkpoint)
        if damage is None:
            return checkpoint
        logger.warning(f"{damage}: using the checkpoint before it")
    if checkpoints:
        raise ConfigError(
            f"{damage}, and {folder} has no undamaged checkpoint: restore one, or restart with --overwrite"
        )
    return None


def _find_damage(checkpoint: Path) -> str | None:
    """Return which file of a checkpoint is damaged, and how; None if all files can be read.

    Checks the header and the size of safetensors files, and all checksums of torch's zip files.
    """
    for path in sorted(checkpoint.rglob("*")):
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, framework="pt"):
                    pass
            elif path.suffix in (".pt", ".pth", ".bin"):
                with zipfile.ZipFile(path) as file:
                    broken = file.testzip()
                if broken:
                    return f"{path} is damaged (checksum of {broken})"
            elif path.suffix == ".json":
                load_json(path.read_text(encoding="utf-8"))
        # A flipped bit in a zip header can indicate another compression method or a password.
        except (OSError, ValueError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile, SafetensorError) as error:
            return f"{path} is damaged ({first_line(error)})"
    return None


def _is_complete(checkpoint: Path) -> bool:
    return read_json(checkpoint / _TRAINER_STATE) is not None


def read_json(path: Path) -> Any:
    """Return the content of a JSON file, or None if it is missing or damaged."""
    try:
        return load_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class RunRecord:
    """What `run.yaml` records of the settings: their values, which of them are not defaults, the seed and the command."""

    settings: dict[str, dict[str, Any]]
    changed: dict[str, list[str]]
    seed: int
    command: str
    resumed: bool

    @classmethod
    def from_settings(cls, groups: tuple[Any, ...], run: RunArguments) -> "RunRecord":
        """Record the settings of all groups."""
        settings, changed = {}, {}
        for group in groups:
            is_run, name = isinstance(group, RunArguments), type(group).__name__
            values = group.to_dict() if is_run else vars(group)
            settings[name] = {
                item.name: _strip_paths(values[item.name]) for item in fields(group) if item.name in values
            }
            names = group.changed if is_run else changed_fields(group)
            changed[name] = [field for field in names if field not in _START_SETTINGS]
        return cls(settings, changed, run.seed, _command(), resumed=bool(run.resume_from_checkpoint))

    def changes(self, folder: Path) -> dict[str, tuple[Any, Any]] | None:
        """Return the earlier and the present value of each setting that differs from those of the run in `folder`.

        None if the folder has no readable record.
        """
        earlier = read_record(folder, "settings")
        if earlier is None:
            return None
        return {
            name: (before, value)
            for group, values in self.settings.items()
            for name, value in values.items()
            if name not in _START_SETTINGS and (before := (earlier.get(group) or {}).get(name)) != value
        }

    def save(self, folder: Path, **entries: Any) -> None:
        """Write `run.yaml` with more `entries`."""
        content = {
            "command": self.command if not self.resumed else read_record(folder, "command") or self.command,
            **({"resumed_with": self.command} if self.resumed else {}),
            "seed": self.seed,
            **_strip_paths(entries),
            "versions": package_versions(),
            "changed_settings": self.changed,
            "settings": self.settings,
        }
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / RUN_FILE, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def read_record(folder: Path, entry: str) -> Any:
    """Return an entry of the `run.yaml` in a folder; None if it is missing or damaged."""
    try:
        return load_yaml((folder / RUN_FILE).read_text(encoding="utf-8"))[entry]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect results."""
    versions = {"python": platform.python_version(), "hfmgc": __version__}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _command() -> str:
    """Return the command of this process without tokens, passwords and the folders of absolute paths."""
    # --search.storage postgresql://me:secret@host/study, sqlite:////home/me/study.db
    words = [redact_url(word) for word in _strip_paths(sys.argv)]
    launcher, script = "", Path(sys.argv[0])
    if script.parent.name == "recipes":
        launcher = "accelerate launch " if int(os.environ.get("WORLD_SIZE", "1")) > 1 else "python "
        words[0] = f"recipes/{script.name}"
    return launcher + re.sub(r"(--hub_token[= ])\S+", r"\1TOKEN", shlex.join(words))


def _strip_paths(value: Any) -> Any:
    """Return `value` in types of YAML, with absolute paths cut to their last part, because records are published."""
    if isinstance(value, dict):
        return {str(key): _strip_paths(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_strip_paths(item) for item in value]
    if isinstance(value, (bool, int, float, type(None))):
        return value
    name, equals, text = str(value).rpartition("=")  # --data=/home/me/music
    if text.startswith(("{", "[")):  # --data_options '{audio: /home/me/music}'
        with contextlib.suppress(ValueError):
            inner = load_yaml(text)
            stripped = _strip_paths(inner)
            if stripped != inner:
                text = yaml.safe_dump(stripped, default_flow_style=True, allow_unicode=True, width=math.inf).strip()
    return f"{name}{equals}{Path(text).name if Path(text).is_absolute() else text}"
