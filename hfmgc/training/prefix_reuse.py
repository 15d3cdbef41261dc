"""Training above the frozen layers: what a recipe with `reuse_frozen_prefix` reads in place of windows.

    with reused_prefix(model, data, run) as learnt:
        trainer = build_trainer(model, run, genres, train=learnt.train, validation=learnt.validation)
        trainer.train()
    # from here on the model takes windows again

The test side is not kept: it is judged once, by the whole model, as its users will run it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import constants
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel
from transformers.integrations import deepspeed

from ..data.caching import code_identity
from ..data.features import ExtractedWindows, TrackWindows
from ..errors import ConfigError
from .arguments import DataArguments, RunArguments
from .examples import FixedExamples
from .frozen_prefix import FrozenPrefix
from .prefix_store import PrefixStore, StoreContent, check_room, open_store
from .preparation import PreparedData
from .run_folder import refuse_folder


def check_reuse(data: DataArguments, run: RunArguments) -> None:
    """Refuse settings under which a training window is not the same in each epoch, or the model is not in one piece.

    `FrozenPrefix` refuses models.

    Raises:
        ConfigError: Naming the field.
    """
    if not run.reuse_frozen_prefix:
        return
    refuse_folder("prefix_store", store_place(run), data.data)
    changing = {
        "training_windows": data.training_windows != "fixed" and "random windows are others in each epoch: set fixed",
        "augmentation": data.augmentation == "fresh" and "fresh is drawn again in each epoch: set offline or none",
        "time_crop": data.time_crop < 1 and "the crop is drawn again in each epoch: set 1",
        "spec_augment": data.spec_augment and "masks are drawn again in each epoch: leave it out",
        "spectrogram_effects": data.spectrogram_effects and "effects are drawn again in each epoch: leave it out",
        "mixup_alpha": data.mixup_alpha and "windows are mixed again in each epoch: set 0",
        "fsdp": run.fsdp and "it divides the layers that are run apart here",
        "deepspeed": deepspeed.is_deepspeed_zero3_enabled() and "ZeRO-3 divides the layers that are run apart here",
        "gradient_checkpointing": run.gradient_checkpointing
        and "the layers that it saves memory in are not run: set false",
    }
    for name, reason in changing.items():
        if reason:
            raise ConfigError(
                f"reuse_frozen_prefix does not go with {name}: {reason}, or leave out reuse_frozen_prefix"
            )


@contextmanager
def reused_prefix(
    model: PreTrainedModel | PeftModel,
    data: PreparedData,
    run: RunArguments,
    *,
    opened: MutableMapping[str, PrefixStore] | None = None,
) -> Iterator[PreparedData]:
    """Let a model train on what its frozen layers make of the windows; where the run does not want it, nothing changes.

    Args:
        model: With its adapter; within the context it takes states in place of windows.
        data: As prepared, with fixed training windows.
        run: The recipe's settings; `check_reuse` has seen them.
        opened: Stores that the caller's earlier trainings opened, by fingerprint: they are not checked again, and those
            that are opened here are added.

    Yields:
        The data, of which training and validation give states; whole and checked, computed where they were not kept.

    Raises:
        ConfigError: If the model has no frozen layers to reuse, or they take more room than there is, naming the field.
        SaveError: If the store cannot be written to.
    """
    if not run.reuse_frozen_prefix:
        yield data
        return
    prefix = FrozenPrefix(model)
    fingerprint = prefix.fingerprint()
    opened = {} if opened is None else opened
    sides = {"train": data.train.windows, "validation": data.validation_windows}
    contents = {side: _content(prefix, fingerprint, windows, run) for side, windows in sides.items()}
    missing = {content.fingerprint: content for content in contents.values() if content.fingerprint not in opened}
    if missing:
        check_room(store_place(run), list(missing.values()), run.prefix_store_gigabytes)
    stores = {}
    for side, windows in sides.items():
        key = contents[side].fingerprint
        if key not in opened:
            opened[key] = _open(prefix, contents[side], windows, run, side)
        stores[side] = opened[key]
    learnt = replace(
        data,
        train=StoredExamples(data.train, stores["train"]),
        validation=StoredTracks(data.validation, sides["validation"], stores["validation"]),
    )
    with prefix.reading_states():
        yield learnt


def store_place(run: RunArguments) -> Path:
    """Return the folder of all stores."""
    return Path(run.prefix_store) if run.prefix_store else Path(constants.HF_HOME) / "hfmgc" / "frozen_prefix"


class StoredExamples(FixedExamples):
    """Training examples whose `input_values` are states [tokens, hidden] of the same windows in the same order."""

    def __init__(self, examples: FixedExamples, store: PrefixStore):
        self.__dict__.update(examples.__dict__)  # the epoch is shared with them, as are the tracks
        self.store = store

    def window(self, row: int, track: Mapping[str, Any], draw: int, generator: np.random.Generator) -> np.ndarray:
        """Return the states of the window, float32 [tokens, hidden]."""
        return self.store[self.windows.first(row) + draw]


class StoredTracks(torch.utils.data.Dataset):
    """Tracks for evaluation whose `input_values` are the states of their windows [windows, tokens, hidden]."""

    def __init__(self, tracks: TrackWindows, windows: ExtractedWindows, store: PrefixStore):
        self._tracks = tracks.tracks
        self._ends = windows.ends
        self._store = store
        self.column_names = self._tracks.column_names

    def __len__(self) -> int:
        return len(self._tracks)

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return self._tracks[key]
        first, end = int(self._ends[key - 1]) if key else 0, int(self._ends[key])
        return {**self._tracks[key], "input_values": self._store[first:end]}


def _content(prefix: FrozenPrefix, fingerprint: str, windows: ExtractedWindows, run: RunArguments) -> StoreContent:
    """Return what the store of a side's windows holds, whose fingerprint says all that it follows from."""
    precision = _precision(run)
    rounding = f"{precision} tf32" if run.tf32 else precision
    tokens, hidden = prefix.state_shape(*windows[0].shape)
    parts = (json.dumps(code_identity("frozen prefix")), fingerprint, windows.digest(), rounding, run.prefix_dtype)
    return StoreContent(
        fingerprint=hashlib.sha256(" ".join(parts).encode()).hexdigest(),
        windows=len(windows),
        tokens=tokens,
        hidden=hidden,
        dtype=run.prefix_dtype,
    )


def _precision(run: RunArguments) -> str:
    return {"bf16": "bfloat16", "fp16": "float16"}.get(run.mixed_precision, "float32")


def _open(
    prefix: FrozenPrefix, content: StoreContent, windows: ExtractedWindows, run: RunArguments, side: str
) -> PrefixStore:
    """Return the store of a side's windows, filled on this process's device and with the precision of the training."""
    precision = _precision(run)

    def compute(chosen: Sequence[int]) -> Tensor:
        prefix.model.to(run.device).eval()  # the Trainer sets the mode for itself
        batch = torch.from_numpy(np.stack([windows[index] for index in chosen])).to(run.device)
        with torch.autocast(run.device.type, dtype=getattr(torch, precision), enabled=precision != "float32"):
            return prefix.states(batch)

    return open_store(
        store_place(run),
        content,
        compute,
        batch_size=run.per_device_eval_batch_size,
        gigabytes=run.prefix_store_gigabytes,
        name=side,
        progress=not run.disable_tqdm,
    )
