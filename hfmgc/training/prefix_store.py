"""The frozen layers' output for each window, stored on disk: computed once, memory-mapped, checked when it is opened.

A store is a folder named by the fingerprint of everything that its content depends on. `states.bin` is an array
[windows, tokens, hidden]; `checksums.bin` has a checksum for each window, written after the window itself and 0 until
then. Opening a store compares every window with its checksum. Windows that do not match, because they are damaged, cut
off or were never written by a killed process, are computed again.
"""

import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..errors import ConfigError, HfmgcError, saving_to
from ..files import hold
from .run_folder import nearest_existing


GIGABYTE = 10**9
STATES, CHECKSUMS, LOCK = "states.bin", "checksums.bin", ".hfmgc.lock"
# numpy has no bfloat16: its bits are stored as integers.
_STORED_AS = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(np.int16)}
_CHECKSUM = np.dtype(np.uint64)
_WRITTEN = 1 << 32  # set beside the 32 bits of a checksum, so that no checksum is 0


class StoreFullError(ConfigError):
    """The frozen layers' output takes more room than is allowed or free."""


Compute = Callable[[Sequence[int]], Tensor]


@dataclass(frozen=True)
class StoreContent:
    """What a store holds.

    Args:
        fingerprint: Of everything that the states depend on, these sizes and the type included.
        windows: How many there are.
        tokens: Tokens of a window.
        hidden: Width of a token.
        dtype: float32 or bfloat16.
    """

    fingerprint: str
    windows: int
    tokens: int
    hidden: int
    dtype: str

    @property
    def nbytes(self) -> int:
        """Size of all windows on disk."""
        return self.windows * self.window_nbytes

    @property
    def window_nbytes(self) -> int:
        """Size of one window on disk."""
        return self.tokens * self.hidden * _STORED_AS[self.dtype].itemsize

    def folder(self, place: Path) -> Path:
        """Return the folder of this store among the stores in `place`."""
        return Path(place) / self.fingerprint[:32]


class PrefixStore:
    """The states of windows, read from disk; use `open_store` to get one.

    Args:
        folder: The store's folder.
        content: What it holds.
    """

    def __init__(self, folder: Path, content: StoreContent):
        self.folder = folder
        self.content = content
        self._mapped: np.memmap | None = None

    def __len__(self) -> int:
        return self.content.windows

    def __getitem__(self, index: int | slice) -> np.ndarray:
        """Return the states of one window [tokens, hidden] or of several [windows, tokens, hidden], float32."""
        stored = torch.from_numpy(np.array(self._states()[index]))
        return (stored.view(torch.bfloat16) if self.content.dtype == "bfloat16" else stored).float().numpy()

    def __getstate__(self) -> dict:
        """Pickle without the memory map: the process that reads it maps the file itself."""
        return {**self.__dict__, "_mapped": None}

    def sized(self) -> bool:
        """Return whether both files have their size."""
        return all(path.is_file() and path.stat().st_size == size for path, size in self._sizes())

    def give_size(self) -> None:
        """Create both files, or cut or extend them to their size; what is new is 0, and so not taken for written."""
        for path, size in self._sizes():
            with path.open("ab") as file:
                file.truncate(size)

    def write(self, first: int, states: Tensor) -> None:
        """Write the states of consecutive windows [windows, tokens, hidden], and then their checksums."""
        stored = states.detach().cpu().to(getattr(torch, self.content.dtype)).contiguous()
        if not torch.isfinite(stored).all():
            raise HfmgcError(
                f"the frozen layers return NaN or infinity for windows {first} to {first + len(stored) - 1}: their "
                "weights are damaged, or fp16 is too narrow for them"
            )
        array = (stored.view(torch.int16) if self.content.dtype == "bfloat16" else stored).numpy()
        checksums = np.array(
            [self._checksum(first + offset, window) for offset, window in enumerate(array)], _CHECKSUM
        )
        # Not through the memory map: there a full disk is a crash, here it is an error.
        for name, start, values in (
            (STATES, first * self.content.window_nbytes, array),
            (CHECKSUMS, first * _CHECKSUM.itemsize, checksums),
        ):
            with (self.folder / name).open("r+b") as file:
                file.seek(start)
                file.write(values.data)

    def unfit(self) -> np.ndarray:
        """Return the windows whose states do not match their checksums, in order."""
        checksums, states = np.fromfile(self.folder / CHECKSUMS, _CHECKSUM), self._states()

        def fits(index: int) -> bool:
            return checksums[index] != 0 and checksums[index] == self._checksum(index, states[index])

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # crc32 releases the interpreter's lock
            return np.flatnonzero(~np.array(list(pool.map(fits, range(len(self))))))

    def _checksum(self, index: int, window: np.ndarray) -> int:
        """Return the checksum of a window's states at this place of this store."""
        return zlib.crc32(window, zlib.crc32(f"{self.content.fingerprint} {index}".encode())) | _WRITTEN

    def _states(self) -> np.memmap:
        if self._mapped is None:
            shape = (self.content.windows, self.content.tokens, self.content.hidden)
            self._mapped = np.memmap(self.folder / STATES, _STORED_AS[self.content.dtype], mode="r", shape=shape)
        return self._mapped

    def _sizes(self) -> list[tuple[Path, int]]:
        sizes = {STATES: self.content.nbytes, CHECKSUMS: self.content.windows * _CHECKSUM.itemsize}
        return [(self.folder / name, size) for name, size in sizes.items()]


