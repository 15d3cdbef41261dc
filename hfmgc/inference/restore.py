"""`hfmgc restore`: a song as a model that was pre-trained by restoring spectrograms restores it."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForPreTraining

from ..data.audio import load_audio
from ..errors import ConfigError, saving_to
from ..evaluation.checkpoints import load_checkpoint
from ..evaluation.plots import plot_restored


DRAWN_WINDOWS = 4


def restore_song(
    checkpoint: str, song: str, output: Path | None = None, *, seed: int = 0
) -> tuple[dict[str, Any], str]:
    """Write a picture of evenly spaced windows of a song: the original, the model's input and the restored window.

    Args:
        checkpoint: A model pre-trained by restoring, such as Deformer or its prior autoencoder.
        song: Audio file.
        output: The PNG; by default `SONG.restored.png` in the current folder.
        seed: Of the noise.

    Returns:
        The result as plain values and as text.

    Raises:
        CheckpointError: If the checkpoint cannot be loaded.
        ConfigError: If it does not restore spectrograms.
        AudioError: If the song cannot be read.
        SaveError: If the picture cannot be written.
    """
    model, extractor = load_checkpoint(checkpoint, auto_class=AutoModelForPreTraining)
    waveform = load_audio(song, extractor.sampling_rate)
    windows = extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt")["input_values"][0]
    chosen = torch.linspace(0, len(windows) - 1, min(DRAWN_WINDOWS, len(windows))).round().long()
    found = restored_windows(model, windows[chosen], seed)
    if found is None:
        raise ConfigError(f"checkpoint {checkpoint!r}: {type(model).__name__} does not restore spectrograms")
    windows, seen, restored = found
    output = output or Path(f"{Path(song).stem}.restored.png")
    with saving_to(output.parent):
        plot_restored(windows, seen, restored, output, title=f"{Path(song).name}, restored by {type(model).__name__}")
    before, after = (float((one - windows).square().mean()) for one in (seen, restored))
    result = {"song": Path(song).name, "picture": str(output), "windows": len(windows)}
    text = f"{output}: mean squared error of {len(windows)} windows: {before:.4f} in the input, {after:.4f} restored"
    return {**result, "input_error": before, "restored_error": after}, text


@torch.no_grad()
def restored_windows(model: Any, windows: torch.Tensor, seed: int) -> tuple[torch.Tensor, ...] | None:
    """Return windows [windows, frames, bins], the model's input and the restored windows; None if it restores none."""
    training = model.training
    model.eval()
    found = model.restore(windows, seeds=torch.arange(len(windows)) + seed)
    model.train(training)
    return None if found is None else (windows, *(one.float().cpu() for one in found))
