"""Config of the autoencoder whose decoder restores patches in Deformer's pre-training."""

from huggingface_hub.dataclasses import strict

from .config_fields import size, sizes
from .configuration_windowed import WindowedConfig


@strict
class PriorAutoencoderConfig(WindowedConfig):
    r"""Config of [`PriorAutoencoder`].

    Args:
        patch_size (`int`, *optional*, defaults to 16):
            Height and width of a patch in bins and frames (Deformer paper, Table 2).
        hidden_sizes (`list[int]`, *optional*, defaults to `[32, 64, 128]`):
            Channels of the encoder's 3x3 convolutions. The decoder has the same channels in reverse (Table 2).
        patches_per_window (`int`, *optional*, defaults to 1):
            Number of random patches that a training step takes from each window (ours). The paper's batch is 64
            patches.
        kwargs: See [`WindowedConfig`].
    """

    model_type = "hfmgc-prior-autoencoder"

    patch_size: int = size(default=16)
    hidden_sizes: list[int] | tuple[int, ...] = sizes(default=(32, 64, 128))
    patches_per_window: int = size(default=1)

    @property
    def latent_size(self) -> int:
        """Size of an encoded patch: 512 by default, because three pools reduce 16 x 16 to 2 x 2 x 128 values."""
        return self.hidden_sizes[-1] * (self.patch_size // 2 ** len(self.hidden_sizes)) ** 2

    def validate_patches(self) -> None:
        """Raise a ValueError unless every pool can halve the patch."""
        factor = 2 ** len(self.hidden_sizes)
        if self.patch_size % factor:
            raise ValueError(
                f"patch_size must be a multiple of {factor}, because each of hidden_sizes halves it, not {self.patch_size}"
            )
