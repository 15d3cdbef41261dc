"""Training on the stored output of the frozen layers, for recipes with `reuse_frozen_prefix`.

The test side is not stored, because the whole model evaluates it only once.
"""

import hashlib
import json
from collections.abc import Sequence
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
    """Raise an error if training windows would differ between epochs, or layers would be sharded.

    Raises:
        ConfigError: Naming the field.
    """
    if not run.reuse_frozen_prefix:
        return
    check_output_folder("prefix_store", prefix_store_folder(run), data.data)
    conflicts = {
        "training_windows": data.training_windows != "fixed" and "random windows differ in each epoch: set fixed",
        "augmentation": data.augmentation == "fresh" and "it differs in each epoch: set offline or none",
        "time_crop": data.time_crop < 1 and "the crop differs in each epoch: set 1",
        "spec_augment": data.spec_augment and "the masks differ in each epoch: leave it out",
        "spectrogram_effects": data.spectrogram_effects and "they differ in each epoch: leave it out",
        "mixup_alpha": data.mixup_alpha and "windows are mixed differently in each epoch: set 0",
        "fsdp": run.fsdp and "it shards the layers: leave it out",
        "deepspeed": deepspeed.is_deepspeed_zero3_enabled() and "ZeRO-3 shards the layers: use stage 2",
        "gradient_checkpointing": run.gradient_checkpointing and "the frozen layers do not run in training: set false",
    }
    for name, reason in conflicts.items():
        if reason:
            raise ConfigError(
                f"reuse_frozen_prefix cannot be combined with {name}: {reason}, or leave out reuse_frozen_prefix"
            )


def reuse_prefix(model: PreTrainedModel | PeftModel, data: PreparedData, run: RunArguments) -> PreparedData:
    """Return the data with the output of the model's frozen layers in place of windows, if `run` reuses it.

    Raises:
        ConfigError: If the model has no frozen layers, or their output takes too much space; it names the field.
        SaveError: If a store cannot be written to.
    """
    if not run.reuse_frozen_prefix:
        return data
    prefix = FrozenPrefix(model)
    fingerprint = prefix.fingerprint()
    sides = {"train": data.train.windows, "validation": data.validation_windows}
    stores = {side: _store(prefix, fingerprint, windows, run) for side, windows in sides.items()}
    if incomplete := [store for store in stores.values() if not store.is_complete()]:
        check_space(incomplete, run.prefix_store_gigabytes)
    for side, store in stores.items():
        _fill(store, prefix, sides[side], run, side)
    train = StoredExamples(data.train.tracks, sides["train"], stores["train"], prefix.stages)
    validation = StoredTracks(data.validation.tracks, sides["validation"], stores["validation"], prefix.stages)
    return replace(data, train=train, validation=validation)


def prefix_store_folder(run: RunArguments) -> Path:
    """Return the parent folder of all stores."""
    return Path(run.prefix_store) if run.prefix_store else Path(constants.HF_HOME) / "hfmgc" / "frozen_prefix"


class StoredTracks(torch.utils.data.Dataset):
    """Tracks for evaluation; `input_values` are the states of their windows [windows, tokens, hidden].

    The model continues from the states at `first_stage`.
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
    """Training examples; `input_values` are the states of one window [tokens, hidden]."""

    def set_epoch(self, epoch: int) -> None:
        """Do nothing, because all epochs have the same examples."""

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
    """Fill a store on the device and in the precision of the training."""
    precision = _precision(run)

    def compute(indices: Sequence[int]) -> Tensor:
        prefix.model.to(run.device).eval()  # the Trainer sets the training mode later
        batch = torch.from_numpy(np.stack([windows[index] for index in indices])).to(run.device)
        with torch.autocast(run.device.type, dtype=getattr(torch, precision), enabled=precision != "float32"):
            return prefix.states(batch)

    store.fill(compute, batch_size=run.per_device_eval_batch_size, name=side, progress=not run.disable_tqdm)
