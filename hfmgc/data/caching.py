"""The cache of datasets: results are keyed by the version of the code that computed them; errors name the way out.

`datasets` fingerprints a function of a module by its name. So each cached computation carries a version of its own code
and those of the libraries that decide its values; after a change of either, it is computed again.
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


# Rows in memory before they go to disk; a track of 30 s takes 2 MB, one of an hour 230 MB.
WRITER_BATCH_SIZE = 8


@dataclass(frozen=True)
class Computation:
    """The version of a computation's code, and the libraries whose version may change its values."""

    version: int
    libraries: tuple[str, ...] = ()


# A version goes up with the values: tests/test_code_versions.py compares them with golden ones.
COMPUTATIONS = {
    "tables": Computation(1),
    "decoding": Computation(3, ("libsndfile", "numpy", "soundfile", "soxr")),
    "features": Computation(2, ("librosa", "numpy", "scipy", "torch", "transformers")),
    "handmade features": Computation(1, ("librosa", "numpy", "scipy")),
    "fingerprints": Computation(2, ("librosa", "numpy", "scipy", "torch")),
    "augmentation": Computation(1, ("audiomentations", "numpy", "python-stretch", "scipy")),
    "checks": Computation(1),
    "frozen prefix": Computation(1, ("peft", "torch", "transformers")),
}


def code_identity(*computations: str) -> dict[str, str]:
    """Return what identifies the code of computations: their versions and those of their libraries, by name."""
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
    """Limit torch to one thread in a worker of `map`: there is a process for each core."""
    if multiprocess.parent_process() is not None:
        torch.set_num_threads(1)


@dataclass(frozen=True)
class _Versioned:
    """A function for `map` that is fingerprinted together with the identity of its code."""

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
    """Map a table once; the result is cached by the table, the function's arguments and its code's identity.

    Args:
        table: What is mapped.
        function: Of a module; called as `datasets.Dataset.map` does.
        computations: Names in `COMPUTATIONS` of what it computes.
        num_proc: Worker processes; torch has a single thread in each.
        key: What identifies the arguments of the function, where not all of them decide its result.
        more: Other arguments of `datasets.Dataset.map`.

    Raises:
        DataError: If a file in the cache is damaged.
    """
    versioned = _Versioned(function, code_identity(*computations))
    new_fingerprint = None
    if key is not None:
        identity = [table_fingerprint(table), function.__qualname__, versioned.identity, dict(key)]
        new_fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
    with reading_cache():
        return table.map(
            versioned,
            num_proc=num_proc if num_proc and num_proc > 1 else None,
            writer_batch_size=WRITER_BATCH_SIZE,
            new_fingerprint=new_fingerprint,
            **more,
        )


def table_fingerprint(table: datasets.Dataset) -> str:
    """Return what `datasets` identifies a table by: its files and how rows and columns were chosen from them.

    There is no public way to read it; it is read here alone.
    """
    return table._fingerprint


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
        raise DataError(
            f"a file in the cache of datasets is damaged ({first_line(error).rstrip('.')}): delete {cache} and run the "
            "command again; its content is recomputed"
        ) from error


def _same_branch(path: Path, folder: Path) -> bool:
    """Return whether a path lies in a folder, or is one of its parents (which could not be created)."""
    return path.is_relative_to(folder) or folder.is_relative_to(path)
