"""Ctrl-C and SIGTERM end a command with a one-line message, even during its imports or while workers run."""

import multiprocessing
import os
import signal
import sys
import threading
from typing import Any


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PREVIOUS_HANDLERS: dict[int, Any] = {}


class Terminated(KeyboardInterrupt):
    """Raised for SIGTERM, and handled wherever Ctrl-C is."""


def catch_signals(*, importing: bool = False) -> None:
    """Raise KeyboardInterrupt for SIGINT and Terminated for SIGTERM, in this process only.

    A terminal sends Ctrl-C to forked workers too. They ignore it, and this process ends them.

    Args:
        importing: Exit instead of raising, because no handler is in place during the imports of a command.
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
        return  # only the main thread can set handlers; a spawned worker that imports a recipe is ended by its parent
    for number in _SIGNALS:
        previous = signal.signal(number, stop)
        _PREVIOUS_HANDLERS.setdefault(number, signal.SIG_DFL if previous is None else previous)


def release_signals() -> None:
    """Restore the handlers that `catch_signals` replaced."""
    while _PREVIOUS_HANDLERS:
        signal.signal(*_PREVIOUS_HANDLERS.popitem())


def exit_code(stopped: KeyboardInterrupt) -> int:
    """Return the exit code that a shell expects: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT)
