"""Config of LGNet: a ResNet whose answer comes from the one best expert."""

from transformers import ResNetConfig

from .config_checks import check_choice, check_rates, check_sizes
from .configuration_windowed import WindowedConfig
from .resnet_backbone import check_resnet, resnet_config


GATES = ("softmax", "sigmoid", "linear")


class LGNetConfig(WindowedConfig):
    r"""Config of [`LGNetForAudioClassification`] (locally activated gated network).

    Args:
        backbone_config (`ResNetConfig` or `dict`, *optional*):
            The front-end network; ResNet-18 over one channel by default (paper, section 3.2). A dict states only what
            differs from that.
        num_experts (`int`, *optional*, defaults to 4):
            MLPs to choose from: 2, 4, 8 or 16 in the paper (Tables 1 and 3). 0: the paper's plain ResNet-18 with a
            linear classifier; 1 is refused, because there is nothing to route.
        expert_hidden_size (`int`, *optional*, defaults to 512):
            Width of an expert's one hidden layer, with ReLU behind it (ours; the paper names no size).
        gate (`str`, *optional*, defaults to `"softmax"`):
            What makes of routing scores the routing probabilities: `"softmax"`, `"sigmoid"` or `"linear"` (the score
            itself; paper, section 5.2 and Table 2). All choose the same expert; the chosen one's value scales its
            output (ours: otherwise the gates could not differ, and the router would get no gradient).
        router_frozen_after_epochs (`int`, *optional*, defaults to 10):
            Epochs after which the router is no longer trained (paper, section 3.3; the number is ours). None: never.
        dropout (`float`, *optional*, defaults to 0.0):
            Before the classifier (ours; the paper has none).
        num_bins (`int`, *optional*):
            Bins that a window must have (ours); None: any number that the ResNet can take.
        kwargs: See [`WindowedConfig`] (`voting`, `label_smoothing`) and `PreTrainedConfig` (`id2label`, ...).

    Raises:
        ValueError: If a field is impossible, naming it.

    Example:

    ```python
    >>> from hfmgc.models.configuration_lgnet import LGNetConfig
    >>> from hfmgc.models.modeling_lgnet import LGNetForAudioClassification

    >>> model = LGNetForAudioClassification(LGNetConfig(num_labels=10, num_experts=2))
    >>> sum(parameter.numel() for parameter in model.classifier.parameters())
    536598
    ```
    """

    model_type = "hfmgc-lgnet"
    sub_configs = {"backbone_config": ResNetConfig}  # noqa: RUF012 (transformers reads it as a plain class attribute)

    def __init__(
        self,
        backbone_config: ResNetConfig | dict | None = None,
        num_experts: int = 4,
        expert_hidden_size: int = 512,
        gate: str = "softmax",
        router_frozen_after_epochs: int | None = 10,
        dropout: float = 0.0,
        num_bins: int | None = None,
        **kwargs,
    ):
        self.backbone_config = resnet_config(backbone_config)
        self.num_experts = num_experts
        self.expert_hidden_size = expert_hidden_size
        self.gate = gate
        self.router_frozen_after_epochs = router_frozen_after_epochs
        self.dropout = dropout
        self.num_bins = num_bins
        super().__init__(**kwargs)

    def validate(self) -> None:
        """Raise a ValueError that names the field from which no model can be built."""
        super().validate()
        check_resnet(self.backbone_config, self.num_bins)
        check_sizes(0, num_experts=self.num_experts)
        if self.num_experts == 1:
            raise ValueError(f"num_experts must be 0 (plain ResNet) or at least 2, not {self.num_experts}")
        check_sizes(expert_hidden_size=self.expert_hidden_size)
        check_choice("gate", self.gate, GATES)
        if self.router_frozen_after_epochs is not None:
            check_sizes(0, router_frozen_after_epochs=self.router_frozen_after_epochs)
        check_rates(dropout=self.dropout)


# The code travels with every checkpoint, so that it loads where hfmgc is not installed.
LGNetConfig.register_for_auto_class()
