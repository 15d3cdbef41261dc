"""From examples to a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class TrackCollator:
    """Stacks examples of `input_values` and `genre` into what the models take.

    Examples hold one window [frames, bins] (training) or a track's windows [windows, frames, bins] (evaluation); tracks
    with fewer windows than the longest of the batch are filled up and masked.
    """

    label2id: Mapping[str, int]

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_values`, `labels` [tracks] and, for stacks, `window_mask` [tracks, windows]."""
        labels = torch.tensor([self.label2id[example["genre"]] for example in examples])
        values = [np.asarray(example["input_values"], dtype=np.float32) for example in examples]
        if values[0].ndim == 2:
            return {"input_values": torch.from_numpy(np.stack(values)), "labels": labels}
        windows = torch.tensor([len(stack) for stack in values])
        batch = torch.zeros(len(values), int(windows.max()), *values[0].shape[1:])
        for row, stack in enumerate(values):
            batch[row, : len(stack)] = torch.from_numpy(stack)
        mask = torch.arange(batch.shape[1]).unsqueeze(0) < windows.unsqueeze(1)
        return {"input_values": batch, "window_mask": mask, "labels": labels}
