"""Config of LeNet-5 for spectrograms."""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers.utils.type_validators import interval

from .config_fields import rate
from .configuration_windowed import WindowedConfig


# Frames or bins that two 5x5 convolutions and two 2x2 poolings reduce to one.
SMALLEST_SIDE = 16


@strict
class LeNetConfig(WindowedConfig):
    r"""Config of [`LeNetForAudioClassification`], the first baseline of the Divide and Conquer paper (section III-B).

    The paper reports neither sizes nor an accuracy for it. The layers have the sizes of LeNet-5 (LeCun et al., 1998).

    Args:
        num_bins (`int`, *optional*, defaults to 128): Mel bins of a window (paper, section II-B).
        activation (`str`, *optional*, defaults to `"tanh"`):
            `"tanh"` (LeCun et al., without their scale factors) or `"relu"` (ours).
        subsampling (`str`, *optional*, defaults to `"average"`):
            2x2 pooling: `"average"` (LeCun et al., without their trainable coefficients) or `"max"` (ours).
        dropout (`float`, *optional*, defaults to 0.0): Dropout rate before the classifier (ours; LeNet-5 has none).
        kwargs: See [`WindowedConfig`].
    """

    model_type = "hfmgc-lenet"

    num_bins: int = interval(min=SMALLEST_SIDE)(default=128)
    activation: Literal["tanh", "relu"] = "tanh"
    subsampling: Literal["average", "max"] = "average"
    dropout: float | int = rate(default=0.0)
