"""Config of the MLP-Mixer for spectrograms."""

from huggingface_hub.dataclasses import strict

from .config_fields import rate, size
from .configuration_windowed import WindowedConfig


@strict
class MLPMixerConfig(WindowedConfig):
    r"""Config of [`MLPMixerForAudioClassification`]; see [`WindowedConfig`] for the fields of all architectures.

    Args:
        num_frames (`int`, *optional*, defaults to 128): Frames of a window; token mixing fixes them.
        num_bins (`int`, *optional*, defaults to 128): Bins of a window.
        patch_frames (`int`, *optional*, defaults to 16): Frames of a patch, which covers all bins (ours).
        hidden_size (`int`, *optional*, defaults to 128): Channels of a patch.
        num_layers (`int`, *optional*, defaults to 2): Mixer layers.
        token_size (`int`, *optional*, defaults to 64): Hidden size of the MLP over patches.
        channel_size (`int`, *optional*, defaults to 512): Hidden size of the MLP over channels.
        dropout (`float`, *optional*, defaults to 0.1): Before the head.

    Example:

    >>> from hfmgc.models.configuration_mlp_mixer import MLPMixerConfig
    >>> MLPMixerConfig(num_labels=10).num_patches
    8
    """

    model_type = "hfmgc-mlp-mixer"

    num_frames: int = size(default=128)
    num_bins: int = size(default=128)
    patch_frames: int = size(default=16)
    hidden_size: int = size(default=128)
    num_layers: int = size(default=2)
    token_size: int = size(default=64)
    channel_size: int = size(default=512)
    dropout: float | int = rate(default=0.1)

    @property
    def num_patches(self) -> int:
        """Patches of a window."""
        return self.num_frames // self.patch_frames

    def validate_patches(self) -> None:
        """Raise a ValueError unless a window is a whole number of patches."""
        if self.num_frames % self.patch_frames:
            raise ValueError(
                f"num_frames ({self.num_frames}) must be a multiple of patch_frames ({self.patch_frames})"
            )


MLPMixerConfig.register_for_auto_class()
