"""Config of MusiCNN."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .config_fields import rate, size, sizes
from .configuration_windowed import WindowedConfig


@strict
class MusiCNNConfig(WindowedConfig):
    r"""Config of [`MusiCNNForAudioClassification`], the musically motivated CNN of Pons and Serra (2019).

    The defaults are the sizes of the published checkpoints: 787,159 parameters with 50 labels.

    Args:
        num_bins (`int`, *optional*, defaults to 96): Mel bins of a window.
        timbral_channels (`int`, *optional*, defaults to 204): Filters in each timbral branch.
        timbral_heights (`list[int]`, *optional*, defaults to `[38, 67]`):
            Height in bins of the filters of each timbral branch: 0.4 and 0.7 of the bins in the published network.
        timbral_width (`int`, *optional*, defaults to 7): Width in frames of the timbral filters.
        temporal_channels (`int`, *optional*, defaults to 51): Filters in each temporal branch.
        temporal_widths (`list[int]`, *optional*, defaults to `[128, 64, 32]`):
            Width in frames of the filters of each temporal branch.
        midend_channels (`int`, *optional*, defaults to 64):
            Filters in each of the three mid-end convolutions over time.
        midend_width (`int`, *optional*, defaults to 7): Width in frames of the mid-end filters; an odd number.
        hidden_size (`int`, *optional*, defaults to 200): Width of the dense layer.
        dropout (`float`, *optional*, defaults to 0.5): Dropout rate before the dense layer and before the classifier.
        representation (`str`, *optional*, defaults to `"penultimate"`):
            Input of the classifier. `"penultimate"` is the dense layer after batch norm [hidden_size]. `"pooled"` is
            the maximum and the mean over time of all features [2 * (front-end channels + 3 * midend_channels)],
            without the dense layer.
        kwargs: See [`WindowedConfig`].
    """

    model_type = "hfmgc-musicnn"

    num_bins: int = size(default=96)
    timbral_channels: int = size(default=204)
    timbral_heights: list[int] | tuple[int, ...] = sizes(default=(38, 67))
    timbral_width: int = size(default=7)
    temporal_channels: int = size(default=51)
    temporal_widths: list[int] | tuple[int, ...] = sizes(default=(128, 64, 32))
    midend_channels: int = size(default=64)
    midend_width: int = size(default=7)
    hidden_size: int = size(default=200)
    dropout: float | int = rate(default=0.5)
    representation: Literal["penultimate", "pooled"] = "penultimate"

    def validate_filters(self) -> None:
        """Raise a ValueError unless the filters fit into a window and the mid-end keeps the number of frames."""
        if max(self.timbral_heights) > self.num_bins:
            raise ValueError(f"timbral_heights {self.timbral_heights} must not exceed num_bins {self.num_bins}")
        if self.midend_width % 2 == 0:
            raise ValueError(f"midend_width must be odd, not {self.midend_width}")
