"""Config of the autoencoder whose decoder restores Deformer's patches."""

from huggingface_hub.dataclasses import strict

from .config_fields import size, sizes
from .configuration_windowed import WindowedConfig


@strict
class PriorAutoencoderConfig(WindowedConfig):
    r"""Config of [`PriorAutoencoder`].

    Args:
        patch_size (`int`, *optional*, defaults to 16):
            Bins and frames of a patch (Deformer paper, Table 2).
        hidden_sizes (`list[int]`, *optional*, defaults to `[32, 64, 128]`):
            Channels of the encoder's 3x3 convolutions; those of the decoder are the same in reverse (Table 2).
        patches_per_window (`int`, *optional*, defaults to 1):
            Patches of each window in a training step, at random positions (ours). The paper's batch is 64 patches.
        kwargs: See [`WindowedConfig`] and `PreTrainedConfig`.
    """

    model_type = "hfmgc-prior-autoencoder"

    patch_size: int = size(default=16)
    hidden_sizes: list[int] | tuple[int, ...] = sizes(default=(32, 64, 128))
    patches_per_window: int = size(default=1)

    @property
    def latent_size(self) -> int:
        """Values of an encoded patch: the paper omits it; three 2x2 pools leave 2 x 2 x 128 of 16 x 16."""
        return self.hidden_sizes[-1] * (self.patch_size // 2 ** len(self.hidden_sizes)) ** 2

    def validate_patches(self) -> None:
        """Raise a ValueError unless every pool can halve the patch."""
        if self.patch_size % 2 ** len(self.hidden_sizes):
            raise ValueError(
                f"patch_size must be a multiple of {2 ** len(self.hidden_sizes)} (one pool for each of hidden_sizes), not "
                f"{self.patch_size}"
            )
