"""Config of ResNet-BiGRU, a baseline of the Deformer paper."""

from huggingface_hub.dataclasses import strict
from transformers import ResNetConfig

from .config_fields import rate, size
from .configuration_windowed import WindowedConfig
from .resnet_backbone import check_resnet, resnet_config


@strict
class ResNetBiGRUConfig(WindowedConfig):
    r"""Config of [`ResNetBiGRUForAudioClassification`].

    Args:
        backbone_config (`ResNetConfig` or `dict`, *optional*):
            The convolutional body; ResNet-18 over one channel by default (Deformer paper, section 4.1: "ResNet18 ...
            4 convolutional blocks"). A dict overrides its fields.
        gru_hidden_size (`int`, *optional*, defaults to 128):
            Width of the GRU in each direction (ours; the paper names no size).
        num_gru_layers (`int`, *optional*, defaults to 1):
            Bidirectional GRU layers (Deformer paper, section 4.1: "a GRU layer").
        dropout (`float`, *optional*, defaults to 0.0):
            Before the linear layer (ours; the paper names none).
        num_bins (`int`, *optional*):
            Bins that a window must have (ours); None: any number that the ResNet can take.
        kwargs: See [`WindowedConfig`] (`voting`, `label_smoothing`) and `PreTrainedConfig` (`id2label`, ...).

    Example:

    ```python
    >>> from hfmgc.models.configuration_resnet_bigru import ResNetBiGRUConfig
    >>> from hfmgc.models.modeling_resnet_bigru import ResNetBiGRUForAudioClassification

    >>> model = ResNetBiGRUForAudioClassification(ResNetBiGRUConfig(num_labels=10))
    >>> model.classifier
    Linear(in_features=256, out_features=10, bias=True)
    ```
    """

    model_type = "hfmgc-resnet-bigru"
    sub_configs = {"backbone_config": ResNetConfig}  # noqa: RUF012 (transformers reads it as a plain class attribute)

    backbone_config: ResNetConfig | dict | None = None
    gru_hidden_size: int = size(default=128)
    num_gru_layers: int = size(default=1)
    dropout: float | int = rate(default=0.0)
    num_bins: int | None = None

    def __post_init__(self, **kwargs):
        self.backbone_config = resnet_config(self.backbone_config)
        super().__post_init__(**kwargs)

    def validate_backbone(self) -> None:
        """Raise a ValueError naming a field of `backbone_config`, or `num_bins`, that no model can be built with."""
        check_resnet(self.backbone_config, self.num_bins)


# Saved checkpoints include the code, so they load without hfmgc.
ResNetBiGRUConfig.register_for_auto_class()
