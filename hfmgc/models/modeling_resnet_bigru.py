"""ResNet-BiGRU: transformers' `ResNetModel`, its time axis read by a bidirectional GRU (a baseline of the Deformer paper)."""

from torch import Tensor, nn
from transformers import ResNetModel

from .configuration_resnet_bigru import ResNetBiGRUConfig
from .modeling_windowed import WindowedPreTrainedModel, WindowOutput
from .resnet_backbone import check_spectrogram, total_stride


class ResNetBiGRUForAudioClassification(WindowedPreTrainedModel):
    """ResNet-BiGRU for genres.

    The ResNet's average pool takes the mean over frequency only, so that the GRU has a sequence (ours): ResNet-18 makes
    one step of 32 frames, 13 steps of 387. The answer comes from the mean of the GRU's steps (ours), which hears both
    directions at every point of the window.
    """

    config_class = ResNetBiGRUConfig
    base_model_prefix = "backbone"
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
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(2 * config.gru_hidden_size, config.num_labels)
        self.post_init()

    def forward_window(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Classify single windows: `input_values` [windows, frames, bins] -> logits [windows, labels]."""
        pictures = input_values.transpose(1, 2).unsqueeze(1)  # [windows, 1, bins, frames]
        output = self.backbone(pictures, return_dict=True, **kwargs)
        sequence = output.last_hidden_state.mean(dim=2).transpose(1, 2)  # [windows, steps, hidden]
        states, _ = self.gru(sequence)
        logits = self.classifier(self.dropout(states.mean(dim=1)))
        hidden_states = None if output.hidden_states is None else (*output.hidden_states, states)
        return WindowOutput(logits=logits, hidden_states=hidden_states)

    def check_window(self, frames: int, bins: int) -> None:
        """Raise a ValueError unless a window covers one step of the ResNet's last stage and has the config's bins."""
        stride = total_stride(self.config.backbone_config)
        check_spectrogram(frames, bins, stride=stride, num_bins=self.config.num_bins)


# The code travels with every checkpoint, so that it loads where hfmgc is not installed.
ResNetBiGRUForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")
