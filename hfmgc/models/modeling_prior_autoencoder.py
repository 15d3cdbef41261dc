"""Autoencoder of patches; its decoder restores patches in Deformer's pre-training (Deformer paper, section 3.3)."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.utils import can_return_tuple

from .configuration_prior_autoencoder import PriorAutoencoderConfig
from .modeling_pretraining import PreTrainingModel, PreTrainingOutput, draw_per_example
from .modeling_windowed import register_auto_classes
from .spectrogram_patches import check_patches, from_patches, to_patches


class PriorAutoencoder(PreTrainingModel):
    """Convolutions with max-pooling compress a patch to a vector; convolutions with up-sampling restore it (Figure 4).

    Ours: a ReLU after each convolution, nearest-neighbour up-sampling, and a last convolution to one channel with a
    sigmoid, because the normalised values lie in [0, 1].
    """

    config_class = PriorAutoencoderConfig
    unit_range = True

    def __init__(self, config: PriorAutoencoderConfig):
        super().__init__(config)
        channels = [1, *config.hidden_sizes]
        self.encoder = nn.Sequential()
        for before, after in pairwise(channels):
            self.encoder.extend([nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)])
        channels = [config.hidden_sizes[-1], *reversed(config.hidden_sizes)]
        self.decoder = nn.Sequential()
        for before, after in pairwise(channels):
            self.decoder.extend([nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2)])
        self.decoder.extend([nn.Conv2d(channels[-1], 1, 3, padding=1), nn.Sigmoid()])
        self.post_init()

    def check_window(self, frames: int, bins: int) -> None:
        """Raise a ValueError unless whole patches cover a window."""
        check_patches(frames, bins, self.config.patch_size)

    def encode(self, patches: Tensor) -> Tensor:
        """Compress patches [..., size, size] to vectors [..., latent_size]."""
        latents = self.encoder(patches.reshape(-1, 1, *patches.shape[-2:]))
        return latents.reshape(*patches.shape[:-2], -1)

    def decode(self, latents: Tensor) -> Tensor:
        """Restore patches [..., size, size] from vectors [..., latent_size]."""
        side = self.config.patch_size // 2 ** len(self.config.hidden_sizes)
        patches = self.decoder(latents.reshape(-1, self.config.hidden_sizes[-1], side, side))
        return patches.reshape(*latents.shape[:-1], *patches.shape[-2:])

    @can_return_tuple
    def forward(self, input_values: Tensor, seeds: Tensor | None = None, **kwargs) -> PreTrainingOutput | tuple:
        """Return the mean squared error of restored patches of normalised spectrograms [examples, frames, bins].

        In training, or with `seeds`, these are `patches_per_window` random patches of each example; otherwise, all
        patches.
        """
        self.check_window(*input_values.shape[1:])
        patches = to_patches(input_values, self.config.patch_size)
        if self.training or seeds is not None:
            count, num_chosen = patches.shape[1], self.config.patches_per_window
            chosen = draw_per_example(
                lambda generator: torch.randperm(count, generator=generator)[:num_chosen], len(patches), seeds
            )
            patches = patches[torch.arange(len(patches))[:, None], chosen]
        return PreTrainingOutput(loss=F.mse_loss(self.decode(self.encode(patches)), patches))

    @torch.no_grad()
    def restore(self, input_values: Tensor, seeds: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the unchanged spectrograms, and what the decoder restores from all of their patches."""
        latents = self.encode(to_patches(input_values, self.config.patch_size))
        return input_values, from_patches(self.decode(latents), *input_values.shape[1:])


register_auto_classes(AutoModel=PriorAutoencoder, AutoModelForPreTraining=PriorAutoencoder)
