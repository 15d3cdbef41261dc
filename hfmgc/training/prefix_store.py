"""The output of frozen layers for each window: computed once, stored on disk, read through a memory map.

A store is a folder named by a digest of everything that its content depends on. Windows are appended to its file in order,
so the size of the file tells how many of them are stored.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..errors import ConfigError, HfmgcError, saving_to
from ..files import file_lock
from ..text import format_size
from .run_folder import nearest_existing


WINDOWS, LOCK = "windows.bin", ".hfmgc.lock"


class StoreFullError(ConfigError):
    """The output of the frozen layers needs more space than the limit or the disk allows."""


def stored_bytes(shape: Sequence[int], dtype: str) -> int:
    """Return the size on disk of states of this shape, as float32 or bfloat16."""
    return math.prod(shape) * getattr(torch, dtype).itemsize


class PrefixStore:
    """States of windows [windows, tokens, hidden] on disk, float32 or bfloat16; call `fill` before reading them."""

    def __init__(self, folder: Path, shape: tuple[int, int, int], dtype: str):
        self.folder = folder
        self.shape = shape
        self.dtype = getattr(torch, dtype)
        self.nbytes = stored_bytes(shape, dtype)
        self._mapped: np.memmap | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice) -> np.ndarray:
        """Return the states of one window [tokens, hidden] or of several [windows, tokens, hidden], float32."""
        if self._mapped is None:
            windows, tokens, hidden = self.shape
            shape = windows, tokens, hidden * self.dtype.itemsize
            self._mapped = np.memmap(self.folder / WINDOWS, np.uint8, mode="r", shape=shape)
        return torch.from_numpy(np.array(self._mapped[index])).view(self.dtype).float().numpy()

    def __getstate__(self) -> dict:
        """Pickle without the memory map: each process maps the file itself."""
        return {**self.__dict__, "_mapped": None}

    def is_complete(self) -> bool:
        """Return whether all windows are stored."""
        path = self.folder / WINDOWS
        return path.is_file() and path.stat().st_size >= self.nbytes

    def fill(
        self, compute: Callable[[Sequence[int]], Tensor], *, batch_size: int, name: str, progress: bool = True
    ) -> None:
        """Compute the windows that are not stored yet; messages call the store `name`.

        `compute` returns the states of windows by their indices, [windows, tokens, hidden]. If another process is filling the
        store, wait until it has finished. Filling resumes at the start of a batch, so an interruption does not change the
        batches, on which rounding depends.

        Raises:
            HfmgcError: If a state is NaN or infinite.
            SaveError: If the folder cannot be written to.
        """
        waiting = f"another process is filling {self.folder}: waiting until it has finished"
        with saving_to(self.folder, "or set prefix_store to another folder, then restart"):
            self.folder.mkdir(parents=True, exist_ok=True)
            with file_lock(self.folder / LOCK, waiting=waiting), (self.folder / WINDOWS).open("ab") as file:
                if self.is_complete():
                    return
                window_bytes = self.nbytes // len(self)
                stored = file.tell() // window_bytes // batch_size * batch_size
                file.truncate(stored * window_bytes)
                print(
                    f"frozen layers, {name}: {len(self):,} windows take {format_size(self.nbytes)} "
                    f"({str(self.dtype).removeprefix('torch.')}) in {self.folder}"
                    + (f"; {stored:,} of them are stored already" if stored else ""),
                    flush=True,
                )
                batches = range(stored, len(self), batch_size)
                for first in tqdm(batches, desc=f"frozen layers, {name}", disable=not progress):
                    windows = range(len(self))[first : first + batch_size]
                    file.write(self._to_bytes(compute(windows), windows))
                    file.flush()

    def _to_bytes(self, states: Tensor, windows: range) -> memoryview:
        """Return the stored form of states [windows, tokens, hidden]."""
        stored = states.detach().cpu().to(self.dtype).contiguous()
        if not torch.isfinite(stored).all():
            raise HfmgcError(
                f"the frozen layers return NaN or infinity for windows {windows[0]} to {windows[-1]}: check the weights of "
                "the checkpoint, or set bf16 in place of fp16"
            )
        return stored.view(torch.uint8).numpy().data


def check_space(stores: Sequence[PrefixStore], gigabytes: float) -> None:
    """Raise an error if stores exceed the limit (in 10^9 bytes, for all stores of their parent folder) or the free disk space.

    Raises:
        StoreFullError: Naming the field.
    """
    parent, folders = stores[0].folder.parent, {store.folder for store in stores}
    sizes = {path.parent: path.stat().st_size for path in parent.glob(f"*/{WINDOWS}")}
    stored = sum(size for folder, size in sizes.items() if folder in folders)
    others = sum(sizes.values()) - stored
    needed = sum(store.nbytes for store in stores)
    needs = f"the output of the frozen layers for {sum(map(len, stores)):,} windows takes {format_size(needed)}"
    if needed + others > gigabytes * 1e9:
        earlier = f", and other stores in {parent} take {format_size(others)}" if others else ""
        raise StoreFullError(
            f"prefix_store_gigabytes {gigabytes:g}: {needs}{earlier}: raise the limit, "
            f"{'delete other stores, ' if others else ''}set prefix_dtype bfloat16 or fewer front_end.max_windows, or leave "
            "out reuse_frozen_prefix"
        )
    free = shutil.disk_usage(nearest_existing(parent)).free
    if needed - stored > free:
        raise StoreFullError(
            f"prefix_store {parent}: {needs}, and its disk has {format_size(free)} left: set prefix_store to a larger "
            "disk, or prefix_dtype bfloat16"
        )
