"""Patches of spectrograms, from left to right (time) and then from the lowest to the highest bins."""

from torch import Tensor


def to_patches(spectrograms: Tensor, size: int) -> Tensor:
    """Cut spectrograms [examples, frames, bins] into patches [examples, patches, size, size] of (bins, frames)."""
    examples, frames, bins = spectrograms.shape
    grid = spectrograms.transpose(1, 2).reshape(examples, bins // size, size, frames // size, size)
    return grid.transpose(2, 3).flatten(1, 2)


def from_patches(patches: Tensor, frames: int, bins: int) -> Tensor:
    """Assemble patches [examples, patches, size, size] into spectrograms [examples, frames, bins]."""
    size = patches.shape[-1]
    grid = patches.unflatten(1, (bins // size, frames // size)).transpose(2, 3)
    return grid.reshape(len(patches), bins, frames).transpose(1, 2)


def check_patches(frames: int, bins: int, size: int) -> None:
    """Raise a ValueError unless a window can be cut into whole patches."""
    if frames % size or bins % size:
        raise ValueError(f"patch_size {size} does not divide a window of {frames} frames and {bins} bins")
