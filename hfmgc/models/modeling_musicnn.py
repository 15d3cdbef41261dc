"""MusiCNN, the musically motivated convolutional network of Pons and Serra (2019)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .configuration_musicnn import MusiCNNConfig
from .modeling_windowed import WindowedForAudioClassification, WindowedModel, WindowOutput, register_auto_classes


# TensorFlow's defaults for batch norm; the network was published for TensorFlow.
EPSILON = 1e-3
MOMENTUM = 0.01


class MusiCNNBranch(nn.Module):
    """Convolution -> ReLU -> batch norm -> maximum over the bins, with as many output frames as input frames.

    An even kernel needs one more frame of padding at the end than at the start, as in TensorFlow.
    """

    def __init__(self, channels: int, frames: int, bins: int):
        super().__init__()
        self.padding = ((frames - 1) // 2, frames // 2)
        self.convolution = nn.Conv2d(1, channels, (frames, bins))
        self.norm = nn.BatchNorm2d(channels, eps=EPSILON, momentum=MOMENTUM)

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Map [windows, 1, frames, bins] to [windows, channels, frames]."""
        padded = F.pad(spectrograms, (0, 0, *self.padding))
        return self.norm(self.convolution(padded).relu()).amax(dim=-1)


class MusiCNNLayer(nn.Module):
    """Convolution over time -> ReLU -> batch norm, with as many output frames as input frames.

    The published kernels are two-dimensional but span all features, so they are equivalent to one-dimensional kernels.
    """

    def __init__(self, in_channels: int, channels: int, frames: int):
        super().__init__()
        self.convolution = nn.Conv1d(in_channels, channels, frames, padding=frames // 2)
        self.norm = nn.BatchNorm1d(channels, eps=EPSILON, momentum=MOMENTUM)

    def forward(self, features: Tensor) -> Tensor:
        """Map [windows, in_channels, frames] to [windows, channels, frames]."""
        return self.norm(self.convolution(features).relu())


class MusiCNNModel(WindowedModel):
    """Timbral and temporal convolutions -> three mid-end convolutions -> maximum and mean over time -> dense layer.

    The pooling reads the concatenated outputs of the front end and of the three mid-end convolutions. The embedding is
    the pooled output or the dense layer, as the config's `representation` says.
    """

    config_class = MusiCNNConfig
    # With the representation "pooled", the dense layer of a checkpoint is not loaded.
    _keys_to_ignore_on_load_unexpected = (
        *WindowedModel._keys_to_ignore_on_load_unexpected,
        r"^(model\.)?(pooled_norm|dense|dense_norm)\.",
    )
    _can_record_outputs = {"hidden_states": [MusiCNNBranch, MusiCNNLayer]}

    def __init__(self, config: MusiCNNConfig):
        super().__init__(config)
        self.input_norm = nn.BatchNorm2d(1, eps=EPSILON, momentum=MOMENTUM)
        self.timbral = nn.ModuleList(
            MusiCNNBranch(config.timbral_channels, config.timbral_width, height) for height in config.timbral_heights
        )
        self.temporal = nn.ModuleList(
            MusiCNNBranch(config.temporal_channels, width, 1) for width in config.temporal_widths
        )
        channels = config.timbral_channels * len(self.timbral) + config.temporal_channels * len(self.temporal)
        self.midend = nn.ModuleList(
            MusiCNNLayer(in_channels, config.midend_channels, config.midend_width)
            for in_channels in (channels, config.midend_channels, config.midend_channels)
        )
        self.pooled_size = 2 * (channels + len(self.midend) * config.midend_channels)
        self.embedding_size = self.pooled_size
        self.dense = None
        if config.representation == "penultimate":
            self.embedding_size = config.hidden_size
            self.pooled_norm = nn.BatchNorm1d(self.pooled_size, eps=EPSILON, momentum=MOMENTUM)
            self.dropout = nn.Dropout(config.dropout)
            self.dense = nn.Linear(self.pooled_size, config.hidden_size)
            self.dense_norm = nn.BatchNorm1d(config.hidden_size, eps=EPSILON, momentum=MOMENTUM)
        self.post_init()

    @property
    def num_stages(self) -> int:
        """One stage up to the pooling, which checkpoints may share, and one for the dense layer if there is one."""
        return 1 if self.dense is None else 2

    def stage_of(self, parameter: str) -> int:
        """See [`WindowedModel`]."""
        return int(parameter.startswith(("pooled_norm.", "dense.", "dense_norm.")))

    def run_stages(self, states: Tensor, first: int, stop: int) -> Tensor:
        """See [`WindowedModel`]."""
        if first == 0 < stop:
            states = self._pool(states).unsqueeze(1)
        if first < 2 == stop:
            hidden = self.dense(self.dropout(self.pooled_norm(states.squeeze(1)))).relu()
            states = self.dense_norm(hidden).unsqueeze(1)
        return states

    def state_shape(self, stages: int, frames: int, bins: int) -> tuple[int, int]:
        """See [`WindowedModel`]."""
        return 1, self.pooled_size if stages == 1 else self.embedding_size

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Embed log-mel spectrograms `input_values` [windows, frames, bins]."""
        return WindowOutput(embeddings=self.run_stages(input_values, 0, self.num_stages).squeeze(1))

    def _pool(self, input_values: Tensor) -> Tensor:
        spectrograms = self.input_norm(input_values.unsqueeze(1))
        front_end = torch.cat([branch(spectrograms) for branch in (*self.timbral, *self.temporal)], dim=1)
        states = [front_end, self.midend[0](front_end)]
        for layer in self.midend[1:]:
            states.append(states[-1] + layer(states[-1]))
        features = torch.cat(states, dim=1)
        # Maximum and mean alternate, because the published dense layer reads them in this order.
        return torch.stack((features.amax(dim=-1), features.mean(dim=-1)), dim=-1).flatten(1)


class MusiCNNForAudioClassification(WindowedForAudioClassification):
    """MusiCNN with dropout and a linear classifier."""

    config_class = MusiCNNConfig

    def __init__(self, config: MusiCNNConfig):
        super().__init__(config, MusiCNNModel(config), dropout=config.dropout)


register_auto_classes(AutoModel=MusiCNNModel, AutoModelForAudioClassification=MusiCNNForAudioClassification)
