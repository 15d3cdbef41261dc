"""Errors that a user can act on.

A message is one line that names the file, field or checkpoint, the problem and the way out. The commands and recipes
print it without a traceback and exit with code 1. Callers of the library catch `HfmgcError`.
"""

import difflib
import errno
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PROBE_BYTES = 2**24


class HfmgcError(Exception):
    """Base class of these errors."""


class AudioError(HfmgcError):
    """A file or buffer that cannot be used as audio.

    Args:
        name: The file, or a name for the buffer.
        reason: The problem, which reports list.
    """

    def __init__(self, name: str, reason: str):
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple:
        """Pickle both arguments, because worker processes pass this error to their parent."""
        return type(self), (self.name, self.reason)


class DataError(HfmgcError):
    """Data that are missing, unreadable or empty, or whose labels are unexpected."""


class UnreachableDataError(DataError):
    """A dataset that could not be loaded from the Hub, though it may exist."""


class SplitError(DataError):
    """A split that is impossible or would leak."""


class ConfigError(HfmgcError):
    """A setting that does not exist, or that contradicts another."""


class CheckpointError(HfmgcError):
    """A checkpoint that is missing, incomplete, or of another architecture."""


class UnreachableError(CheckpointError):
    """A checkpoint that could not be downloaded from the Hub, though it may exist."""


class TrainingError(HfmgcError):
    """Training that cannot continue, because the loss is NaN or infinite."""


class SaveError(HfmgcError):
    """A result that could not be written."""


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """Return ` (did you mean ...?)` with the most similar of the known names.

    If none is similar, return `otherwise`, or by default a list of the known names.
    """
    known = sorted(known)
    matches = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else otherwise or f" (known: {', '.join(known)})"


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, with the second if the first ends in a colon.

    An exception without a message is named by its type.
    """
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return " ".join(line.strip() for line in lines[: 2 if lines[0].endswith(":") else 1])


@contextmanager
def saving_to(folder: str | Path, way_out: str = "then try again") -> Iterator[None]:
    """Raise a SaveError that names the folder if it cannot be written, or if the disk is full."""
    try:
        yield
    except HfmgcError:
        raise
    except Exception as error:
        text = first_line(error)
        if getattr(error, "errno", None) in _FULL_DISK or _is_full(folder):
            raise SaveError(
                f"{folder}: the disk is full or a quota is reached ({text}): free some space, {way_out}"
            ) from error
        # Network clients also raise OSErrors, but without an errno.
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise SaveError(f"{folder}: cannot be written ({text}): choose another place, {way_out}") from error
        raise


def _is_full(folder: str | Path) -> bool:
    """Return whether a few megabytes do not fit: errors of safetensors and torch have no errno."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
    except OSError as error:
        return error.errno in _FULL_DISK
    return False
