"""Config fields of architectures with a ResNet on spectrograms."""

from huggingface_hub.dataclasses import strict
from transformers import ResNetConfig

from .config_fields import rate
from .configuration_backbone import BackboneConfig


@strict
class ResNetBackboneConfig(BackboneConfig):
    r"""Base class of the configs whose backbone is a ResNet.

    Args:
        backbone_config (`ResNetConfig` or `dict`, *optional*):
            The ResNet; by default ResNet-18 for one channel (He et al., 2016, Table 1).
        dropout (`float`, *optional*, defaults to 0.0):
            Dropout rate before the classifier (ours; the papers have none).
        num_bins (`int`, *optional*):
            Required number of bins of a window (ours). By default any number that the ResNet accepts.
        kwargs: See [`WindowedConfig`].
    """

    sub_configs = {"backbone_config": ResNetConfig}
    # ResNetConfig describes ResNet-50 for three channels.
    backbone_defaults = {
        "num_channels": 1,
        "embedding_size": 64,
        "hidden_sizes": [64, 128, 256, 512],
        "depths": [2, 2, 2, 2],
        "layer_type": "basic",
    }

    dropout: float | int = rate(default=0.0)
    num_bins: int | None = None

    @property
    def total_stride(self) -> int:
        """Number of frames (and of bins) for each step of the last stage; 32 for ResNet-18."""
        # The stem's convolution, its pool and every stage but the first halve both axes.
        backbone = self.backbone_config
        return 2 ** (1 + len(backbone.depths) + bool(backbone.downsample_in_first_stage))

    def validate_resnet(self) -> None:
        """Raise a ValueError unless the fields of the stages have the same length and `num_bins` is large enough."""
        sizes, depths = self.backbone_config.hidden_sizes, self.backbone_config.depths
        if len(sizes) != len(depths):
            raise ValueError(
                f"backbone_config.hidden_sizes and depths must have one entry for each stage, not {len(sizes)} and "
                f"{len(depths)}"
            )
        if self.num_bins is not None and self.num_bins < self.total_stride:
            raise ValueError(
                f"num_bins must be at least {self.total_stride}, the ResNet's total stride, not {self.num_bins}"
            )
