"""What frozen layers make of each window, kept on disk and memory-mapped: computed once, and never trusted unseen.

A store is a folder, named by the fingerprint of everything that its content follows from. `states.bin` is an array
[windows, tokens, hidden]; `checksums.npy` has a checksum for each window, written after the window itself. When a store is
opened every window is held against its checksum (one reading of the file, by several threads; checking at each reading would
cost it in every epoch, and find the damage in the middle of a training). Those that do not fit, because they are damaged, cut
off, or a killed process never came to them, are computed again.
"""

import json
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm.auto import tqdm
from transformers.utils import logging

from ..errors import ConfigError, HfmgcError, saving_to
from ..settings_values import load_json
from .run_folder import nearest_existing


logger = logging.get_logger(__name__)

GIGABYTE = 10**9
STATES, CHECKSUMS, DESCRIPTION, LOCK = "states.bin", "checksums.npy", "description.json", ".hfmgc.lock"
# numpy has no bfloat16: its bits are kept as integers.
_STORED_AS = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(np.int16)}
_WRITTEN = 1 << 32  # beside a checksum of 32 bits, so that what was never written has none that could fit


class StoreFullError(ConfigError):
    """What the frozen layers make of the data takes more room than it may, or than there is."""


Compute = Callable[[Sequence[int]], Tensor]


@dataclass(frozen=True)
class StoreContent:
    """What a store holds.

    Args:
        fingerprint: Of everything that the states follow from.
        windows: How many there are.
        tokens: Of each.
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
        """Size on disk."""
        return self.windows * self.window_nbytes

    @property
    def window_nbytes(self) -> int:
        """Size of one window."""
        return self.tokens * self.hidden * _STORED_AS[self.dtype].itemsize


class PrefixStore:
    """States of windows, read from disk; `open_store` makes it.

    Args:
        folder: Where it lies.
        content: What it holds.
    """

    def __init__(self, folder: Path, content: StoreContent):
        self.folder = folder
        self.content = content
        self._mapped: np.memmap | None = None

    def __len__(self) -> int:
        return self.content.windows

    def __getitem__(self, index: int | slice) -> np.ndarray:
        """Return states of one window [tokens, hidden], or of several [windows, tokens, hidden], float32."""
        stored = torch.from_numpy(np.array(self._states()[index]))
        return (stored.view(torch.bfloat16) if self.content.dtype == "bfloat16" else stored).float().numpy()

    def __getstate__(self) -> dict:
        """Pickle without the mapping: the process that reads maps the file for itself."""
        return {**self.__dict__, "_mapped": None}

    def write(self, first: int, states: Tensor) -> None:
        """Write the states of consecutive windows [windows, tokens, hidden], and then their checksums."""
        stored = states.detach().cpu().to(getattr(torch, self.content.dtype)).contiguous()
        if not torch.isfinite(stored).all():
            raise HfmgcError(
                f"the frozen layers answer NaN or infinity for windows {first} to {first + len(stored) - 1}: their weights "
                "are damaged, or fp16 is too narrow for them"
            )
        array = (stored.view(torch.int16) if self.content.dtype == "bfloat16" else stored).numpy()
        with (self.folder / STATES).open("r+b") as file:  # a full disk is an error here, and a crash in a mapping
            file.seek(first * self.content.window_nbytes)
            file.write(array.data)
        checksums = np.load(self.folder / CHECKSUMS, mmap_mode="r+")
        for offset, window in enumerate(array):
            checksums[first + offset] = _checksum(first + offset, window)
        checksums.flush()

    def unfit(self) -> np.ndarray:
        """Return the windows whose states do not fit their checksums, in order."""
        checksums = np.load(self.folder / CHECKSUMS)
        states = self._states()
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # crc32 lets other threads work
            found = list(pool.map(lambda index: _checksum(index, states[index]), range(len(self))))
        return np.flatnonzero(checksums != np.array(found, dtype=np.uint64))

    def _states(self) -> np.memmap:
        if self._mapped is None:
            shape = (self.content.windows, self.content.tokens, self.content.hidden)
            self._mapped = np.memmap(self.folder / STATES, _STORED_AS[self.content.dtype], mode="r", shape=shape)
        return self._mapped


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
    """Return the store of this content, every window of it checked; what is not there or does not fit is computed.

    One process fills; others that want the same store wait until it is whole.

    Args:
        place: Folder of all stores.
        content: What the store is to hold.
        compute: Returns the states of windows by their numbers, [windows, tokens, hidden].
        batch_size: Windows that are computed together; batches begin at multiples of it, however a filling was cut off,
            so that its rounding is always the same.
        gigabytes: Most that all stores in `place` may hold together (10^9 bytes).
        name: What is filled, for what is said of it.
        progress: Whether to show a bar.

    Raises:
        StoreFullError: If there is not room enough, naming the field.
        SaveError: If the place cannot be written to.
    """
    folder = _folder(Path(place), content)
    with saving_to(folder, "or set prefix_store to another place, then start again"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            logger.warning(f"another process fills {folder}: waiting until it is whole")
            lock.acquire()
        try:
            return _filled(
                folder, content, compute, batch_size=batch_size, gigabytes=gigabytes, name=name, progress=progress
            )
        finally:
            lock.release()


def _filled(
    folder: Path,
    content: StoreContent,
    compute: Compute,
    *,
    batch_size: int,
    gigabytes: float,
    name: str,
    progress: bool,
) -> PrefixStore:
    store, unfit = PrefixStore(folder, content), np.arange(content.windows)
    if _is_of(folder, content):
        _give_sizes(folder, content)
        unfit = store.unfit()
    if not len(unfit):
        return store
    with FileLock(folder.parent / LOCK):  # or two stores that begin at once would each think the room its own
        check_room(folder.parent, [content], gigabytes)
        if not _is_of(folder, content):
            _begin(folder, content)
    done = content.windows - len(unfit)
    print(
        f"frozen layers, {name}: {content.windows:,} windows take {content.nbytes / GIGABYTE:.3g} GB ({content.dtype}) in "
        f"{folder}" + (f"; {done:,} of them are there and whole" if done else ""),
        flush=True,
    )
    batches = sorted({index // batch_size for index in unfit.tolist()})
    for batch in tqdm(batches, desc=f"frozen layers, {name}", unit="batch", disable=not progress):
        first = batch * batch_size
        store.write(first, compute(range(first, min(first + batch_size, content.windows))))
    return store


def _is_of(folder: Path, content: StoreContent) -> bool:
    """Return whether a folder says that it holds this content."""
    try:
        return load_json((folder / DESCRIPTION).read_text(encoding="utf-8")) == asdict(content)
    except (OSError, ValueError):  # missing, or damaged in any way
        return False


def _give_sizes(folder: Path, content: StoreContent) -> None:
    """Give the files of a store the size that they must have, where they lost it: what is missing then fits no checksum."""
    try:
        checksums = np.load(folder / CHECKSUMS, mmap_mode="r")
        whole = checksums.shape == (content.windows,) and checksums.dtype == np.uint64
    except (OSError, ValueError, EOFError):
        whole = False
    if not whole:
        _write_checksums(folder, content)
    states = folder / STATES
    if not states.is_file() or states.stat().st_size != content.nbytes:
        with states.open("ab") as file:
            file.truncate(content.nbytes)


def _begin(folder: Path, content: StoreContent) -> None:
    """Make the files of a new store; what lies there is of something else, and may be mapped by a process that reads it."""
    for file in (DESCRIPTION, CHECKSUMS, STATES):
        (folder / file).unlink(missing_ok=True)
    with (folder / STATES).open("wb") as file:
        file.truncate(content.nbytes)
    _write_checksums(folder, content)
    temporary = folder / f"{DESCRIPTION}.tmp"  # last: a folder without it is begun anew
    temporary.write_text(json.dumps(asdict(content), indent=1), encoding="utf-8")
    temporary.replace(folder / DESCRIPTION)


def _write_checksums(folder: Path, content: StoreContent) -> None:
    np.save(folder / CHECKSUMS, np.zeros(content.windows, dtype=np.uint64))


def _checksum(index: int, window: np.ndarray) -> int:
    """Return the checksum of a window's states; that of the same states at another place is another."""
    return zlib.crc32(window, index) | _WRITTEN


