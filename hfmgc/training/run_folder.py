"""The folder of a run: started, resumed and finished; damage in it is noticed."""

import contextlib
import importlib.metadata
import math
import os
import platform
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
from ..data.sources.exclusions import exclusions_text
from ..errors import ConfigError, first_line
from ..files import hold, write_text
from ..settings import load_json, load_yaml, refuse_long_path
from ..text import shown_url
from .arguments import RunArguments, changed_fields


logger = logging.get_logger(__name__)

RUN_FILE = "run.yaml"
RUN_FILES = (
    RUN_FILE, "config.json", "model.safetensors", "preprocessor_config.json", "README.md", "results.json",
    "confusion_matrix.json", "confusion_matrix.png", "average_precision.png", "expert_usage.png",
    "training_curve.png", "split.json",
)  # fmt: skip
LOCK_FILE = ".hfmgc.lock"
# How a run is started, which says nothing about its result.
_START = {"resume_from_checkpoint", "overwrite", "output_dir", "logging_dir"}
_HELD = contextlib.ExitStack()  # the folders of this process's runs
_TRAINER_STATE = "trainer_state.json"  # the last file of a checkpoint that the Trainer writes
_PACKAGES = (
    "accelerate", "audiomentations", "datasets", "deepspeed", "huggingface-hub", "librosa", "numpy", "optuna", "peft",
    "scikit-learn", "soundfile", "soxr", "torch", "transformers",
)  # fmt: skip


def begin_run(run: RunArguments, record: "RunRecord", data: str) -> Path | None:
    """Make the run's folder ready and take it; return the checkpoint to resume from, or None to start.

    Raises:
        ConfigError: If the folder holds an earlier run and it was not said what to do with it, holds somebody else's
            files or the data, is in use by another run, or has no checkpoint where one was asked for.
        SaveError: If it cannot be written to.
    """
    folder = checked_folder(run, data)
    wanted = run.resume_from_checkpoint
    fresh = wanted in (None, False, "false")
    checkpoint = None
    if wanted in (True, "true", "last"):
        checkpoint = _last_sound_checkpoint(folder)
        if checkpoint is None:
            logger.warning(f"{folder} has no complete checkpoint yet: starting from the beginning")
    elif not fresh:
        checkpoint = Path(wanted)
        if not _is_complete(checkpoint):
            raise ConfigError(f"resume_from_checkpoint {wanted}: no complete checkpoint there ({_TRAINER_STATE})")
        damage = _damage(checkpoint)
        if damage:
            raise ConfigError(f"resume_from_checkpoint {damage}: resume from an earlier one, or from last")
    with run.main_process_first(local=False, desc="taking the run folder"):
        # The first process decides for all; the others would look while it removes.
        if run.should_save:
            _take(folder)
            if fresh:
                _make_room(folder, run.overwrite)
            elif checkpoint:
                record.warn_of_changes(folder)
    return checkpoint


def checked_folder(run: RunArguments, data: str) -> Path:
    """Return the folder that a run names, if it can be one.

    Raises:
        ConfigError: If it is a file, or lies in the data.
    """
    folder = Path(run.output_dir)
    refuse_folder("output_dir", folder, data)
    return folder


def refuse_folder(field: str, folder: Path, data: str) -> None:
    """Raise a ConfigError if the folder that a field names is too long, is a file, lies below one, or lies in the data."""
    refuse_long_path(field, str(folder))
    refuse_long_path("data", data)
    there = nearest_existing(folder)
    if not there.is_dir():
        what = (
            f"{field} {folder} is a file"
            if folder.exists()
            else f"{field} {folder} cannot be written: {there} is a file"
        )
        raise ConfigError(f"{what}: name a folder")
    if data and Path(data).is_dir() and folder.resolve().is_relative_to(Path(data).resolve()):
        raise ConfigError(f"{field} {folder} lies in the data folder: it would be taken for music; name another")


def nearest_existing(path: Path) -> Path:
    """Return a path, or the nearest above it that is there."""
    return next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())


def _take(folder: Path) -> None:
    """Create the folder, and hold it until `leave_runs` is called or this process ends."""
    in_use = f"output_dir {folder} is in use by another run: choose another folder"
    _HELD.enter_context(hold(folder / LOCK_FILE, in_use=in_use))


def leave_runs() -> None:
    """Release the folders that this process holds."""
    _HELD.close()


def _make_room(folder: Path, overwrite: bool) -> None:
    if (folder / "results.json").exists() or last_complete_checkpoint(folder):
        if not overwrite:
            raise ConfigError(
                f"output_dir {folder} holds an earlier run: add --resume_from_checkpoint last to go on with it, "
                "--overwrite to replace it, or choose another folder"
            )
        _remove_run(folder)
    elif not (folder / RUN_FILE).exists():
        taken = sorted(name for name in RUN_FILES if (folder / name).exists())
        if taken:
            raise ConfigError(
                f"output_dir {folder} holds files that are no run's ({', '.join(taken)}): choose another"
            )


def last_complete_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that was written to its end; one cut off by a kill is passed over."""
    return next(iter(_complete_checkpoints(folder)), None)


def _complete_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints that were written to their ends, the newest first."""
    prefix = f"{PREFIX_CHECKPOINT_DIR}-"
    complete = [
        path for path in folder.glob(f"{prefix}*") if path.name.removeprefix(prefix).isdecimal() and _is_complete(path)
    ]
    return sorted(complete, key=lambda path: int(path.name.removeprefix(prefix)), reverse=True)


