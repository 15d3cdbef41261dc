"""Config of LGNet: a ResNet whose prediction comes from the single best expert."""

from typing import Literal

from huggingface_hub.dataclasses import strict, validated_field
from transformers import ResNetConfig
from transformers.utils.type_validators import positive_int

from .config_fields import count, rate, size
from .configuration_windowed import WindowedConfig
from .resnet_backbone import check_resnet, resnet_config


@strict
class LGNetConfig(WindowedConfig):
    r"""Config of [`LGNetForAudioClassification`] (locally activated gated network).

    Args:
        backbone_config (`ResNetConfig` or `dict`, *optional*):
            The front-end network; ResNet-18 over one channel by default (paper, section 3.2). A dict overrides its
            fields.
        num_experts (`int`, *optional*, defaults to 4):
            MLPs to choose from: 2, 4, 8 or 16 in the paper (Tables 1 and 3). 0: the paper's plain ResNet-18 with a
            linear classifier; 1 is refused: there is nothing to route.
        expert_hidden_size (`int`, *optional*, defaults to 512):
            Width of an expert's single hidden layer, followed by a ReLU (ours; the paper names no size).
        gate (`str`, *optional*, defaults to `"softmax"`):
            Turns routing scores into routing probabilities: `"softmax"`, `"sigmoid"` or `"linear"` (the score itself;
            paper, section 5.2 and Table 2). All choose the same expert; its probability scales its output (ours:
            otherwise the gates could not differ, and the router would get no gradient).
        router_frozen_after_epochs (`int`, *optional*, defaults to 10):
            Epochs after which the router is frozen (paper, section 3.3; the number is ours). None: never.
        dropout (`float`, *optional*, defaults to 0.0):
            Before the classifier (ours; the paper has none).
        num_bins (`int`, *optional*):
            Bins that a window must have (ours); None: any number that the ResNet can take.
        kwargs: See [`WindowedConfig`] (`voting`, `label_smoothing`) and `PreTrainedConfig` (`id2label`, ...).

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

    backbone_config: ResNetConfig | dict | None = None
    num_experts: int = count(default=4)
    expert_hidden_size: int = size(default=512)
    gate: Literal["softmax", "sigmoid", "linear"] = "softmax"
    router_frozen_after_epochs: int | None = validated_field(positive_int, default=10)
    dropout: float | int = rate(default=0.0)
    num_bins: int | None = None

    def __post_init__(self, **kwargs):
        self.backbone_config = resnet_config(self.backbone_config)
        super().__post_init__(**kwargs)

    def validate_backbone(self) -> None:
        """Raise a ValueError naming a field of `backbone_config`, or `num_bins`, that no model can be built with."""
        check_resnet(self.backbone_config, self.num_bins)

    def validate_experts(self) -> None:
        """Raise a ValueError for a single expert."""
        if self.num_experts == 1:
            raise ValueError("num_experts must be 0 (plain ResNet) or at least 2, not 1")


# Saved checkpoints include the code, so they load without hfmgc.
LGNetConfig.register_for_auto_class()
