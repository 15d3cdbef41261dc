"""Plots of how a model that was pre-trained by restoring spectrograms restores a song: `hfmgc restore`."""

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
    """Plot evenly spaced windows of a song: the original, the model's input and the restored window.

    Args:
        checkpoint: A pre-trained model that restores spectrograms, such as Deformer or its prior autoencoder.
        song: Audio file.
        output: PNG file to write; by default `SONG.restored.png` in the current folder.
        seed: Seed of the noise.

    Returns:
        The result as plain values, and as text.

    Raises:
        CheckpointError: If the checkpoint cannot be loaded.
        ConfigError: If the model does not restore spectrograms.
        AudioError: If the song cannot be read.
        SaveError: If the plot cannot be written.
    """
    model, extractor = load_checkpoint(checkpoint, auto_class=AutoModelForPreTraining)
    waveform = load_audio(song, extractor.sampling_rate)
    windows = extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt")["input_values"][0]
    indices = torch.linspace(0, len(windows) - 1, min(DRAWN_WINDOWS, len(windows))).round().long()
    result = restore_windows(model, windows[indices], seed)
    if result is None:
        raise ConfigError(
            f"checkpoint {checkpoint!r}: {type(model).__name__} does not restore spectrograms: give a Deformer or prior "
            "autoencoder"
        )
    windows, inputs, restored = result
    output = output or Path(f"{Path(song).stem}.restored.png")
    with saving_to(output.parent):
        plot_restored(
            windows, inputs, restored, output, title=f"{Path(song).name}, restored by {type(model).__name__}"
        )
    before, after = (float((spectra - windows).square().mean()) for spectra in (inputs, restored))
    result = {"song": Path(song).name, "picture": str(output), "windows": len(windows)}
    text = f"{output}: mean squared error of {len(windows)} windows: {before:.4f} in the input, {after:.4f} restored"
    return {**result, "input_error": before, "restored_error": after}, text


@torch.no_grad()
def restore_windows(model: Any, windows: torch.Tensor, seed: int) -> tuple[torch.Tensor, ...] | None:
    """Return the windows, the model's input and the restored windows [windows, frames, bins].

    Return None if the model restores nothing.
    """
    training = model.training
    model.eval()
    result = model.restore(windows, seeds=torch.arange(len(windows)) + seed)
    model.train(training)
    return None if result is None else (windows, *(spectra.float().cpu() for spectra in result))