def check_room(place: Path, contents: Sequence[StoreContent], gigabytes: float) -> None:
    """Refuse stores that do not fit together below the bound or on the disk.

    Args:
        place: Folder of all stores.
        contents: What they are to hold.
        gigabytes: Most that all stores in `place` may hold together (10^9 bytes).

    Raises:
        StoreFullError: Naming the field.
    """
    folders = {_folder(place, content) for content in contents}
    others = sum(path.stat().st_size for path in place.glob(f"*/{STATES}") if path.parent not in folders)
    wanted, windows = sum(content.nbytes for content in contents), sum(content.windows for content in contents)
    if wanted + others > gigabytes * GIGABYTE:
        earlier = f", and other stores in {place} hold {others / GIGABYTE:.3g} GB" if others else ""
        raise StoreFullError(
            f"prefix_store_gigabytes {gigabytes:g}: what the frozen layers make of {windows:,} windows takes "
            f"{wanted / GIGABYTE:.3g} GB{earlier}: allow more, {'remove those, ' if others else ''}set prefix_dtype "
            "bfloat16 or fewer front_end.max_windows, or leave out reuse_frozen_prefix"
        )
    # A file with holes has not taken its room yet.
    taken = sum((folder / STATES).stat().st_blocks * 512 for folder in folders if (folder / STATES).is_file())
    free = shutil.disk_usage(nearest_existing(place)).free
    if wanted - taken > free:
        raise StoreFullError(
            f"prefix_store {place}: {free / GIGABYTE:.3g} GB are free on its disk, and what the frozen layers make of "
            f"{windows:,} windows takes {(wanted - taken) / GIGABYTE:.3g} GB: set prefix_store to a larger disk, or "
            "prefix_dtype bfloat16"
        )


def _folder(place: Path, content: StoreContent) -> Path:
    return place / content.fingerprint[:32]
