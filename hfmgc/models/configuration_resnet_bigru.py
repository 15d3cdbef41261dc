"""Config of ResNet-BiGRU, a baseline of the Deformer paper."""

from huggingface_hub.dataclasses import strict

from .config_fields import size
from .configuration_resnet import ResNetBackboneConfig


@strict
class ResNetBiGRUConfig(ResNetBackboneConfig):
    r"""Config of [`ResNetBiGRUForAudioClassification`], a baseline of the Deformer paper (section 4.1).

    Args:
        gru_hidden_size (`int`, *optional*, defaults to 128): Width of the GRU in each direction (ours).
        num_gru_layers (`int`, *optional*, defaults to 1):
            Number of bidirectional GRU layers (Deformer paper, section 4.1: "a GRU layer").
        kwargs: See [`ResNetBackboneConfig`].
    """

    model_type = "hfmgc-resnet-bigru"

    gru_hidden_size: int = size(default=128)
    num_gru_layers: int = size(default=1)
