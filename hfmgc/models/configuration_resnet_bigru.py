"""Config of ResNet-BiGRU, a baseline of the Deformer paper."""

from transformers import ResNetConfig

from .config_checks import check_rates, check_sizes
from .configuration_windowed import WindowedConfig
from .resnet_backbone import check_resnet, resnet_config


class ResNetBiGRUConfig(WindowedConfig):
    r"""Config of [`ResNetBiGRUForAudioClassification`].

    Args:
        backbone_config (`ResNetConfig` or `dict`, *optional*):
            The convolutional body; ResNet-18 over one channel by default (Deformer paper, section 4.1: "ResNet18 ...
            4 convolutional blocks"). A dict states only what differs from that.
        gru_hidden_size (`int`, *optional*, defaults to 128):
            Width of the GRU in each direction (ours; the paper names no size).
        num_gru_layers (`int`, *optional*, defaults to 1):
            Bidirectional GRU layers (Deformer paper, section 4.1: "a GRU layer").
        dropout (`float`, *optional*, defaults to 0.0):
            Before the linear layer (ours; the paper names none).
        num_bins (`int`, *optional*):
            Bins that a window must have (ours); None: any number that the ResNet can take.
        kwargs: See [`WindowedConfig`] (`voting`, `label_smoothing`) and `PreTrainedConfig` (`id2label`, ...).

    Raises:
        ValueError: If a field is impossible, naming it.

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

    def __init__(
        self,
        backbone_config: ResNetConfig | dict | None = None,
        gru_hidden_size: int = 128,
        num_gru_layers: int = 1,
        dropout: float = 0.0,
        num_bins: int | None = None,
        **kwargs,
    ):
        self.backbone_config = resnet_config(backbone_config)
        self.gru_hidden_size = gru_hidden_size
        self.num_gru_layers = num_gru_layers
        self.dropout = dropout
        self.num_bins = num_bins
        super().__init__(**kwargs)

    def validate(self) -> None:
        """Raise a ValueError that names the field from which no model can be built."""
        super().validate()
        check_resnet(self.backbone_config, self.num_bins)
        check_sizes(gru_hidden_size=self.gru_hidden_size, num_gru_layers=self.num_gru_layers)
        check_rates(dropout=self.dropout)


# The code travels with every checkpoint, so that it loads where hfmgc is not installed.
ResNetBiGRUConfig.register_for_auto_class()
