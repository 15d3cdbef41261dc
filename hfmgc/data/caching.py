"""The cache of datasets: what is damaged in it is said, and never half-trusted."""

from collections.abc import Iterator
from contextlib import contextmanager

import datasets
import pyarrow

from ..errors import DataError


@contextmanager
def reading_cache() -> Iterator[None]:
    """Turn what pyarrow says of a damaged file in the cache of datasets into one DataError with the way out.

    Serves as a decorator too.
    """
    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        # pyarrow names no file; its OSErrors are of no subclass and have no number, unlike those of a full disk or the Hub.
        if not isinstance(error, pyarrow.ArrowException) and (type(error) is not OSError or error.errno is not None):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(
            f"a file in the cache of datasets is damaged ({reason}): delete {datasets.config.HF_DATASETS_CACHE} and call "
            "again; what it held is made anew"
        ) from error
