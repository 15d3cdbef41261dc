"""Config fields of architectures that run a transformers backbone on spectrograms."""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from .config_fields import check_sizes
from .configuration_windowed import WindowedConfig


# Fields that transformers' own configs leave unchecked.
_SIZES = (
    "embed_dim", "embedding_size", "depths", "num_heads", "window_size", "hidden_size", "hidden_sizes",
    "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size", "frequency_stride",
    "time_stride", "max_length", "num_mel_bins",
)  # fmt: skip


@strict
class BackboneConfig(WindowedConfig):
    r"""Base class of the configs whose backbone is a transformers model for spectrograms.

    A subclass sets `sub_configs` to the config class of the backbone, and `backbone_defaults` to the fields that
    differ from that class's defaults.

    Args:
        backbone_config (`PreTrainedConfig` or `dict`, *optional*):
            The backbone. A dict overrides single fields of the default.
        kwargs: See [`WindowedConfig`].
    """

    backbone_defaults: ClassVar[dict[str, Any]] = {}

    backbone_config: PreTrainedConfig | dict | None = None

    def __post_init__(self, **kwargs):
        backbone_class = self.sub_configs["backbone_config"]
        backbone = self.backbone_config
        if not isinstance(backbone, PreTrainedConfig):
            self.backbone_config = backbone_class(**{**self.backbone_defaults, **(backbone or {})})
        elif not isinstance(backbone, backbone_class):
            raise ValueError(
                f"backbone_config must be a {backbone_class.__name__} or a dict, not a {type(backbone).__name__}"
            )
        super().__post_init__(**kwargs)

    def validate_backbone(self) -> None:
        """Raise a ValueError naming the first field of `backbone_config` from which no model can be built."""
        backbone = self.backbone_config
        check_sizes(
            **{f"backbone_config.{name}": getattr(backbone, name) for name in _SIZES if hasattr(backbone, name)}
        )
        channels = getattr(backbone, "num_channels", 1)
        if channels != 1:
            raise ValueError(f"backbone_config.num_channels must be 1, because a spectrogram has one, not {channels}")
        activation = getattr(backbone, "hidden_act", "relu")
        if activation not in ACT2FN:
            raise ValueError(f"backbone_config.hidden_act: transformers has no activation {activation!r}")
        heads = getattr(backbone, "num_attention_heads", None)
        if isinstance(heads, int) and backbone.hidden_size % heads:
            raise ValueError(
                f"backbone_config.hidden_size {backbone.hidden_size} is not divisible by num_attention_heads {heads}"
            )
