"""Atomic writing of files, and locks between processes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from transformers.utils import logging

from .errors import ConfigError, saving_to


logger = logging.get_logger(__name__)


def temporary_path(path: Path) -> Path:
    """Return where this process writes a file until it is complete; the name ends in the process id and `.tmp`."""
    return path.with_suffix(f".{os.getpid()}.tmp")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` at the end; after an error `path` is unchanged."""
    temporary = temporary_path(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def file_lock(lock_file: Path, *, in_use: str = "", waiting: str = "") -> Iterator[None]:
    """Hold a lock file, creating its folder; the lock is released when this process ends, even if killed.

    If another process holds it, raise a ConfigError with the text `in_use`; without one log the warning `waiting` and wait.

    Raises:
        ConfigError: `in_use`.
        SaveError: If the lock file cannot be written.
    """
    lock = FileLock(lock_file)
    with saving_to(lock_file.parent):
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            if in_use:
                raise ConfigError(in_use) from error
            if waiting:
                logger.warning(waiting)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
