"""TS-Resformer: a residual network with time-frequency and channel attention, in parallel to a transformer encoder."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2Attention, Wav2Vec2EncoderLayer

from .configuration_ts_resformer import TSResformerConfig
from .modeling_windowed import (
    AttentionPreTrainedModel,
    WindowedForAudioClassification,
    WindowedModel,
    WindowOutput,
    register_auto_classes,
)


# Dimensions of a feature map [windows, channels, bins, frames].
_FREQUENCY, _TIME = 2, 3


class PooledGate(nn.Module):
    """Weights a feature map by its means: mean -> 1x1 convolution -> ReLU -> 1x1 convolution -> sigmoid.

    With means over time, it is the paper's frequency attention; over frequency, its time attention (Figure 8); over
    both, its squeeze-and-excitation (Figure 9). Its name avoids "attention": transformers takes such classes in this
    file for attention layers, and would refuse `attn_implementation`.
    """

    def __init__(self, channels: int, hidden_channels: int, pooled_dims: tuple[int, ...]):
        super().__init__()
        self.pooled_dims = pooled_dims
        self.squeeze = nn.Conv2d(channels, hidden_channels, 1)
        self.excite = nn.Conv2d(hidden_channels, channels, 1)

    def weights(self, features: Tensor) -> Tensor:
        """Return weights in [0, 1] for features [windows, channels, bins, frames]; pooled dimensions have size 1."""
        pooled = features.mean(dim=self.pooled_dims, keepdim=True)
        return self.excite(F.relu(self.squeeze(pooled))).sigmoid()

    def forward(self, features: Tensor) -> Tensor:
        """Multiply features [windows, channels, bins, frames] by their weights."""
        return features * self.weights(features)


class PairedFilters(nn.Module):
    """Conv1 (Figure 7): frequency filters and time filters in parallel, each with attention to its axis (Figure 6).

    The batch norm, ReLU and max-pool are ours.
    """

    def __init__(self, config: TSResformerConfig):
        super().__init__()
        self.frequency = self._filters(config, (config.filter_height, 2), pooled_dim=_TIME)
        self.time = self._filters(config, (2, config.filter_width), pooled_dim=_FREQUENCY)

    @staticmethod
    def _filters(config: TSResformerConfig, shape: tuple[int, int], pooled_dim: int) -> nn.Sequential:
        attention = nn.Identity()
        if config.time_frequency_attention:
            attention = PooledGate(config.num_filters, config.attention_channels, (pooled_dim,))
        # With padding="same", PyTorch warns about filters of an even size.
        top, left = ((size - 1) // 2 for size in shape)
        return nn.Sequential(
            nn.ZeroPad2d((left, shape[1] - 1 - left, top, shape[0] - 1 - top)),
            nn.Conv2d(1, config.num_filters, shape, bias=False),
            nn.BatchNorm2d(config.num_filters),
            nn.ReLU(inplace=True),
            attention,
            # Pooling before the concatenation saves memory.
            nn.MaxPool2d(tuple(config.initial_pool)),
        )

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Map [windows, 1, bins, frames] to [windows, 2 * num_filters, pooled bins, pooled frames]."""
        return torch.cat((self.frequency(spectrograms), self.time(spectrograms)), dim=1)


class SEResBlock(nn.Module):
    """Two 3x3 convolutions with squeeze-and-excitation, and a skip through a 1x1 convolution (Figure 10).

    The batch norm after each convolution is ours, as in ResNet (He et al., 2016).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, config: TSResformerConfig):
        super().__init__()
        attention = nn.Identity()
        if config.squeeze_excitation:
            hidden_channels = out_channels // config.squeeze_reduction
            attention = PooledGate(out_channels, hidden_channels, (_FREQUENCY, _TIME))
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            attention,
        )
        self.skip = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map [windows, in_channels, bins, frames] to [windows, out_channels, bins / stride, frames / stride]."""
        return F.relu(self.residual(features) + self.skip(features))


class ResidualBranch(nn.Module):
    """Paired filters, then residual blocks (Figure 5, left)."""

    def __init__(self, config: TSResformerConfig):
        super().__init__()
        self.filters = PairedFilters(config)
        channels = pairwise([2 * config.num_filters, *config.block_channels])
        self.blocks = nn.Sequential(
            *(SEResBlock(*pair, stride=2 if index else 1, config=config) for index, pair in enumerate(channels))
        )

    def forward(self, input_values: Tensor) -> Tensor:
        """Map spectrograms [windows, frames, bins] to features [windows, channels, pooled bins, pooled frames]."""
        spectrograms = input_values.transpose(1, 2).unsqueeze(1)
        return self.blocks(self.filters(spectrograms))


