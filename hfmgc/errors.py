"""Errors that a user can act on.

Every message names the thing (file, field, checkpoint) and the way out, in one line. The command line and the recipes
print it as it is, without a traceback, and exit with 1; whoever calls the library catches `HfmgcError`.
"""

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class HfmgcError(Exception):
    """Base of all errors that name their cause and the way out."""


class AudioError(HfmgcError):
    """A file or a buffer that cannot be used as audio. `reason` is the short form that reports list."""

    def __init__(self, name: str, reason: str):
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple:
        """Pickle with both arguments: the error crosses from a worker to its parent."""
        return type(self), (self.name, self.reason)


class DataError(HfmgcError):
    """A corpus that cannot be used as it is: missing, empty, too small for the split, with unexpected labels."""


class SplitError(DataError):
    """A split that cannot be made, or that would leak."""


class ConfigError(HfmgcError):
    """A setting that does not exist or does not fit the others."""


class CheckpointError(HfmgcError):
    """A checkpoint that is missing, incomplete, or of another architecture."""


class UnreachableError(CheckpointError):
    """A checkpoint that may exist, and could not be fetched from the Hub."""


class SaveError(HfmgcError):
    """A result that could not be written."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean ...?)` for the nearest of `known`, or the sorted list of them when nothing is near."""
    known = sorted(known)
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" (did you mean {matches[0]!r}?)" if matches else f" (known: {', '.join(known)})"


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says, or its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def saving_to(folder: str | Path, way_out: str = "then try again") -> Iterator[None]:
    """Turn the many faces of a full disk, and every other failure to write, into one SaveError that names the folder."""
    try:
        yield
    except HfmgcError:
        raise
    except Exception as error:
        text = first_line(error)
        # safetensors and torch report the operating system's error within exceptions of their own.
        full = getattr(error, "errno", None) in _FULL_DISK or any(
            sign in str(error)
            for sign in ("No space left", "File too large", "Disk quota", "PytorchStreamWriter failed")
        )
        if full:
            raise SaveError(
                f"{folder}: the disk is full or a quota is reached ({text}): free some space, {way_out}"
            ) from error
        # Clients of the network raise OSErrors too, without a number of the operating system's.
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise SaveError(f"{folder}: cannot be written ({text}): choose another place, {way_out}") from error
        raise
