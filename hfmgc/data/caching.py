"""The cache of `datasets`, keyed by the versions of our code and of libraries too.

`datasets` identifies a function of a module by its name. So each cached computation has a version of its code and those
of the libraries that decide its values; a change of either recomputes it.
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


# Rows in memory before they are written; a track of 30 s takes 2 MB, one of an hour 230 MB.
WRITER_BATCH_SIZE = 8


@dataclass(frozen=True)
class Computation:
    """The version of a computation's code, and the libraries whose version may change its values."""

    version: int
    libraries: tuple[str, ...] = ()


# Raise a version when values change: tests/test_code_versions.py compares them with golden values.
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
    """Limit torch to one thread in a worker of `map`, which has a core of its own."""
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
    writer_batch_size: int = WRITER_BATCH_SIZE,
    **more: Any,
) -> datasets.Dataset:
    """Map a table, cached by the table, the function's arguments and the identity of its code.

    Args:
        table: The input.
        function: A function of a module, called as `datasets.Dataset.map` does.
        computations: Names in `COMPUTATIONS` of what it computes.
        num_proc: Worker processes; torch has a single thread in each.
        key: Identifies the arguments of the function, if only part of them decides its result.
        writer_batch_size: Rows in memory before they are written.
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
            writer_batch_size=writer_batch_size,
            new_fingerprint=new_fingerprint,
            **more,
        )


def table_fingerprint(table: datasets.Dataset) -> str:
    """Return the identity of a table in the cache: its files, and how rows and columns were chosen from them.

    The attribute is private, and there is no public way to read it: it is read only here.
    """
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
