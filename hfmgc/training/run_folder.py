"""The folder of a run: taken, resumed or replaced; its checkpoints; its record `run.yaml`."""

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
RESUME = "then resume with --resume_from_checkpoint last"  # the way out after an error
# Settings of a single start, without effect on the result.
_START = {"resume_from_checkpoint", "overwrite", "output_dir", "logging_dir", "push_to_hub"}
_HELD = contextlib.ExitStack()  # locks on the folders of this process's runs
_TRAINER_STATE = "trainer_state.json"  # the last file of a complete checkpoint
_PACKAGES = (
    "accelerate", "audiomentations", "datasets", "deepspeed", "huggingface-hub", "librosa", "numpy", "optuna", "peft",
    "scikit-learn", "skops", "soundfile", "soxr", "torch", "transformers",
)  # fmt: skip


def begin_run(run: RunArguments, record: "RunRecord") -> Path | None:
    """Lock the run's folder and make it ready; return the checkpoint to resume from, or None to start.

    Raises:
        ConfigError: If the folder holds an earlier run and neither --resume_from_checkpoint nor --overwrite is given,
            holds files of something else, is in use by another run, or lacks the requested checkpoint; if it holds a finished
            run without checkpoints, and --overwrite is not given.
        SaveError: If it cannot be written to.
    """
    folder, checkpoint = Path(run.output_dir), None
    wanted = run.resume_from_checkpoint
    if wanted in (True, "last"):
        checkpoint = _last_sound_checkpoint(folder)
        if checkpoint is None:
            if _has_result(folder) and (folder / "README.md").exists() and not run.overwrite:
                raise ConfigError(
                    f"output_dir {folder} holds a finished run without checkpoints to resume from: add --overwrite to "
                    "replace it, or choose another folder"
                )
            logger.warning(f"{folder} has no complete checkpoint yet: starting from the beginning")
    elif wanted:
        checkpoint = Path(wanted)
        damage = _damage(checkpoint) if _is_complete(checkpoint) else f"{wanted} has no complete {_TRAINER_STATE}"
        if damage:
            raise ConfigError(f"resume_from_checkpoint: {damage}: resume from an earlier one, or from last")
    with run.main_process_first(local=False, desc="taking the run folder"):
        # Only the first process checks and removes: the others would check while it removes.
        if run.should_save:
            in_use = f"output_dir {folder} is in use by another run: choose another folder"
            _HELD.enter_context(file_lock(folder / LOCK_FILE, in_use=in_use))
            if not wanted:
                _make_room(folder, run.overwrite)
            elif checkpoint:
                for name, (before, now) in (record.changes(folder) or {}).items():
                    logger.warning(f"resuming with a different {name}: {now} (the run started with {before})")
    return checkpoint


def check_output_folder(field: str, folder: Path, data: str) -> None:
    """Raise a ConfigError if a field's folder has too long a path, is a file or below one, or lies in the data."""
    check_path_length(field, str(folder))
    check_path_length("data", data)
    existing = nearest_existing(folder)
    if not existing.is_dir():
        raise ConfigError(f"{field} {folder}: {existing} is a file: name a folder")
    if data and Path(data).is_dir() and folder.resolve().is_relative_to(Path(data).resolve()):
        raise ConfigError(f"{field} {folder} lies in the data folder, whose subfolders are genres: name another")


def nearest_existing(path: Path) -> Path:
    """Return a path, or its nearest parent folder that exists."""
    return next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())


def release_run_folders() -> None:
    """Release the folders that this process holds."""
    _HELD.close()


def _make_room(folder: Path, overwrite: bool) -> None:
    if _has_result(folder) or _complete_checkpoints(folder):
        if not overwrite:
            resume = "--resume_from_checkpoint last to resume it, " if _complete_checkpoints(folder) else ""
            raise ConfigError(
                f"output_dir {folder} holds an earlier run: add {resume}--overwrite to replace it, or choose another folder"
            )
        for path in (*folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), *folder.glob("adapter")):
            shutil.rmtree(path)
        for name in RUN_FILES:  # and no others
            (folder / name).unlink(missing_ok=True)
    elif not (folder / RUN_FILE).exists():
        foreign = sorted(name for name in RUN_FILES if (folder / name).exists())
        if foreign:
            raise ConfigError(
                f"output_dir {folder} holds {', '.join(foreign)} but no {RUN_FILE}, so no run: choose another folder"
            )


def _has_result(folder: Path) -> bool:
    return (folder / "results.json").exists() or recorded(folder, "pretraining") is not None


