"""The cache of `datasets`, whose keys also include versions of our code and of libraries.

`datasets` identifies a function of a module by its name only. So each cached computation has a version, and lists the
libraries that affect its values; a change of either recomputes it.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import multiprocess
import pyarrow
import soundfile
import torch

from ..errors import DataError, first_line, saving_to


# Rows in memory before they are written. A decoded hour takes 230 MB, and about four times as much while it is written.
WRITER_BATCH_SIZE = 2


@dataclass(frozen=True)
class Computation:
    """The version of a computation's code, and the libraries that affect its values."""

    version: int
    libraries: tuple[str, ...] = ()


# Raise a version when values change: tests/test_code_versions.py compares them with golden values.
COMPUTATIONS = {
    "tables": Computation(1),
    "decoding": Computation(3, ("libsndfile", "numpy", "soundfile", "soxr")),
    "features": Computation(2, ("librosa", "numpy", "scipy", "torch", "transformers")),
    "fingerprints": Computation(2, ("librosa", "numpy", "scipy", "torch")),
    "augmentation": Computation(1, ("audiomentations", "numpy", "python-stretch", "scipy")),
    "checks": Computation(2),
    "frozen prefix": Computation(1, ("peft", "torch", "transformers")),
}


def code_identity(*computations: str) -> dict[str, str]:
    """Return the versions of computations and of their libraries by name."""
    chosen = [COMPUTATIONS[name] for name in computations]
    libraries = sorted({library for computation in chosen for library in computation.libraries})
    return {
        **{f"hfmgc {name}": str(COMPUTATIONS[name].version) for name in computations},
        **{library: _version(library) for library in libraries},
    }


def _version(library: str) -> str:
    # soundfile may use a libsndfile of the system.
    return soundfile.__libsndfile_version__ if library == "libsndfile" else importlib.metadata.version(library)


def use_one_thread_in_workers() -> None:
    """Limit torch to one thread in the worker processes of `map`, of which there is one for each core."""
    if multiprocess.parent_process() is not None:
        torch.set_num_threads(1)


@dataclass(frozen=True)
class _Versioned:
    """A function for `map` whose fingerprint includes the identity of its code."""

    function: Callable
    identity: dict[str, str]

    def __call__(self, *args: Any, **kwargs: Any) -> dict:
        use_one_thread_in_workers()
        return self.function(*args, **kwargs)


def cached_map(
    table: datasets.Dataset,
    function: Callable,
    computations: tuple[str, ...],
    *,
    num_proc: int | None = None,
    key: Mapping[str, Any] | None = None,
    **more: Any,
) -> datasets.Dataset:
    """Map a table with a function of a module, cached by the table, the arguments and the identity of its code.

    `computations` are the names in `COMPUTATIONS` of what it computes. `key` replaces the arguments (`fn_kwargs`) in the
    identity if only some of them affect the result. `more`: other arguments of `datasets.Dataset.map`.

    Raises:
        DataError: If a file in the cache is damaged.
    """
    versioned = _Versioned(function, code_identity(*computations))
    new_fingerprint = None
    if key is not None:
        identity = [table_fingerprint(table), function.__qualname__, versioned.identity, dict(key)]
        new_fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
    with reading_cache():
        try:
            return table.map(
                versioned,
                num_proc=num_proc if num_proc and num_proc > 1 else None,
                writer_batch_size=WRITER_BATCH_SIZE,
                new_fingerprint=new_fingerprint,
                **more,
            )
        except Exception as error:
            # After Ctrl-C datasets waits for its workers, and their timeout hides the interruption.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None
            raise


def table_fingerprint(table: datasets.Dataset) -> str:
    """Return the identity of a table in the cache: its files, and how rows and columns were chosen from them."""
    # Private, and read only here: datasets has no public name for it.
    return table._fingerprint


@contextmanager
def reading_cache() -> Iterator[None]:
    """Turn errors of the cache into one line: DataError for a damaged file, SaveError if it cannot be written.

    Also a decorator.
    """
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        # pyarrow raises a plain OSError without a number or file name, unlike a full disk or the Hub.
        if not isinstance(error, pyarrow.ArrowException) and (type(error) is not OSError or error.errno is not None):
            path = Path(error.filename or cache)
            if not (path.is_relative_to(cache) or cache.is_relative_to(path)):  # a parent that could not be created
                raise
            with saving_to(cache, "or set HF_HOME or HF_DATASETS_CACHE to another folder"):
                raise
        raise DataError(
            f"a file in the cache of datasets is damaged ({first_line(error).rstrip('.')}): delete {cache} and repeat the "
            "command, which recomputes its content"
        ) from error
