"""Training on the stored output of the frozen layers, for recipes with `reuse_frozen_prefix`.

The test side is not stored: the whole model evaluates it once, as its users will.
"""

import hashlib
import json
from collections.abc import MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from huggingface_hub import constants
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel
from transformers.integrations import deepspeed

from ..data.caching import code_identity
from ..data.features import ExtractedWindows
from ..errors import ConfigError
from .arguments import DataArguments, RunArguments
from .examples import TARGET_COLUMNS
from .frozen_prefix import FrozenPrefix
from .prefix_store import PrefixStore, check_space
from .preparation import PreparedData
from .run_folder import check_output_folder


def check_reuse(data: DataArguments, run: RunArguments) -> None:
    """Refuse settings with which training windows differ between epochs, or layers are sharded.

    `FrozenPrefix` refuses models.

    Raises:
        ConfigError: Naming the field.
    """
    if not run.reuse_frozen_prefix:
        return
    check_output_folder("prefix_store", prefix_store_folder(run), data.data)
    excluded = {
        "training_windows": data.training_windows != "fixed" and "random windows differ in each epoch: set fixed",
        "augmentation": data.augmentation == "fresh" and "it differs in each epoch: set offline or none",
        "time_crop": data.time_crop < 1 and "the crop differs in each epoch: set 1",
        "spec_augment": data.spec_augment and "the masks differ in each epoch: leave it out",
        "spectrogram_effects": data.spectrogram_effects and "they differ in each epoch: leave it out",
        "mixup_alpha": data.mixup_alpha and "windows are mixed differently in each epoch: set 0",
        "fsdp": run.fsdp and "it shards the layers",
        "deepspeed": deepspeed.is_deepspeed_zero3_enabled() and "ZeRO-3 shards the layers",
        "gradient_checkpointing": run.gradient_checkpointing and "the frozen layers are not run: set false",
    }
    for name, reason in excluded.items():
        if reason:
            raise ConfigError(
                f"reuse_frozen_prefix cannot be combined with {name}: {reason}, or leave out reuse_frozen_prefix"
            )


def reused_prefix(
    model: PreTrainedModel | PeftModel,
    data: PreparedData,
    run: RunArguments,
    *,
    opened: MutableMapping[str, PrefixStore] | None = None,
) -> PreparedData:
    """Return the data with the output of the model's frozen layers in place of windows, if the run reuses it.

    `opened` holds the stores of earlier trainings of this process by folder name: they are not checked again, and new ones
    are added.

    Raises:
        ConfigError: If the model has no frozen layers, or their output takes too much space, naming the field.
        SaveError: If a store cannot be written to.
    """
    if not run.reuse_frozen_prefix:
        return data
    prefix = FrozenPrefix(model)
    fingerprint, opened = prefix.fingerprint(), {} if opened is None else opened
    sides = {"train": data.train.windows, "validation": data.validation_windows}
    stores = {side: _store(prefix, fingerprint, windows, run) for side, windows in sides.items()}
    new = {side: store for side, store in stores.items() if store.folder.name not in opened}
    if new:
        check_space(list(new.values()), run.prefix_store_gigabytes)
    for side, store in new.items():
        _fill(store, prefix, sides[side], run, side)
        opened[store.folder.name] = store
    train, validation = (
        kind(examples.tracks, sides[side], stores[side], prefix.stages)
        for kind, examples, side in (
            (StoredExamples, data.train, "train"),
            (StoredTracks, data.validation, "validation"),
        )
    )
    return replace(data, train=train, validation=validation)


def prefix_store_folder(run: RunArguments) -> Path:
    """Return the folder of all stores."""
    return Path(run.prefix_store) if run.prefix_store else Path(constants.HF_HOME) / "hfmgc" / "frozen_prefix"


class StoredTracks(torch.utils.data.Dataset):
    """Tracks for evaluation whose `input_values` are the states of their windows [windows, tokens, hidden].

    The states enter the model at `first_stage`.
    """

    def __init__(self, tracks: datasets.Dataset, windows: ExtractedWindows, store: PrefixStore, first_stage: int):
        self.tracks = tracks
        self.column_names = tracks.column_names
        self._windows = windows
        self._store = store
        self._first_stage = first_stage

    def by_track(self) -> list[np.ndarray]:
        """Return the states of the windows of each track, [windows, tokens, hidden]."""
        return np.split(self._store[:], self._windows.ends[:-1])

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return self.tracks[key]
        states = self._store[self._windows.first(key) : self._windows.first(key + 1)]
        return {**self.tracks[key], "input_values": states, "first_stage": self._first_stage}


class StoredExamples(StoredTracks):
    """Training examples whose `input_values` are the states of one window [tokens, hidden]."""

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: all epochs have the same examples."""

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, index: int) -> dict[str, Any]:
        track = self.tracks[self._windows.locate(index)[0]]
        targets = {name: track[name] for name in TARGET_COLUMNS if name in track}
        return {"input_values": self._store[index], "first_stage": self._first_stage, **targets}


def _store(prefix: FrozenPrefix, fingerprint: str, windows: ExtractedWindows, run: RunArguments) -> PrefixStore:
    """Return the store of a side's windows, named by everything that its content depends on."""
    precision = f"{_precision(run)} tf32" if run.tf32 else _precision(run)
    shape = (len(windows), *prefix.state_shape(*windows[0].shape))
    parts = (json.dumps(code_identity("frozen prefix")), fingerprint, windows.digest, precision, run.prefix_dtype)
    name = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]
    return PrefixStore(prefix_store_folder(run) / name, shape, run.prefix_dtype)


def _precision(run: RunArguments) -> str:
    return {"bf16": "bfloat16", "fp16": "float16"}.get(run.mixed_precision, "float32")


def _fill(store: PrefixStore, prefix: FrozenPrefix, windows: ExtractedWindows, run: RunArguments, side: str) -> None:
    """Fill a store on this process's device, in the precision of the training."""
    precision = _precision(run)

    def compute(indices: Sequence[int]) -> Tensor:
        prefix.model.to(run.device).eval()  # the Trainer sets the mode itself
        batch = torch.from_numpy(np.stack([windows[index] for index in indices])).to(run.device)
        with torch.autocast(run.device.type, dtype=getattr(torch, precision), enabled=precision != "float32"):
            return prefix.states(batch)

    store.fill(compute, batch_size=run.per_device_eval_batch_size, name=side, progress=not run.disable_tqdm)
