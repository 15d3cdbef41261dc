"""Collating examples into a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..errors import DataError


@dataclass(frozen=True)
class TrackCollator:
    """Stacks examples with `input_values` and `genre` (multi-label: `genres`) into a batch for the models.

    An example holds one window [frames, bins] (training) or all windows of a track [windows, frames, bins] (evaluation).
    With `first_stage`, it holds the states that enter the model at that stage ([`WindowedModel.run_stages`]) instead.
    Tracks are padded to the longest track in the batch, with a mask.

    Args:
        label2id: Genre -> index.
        multi_label: Whether tracks have several genres; a track without genres has all-zero targets.

    Example:

    >>> import hfmgc, numpy
    >>> collate = hfmgc.TrackCollator({"blues": 0, "rock": 1})
    >>> tracks = [
    ...     {"input_values": numpy.zeros((2, 64, 128)), "genre": "rock"},  # 2 windows of 64 frames and 128 bins
    ...     {"input_values": numpy.zeros((3, 64, 128)), "genre": "blues"},
    ... ]
    >>> {name: tuple(tensor.shape) for name, tensor in collate(tracks).items()}
    {'input_values': (2, 3, 64, 128), 'window_mask': (2, 3), 'labels': (2,)}
    """

    label2id: Mapping[str, int]
    multi_label: bool = False

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_values`, `labels` and, for windows of tracks, `window_mask` [tracks, windows].

        Labels are genre indices [tracks], or for multi-label models zeros and ones (float32 [tracks, labels]).

        Raises:
            DataError: If an example has no `genres` in multi-label mode.
        """
        if self.multi_label:
            labels = self._targets(examples)
        else:
            labels = torch.tensor([self._index(example["genre"]) for example in examples])
        values = [np.asarray(example["input_values"], dtype=np.float32) for example in examples]
        batch = {"labels": labels}
        if "first_stage" in examples[0]:
            batch["first_stage"] = examples[0]["first_stage"]
        if values[0].ndim == 2:
            return {"input_values": torch.from_numpy(np.stack(values)), **batch}
        windows = torch.tensor([len(stack) for stack in values])
        stacks = torch.zeros(len(values), int(windows.max()), *values[0].shape[1:])
        for row, stack in enumerate(values):
            stacks[row, : len(stack)] = torch.tensor(stack)  # copies: stored features are read-only
        mask = torch.arange(stacks.shape[1]).unsqueeze(0) < windows.unsqueeze(1)
        return {"input_values": stacks, "window_mask": mask, **batch}

    def _targets(self, examples: Sequence[Mapping[str, Any]]) -> torch.Tensor:
        targets = torch.zeros(len(examples), len(self.label2id))
        for row, example in enumerate(examples):
            if example.get("genres") is None:
                raise DataError(
                    "genres: the data have no such column (a list for each track), which multi-label models need: add it, "
                    "or train without problem_type multi_label_classification"
                )
            targets[row, [self._index(genre) for genre in example["genres"]]] = 1
        return targets

    def _index(self, genre: str | int) -> int:
        """Return the index of a genre; values of a `ClassLabel` column are indices already."""
        return self.label2id[genre] if isinstance(genre, str) else int(genre)
