"""Ctrl-C and SIGTERM end a command with one line, also during its imports and with workers."""

import multiprocessing
import os
import signal
import sys
import threading
from typing import Any


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_BEFORE: dict[int, Any] = {}


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled wherever Ctrl-C is."""


def catch_signals(*, importing: bool = False) -> None:
    """Raise KeyboardInterrupt for SIGINT and Terminated for SIGTERM, only in this process.

    A terminal also sends Ctrl-C to forked workers, which ignore it; this process ends them.

    Args:
        importing: Exit instead, because no command can handle the exception yet.
    """
    owner = os.getpid()

    def stop(number: int, frame: object) -> None:
        if os.getpid() == owner:
            if importing:
                print("interrupted", file=sys.stderr)
                raise SystemExit(128 + number)
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated
        if number == signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    if threading.current_thread() is not threading.main_thread() or multiprocessing.parent_process() is not None:
        return  # only the main thread can; a spawned worker that imports a recipe is ended by its parent
    for number in _SIGNALS:
        before = signal.signal(number, stop)
        _BEFORE.setdefault(number, before if before is not None else signal.SIG_DFL)


def release_signals() -> None:
    """Restore the handlers from before `catch_signals`."""
    while _BEFORE:
        signal.signal(*_BEFORE.popitem())


def exit_code(stopped: KeyboardInterrupt) -> int:
    """Return 130 for Ctrl-C and 143 for SIGTERM, as a shell does."""
    return 128 + (signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT)