def sinusoidal_positions(length: int, width: int, device: torch.device) -> Tensor:
    """Return the position encoding of Vaswani et al. (2017), float32 [length, width]."""
    rates = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10000.0) / width))
    angles = torch.arange(length, device=device).unsqueeze(1) * rates
    return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1)[:, :width]


class TransformerBranch(nn.Module):
    """Transformer encoder layers over frames (Figure 11) with sinusoidal positions (ours).

    transformers' layers of wav2vec 2.0 are those of Vaswani et al. (2017), with a norm after each residual sum. They
    compute the same as `nn.TransformerEncoderLayer`, but also support `attn_implementation` and return attentions.
    """

    def __init__(self, config: TSResformerConfig):
        super().__init__()
        self.output_size = config.hidden_size
        self.layers = nn.ModuleList(Wav2Vec2EncoderLayer(config) for _ in range(config.num_encoder_layers))

    def forward(self, frames: Tensor, **kwargs) -> Tensor:
        """Map frames [windows, frames, features] to states of the same shape; `kwargs` are passed to the attention."""
        positions = sinusoidal_positions(frames.shape[1], frames.shape[2], frames.device)
        hidden = frames + positions.to(frames.dtype)
        for layer in self.layers:
            hidden = layer(hidden, **kwargs)
        return hidden


class RecurrentBranch(nn.Module):
    """One layer of LSTM or GRU in one or both directions (Table 5; the size is ours)."""

    def __init__(self, config: TSResformerConfig):
        super().__init__()
        bidirectional = config.sequence_branch.startswith("bi_")
        cell = nn.LSTM if config.sequence_branch.endswith("lstm") else nn.GRU
        self.recurrence = cell(
            config.hidden_size, config.recurrent_hidden_size, batch_first=True, bidirectional=bidirectional
        )
        self.output_size = (1 + bidirectional) * config.recurrent_hidden_size

    def forward(self, frames: Tensor, **kwargs) -> Tensor:
        """Map frames [windows, frames, features] to states [windows, frames, output_size]."""
        return self.recurrence(frames)[0]


class TSResformerPreTrainedModel(AttentionPreTrainedModel):
    """Base class of the model and the classifier."""

    config_class = TSResformerConfig
    supports_gradient_checkpointing = False  # only one of the branches has layers that support it
    _no_split_modules = ("SEResBlock", "Wav2Vec2EncoderLayer")
    _supports_flex_attn = True


class TSResformerModel(TSResformerPreTrainedModel, WindowedModel):
    """Both branches; the embedding is their outputs, averaged over time and frequency and concatenated (Figure 5)."""

    # Parallel branches return the hidden states of the residual branch first.
    _can_record_outputs = {
        "hidden_states": [SEResBlock, Wav2Vec2EncoderLayer, nn.LSTM, nn.GRU],
        "attentions": Wav2Vec2Attention,
    }

    def __init__(self, config: TSResformerConfig):
        super().__init__(config)
        self.residual = ResidualBranch(config) if config.residual_branch else None
        self.serial = config.arrangement == "serial"
        if config.sequence_branch == "none":
            self.sequence = None
        elif config.sequence_branch == "transformer":
            self.sequence = TransformerBranch(config)
        else:
            self.sequence = RecurrentBranch(config)
        self.embedding_size = 0 if self.sequence is None else self.sequence.output_size
        if self.residual is not None and not self.serial:
            self.embedding_size += config.block_channels[-1]
        residual_frames = config.initial_pool[1] if self.residual is not None else 1
        sequence_frames = config.sequence_pool if self.sequence is not None and not self.serial else 1
        self.least_frames = max(residual_frames, sequence_frames)
        self.post_init()

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Embed log-mel spectrograms `input_values` [windows, frames, bins] as [windows, sizes of both branches]."""
        if self.serial:
            frames = self.residual(input_values).mean(dim=_FREQUENCY).transpose(1, 2)
            return WindowOutput(embeddings=self.sequence(frames, **kwargs).mean(dim=1))
        pooled = []
        if self.residual is not None:
            pooled.append(self.residual(input_values).mean(dim=(_FREQUENCY, _TIME)))
        if self.sequence is not None:
            frames = F.max_pool1d(input_values.transpose(1, 2), self.config.sequence_pool).transpose(1, 2)
            pooled.append(self.sequence(frames, **kwargs).mean(dim=1))
        return WindowOutput(embeddings=torch.cat(pooled, dim=1))


class TSResformerForAudioClassification(TSResformerPreTrainedModel, WindowedForAudioClassification):
    """TS-Resformer with a linear classifier (Figure 5)."""

    def __init__(self, config: TSResformerConfig):
        super().__init__(config, TSResformerModel(config))


register_auto_classes(AutoModel=TSResformerModel, AutoModelForAudioClassification=TSResformerForAudioClassification)