def _complete_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints that were written completely, the newest first."""
    prefix = f"{PREFIX_CHECKPOINT_DIR}-"
    complete = [
        path for path in folder.glob(f"{prefix}*") if path.name.removeprefix(prefix).isdecimal() and _is_complete(path)
    ]
    return sorted(complete, key=lambda path: int(path.name.removeprefix(prefix)), reverse=True)


def _last_sound_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint without a damaged file; a warning names those that are skipped.

    If all are damaged, it raises a ConfigError: a restart would delete what can perhaps be repaired.
    """
    for checkpoint in (checkpoints := _complete_checkpoints(folder)):
        damage = _damage(checkpoint)
        if damage is None:
            return checkpoint
        logger.warning(f"{damage}: using the checkpoint before it")
    if checkpoints:
        raise ConfigError(
            f"{damage}, and no checkpoint in {folder} is whole: restore one, or restart with --overwrite"
        )
    return None


def _damage(checkpoint: Path) -> str | None:
    """Return which file of a checkpoint is damaged, and how; None if all can be read.

    In weights only header and size are checked, in torch's files (zip) the checksums of all bytes.
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
        # A flipped bit in a zip header can stand for another compression method or a password.
        except (OSError, ValueError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile, SafetensorError) as error:
            return f"{path} is damaged ({first_line(error)})"
    return None


def _is_complete(checkpoint: Path) -> bool:
    return read_json(checkpoint / _TRAINER_STATE) is not None


def read_json(path: Path) -> Any:
    """Return the content of a file, or None if it is missing or damaged."""
    try:
        return load_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class RunRecord:
    """The content of `run.yaml`: all settings, which of them differ from their defaults, seed, command, versions."""

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
            settings[name] = {one.name: _published(values[one.name]) for one in fields(group) if one.name in values}
            changed[name] = [one for one in (group.changed if is_run else changed_fields(group)) if one not in _START]
        return cls(settings, changed, run.seed, _command(), resumed=bool(run.resume_from_checkpoint))

    def changes(self, folder: Path) -> dict[str, tuple[Any, Any]] | None:
        """Return each setting that differs from that of the run in `folder`, then and now; None if they are not known."""
        earlier = recorded(folder, "settings")
        if earlier is None:
            return None
        now = {(group, name): value for group, values in self.settings.items() for name, value in values.items()}
        before = {(group, name): (earlier.get(group) or {}).get(name) for group, name in now}
        return {
            name: (before[group, name], value)
            for (group, name), value in now.items()
            if name not in _START and before[group, name] != value
        }

    def save(self, folder: Path, **more: Any) -> None:
        """Write `run.yaml`."""
        content = {
            "command": self.command if not self.resumed else recorded(folder, "command") or self.command,
            **({"resumed_with": self.command} if self.resumed else {}),
            "seed": self.seed,
            **_published(more),
            "versions": versions(),
            "changed_settings": self.changed,
            "settings": self.settings,
        }
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / RUN_FILE, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def recorded(folder: Path, name: str) -> Any:
    """Return an entry of the `run.yaml` of an earlier start, or None."""
    try:
        return load_yaml((folder / RUN_FILE).read_text(encoding="utf-8"))[name]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect results."""
    found = {"python": platform.python_version(), "hfmgc": __version__}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _command() -> str:
    """Return the command of this process, without tokens and passwords; absolute paths are cut to their last part."""
    # --search.storage postgresql://me:secret@host/study, sqlite:////home/me/study.db
    words = [redact_url(word) for word in _published(sys.argv)]
    launcher, script = "", Path(sys.argv[0])
    if script.parent.name == "recipes":
        launcher = "accelerate launch " if int(os.environ.get("WORLD_SIZE", "1")) > 1 else "python "
        words[0] = f"recipes/{script.name}"
    return launcher + re.sub(r"(--hub_token[= ])\S+", r"\1TOKEN", shlex.join(words))


def _published(value: Any) -> Any:
    """Return `value` in types of YAML, with absolute paths cut to their last part: the record is published."""
    if isinstance(value, dict):
        return {str(key): _published(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_published(item) for item in value]
    if isinstance(value, (bool, int, float, type(None))):
        return value
    name, equals, text = str(value).rpartition("=")  # --data=/home/me/music
    if text.startswith(("{", "[")):  # --data_options '{audio: /home/me/music}'
        with contextlib.suppress(yaml.YAMLError):
            inner = load_yaml(text)
            if _published(inner) != inner:
                text = yaml.safe_dump(
                    _published(inner), default_flow_style=True, allow_unicode=True, width=math.inf
                ).strip()
    return f"{name}{equals}{Path(text).name if Path(text).is_absolute() else text}"
