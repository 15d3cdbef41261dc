"""LeNet-5 (LeCun et al., 1998) on spectrograms of any length."""

from torch import Tensor, nn

from .configuration_lenet import SMALLEST_SIDE, LeNetConfig
from .modeling_windowed import WindowedForAudioClassification, WindowedModel, WindowOutput, register_auto_classes


_ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}
_SUBSAMPLINGS = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}


class LeNetBlock(nn.Sequential):
    """5x5 convolution -> activation -> 2x2 subsampling."""

    def __init__(self, in_channels: int, out_channels: int, config: LeNetConfig):
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=5),
            _ACTIVATIONS[config.activation](),
            _SUBSAMPLINGS[config.subsampling](2),
        )


class LeNetModel(WindowedModel):
    """Two 5x5 convolutions, each with activation and 2x2 subsampling -> average to 5x5 -> dense layers of 120 and 84.

    For LeNet's images of 32x32, the convolutions return 5x5 features. For a spectrogram they return more, which are
    averaged to 5x5 (ours), so the dense layers have LeNet's sizes for windows of any length. Each filter of the second
    convolution reads all six channels; LeCun et al. connect it to some of them to save computation.
    """

    config_class = LeNetConfig
    least_frames = SMALLEST_SIDE
    _can_record_outputs = {"hidden_states": LeNetBlock}

    def __init__(self, config: LeNetConfig):
        super().__init__(config)
        activation = _ACTIVATIONS[config.activation]
        self.convolutions = nn.Sequential(LeNetBlock(1, 6, config), LeNetBlock(6, 16, config))
        self.pool = nn.AdaptiveAvgPool2d(5)
        self.dense = nn.Sequential(nn.Linear(16 * 5 * 5, 120), activation(), nn.Linear(120, 84), activation())
        self.embedding_size = 84
        self.post_init()

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Embed spectrograms `input_values` [windows, frames, bins] as [windows, 84]."""
        hidden = self.pool(self.convolutions(input_values.unsqueeze(1)))
        return WindowOutput(embeddings=self.dense(hidden.flatten(1)))


class LeNetForAudioClassification(WindowedForAudioClassification):
    """LeNet-5 with dropout and a linear classifier."""

    config_class = LeNetConfig

    def __init__(self, config: LeNetConfig):
        super().__init__(config, LeNetModel(config), dropout=config.dropout)


register_auto_classes(AutoModel=LeNetModel, AutoModelForAudioClassification=LeNetForAudioClassification)
