"""Config of the fully convolutional network for time series, and of FCN-LSTM."""

from .config_checks import check_rates, check_size_lists, check_sizes
from .configuration_windowed import WindowedConfig


class FCNConfig(WindowedConfig):
    r"""Config of [`FCNForAudioClassification`], the FCN and FCN-LSTM of LGNet's Table 1.

    LGNet names them and gives no sizes: those of the convolutions are Wang et al.'s (2017), which Karim et al. (2018)
    take over for LSTM-FCN.

    Args:
        num_bins (`int`, *optional*, defaults to 128): Bins of a frame, the channels of the series (LGNet, section 4.1).
        channels (`list[int]`, *optional*, defaults to `[128, 256, 128]`): Of each convolution (Wang et al., section II-B).
        kernel_sizes (`list[int]`, *optional*, defaults to `[8, 5, 3]`): In frames (Wang et al., section II-B).
        recurrent_hidden_size (`int`, *optional*, defaults to 0):
            Of the LSTM beside the convolutions: 0 for FCN, without it; 128 for FCN-LSTM (ours, Karim et al. search 8 to 128).
        recurrent_dropout (`float`, *optional*, defaults to 0.8): Behind the LSTM (Karim et al., section III-A).
        kwargs: See [`WindowedConfig`].

    Raises:
        ValueError: If a field is impossible, naming it.

    Example:

    ```python
    >>> from hfmgc.models.configuration_fcn import FCNConfig
    >>> from hfmgc.models.modeling_fcn import FCNForAudioClassification

    >>> FCNForAudioClassification(FCNConfig(recurrent_hidden_size=128, num_labels=10)).num_parameters()
    529418
    ```
    """

    model_type = "hfmgc-fcn"

    def __init__(
        self,
        num_bins: int = 128,
        channels: list[int] | tuple[int, ...] = (128, 256, 128),
        kernel_sizes: list[int] | tuple[int, ...] = (8, 5, 3),
        recurrent_hidden_size: int = 0,
        recurrent_dropout: float = 0.8,
        **kwargs,
    ):
        self.num_bins = num_bins
        self.channels = channels
        self.kernel_sizes = kernel_sizes
        self.recurrent_hidden_size = recurrent_hidden_size
        self.recurrent_dropout = recurrent_dropout
        super().__init__(**kwargs)

    def validate(self) -> None:
        """Raise a ValueError that names the field from which no model can be built."""
        super().validate()
        check_sizes(num_bins=self.num_bins)
        check_size_lists(channels=self.channels, kernel_sizes=self.kernel_sizes)
        if len(self.kernel_sizes) != len(self.channels):
            raise ValueError(
                f"kernel_sizes must be one for each of the {len(self.channels)} channels, not {self.kernel_sizes}"
            )
        check_sizes(0, recurrent_hidden_size=self.recurrent_hidden_size)
        check_rates(recurrent_dropout=self.recurrent_dropout)


# The code travels with every checkpoint, so that it loads where hfmgc is not installed.
FCNConfig.register_for_auto_class()
