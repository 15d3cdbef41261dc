"""The cache of `datasets`, extended by versions of our code and of libraries.

`datasets` identifies a function by its name only. So each cached computation has a version and lists the libraries that
affect its values; when one of them changes, it is computed again.
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

from ..errors import DataError, first_line, saving_to


# Rows held in memory until they are written. A decoded hour takes 230 MB, and about four times as much during writing.
WRITER_BATCH_SIZE = 2


@dataclass(frozen=True)
class Computation:
    """The version of a computation's code, and the libraries that affect its values."""

    version: int
    libraries: tuple[str, ...] = ()


# Raise the version of a computation when its values change; tests/test_code_versions.py compares golden values.
COMPUTATIONS = {
    "tables": Computation(1),
    "decoding": Computation(3, ("libsndfile", "numpy", "soundfile", "soxr")),
    "features": Computation(2, ("librosa", "numpy", "scipy", "torch", "transformers")),
    "fingerprints": Computation(2, ("numpy", "scipy", "torch")),
    "augmentation": Computation(1, ("audiomentations", "numpy", "python-stretch", "scipy")),
    "checks": Computation(2),
    "frozen prefix": Computation(1, ("peft", "torch", "transformers")),
}


def code_identity(*computations: str) -> dict[str, str]:
    """Return name -> version of computations and of the libraries that affect them."""
    chosen = [COMPUTATIONS[name] for name in computations]
    libraries = sorted({library for computation in chosen for library in computation.libraries})
    return {
        **{f"hfmgc {name}": str(COMPUTATIONS[name].version) for name in computations},
        **{library: _version(library) for library in libraries},
    }


def _version(library: str) -> str:
    # soundfile may load the system's libsndfile.
    return soundfile.__libsndfile_version__ if library == "libsndfile" else importlib.metadata.version(library)


def use_one_thread_in_workers() -> None:
    """Limit torch to one thread in worker processes of `map`, which already occupy one core each."""
    if multiprocess.parent_process() is not None:
        import torch  # takes two seconds, and every command that opens a source imports this module

        torch.set_num_threads(1)


@dataclass(frozen=True)
class _Versioned:
    """A function for `map`; the fingerprint that `datasets` computes for it includes `identity`."""

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
    """Map a table with a module-level function; the result is cached.

    `computations` names what the function computes (`COMPUTATIONS`). `key` replaces the arguments of the function
    (`fn_kwargs`) in the cache key if only some of them affect the result. `more`: other arguments of `Dataset.map`.

    Raises:
        DataError: If a file in the cache is damaged.
        SaveError: If the cache cannot be written.
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
            # After Ctrl-C, datasets waits for its workers and raises their timeout instead of the interruption.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None
            raise


def table_fingerprint(table: datasets.Dataset) -> str:
    """Return the fingerprint of a table, which covers its files and the selection of its rows and columns."""
    # datasets has no public name for it.
    return table._fingerprint


@contextmanager
def reading_cache() -> Iterator[None]:
    """Turn errors of the cache into one-line errors; also a decorator.

    Raises:
        DataError: If a file in the cache is damaged.
        SaveError: If the cache cannot be written.
    """
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        # For a damaged file, pyarrow may raise a plain OSError without errno; other OSErrors have an errno or a subclass.
        if isinstance(error, pyarrow.ArrowException) or (type(error) is OSError and error.errno is None):
            raise DataError(
                f"a file in the cache of datasets is damaged ({first_line(error).rstrip('.')}): delete {cache} and repeat "
                "the command, which recreates it"
            ) from error
        path = Path(error.filename or cache)
        if path.is_relative_to(cache) or cache.is_relative_to(path):  # a parent of the cache could not be created
            with saving_to(cache, "or set HF_HOME or HF_DATASETS_CACHE to another folder"):
                raise
        raise
