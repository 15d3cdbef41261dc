"""From examples to a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..errors import DataError


@dataclass(frozen=True)
class TrackCollator:
    """Stacks examples of `input_values` and `genre` (multi-label: `genres`) into what the models take.

    Examples hold one window [frames, bins] (training) or a track's windows [windows, frames, bins] (evaluation), or with
    `first_stage` the states that enter the model at that stage ([`WindowedModel.run_stages`]) in place of windows; tracks
    with fewer windows than the longest of the batch are filled up and masked.

    Args:
        label2id: The index of each genre.
        multi_label: Whether tracks have several genres; one with none of them has only zeros as targets.

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
        """Return `input_values`, `labels` and, for stacks, `window_mask` [tracks, windows].

        Labels are genre indices [tracks], or for multi-label models zeros and ones, float32 [tracks, labels].

        Raises:
            DataError: If multi-label targets are wanted and an example has no `genres`.
        """
        labels = self._targets(examples) if self.multi_label else self._indices(examples)
        values = [np.asarray(example["input_values"], dtype=np.float32) for example in examples]
        batch = {"labels": labels}
        if "first_stage" in examples[0]:
            batch["first_stage"] = examples[0]["first_stage"]
        if values[0].ndim == 2:
            return {"input_values": torch.from_numpy(np.stack(values)), **batch}
        windows = torch.tensor([len(stack) for stack in values])
        stacks = torch.zeros(len(values), int(windows.max()), *values[0].shape[1:])
        for row, stack in enumerate(values):
            stacks[row, : len(stack)] = torch.tensor(stack)  # stored features are read-only
        mask = torch.arange(stacks.shape[1]).unsqueeze(0) < windows.unsqueeze(1)
        return {"input_values": stacks, "window_mask": mask, **batch}

    def _indices(self, examples: Sequence[Mapping[str, Any]]) -> torch.Tensor:
        return torch.tensor([self._index(example["genre"]) for example in examples])

    def _targets(self, examples: Sequence[Mapping[str, Any]]) -> torch.Tensor:
        targets = torch.zeros(len(examples), len(self.label2id))
        for row, example in enumerate(examples):
            if example.get("genres") is None:
                raise DataError(
                    "the data have no genres (a list for each track), and the model names several of them: give the "
                    "tracks a column genres, or train without problem_type multi_label_classification"
                )
            targets[row, [self._index(genre) for genre in example["genres"]]] = 1
        return targets

    def _index(self, genre: str | int) -> int:
        """Return the index of a genre; in a `ClassLabel` column it is one already."""
        return self.label2id[genre] if isinstance(genre, str) else int(genre)
