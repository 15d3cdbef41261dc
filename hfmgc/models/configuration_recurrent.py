"""Config of the recurrent baselines: LSTM, GRU, and both ways of each."""

from .config_checks import check_choice, check_flags, check_rates, check_sizes
from .configuration_windowed import WindowedConfig


CELLS = ("lstm", "gru")
POOLINGS = ("mean", "last")


class RecurrentConfig(WindowedConfig):
    r"""Config of [`RecurrentForAudioClassification`], the LSTM and Bi-LSTM of LGNet's Table 1 and their kin with GRUs.

    LGNet names them and gives no sizes: the defaults are ours.

    Args:
        num_bins (`int`, *optional*, defaults to 128): Bins of a frame (LGNet, section 4.1: 128 mels).
        cell (`str`, *optional*, defaults to `"lstm"`): `"lstm"` (LGNet, Table 1) or `"gru"` (ours).
        bidirectional (`bool`, *optional*, defaults to `False`): Also backwards in time: Bi-LSTM (LGNet, Table 1).
        num_layers (`int`, *optional*, defaults to 2): One upon the other (ours).
        hidden_size (`int`, *optional*, defaults to 128): Of a layer, for each direction (ours).
        dropout (`float`, *optional*, defaults to 0.2): Between layers and before the classifier (ours).
        pooling (`str`, *optional*, defaults to `"mean"`):
            What the classifier hears: the `"mean"` over time, or each direction's `"last"` state (ours).
        input_normalization (`bool`, *optional*, defaults to `True`):
            Batch norm of each bin at the input, so that decibels do not drive the gates into saturation (ours).
        kwargs: See [`WindowedConfig`].

    Raises:
        ValueError: If a field is impossible, naming it.

    Example:

    ```python
    >>> from hfmgc.models.configuration_recurrent import RecurrentConfig
    >>> from hfmgc.models.modeling_recurrent import RecurrentForAudioClassification

    >>> RecurrentForAudioClassification(RecurrentConfig(bidirectional=True, num_labels=10)).num_parameters()
    662282
    ```
    """

    model_type = "hfmgc-recurrent"

    def __init__(
        self,
        num_bins: int = 128,
        cell: str = "lstm",
        bidirectional: bool = False,
        num_layers: int = 2,
        hidden_size: int = 128,
        dropout: float = 0.2,
        pooling: str = "mean",
        input_normalization: bool = True,
        **kwargs,
    ):
        self.num_bins = num_bins
        self.cell = cell
        self.bidirectional = bidirectional
        self.num_layers = num_layers
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.pooling = pooling
        self.input_normalization = input_normalization
        super().__init__(**kwargs)

    def validate(self) -> None:
        """Raise a ValueError that names the field from which no model can be built."""
        super().validate()
        check_sizes(num_bins=self.num_bins, num_layers=self.num_layers, hidden_size=self.hidden_size)
        check_flags(bidirectional=self.bidirectional, input_normalization=self.input_normalization)
        check_choice("cell", self.cell, CELLS)
        check_choice("pooling", self.pooling, POOLINGS)
        check_rates(dropout=self.dropout)


# The code travels with every checkpoint, so that it loads where hfmgc is not installed.
RecurrentConfig.register_for_auto_class()
