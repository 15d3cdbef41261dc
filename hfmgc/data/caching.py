"""The cache of datasets: an error says that it is damaged, full or read-only, and names its folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import pyarrow

from ..errors import DataError, saving_to


@contextmanager
def reading_cache() -> Iterator[None]:
    """Turn errors of the cache of datasets into one line: DataError for a damaged file, SaveError if it cannot be written.

    Serves as a decorator too.
    """
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        # pyarrow names no file; its OSErrors are of no subclass and have no number, unlike those of a full disk or the Hub.
        if not isinstance(error, pyarrow.ArrowException) and (type(error) is not OSError or error.errno is not None):
            if error.filename and not _same_branch(Path(error.filename), cache):
                raise
            with saving_to(cache, "or set HF_HOME or HF_DATASETS_CACHE to another folder"):
                raise
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(
            f"a file in the cache of datasets is damaged ({reason}): delete {cache} and call again; what it held is recreated"
        ) from error


def _same_branch(path: Path, folder: Path) -> bool:
    """Return whether a path lies in a folder, or is one of its parents (which could not be created)."""
    return path.is_relative_to(folder) or folder.is_relative_to(path)