def open_store(
    place: Path,
    content: StoreContent,
    compute: Compute,
    *,
    batch_size: int,
    gigabytes: float,
    name: str = "windows",
    progress: bool = True,
) -> PrefixStore:
    """Return the store of this content with every window checked; missing and damaged windows are computed.

    One process fills a store; others that want the same one wait until it is complete.

    Args:
        place: Folder of all stores.
        content: What the store holds.
        compute: Returns the states of windows by their numbers, [windows, tokens, hidden].
        batch_size: Windows that are computed together. Batches start at multiples of it even where a filling resumes, so
            that the rounding is always the same.
        gigabytes: Most that all stores in `place` may hold together (10^9 bytes).
        name: What is filled, for messages.
        progress: Whether to show a bar.

    Raises:
        StoreFullError: If there is not enough room, naming the field.
        SaveError: If the place cannot be written to.
    """
    folder = content.folder(place)
    store = PrefixStore(folder, content)
    with saving_to(folder, "or set prefix_store to another place, then start again"):
        folder.mkdir(parents=True, exist_ok=True)
        with hold(folder / LOCK, waiting=f"another process fills {folder}: waiting until it is complete"):
            if not store.sized():
                with hold(folder.parent / LOCK):  # two stores must not both count on the same free room
                    check_room(folder.parent, [content], gigabytes)
                    store.give_size()
            unfit = store.unfit()
            if len(unfit):
                done = content.windows - len(unfit)
                print(
                    f"frozen layers, {name}: {content.windows:,} windows take {content.nbytes / GIGABYTE:.3g} GB "
                    f"({content.dtype}) in {folder}" + (f"; {done:,} of them are stored already" if done else ""),
                    flush=True,
                )
            batches = sorted({index // batch_size for index in unfit.tolist()})
            for batch in tqdm(
                batches, desc=f"frozen layers, {name}", unit="batch", disable=not (progress and batches)
            ):
                first = batch * batch_size
                store.write(first, compute(range(first, min(first + batch_size, content.windows))))
    return store


def check_room(place: Path, contents: Sequence[StoreContent], gigabytes: float) -> None:
    """Refuse stores that together exceed the bound or the free room of the disk.

    Args:
        place: Folder of all stores.
        contents: What they hold.
        gigabytes: Most that all stores in `place` may hold together (10^9 bytes).

    Raises:
        StoreFullError: Naming the field.
    """
    folders = {content.folder(place) for content in contents}
    others = sum(path.stat().st_size for path in place.glob(f"*/{STATES}") if path.parent not in folders)
    wanted, windows = sum(content.nbytes for content in contents), sum(content.windows for content in contents)
    if wanted + others > gigabytes * GIGABYTE:
        earlier = f", and other stores in {place} hold {others / GIGABYTE:.3g} GB" if others else ""
        raise StoreFullError(
            f"prefix_store_gigabytes {gigabytes:g}: what the frozen layers make of {windows:,} windows takes "
            f"{wanted / GIGABYTE:.3g} GB{earlier}: allow more, {'remove those, ' if others else ''}set prefix_dtype "
            "bfloat16 or fewer front_end.max_windows, or leave out reuse_frozen_prefix"
        )
    # A sparse file has not taken its room yet.
    taken = sum((folder / STATES).stat().st_blocks * 512 for folder in folders if (folder / STATES).is_file())
    free = shutil.disk_usage(nearest_existing(place)).free
    if wanted - taken > free:
        raise StoreFullError(
            f"prefix_store {place}: {free / GIGABYTE:.3g} GB are free on its disk, and what the frozen layers make of "
            f"{windows:,} windows takes {(wanted - taken) / GIGABYTE:.3g} GB: set prefix_store to a larger disk, or "
            "prefix_dtype bfloat16"
        )
