"""Square patches of spectrograms. Their order is row-major: all time steps of the lowest bins come first."""

from torch import Tensor


def to_patches(spectrograms: Tensor, size: int) -> Tensor:
    """Cut spectrograms [examples, frames, bins] into patches [examples, patches, size (bins), size (frames)]."""
    examples, frames, bins = spectrograms.shape
    grid = spectrograms.transpose(1, 2).reshape(examples, bins // size, size, frames // size, size)
    return grid.transpose(2, 3).flatten(1, 2)


def from_patches(patches: Tensor, frames: int, bins: int) -> Tensor:
    """Undo `to_patches`: assemble patches into spectrograms [examples, frames, bins]."""
    size = patches.shape[-1]
    grid = patches.unflatten(1, (bins // size, frames // size)).transpose(2, 3)
    return grid.reshape(len(patches), bins, frames).transpose(1, 2)


def check_patches(frames: int, bins: int, size: int) -> None:
    """Raise a ValueError unless whole patches cover a window."""
    if frames % size or bins % size:
        raise ValueError(f"patch_size {size} does not divide a window of {frames} frames and {bins} bins")