def _last_sound_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint without a damaged file; a warning names those that are passed over.

    Raises:
        ConfigError: If all of them are damaged: starting again would discard what can perhaps be repaired.
    """
    damage = None
    for checkpoint in _complete_checkpoints(folder):
        damage = _damage(checkpoint)
        if damage is None:
            return checkpoint
        logger.warning(f"{damage}: using the checkpoint before it")
    if damage is not None:
        raise ConfigError(
            f"{damage}, and no checkpoint in {folder} is whole: restore one, or restart with --overwrite"
        )
    return None


def _damage(checkpoint: Path) -> str | None:
    """Return which file of a checkpoint is damaged, and how; None if all can be read.

    Of weights only the header and the size are checked, of what torch saved (zip files) all bytes by their checksums.
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
        # zipfile reads what a flipped bit makes of a header: another method of compression, a password.
        except (OSError, ValueError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile, SafetensorError) as error:
            return f"{path} is damaged ({first_line(error)})"
    return None


def _is_complete(checkpoint: Path) -> bool:
    """Return whether the file that the Trainer writes last is there and whole."""
    try:
        load_json((checkpoint / _TRAINER_STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _remove_run(folder: Path) -> None:
    """Remove what a run leaves, and nothing else that may lie in the folder."""
    for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        shutil.rmtree(path)
    shutil.rmtree(folder / "adapter", ignore_errors=True)
    for name in RUN_FILES:
        (folder / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class RunRecord:
    """What `run.yaml` holds: every setting as resolved, which of them differ from their defaults, seeds, versions."""

    settings: dict[str, dict[str, Any]]
    changed: dict[str, list[str]]
    seed: int
    command: str
    resumed: bool

    @classmethod
    def from_settings(cls, groups: tuple[Any, ...], run: RunArguments) -> "RunRecord":
        """Record the settings of all groups."""
        settings = {}
        for group in groups:
            values = group.to_dict() if isinstance(group, RunArguments) else vars(group)
            settings[type(group).__name__] = {
                field.name: _shorten(_plain(values[field.name])) for field in fields(group) if field.name in values
            }
        resumed = run.resume_from_checkpoint not in (None, False, "false")
        changed = {
            type(group).__name__: [
                name
                for name in (group.changed if isinstance(group, RunArguments) else changed_fields(group))
                if name not in _START
            ]
            for group in groups
        }
        return cls(settings=settings, changed=changed, seed=run.seed, command=_command(), resumed=resumed)

    def check_exclusions(self, folder: Path, exclusions: dict[str, Any] | None) -> None:
        """Refuse to resume the run in `folder` where it began with other tracks excluded.

        Raises:
            ConfigError: If that is so; without this the split would be refused, which says less.
        """
        if _recorded(folder, "settings") is None:  # damaged: the split is compared all the same
            return
        before = _recorded(folder, "exclusions")
        if (before or {}).get("digest") != (exclusions or {}).get("digest"):
            raise ConfigError(
                f"the run in {folder} began with another exclusion list ({exclusions_text(before)}; now "
                f"{exclusions_text(exclusions)}): give --exclude as it was then, or restart with --overwrite"
            )

    def warn_of_changes(self, folder: Path) -> None:
        """Say which settings differ from those that the run in `folder` began with."""
        earlier = _recorded(folder, "settings")
        if earlier is None:
            return
        for group, values in self.settings.items():
            for name, value in values.items():
                before = (earlier.get(group) or {}).get(name)
                if name not in _START and before != value:
                    logger.warning(f"resuming with another {name}: {value} (the run began with {before})")

    def save(self, folder: Path, **more: Any) -> None:
        """Write `run.yaml`."""
        content = {
            "command": self.command if not self.resumed else _recorded(folder, "command") or self.command,
            **({"resumed_with": self.command} if self.resumed else {}),
            "seed": self.seed,
            **_shorten(_plain(more)),
            "versions": versions(),
            "changed_settings": self.changed,
            "settings": self.settings,
        }
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / RUN_FILE, yaml.safe_dump(_plain(content), sort_keys=False, allow_unicode=True))


def _recorded(folder: Path, name: str) -> Any:
    """Return what the `run.yaml` of an earlier start of the run says of `name`, or None."""
    try:
        return load_yaml((folder / RUN_FILE).read_text(encoding="utf-8"))[name]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result."""
    found = {"python": platform.python_version(), "hfmgc": __version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _command() -> str:
    """Return the command of this process, without tokens and passwords, and of absolute paths only the last part."""
    # --search.storage postgresql://me:secret@host/study, sqlite:////home/me/study.db
    words = [shown_url(word) for word in _shorten(sys.argv)]
    for position, word in enumerate(words):
        if word == "--hub_token" and position + 1 < len(words):
            words[position + 1] = "TOKEN"
        elif word.startswith("--hub_token="):
            words[position] = "--hub_token=TOKEN"
    script = Path(sys.argv[0])
    if script.parent.name == "recipes":
        launcher = "accelerate launch" if int(os.environ.get("WORLD_SIZE", "1")) > 1 else "python"
        return f"{launcher} " + shlex.join([f"recipes/{script.name}", *words[1:]])
    return shlex.join(words)


def _shorten(value: Any) -> Any:
    """Return `value` with the last part alone of all absolute paths: the record is published with the checkpoint."""
    if isinstance(value, dict):
        return {key: _shorten(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shorten(item) for item in value]
    if not isinstance(value, str):
        return value
    name, equals, text = value.rpartition("=")  # --data=/home/me/music
    if text.startswith(("{", "[")):  # --data_options '{audio: /home/me/music}'
        with contextlib.suppress(yaml.YAMLError):
            inner = load_yaml(text)
            if _shorten(inner) != inner:
                text = yaml.safe_dump(
                    _shorten(inner), default_flow_style=True, allow_unicode=True, width=math.inf
                ).strip()
    return f"{name}{equals}{Path(text).name if Path(text).is_absolute() else text}"


def _plain(value: Any) -> Any:
    """Return `value` as what YAML writes without tags."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)
