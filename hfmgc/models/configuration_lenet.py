"""Config of LeNet-5 for spectrograms."""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers.utils.type_validators import interval

from .config_fields import rate
from .configuration_windowed import WindowedConfig


# Two convolutions of 5x5 and two poolings of 2x2 reduce this many frames or bins to one.
SMALLEST_SIDE = 16


@strict
class LeNetConfig(WindowedConfig):
    r"""Config of [`LeNetForAudioClassification`], the first baseline of the Divide and Conquer paper (section III-B).

    The paper gives neither sizes nor a figure for it; the sizes of the layers are LeNet-5's own (LeCun et al., 1998).

    Args:
        num_bins (`int`, *optional*, defaults to 128): Mel bins (paper, section II-B).
        activation (`str`, *optional*, defaults to `"tanh"`): `"tanh"` (LeCun et al., without its scale) or `"relu"` (ours).
        subsampling (`str`, *optional*, defaults to `"average"`):
            `"average"` (LeCun et al., without its trainable factors) or `"max"` (ours) of 2x2.
        dropout (`float`, *optional*, defaults to 0.0): Before the classifier (ours; LeNet-5 has none).
        kwargs: See [`WindowedConfig`].
    """

    model_type = "hfmgc-lenet"

    num_bins: int = interval(min=SMALLEST_SIDE)(default=128)
    activation: Literal["tanh", "relu"] = "tanh"
    subsampling: Literal["average", "max"] = "average"
    dropout: float | int = rate(default=0.0)
