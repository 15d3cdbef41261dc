"""Config of the fully convolutional network for time series (FCN) and of FCN-LSTM."""

from huggingface_hub.dataclasses import strict

from .config_fields import count, rate, size, sizes
from .configuration_windowed import WindowedConfig


@strict
class FCNConfig(WindowedConfig):
    r"""Config of [`FCNForAudioClassification`], the baselines FCN and FCN-LSTM of the LGNet paper (Table 1).

    The LGNet paper gives no sizes. Those of the convolutions come from Wang et al. (2017), whom Karim et al. (2018)
    follow in their LSTM-FCN.

    Args:
        num_bins (`int`, *optional*, defaults to 128):
            Bins of a frame, which are the channels of the time series (LGNet paper, section 4.1).
        channels (`list[int]`, *optional*, defaults to `[128, 256, 128]`):
            Channels of each convolution (Wang et al., section II-B).
        kernel_sizes (`list[int]`, *optional*, defaults to `[8, 5, 3]`):
            Kernel size of each convolution in frames (Wang et al., section II-B).
        recurrent_hidden_size (`int`, *optional*, defaults to 0):
            Width of the LSTM that runs in parallel to the convolutions: 0 for FCN, 128 for FCN-LSTM (ours; Karim et
            al. search 8 to 128).
        recurrent_dropout (`float`, *optional*, defaults to 0.8):
            Dropout rate after the LSTM (Karim et al., section III-A).
        kwargs: See [`WindowedConfig`].
    """

    model_type = "hfmgc-fcn"

    num_bins: int = size(default=128)
    channels: list[int] | tuple[int, ...] = sizes(default=(128, 256, 128))
    kernel_sizes: list[int] | tuple[int, ...] = sizes(default=(8, 5, 3))
    recurrent_hidden_size: int = count(default=0)
    recurrent_dropout: float | int = rate(default=0.8)

    def validate_kernels(self) -> None:
        """Raise a ValueError unless each convolution has a kernel size."""
        if len(self.kernel_sizes) != len(self.channels):
            raise ValueError(
                f"kernel_sizes must have {len(self.channels)} entries, as channels does, not {len(self.kernel_sizes)}"
            )
