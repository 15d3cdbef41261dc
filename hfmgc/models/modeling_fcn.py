"""Fully convolutional network for time series (FCN; Wang et al., 2017) and FCN-LSTM (Karim et al., 2018)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from .configuration_fcn import FCNConfig
from .modeling_windowed import WindowedForAudioClassification, WindowedModel, WindowOutput, register_auto_classes


class FCNBlock(nn.Sequential):
    """Convolution over time -> batch norm -> ReLU, with as many output frames as input frames.

    An even kernel needs one more frame of padding at the end than at the start, as in TensorFlow.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int):
        super().__init__(
            nn.ConstantPad1d(((kernel_size - 1) // 2, kernel_size // 2), 0.0),
            nn.Conv1d(in_channels, out_channels, kernel_size),
            nn.BatchNorm1d(out_channels),
            nn.ReLU(),
        )


class FCNModel(WindowedModel):
    """Convolutions over time, with bins as channels -> mean over time; optionally, an LSTM in parallel.

    The last state of the LSTM, after dropout, is concatenated with the mean. Our LSTM reads the window frame by frame.
    Karim et al. swap the dimensions, so theirs reads the whole series as one step; that would fix the length of a
    window.
    """

    config_class = FCNConfig
    _can_record_outputs = {"hidden_states": [FCNBlock, nn.LSTM]}

    def __init__(self, config: FCNConfig):
        super().__init__(config)
        channels = pairwise([config.num_bins, *config.channels])
        self.blocks = nn.Sequential(
            *(FCNBlock(*pair, kernel_size) for pair, kernel_size in zip(channels, config.kernel_sizes, strict=True))
        )
        self.recurrence = None
        if config.recurrent_hidden_size:
            self.recurrence = nn.LSTM(config.num_bins, config.recurrent_hidden_size, batch_first=True)
            self.recurrent_dropout = nn.Dropout(config.recurrent_dropout)
        self.embedding_size = config.channels[-1] + config.recurrent_hidden_size
        self.post_init()

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Embed spectrograms `input_values` [windows, frames, bins] as [windows, channels + recurrent_hidden_size]."""
        pooled = self.blocks(input_values.transpose(1, 2)).mean(dim=-1)
        if self.recurrence is not None:
            states, _ = self.recurrence(input_values)
            pooled = torch.cat((pooled, self.recurrent_dropout(states[:, -1])), dim=-1)
        return WindowOutput(embeddings=pooled)


class FCNForAudioClassification(WindowedForAudioClassification):
    """FCN or FCN-LSTM with a linear classifier."""

    config_class = FCNConfig

    def __init__(self, config: FCNConfig):
        super().__init__(config, FCNModel(config))


register_auto_classes(AutoModel=FCNModel, AutoModelForAudioClassification=FCNForAudioClassification)
