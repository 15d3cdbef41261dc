"""MLP-Mixer (Tolstikhin et al., 2021) on spectrograms."""

from torch import Tensor, nn

from .configuration_mlp_mixer import MLPMixerConfig
from .modeling_windowed import WindowedForAudioClassification, WindowedModel, WindowOutput, register_auto_classes
from .spectrogram_patches import to_patches


class MLPMixerMLP(nn.Sequential):
    """Linear -> GELU -> dropout -> linear, over the last dimension."""

    def __init__(self, size: int, hidden_size: int, dropout: float):
        super().__init__(nn.Linear(size, hidden_size), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden_size, size))


class MLPMixerLayer(nn.Module):
    """An MLP over the patches, then one over the channels, each after layer norm and with a skip connection (Eq. 1)."""

    def __init__(self, num_patches: int, config: MLPMixerConfig):
        super().__init__()
        self.tokens_norm = nn.LayerNorm(config.hidden_size)
        self.tokens_mlp = MLPMixerMLP(num_patches, config.tokens_mlp_size, config.dropout)
        self.channels_norm = nn.LayerNorm(config.hidden_size)
        self.channels_mlp = MLPMixerMLP(config.hidden_size, config.channels_mlp_size, config.dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Mix `hidden` [windows, patches, channels]."""
        hidden = hidden + self.tokens_mlp(self.tokens_norm(hidden).transpose(1, 2)).transpose(1, 2)
        return hidden + self.channels_mlp(self.channels_norm(hidden))


class MLPMixerModel(WindowedModel):
    """Linear projection of the patches -> mixer layers -> layer norm -> mean over the patches (section 2)."""

    config_class = MLPMixerConfig
    _can_record_outputs = {"hidden_states": MLPMixerLayer}  # noqa: RUF012 (transformers reads it)

    def __init__(self, config: MLPMixerConfig):
        super().__init__(config)
        num_patches = config.num_frames * config.num_bins // config.patch_size**2
        self.projection = nn.Linear(config.patch_size**2, config.hidden_size)
        self.layers = nn.Sequential(*(MLPMixerLayer(num_patches, config) for _ in range(config.num_layers)))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.embedding_size = config.hidden_size
        self.post_init()

    def check_window(self, frames: int, bins: int) -> None:
        super().check_window(frames, bins)
        if frames != self.config.num_frames:
            raise ValueError(f"expected {self.config.num_frames} frames, got {frames}")

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Embed spectrograms `input_values` [windows, frames, bins] as [windows, hidden]."""
        patches = to_patches(input_values, self.config.patch_size).flatten(2)
        return WindowOutput(embeddings=self.norm(self.layers(self.projection(patches))).mean(dim=1))


class MLPMixerForAudioClassification(WindowedForAudioClassification):
    """MLP-Mixer with dropout and a linear classifier."""

    config_class = MLPMixerConfig

    def __init__(self, config: MLPMixerConfig):
        super().__init__(config, MLPMixerModel(config), dropout=config.dropout)


register_auto_classes(AutoModel=MLPMixerModel, AutoModelForAudioClassification=MLPMixerForAudioClassification)
