"""The folder of a run: begun, resumed, finished, and never half-trusted."""

import importlib.metadata
import platform
import shlex
import shutil
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from .. import __version__
from ..errors import ConfigError
from .arguments import RunArguments


logger = logging.get_logger(__name__)

RUN_FILE = "run.yaml"
_TRAINER_STATE = "trainer_state.json"  # the last file of a checkpoint that the Trainer writes
_PACKAGES = (
    "accelerate", "audiomentations", "datasets", "deepspeed", "huggingface-hub", "librosa", "numpy", "peft",
    "scikit-learn", "soundfile", "soxr", "torch", "transformers",
)  # fmt: skip


def begin_run(run: RunArguments, record: "RunRecord") -> Path | None:
    """Make the run's folder ready; return the checkpoint to go on from, or None to begin anew.

    Raises:
        ConfigError: If the folder holds an earlier run and it was not said what to do with it, or if the checkpoint
            that was asked for does not exist.
    """
    folder = Path(run.output_dir)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output_dir {folder} is a file: name a folder")
    wanted = run.resume_from_checkpoint
    if wanted not in (None, False, True, "last", "true", "false"):
        if not (Path(wanted) / _TRAINER_STATE).is_file():
            raise ConfigError(
                f"resume_from_checkpoint {wanted}: no complete checkpoint there ({_TRAINER_STATE} is missing)"
            )
        return Path(wanted)
    if wanted in (True, "last", "true"):
        checkpoint = last_complete_checkpoint(folder)
        if checkpoint is None:
            logger.warning(f"{folder} has no complete checkpoint yet: beginning anew")
        else:
            record.warn_of_changes(folder)
        return checkpoint
    with run.main_process_first(local=False, desc="looking for an earlier run"):
        # The first process decides for all; the others would look while it removes.
        if run.should_save and ((folder / "results.json").exists() or last_complete_checkpoint(folder)):
            if not run.overwrite:
                raise ConfigError(
                    f"output_dir {folder} holds an earlier run: add --resume_from_checkpoint last to go on with it, "
                    "--overwrite to replace it, or choose another folder"
                )
            _remove_run(folder)
    return None


def last_complete_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that was written to its end; one cut off by a kill is passed over."""
    complete = [
        path.parent
        for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*/{_TRAINER_STATE}")
        if path.parent.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-").isdigit()
    ]
    return max(complete, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


def _remove_run(folder: Path) -> None:
    """Remove what a run leaves, and nothing else that may lie in the folder."""
    for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        shutil.rmtree(path)
    shutil.rmtree(folder / "adapter", ignore_errors=True)
    for name in (RUN_FILE, "config.json", "model.safetensors", "preprocessor_config.json", "README.md", "results.json",
                 "confusion_matrix.json", "confusion_matrix.png", "split.json"):  # fmt: skip
        (folder / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class RunRecord:
    """What `run.yaml` holds: every setting as resolved, seeds, versions."""

    settings: dict[str, dict[str, Any]]
    seed: int
    command: str

    @classmethod
    def from_settings(cls, groups: tuple[Any, ...], run: RunArguments) -> "RunRecord":
        """Record the settings of all groups."""
        settings = {}
        for group in groups:
            values = group.to_dict() if isinstance(group, RunArguments) else vars(group)
            settings[type(group).__name__] = {
                field.name: _shorten(_plain(values[field.name])) for field in fields(group) if field.name in values
            }
        return cls(settings=settings, seed=run.seed, command=_command())

    def warn_of_changes(self, folder: Path) -> None:
        """Say which settings differ from those that the run in `folder` began with."""
        try:
            earlier = yaml.safe_load((folder / RUN_FILE).read_text(encoding="utf-8"))["settings"]
        except (OSError, yaml.YAMLError, KeyError, TypeError):
            return
        ignored = {"resume_from_checkpoint", "overwrite", "output_dir", "logging_dir"}
        for group, values in self.settings.items():
            for name, value in values.items():
                before = earlier.get(group, {}).get(name)
                if name not in ignored and before != value:
                    logger.warning(f"resuming with another {name}: {value} (the run began with {before})")

    def save(self, folder: Path, **more: Any) -> None:
        """Write `run.yaml`."""
        content = {
            "command": self.command,
            "seed": self.seed,
            **_shorten(_plain(more)),
            "versions": versions(),
            "settings": self.settings,
        }
        folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(_plain(content), sort_keys=False, allow_unicode=True)
        (folder / RUN_FILE).write_text(text, encoding="utf-8")


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
    """Return the command of this process, without tokens, and of absolute paths only the last part."""
    words = _shorten(sys.argv)
    for position, word in enumerate(words):
        if word == "--hub_token" and position + 1 < len(words):
            words[position + 1] = "TOKEN"
        elif word.startswith("--hub_token="):
            words[position] = "--hub_token=TOKEN"
    script = Path(sys.argv[0])
    if script.parent.name == "recipes":
        return "accelerate launch " + shlex.join([f"recipes/{script.name}", *words[1:]])
    return shlex.join(words)


def _shorten(value: Any) -> Any:
    """Return `value` with the last part alone of all absolute paths: the record is published with the checkpoint."""
    if isinstance(value, dict):
        return {key: _shorten(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shorten(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _plain(value: Any) -> Any:
    """Return `value` as what YAML writes without tags."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)
