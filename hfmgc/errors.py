"""Errors that a user can act on.

Every message is one line that names the file, field or checkpoint and the way out. The command line and the recipes print
it without a traceback and exit with 1; callers of the library catch `HfmgcError`.
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
    """Base of all errors that name their cause and the way out."""


class AudioError(HfmgcError):
    """A file or buffer that cannot be used as audio; reports list `reason`."""

    def __init__(self, name: str, reason: str):
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple:
        """Pickle with both arguments, so that workers can raise it in their parent."""
        return type(self), (self.name, self.reason)


class DataError(HfmgcError):
    """A corpus that is missing, empty, too small for the split, or has unexpected labels."""


class UnreachableDataError(DataError):
    """A dataset that could not be loaded from the Hub, but may exist."""


class SplitError(DataError):
    """A split that is impossible or would leak."""


class ConfigError(HfmgcError):
    """A setting that does not exist or does not fit the others."""


class CheckpointError(HfmgcError):
    """A checkpoint that is missing, incomplete, or of another architecture."""


class UnreachableError(CheckpointError):
    """A checkpoint that could not be downloaded from the Hub, but may exist."""


class TrainingError(HfmgcError):
    """A training that cannot continue, because its loss is NaN or infinite."""


class SaveError(HfmgcError):
    """A result that could not be written."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean ...?)` with the nearest of `known`, or the sorted list if none is near."""
    known = sorted(known)
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" (did you mean {matches[0]!r}?)" if matches else f" (known: {', '.join(known)})"


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, and the next if it ends in a colon; its type if it has none."""
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return " ".join(line.strip() for line in lines[: 2 if lines[0].endswith(":") else 1])


@contextmanager
def saving_to(folder: str | Path, way_out: str = "then try again") -> Iterator[None]:
    """Turn a full disk and any other failure to write into a SaveError that names the folder."""
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
        # Network clients raise OSErrors too, without a number.
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise SaveError(f"{folder}: cannot be written ({text}): choose another place, {way_out}") from error
        raise


def _is_full(folder: str | Path) -> bool:
    """Return whether a few megabytes fail to fit: safetensors and torch lose the number of the system's error."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
    except OSError as error:
        return error.errno in _FULL_DISK
    return False
