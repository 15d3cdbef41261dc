"""Config of MLP-Mixer for spectrograms."""

from huggingface_hub.dataclasses import strict

from .config_fields import rate, size
from .configuration_windowed import WindowedConfig
from .spectrogram_patches import check_patches


@strict
class MLPMixerConfig(WindowedConfig):
    r"""Config of [`MLPMixerForAudioClassification`] (Tolstikhin et al., 2021). All sizes are ours.

    Args:
        num_frames (`int`, *optional*, defaults to 432): Frames of a window.
        num_bins (`int`, *optional*, defaults to 128): Bins of a window.
        patch_size (`int`, *optional*, defaults to 16): Frames and bins of a patch.
        hidden_size (`int`, *optional*, defaults to 128): Channels of a patch, the paper's C (Table 1).
        tokens_mlp_size (`int`, *optional*, defaults to 64): Hidden size of the MLPs over patches, the paper's D_S.
        channels_mlp_size (`int`, *optional*, defaults to 512): Hidden size of the MLPs over channels, the paper's D_C.
        num_layers (`int`, *optional*, defaults to 2): Mixer layers.
        dropout (`float`, *optional*, defaults to 0.0): In the MLPs, as in the paper's appendix, and before the classifier.
        kwargs: See [`WindowedConfig`].
    """

    model_type = "hfmgc-mlp-mixer"

    num_frames: int = size(default=432)
    num_bins: int = size(default=128)
    patch_size: int = size(default=16)
    hidden_size: int = size(default=128)
    tokens_mlp_size: int = size(default=64)
    channels_mlp_size: int = size(default=512)
    num_layers: int = size(default=2)
    dropout: float | int = rate(default=0.0)

    def validate_patches(self) -> None:
        """Raise a ValueError unless patches cover a window."""
        check_patches(self.num_frames, self.num_bins, self.patch_size)
