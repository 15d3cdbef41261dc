"""Deformer (Wang, Li and Sung, 2023): transformers' `ViTModel` on spectrograms, pre-trained by denoising patches."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ViTModel
from transformers.utils import can_return_tuple

from .configuration_deformer import DeformerConfig
from .modeling_pretraining import PreTrainingModel, PreTrainingOutput, draw_per_example
from .modeling_prior_autoencoder import PriorAutoencoder
from .modeling_windowed import (
    AttentionPreTrainedModel,
    WindowedForAudioClassification,
    WindowedModel,
    WindowOutput,
    register_auto_classes,
)
from .spectrogram_patches import from_patches, to_patches


class DeformerPreTrainedModel(AttentionPreTrainedModel):
    """Base class of the model, the classifier and the pre-training model."""

    config_class = DeformerConfig
    _no_split_modules = ("ViTEmbeddings", "ViTLayer")


class DeformerModel(DeformerPreTrainedModel, WindowedModel):
    """A vision transformer over the patches of a window; the embedding is the final state of the cls token."""

    # Pre-training checkpoints also hold the weights of the objective.
    _keys_to_ignore_on_load_unexpected = (*WindowedModel._keys_to_ignore_on_load_unexpected, r"^(prior|projection)\.")

    def __init__(self, config: DeformerConfig):
        super().__init__(config)
        self.backbone = ViTModel(config.backbone_config, add_pooling_layer=False)
        self.embedding_size = config.backbone_config.hidden_size
        self.post_init()

    @property
    def num_bins(self) -> int:
        """Bins of a window."""
        return self.config.window_shape[0]

    def check_window(self, frames: int, bins: int) -> None:
        """Also check the number of frames, which the position embeddings fix."""
        super().check_window(frames, bins)
        if frames != self.config.window_shape[1]:
            raise ValueError(
                f"expected {self.config.window_shape[1]} frames (backbone_config.image_size), got {frames}"
            )

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Embed normalised spectrograms `input_values` [windows, frames, bins] as [windows, hidden]."""
        output = self.backbone(as_images(input_values), **kwargs)
        return WindowOutput(
            embeddings=output.last_hidden_state[:, 0],
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )

    def patch_states(self, input_values: Tensor) -> Tensor:
        """Return the final states of the patches [windows, patches, hidden], without that of the cls token."""
        return self.backbone(as_images(input_values)).last_hidden_state[:, 1:]


def as_images(spectrograms: Tensor) -> Tensor:
    """Return spectrograms [windows, frames, bins] as images [windows, 1, bins, frames]."""
    return spectrograms.transpose(1, 2).unsqueeze(1)


class DeformerForAudioClassification(DeformerPreTrainedModel, WindowedForAudioClassification):
    """Deformer with a linear classifier on the cls token (section 3.4)."""

    def __init__(self, config: DeformerConfig):
        super().__init__(config, DeformerModel(config))


class DeformerForPreTraining(DeformerPreTrainedModel, PreTrainingModel):
    """Deformer that restores patches with added noise (section 3.3).

    The frozen decoder of the prior autoencoder restores each patch from its final state. A linear layer maps the state
    to the decoder's latent size, because the two sizes differ (ours).
    """

    pretrained_parts = {"prior": "hfmgc-prior-autoencoder"}
    frozen_parts = ("prior",)
    unit_range = True

    def __init__(self, config: DeformerConfig):
        super().__init__(config)
        self.model = DeformerModel(config)
        self.projection = nn.Linear(self.model.embedding_size, config.prior_config.latent_size)
        self.prior = PriorAutoencoder(config.prior_config)
        self.post_init()

    @can_return_tuple
    def forward(self, input_values: Tensor, seeds: Tensor | None = None, **kwargs) -> PreTrainingOutput | tuple:
        """Return the mean squared error of the restored patches of spectrograms [examples, frames, bins]."""
        self.check_window(*input_values.shape[1:])
        patches, is_noisy, noisy = self._add_noise(input_values, seeds)
        states = self.model.patch_states(noisy)
        restored = self.prior.decode(self.projection(states[is_noisy]))
        return PreTrainingOutput(loss=F.mse_loss(restored, patches[is_noisy].to(restored.dtype)))

    @torch.no_grad()
    def restore(self, input_values: Tensor, seeds: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the spectrograms with noise on some patches, and with these patches restored."""
        patches, is_noisy, noisy = self._add_noise(input_values, seeds)
        restored = self.prior.decode(self.projection(self.model.patch_states(noisy)))
        restored = torch.where(is_noisy[..., None, None], restored, patches)
        return noisy, from_patches(restored, *input_values.shape[1:])

    def _add_noise(self, input_values: Tensor, seeds: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Add normal noise to randomly chosen patches, the same number of them in each example (ours).

        Returns:
            The original patches [examples, patches, size, size]; True for the chosen ones [examples, patches]; and the
            noisy spectrograms [examples, frames, bins].
        """
        patches = to_patches(input_values, self.config.backbone_config.patch_size)
        count, *size = patches.shape[1:]
        num_noisy = max(1, round(self.config.noise_ratio * count))

        def draw(generator: torch.Generator | None) -> Tensor:
            noise = torch.zeros(count, *size)
            chosen = torch.randperm(count, generator=generator)[:num_noisy]
            noise[chosen] = torch.randn(num_noisy, *size, generator=generator)
            return noise

        noise = draw_per_example(draw, len(patches), seeds).to(patches.device)
        is_noisy = noise.flatten(2).any(dim=-1)
        return patches, is_noisy, from_patches(patches + noise.to(patches.dtype), *input_values.shape[1:])


register_auto_classes(
    AutoModel=DeformerModel,
    AutoModelForAudioClassification=DeformerForAudioClassification,
    AutoModelForPreTraining=DeformerForPreTraining,
)
