"""MLP-Mixer for spectrograms: MLPs over patches and over channels in turn.

Tolstikhin et al.: MLP-Mixer: An all-MLP Architecture for Vision (NeurIPS 2021), sections 2 and 3. Patches over time, which
cover all bins, are ours.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from .configuration_mlp_mixer import MLPMixerConfig
from .modeling_windowed import (
    WindowedForAudioClassification,
    WindowedModel,
    WindowOutput,
    register_auto_classes,
)


class MLPMixerMLP(nn.Module):
    """Two linear layers with GELU over the last dimension."""

    def __init__(self, size: int, hidden_size: int):
        super().__init__()
        self.up = nn.Linear(size, hidden_size)
        self.down = nn.Linear(hidden_size, size)

    def forward(self, states: Tensor) -> Tensor:
        """Map [..., size] to [..., size]."""
        return self.down(F.gelu(self.up(states)))


class MLPMixerLayer(nn.Module):
    """Token mixing and channel mixing, each with layer norm and a residual connection (equation 1)."""

    def __init__(self, config: MLPMixerConfig):
        super().__init__()
        self.token_norm = nn.LayerNorm(config.hidden_size)
        self.token_mixing = MLPMixerMLP(config.num_patches, config.token_size)
        self.channel_norm = nn.LayerNorm(config.hidden_size)
        self.channel_mixing = MLPMixerMLP(config.hidden_size, config.channel_size)

    def forward(self, states: Tensor) -> Tensor:
        """Map [windows, patches, hidden] to [windows, patches, hidden]."""
        states = states + self.token_mixing(self.token_norm(states).transpose(1, 2)).transpose(1, 2)
        return states + self.channel_mixing(self.channel_norm(states))


class MLPMixerModel(WindowedModel):
    """Patches, mixer layers, layer norm, mean over the patches."""

    config_class = MLPMixerConfig
    _can_record_outputs = {"hidden_states": MLPMixerLayer}  # noqa: RUF012

    def __init__(self, config: MLPMixerConfig):
        super().__init__(config)
        self.embedding_size = config.hidden_size
        self.patches = nn.Linear(config.patch_frames * config.num_bins, config.hidden_size)
        self.layers = nn.ModuleList(MLPMixerLayer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.post_init()

    def check_window(self, frames: int, bins: int) -> None:
        """Raise a ValueError unless the window has the config's frames and bins."""
        super().check_window(frames, bins)
        if frames != self.config.num_frames:
            raise ValueError(f"expected {self.config.num_frames} frames, got {frames}")

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Map windows [windows, frames, bins] to embeddings [windows, hidden]."""
        states = input_values.unflatten(1, (self.config.num_patches, self.config.patch_frames)).flatten(2)
        states = self.patches(states)
        for layer in self.layers:
            states = layer(states)
        return WindowOutput(embeddings=self.norm(states).mean(dim=1))


class MLPMixerForAudioClassification(WindowedForAudioClassification):
    """MLP-Mixer with a linear head."""

    config_class = MLPMixerConfig

    def __init__(self, config: MLPMixerConfig):
        super().__init__(config, MLPMixerModel(config), dropout=config.dropout)


register_auto_classes(AutoModel=MLPMixerModel, AutoModelForAudioClassification=MLPMixerForAudioClassification)
