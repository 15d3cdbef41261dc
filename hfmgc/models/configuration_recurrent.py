"""Config of the recurrent baselines: LSTM and GRU, also bidirectional."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .config_fields import rate, size
from .configuration_windowed import WindowedConfig


@strict
class RecurrentConfig(WindowedConfig):
    r"""Config of [`RecurrentForAudioClassification`], the LSTM and Bi-LSTM of LGNet's Table 1, or GRUs.

    LGNet gives no sizes; the defaults are ours.

    Args:
        num_bins (`int`, *optional*, defaults to 128): Bins of a frame (LGNet, section 4.1: 128 mels).
        cell (`str`, *optional*, defaults to `"lstm"`): `"lstm"` (LGNet, Table 1) or `"gru"` (ours).
        bidirectional (`bool`, *optional*, defaults to `False`): Also backwards in time; Bi-LSTM (LGNet, Table 1).
        num_layers (`int`, *optional*, defaults to 2): Stacked layers (ours).
        hidden_size (`int`, *optional*, defaults to 128): Width of a layer in each direction (ours).
        dropout (`float`, *optional*, defaults to 0.2): Between layers and before the classifier (ours).
        pooling (`str`, *optional*, defaults to `"mean"`):
            Input of the classifier: the `"mean"` over time, or each direction's `"last"` state (ours).
        input_normalization (`bool`, *optional*, defaults to `True`):
            Batch norm of each bin at the input, so that decibels do not drive the gates into saturation (ours).
        kwargs: See [`WindowedConfig`].

    Raises:
        ValueError: If a field is impossible, naming it.
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
