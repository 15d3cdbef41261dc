"""The output of frozen layers for each window: computed once, stored on disk, read through a memory map.

A store is a folder named by a digest of everything that its content depends on. `states.bin` is an array [windows, tokens,
hidden]; `checksums.bin` has a checksum for each window, written after the window itself and 0 until then. Filling a store
compares every window with its checksum, and computes those that are missing or damaged.
"""

import math
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..errors import ConfigError, HfmgcError, saving_to
from ..files import file_lock
from ..text import format_size
from .run_folder import nearest_existing


STATES, CHECKSUMS, LOCK = "states.bin", "checksums.bin", ".hfmgc.lock"
# numpy has no bfloat16: its bits are stored as integers.
_STORED_AS = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(np.int16)}
_CHECKSUM = np.dtype(np.uint64)
_WRITTEN = 1 << 32  # added to the 32 bits of a checksum, so that no checksum is 0


class StoreFullError(ConfigError):
    """The output of the frozen layers takes more space than is allowed or free."""


def stored_bytes(shape: Sequence[int], dtype: str) -> int:
    """Return the size on disk of states of this shape, as float32 or bfloat16."""
    return math.prod(shape) * _STORED_AS[dtype].itemsize


class PrefixStore:
    """The states of windows [windows, tokens, hidden] on disk, float32 or bfloat16; read them after `fill`."""

    def __init__(self, folder: Path, shape: tuple[int, int, int], dtype: str):
        self.folder = folder
        self.shape = shape
        self.dtype = dtype
        self.nbytes = stored_bytes(shape, dtype)
        self._mapped: np.memmap | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice) -> np.ndarray:
        """Return the states of one window [tokens, hidden] or of several [windows, tokens, hidden], float32."""
        stored = torch.from_numpy(np.array(self._states()[index]))
        return (stored.view(torch.bfloat16) if self.dtype == "bfloat16" else stored).float().numpy()

    def __getstate__(self) -> dict:
        """Pickle without the memory map: each process maps the file itself."""
        return {**self.__dict__, "_mapped": None}

    def fill(
        self, compute: Callable[[Sequence[int]], Tensor], *, batch_size: int, name: str, progress: bool = True
    ) -> None:
        """Check every window, and compute those that are missing or damaged; messages name the store `name`.

        `compute` returns the states of windows by their indices, [windows, tokens, hidden]. One process fills a store; others
        that need it wait until it is complete. Batches start at multiples of the batch size even if filling resumes, so that
        the rounding is always the same.

        Raises:
            SaveError: If the folder cannot be written to.
        """
        waiting = f"another process fills {self.folder}: waiting until it is complete"
        with saving_to(self.folder, "or set prefix_store to another folder, then restart"):
            self.folder.mkdir(parents=True, exist_ok=True)
            with file_lock(self.folder / LOCK, waiting=waiting):
                for path, size in ((STATES, self.nbytes), (CHECKSUMS, len(self) * _CHECKSUM.itemsize)):
                    with (self.folder / path).open("ab") as file:
                        file.truncate(size)  # new space is zeros, which no checksum is
                missing = self._missing()
                if not len(missing):
                    return
                stored = len(self) - len(missing)
                print(
                    f"frozen layers, {name}: {len(self):,} windows take {format_size(self.nbytes)} ({self.dtype}) in "
                    f"{self.folder}" + (f"; {stored:,} of them are stored already" if stored else ""),
                    flush=True,
                )
                for batch in tqdm(
                    np.unique(missing // batch_size), desc=f"frozen layers, {name}", disable=not progress
                ):
                    windows = range(len(self))[batch * batch_size : (batch + 1) * batch_size]
                    self._write(windows[0], compute(windows))

    def _missing(self) -> np.ndarray:
        """Return the windows whose states do not match their checksums, in order."""
        checksums, states = np.fromfile(self.folder / CHECKSUMS, _CHECKSUM), self._states()

        def matches(index: int) -> bool:
            return checksums[index] != 0 and checksums[index] == self._checksum(index, states[index])

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # crc32 releases the interpreter's lock
            return np.flatnonzero(~np.array(list(pool.map(matches, range(len(self)))), dtype=bool))

    def _write(self, first: int, states: Tensor) -> None:
        """Write the states of consecutive windows [windows, tokens, hidden], and then their checksums."""
        stored = states.detach().cpu().to(getattr(torch, self.dtype)).contiguous()
        if not torch.isfinite(stored).all():
            raise HfmgcError(
                f"the frozen layers return NaN or infinity for windows {first} to {first + len(stored) - 1}: their "
                "weights are damaged, or fp16 is too narrow for them"
            )
        array = (stored.view(torch.int16) if self.dtype == "bfloat16" else stored).numpy()
        checksums = np.array(
            [self._checksum(first + offset, window) for offset, window in enumerate(array)], _CHECKSUM
        )
        # Not through the memory map, where a full disk crashes the process.
        for name, values in ((STATES, array), (CHECKSUMS, checksums)):
            with (self.folder / name).open("r+b") as file:
                file.seek(first * values[0].nbytes)
                file.write(values.data)

    def _checksum(self, index: int, window: np.ndarray) -> int:
        """Return the checksum of a window's states, seeded with the store and the index."""
        return zlib.crc32(window, zlib.crc32(f"{self.folder.name} {index}".encode())) | _WRITTEN

    def _states(self) -> np.memmap:
        if self._mapped is None:
            self._mapped = np.memmap(self.folder / STATES, _STORED_AS[self.dtype], mode="r", shape=self.shape)
        return self._mapped


def check_space(stores: Sequence[PrefixStore], gigabytes: float) -> None:
    """Refuse stores that exceed the limit (in 10^9 bytes, for all stores of their parent folder) or the free disk space.

    Raises:
        StoreFullError: Naming the field.
    """
    parent, folders = stores[0].folder.parent, {store.folder for store in stores}
    others = sum(path.stat().st_size for path in parent.glob(f"*/{STATES}") if path.parent not in folders)
    wanted = sum(store.nbytes for store in stores)
    takes = f"the output of the frozen layers for {sum(map(len, stores)):,} windows takes {format_size(wanted)}"
    if wanted + others > gigabytes * 1e9:
        earlier = f", and other stores in {parent} take {format_size(others)}" if others else ""
        raise StoreFullError(
            f"prefix_store_gigabytes {gigabytes:g}: {takes}{earlier}: allow more, "
            f"{'remove those, ' if others else ''}set prefix_dtype bfloat16 or fewer front_end.max_windows, or leave out "
            "reuse_frozen_prefix"
        )
    # A store that is not complete has holes, which take no space yet.
    taken = sum((folder / STATES).stat().st_blocks * 512 for folder in folders if (folder / STATES).is_file())
    free = shutil.disk_usage(nearest_existing(parent)).free
    if wanted - taken > free:
        raise StoreFullError(
            f"prefix_store {parent}: {takes}, and its disk has {format_size(free)} left: set prefix_store to a larger "
            "disk, or prefix_dtype bfloat16"
        )
