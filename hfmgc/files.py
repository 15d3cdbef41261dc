"""Atomic writes, and locks between processes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from transformers.utils import logging

from .errors import ConfigError, saving_to


logger = logging.get_logger(__name__)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename it to `path` at the end; after an error `path` is unchanged."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def file_state(path: str | Path | None) -> tuple[int, int] | None:
    """Return the size and modification time of a file, by which a replaced file is noticed; None without a file."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError, TypeError):
        return None
    return status.st_size, status.st_mtime_ns


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def file_lock(lock_file: Path, *, in_use: str = "", waiting: str = "") -> Iterator[None]:
    """Hold a lock file, and create its folder. The lock is released when this process ends, even if it is killed.

    Args:
        lock_file: Path of the lock file.
        in_use: Message of the error if another process holds the lock. Without it, wait for the other process.
        waiting: Warning to log before waiting.

    Raises:
        ConfigError: If another process holds the lock and `in_use` is given.
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
