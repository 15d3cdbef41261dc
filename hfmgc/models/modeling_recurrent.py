"""Recurrent baselines: LSTM, GRU, Bi-LSTM and Bi-GRU over the frames of a window."""

import torch
from torch import Tensor, nn

from .configuration_recurrent import RecurrentConfig
from .modeling_windowed import WindowedForAudioClassification, WindowedModel, WindowOutput, register_auto_classes


class RecurrentModel(WindowedModel):
    """Batch norm of the bins -> recurrent layers with dropout between them -> pooling over time."""

    config_class = RecurrentConfig
    _can_record_outputs = {"hidden_states": [nn.LSTM, nn.GRU]}

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.normalization = nn.BatchNorm1d(config.num_bins) if config.input_normalization else nn.Identity()
        cell = {"lstm": nn.LSTM, "gru": nn.GRU}[config.cell]
        self.embedding_size = config.hidden_size * (1 + config.bidirectional)
        # One module for each layer, so that `output_hidden_states` can return the states of every layer.
        self.layers = nn.ModuleList(
            cell(size, config.hidden_size, batch_first=True, bidirectional=config.bidirectional)
            for size in [config.num_bins] + [self.embedding_size] * (config.num_layers - 1)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Embed spectrograms `input_values` [windows, frames, bins] as [windows, directions * hidden_size]."""
        hidden = self.normalization(input_values.transpose(1, 2)).transpose(1, 2)
        for index, layer in enumerate(self.layers):
            hidden, _ = layer(self.dropout(hidden) if index else hidden)
        return WindowOutput(embeddings=self._pool(hidden))

    def _pool(self, hidden: Tensor) -> Tensor:
        """Pool states [windows, frames, directions * hidden_size] over time."""
        if self.config.pooling == "mean":
            return hidden.mean(dim=1)
        # Each direction's state after reading all frames: forwards at the last frame, backwards at the first.
        size = self.config.hidden_size
        return torch.cat((hidden[:, -1, :size], hidden[:, 0, size:]), dim=-1)


class RecurrentForAudioClassification(WindowedForAudioClassification):
    """Recurrent layers with dropout and a linear classifier."""

    config_class = RecurrentConfig

    def __init__(self, config: RecurrentConfig):
        super().__init__(config, RecurrentModel(config), dropout=config.dropout)


register_auto_classes(AutoModel=RecurrentModel, AutoModelForAudioClassification=RecurrentForAudioClassification)
