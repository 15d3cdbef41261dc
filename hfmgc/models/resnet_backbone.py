"""ResNet-18 over spectrograms: the backbone config that several architectures share."""

from transformers import ResNetConfig
from transformers.activations import ACT2FN

from .config_fields import check_sizes


# ResNet-18 (He et al., 2016, Table 1) for images of one channel; transformers' default is ResNet-50 for three.
RESNET_18 = {
    "num_channels": 1,
    "embedding_size": 64,
    "hidden_sizes": [64, 128, 256, 512],
    "depths": [2, 2, 2, 2],
    "layer_type": "basic",
}


def resnet_config(backbone_config: ResNetConfig | dict | None) -> ResNetConfig:
    """Return a config unchanged, or ResNet-18 over one channel with these fields."""
    if isinstance(backbone_config, ResNetConfig):
        return backbone_config
    return ResNetConfig(**{**RESNET_18, **(backbone_config or {})})


def check_resnet(backbone_config: ResNetConfig, num_bins: int | None) -> None:
    """Raise a ValueError that names the field with which a ResNet cannot process spectrograms of `num_bins`."""
    if backbone_config.num_channels != 1:
        raise ValueError(
            f"backbone_config.num_channels must be 1 (a spectrogram is one), not {backbone_config.num_channels}"
        )
    if len(backbone_config.hidden_sizes) != len(backbone_config.depths):
        raise ValueError(
            f"backbone_config.hidden_sizes and depths must have one entry for each stage, not "
            f"{len(backbone_config.hidden_sizes)} and {len(backbone_config.depths)}"
        )
    sizes = ("embedding_size", "hidden_sizes", "depths")
    check_sizes(**{f"backbone_config.{name}": getattr(backbone_config, name) for name in sizes})
    if backbone_config.hidden_act not in ACT2FN:
        raise ValueError(
            f"backbone_config.hidden_act: transformers knows no activation {backbone_config.hidden_act!r}"
        )
    stride = total_stride(backbone_config)
    if num_bins is not None and num_bins < stride:
        raise ValueError(f"num_bins must be at least {stride} (the ResNet's total stride) or None, not {num_bins}")


def total_stride(backbone_config: ResNetConfig) -> int:
    """Return how many frames (and bins) become one step of the last stage; 32 for ResNet-18."""
    # The stem's convolution, its pool and every stage but the first halve the size.
    return 2 ** (1 + len(backbone_config.depths) + bool(backbone_config.downsample_in_first_stage))
