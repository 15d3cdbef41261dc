"""Convolutional recurrent network (CRNN) of the Divide and Conquer paper: convolutions, then GRUs over time."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from transformers import initialization as init

from .configuration_crnn import DivideAndConquerCRNNConfig
from .modeling_windowed import (
    WindowedForAudioClassification,
    WindowedModel,
    WindowedPreTrainedModel,
    WindowOutput,
    register_auto_classes,
)


class DivideAndConquerCRNNBlock(nn.Module):
    """Convolution -> max-pool -> batch norm -> dropout. As in the authors' code, there is no activation."""

    def __init__(self, config: DivideAndConquerCRNNConfig, in_channels: int, out_channels: int, pool: list[int]):
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel_size=3)
        self.pool = nn.MaxPool2d(tuple(pool))
        self.norm = nn.BatchNorm2d(out_channels, eps=config.batch_norm_epsilon, momentum=config.batch_norm_momentum)
        self.dropout = nn.Dropout(config.convolution_dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [windows, in channels, time, mel] to [windows, out channels, (time - 2) // pool, (mel - 2) // pool]."""
        return self.dropout(self.norm(self.pool(self.convolution(hidden))))


class DivideAndConquerCRNNPreTrainedModel(WindowedPreTrainedModel):
    """Base class of the model and the classifier, with Keras' default initial weights, which the authors' code uses.

    They are orthogonal for recurrent kernels, Glorot uniform for all others, and zero for biases.
    """

    config_class = DivideAndConquerCRNNConfig

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        for name, parameter in module.named_parameters(recurse=False):
            if name.startswith("weight_hh"):
                init.orthogonal_(parameter)  # all gates as one matrix
            elif parameter.ndim > 1:
                init.xavier_uniform_(parameter)


class DivideAndConquerCRNNModel(DivideAndConquerCRNNPreTrainedModel, WindowedModel):
    """Convolution blocks -> last state of the GRUs -> linear layer (Figure 1)."""

    _can_record_outputs = {"hidden_states": [DivideAndConquerCRNNBlock, nn.GRU]}

    def __init__(self, config: DivideAndConquerCRNNConfig):
        super().__init__(config)
        channels = pairwise([1, *config.channels])
        self.blocks = nn.ModuleList(
            DivideAndConquerCRNNBlock(config, *pair, pool) for pair, pool in zip(channels, config.pools, strict=True)
        )
        bins = config.num_bins
        for _, mel in config.pools:
            bins = (bins - 2) // mel
        features = config.channels[-1] * bins
        # One module for each GRU, because their sizes may differ. Like Keras' (reset_after=True), they have two biases
        # per gate.
        self.grus = nn.ModuleList(
            nn.GRU(*sizes, batch_first=True) for sizes in pairwise([features, *config.gru_hidden_sizes])
        )
        self.dense = nn.Linear(config.gru_hidden_sizes[-1], config.dense_size)
        self.embedding_size = config.dense_size
        # A block needs time * n + 2 frames to return n.
        for time, _ in reversed(config.pools):
            self.least_frames = self.least_frames * time + 2
        self.post_init()

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Embed log-mel spectrograms `input_values` [windows, frames, bins] as [windows, dense_size]."""
        hidden = input_values.unsqueeze(1)
        for block in self.blocks:
            hidden = block(hidden)
        hidden = hidden.transpose(1, 2).flatten(2)
        for gru in self.grus:
            hidden, _ = gru(hidden)
        return WindowOutput(embeddings=self.dense(hidden[:, -1]))


class DivideAndConquerCRNNForAudioClassification(DivideAndConquerCRNNPreTrainedModel, WindowedForAudioClassification):
    """The CRNN with dropout and a linear classifier."""

    def __init__(self, config: DivideAndConquerCRNNConfig):
        super().__init__(config, DivideAndConquerCRNNModel(config), dropout=config.dense_dropout)

    def training_loss(self, loss: Tensor) -> Tensor:
        """Add the L2 penalty on the kernels of the convolutions and the dense layer."""
        if not self.config.l2:  # skipped, because weights that are sharded between processes cannot be summed here
            return loss
        kernels = [block.convolution.weight for block in self.model.blocks] + [self.model.dense.weight]
        return loss + self.config.l2 * sum(kernel.float().square().sum() for kernel in kernels)


register_auto_classes(
    AutoModel=DivideAndConquerCRNNModel, AutoModelForAudioClassification=DivideAndConquerCRNNForAudioClassification
)
