"""Config of the recurrent baselines: LSTM and GRU, in one or both directions."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .config_fields import rate, size
from .configuration_windowed import WindowedConfig


@strict
class RecurrentConfig(WindowedConfig):
    r"""Config of [`RecurrentForAudioClassification`]: the LGNet paper's baselines LSTM and Bi-LSTM (Table 1), or GRUs.

    The paper gives no sizes.

    Args:
        num_bins (`int`, *optional*, defaults to 128): Mel bins of a frame (LGNet paper, section 4.1).
        cell (`str`, *optional*, defaults to `"lstm"`): `"lstm"` (LGNet paper, Table 1) or `"gru"` (ours).
        bidirectional (`bool`, *optional*, defaults to `False`):
            Whether the layers also run backwards in time: Bi-LSTM (LGNet paper, Table 1).
        num_layers (`int`, *optional*, defaults to 2): Number of stacked layers (ours).
        hidden_size (`int`, *optional*, defaults to 128): Width of a layer in each direction (ours).
        dropout (`float`, *optional*, defaults to 0.2): Dropout rate between layers and before the classifier (ours).
        pooling (`str`, *optional*, defaults to `"mean"`):
            Input of the classifier: the `"mean"` of the states over time, or the `"last"` state of each direction
            (ours).
        input_normalization (`bool`, *optional*, defaults to `True`):
            Whether to apply batch norm to the bins of the input, which keeps decibels from saturating the gates
            (ours).
        kwargs: See [`WindowedConfig`].
    """

    model_type = "hfmgc-recurrent"

    num_bins: int = size(default=128)
    cell: Literal["lstm", "gru"] = "lstm"
    bidirectional: bool = False
    num_layers: int = size(default=2)
    hidden_size: int = size(default=128)
    dropout: float | int = rate(default=0.2)
    pooling: Literal["mean", "last"] = "mean"
    input_normalization: bool = True
