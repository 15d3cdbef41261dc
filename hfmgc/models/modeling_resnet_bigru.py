"""ResNet-BiGRU: transformers' `ResNetModel` and a bidirectional GRU over time (a baseline of the Deformer paper)."""

from torch import Tensor, nn
from transformers import ResNetModel

from .configuration_resnet_bigru import ResNetBiGRUConfig
from .modeling_windowed import WindowedForAudioClassification, WindowedModel, WindowOutput, register_auto_classes


class ResNetBiGRUModel(WindowedModel):
    """A ResNet -> mean over frequency -> a bidirectional GRU over time -> mean over time (both means are ours).

    The GRU reads one step for every 32 frames with ResNet-18: 13 steps for a window of 387 frames.
    """

    config_class = ResNetBiGRUConfig
    _no_split_modules = ("ResNetConvLayer", "ResNetShortCut")

    def __init__(self, config: ResNetBiGRUConfig):
        super().__init__(config)
        self.backbone = ResNetModel(config.backbone_config)
        self.gru = nn.GRU(
            config.backbone_config.hidden_sizes[-1],
            config.gru_hidden_size,
            num_layers=config.num_gru_layers,
            batch_first=True,
            bidirectional=True,
        )
        self.embedding_size = 2 * config.gru_hidden_size
        self.least_frames = self.least_bins = config.total_stride
        self.post_init()

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Embed spectrograms `input_values` [windows, frames, bins] as [windows, 2 * gru_hidden_size]."""
        images = input_values.transpose(1, 2).unsqueeze(1)  # [windows, 1, bins, frames]
        output = self.backbone(images, return_dict=True, **kwargs)
        sequence = output.last_hidden_state.mean(dim=2).transpose(1, 2)  # [windows, steps, hidden]
        states, _ = self.gru(sequence)
        hidden_states = None if output.hidden_states is None else (*output.hidden_states, states)
        return WindowOutput(embeddings=states.mean(dim=1), hidden_states=hidden_states)


class ResNetBiGRUForAudioClassification(WindowedForAudioClassification):
    """ResNet-BiGRU with dropout and a linear classifier."""

    config_class = ResNetBiGRUConfig

    def __init__(self, config: ResNetBiGRUConfig):
        super().__init__(config, ResNetBiGRUModel(config), dropout=config.dropout)


register_auto_classes(AutoModel=ResNetBiGRUModel, AutoModelForAudioClassification=ResNetBiGRUForAudioClassification)
