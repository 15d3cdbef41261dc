"""Config of LGNet: a ResNet with several experts, one of which classifies each window."""

from typing import Literal

from huggingface_hub.dataclasses import strict, validated_field
from transformers.utils.type_validators import positive_int

from .config_fields import count, size
from .configuration_resnet import ResNetBackboneConfig


@strict
class LGNetConfig(ResNetBackboneConfig):
    r"""Config of [`LGNetForAudioClassification`], the locally activated gated network.

    The default backbone is the paper's ResNet-18 (section 3.2).

    Args:
        num_experts (`int`, *optional*, defaults to 4):
            Number of expert MLPs: 2, 4, 8 or 16 in the paper (Tables 1 and 3). 0 builds the paper's plain ResNet-18
            with a linear classifier. 1 is refused, because there would be nothing to route.
        expert_hidden_size (`int`, *optional*, defaults to 512):
            Width of the single hidden layer of each expert, which is followed by a ReLU (ours).
        gate (`str`, *optional*, defaults to `"softmax"`):
            Function from routing scores to routing probabilities: `"softmax"`, `"sigmoid"` or `"linear"`, the score
            itself (paper, section 5.2 and Table 2). All three choose the same expert. The probability scales the
            expert's output (ours); otherwise the gates would not differ and the router would get no gradient.
        router_frozen_after_epochs (`int`, *optional*, defaults to 10):
            Number of epochs after which the router is frozen (paper, section 3.3; the number is ours). None: never.
        kwargs: See [`ResNetBackboneConfig`].
    """

    model_type = "hfmgc-lgnet"

    num_experts: int = count(default=4)
    expert_hidden_size: int = size(default=512)
    gate: Literal["softmax", "sigmoid", "linear"] = "softmax"
    router_frozen_after_epochs: int | None = validated_field(positive_int, default=10)

    def validate_experts(self) -> None:
        """Raise a ValueError for a single expert."""
        if self.num_experts == 1:
            raise ValueError("num_experts must be 0 (a plain ResNet) or at least 2, not 1")
