"""Codified audio language modelling (CALM): the hidden states of a language model over the tokens of a codec.

Castellon, Donahue and Liang, 2021, took a middle layer of Jukebox, which transformers no longer has. EnCodec and MusicGen's
decoder are the same construction.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import EncodecModel, MusicgenForConditionalGeneration
from transformers.models.musicgen.modeling_musicgen import MusicgenDecoder

from .configuration_calm import CALMConfig
from .modeling_backbone import BackboneForAudioClassification
from .modeling_windowed import AttentionPreTrainedModel, WindowedModel, WindowOutput, register_auto_classes


class CALMModel(AttentionPreTrainedModel, WindowedModel):
    """Waveform -> tokens of EnCodec -> MusicGen's decoder -> mean over time of the layer that the config names.

    Left out, because nothing here depends on them: the codec's decoder, the layers after the chosen one, and the attention
    to a text, which adds zeros without a text.
    """

    config_class = CALMConfig
    num_bins = 1

    def __init__(self, config: CALMConfig):
        super().__init__(config)
        self.codec = EncodecModel(config.backbone_config.audio_encoder)
        del self.codec.decoder
        self.codec.requires_grad_(False)  # tokens are whole numbers, through which no gradient passes
        self.decoder = MusicgenDecoder(config.backbone_config.decoder)
        for layer in self.decoder.layers:
            del layer.encoder_attn, layer.encoder_attn_layer_norm
        self.least_frames = (self.decoder.num_codebooks - 1) * self.codec.config.hop_length + 1
        self.select_layer(config.hidden_layer)
        self.post_init()

    def select_layer(self, layer: int | str) -> None:
        """Change the config's `hidden_layer` and leave out the layers after it; a head for the embeddings must follow."""
        self.config.hidden_layer = layer
        self.config.check_layer()
        hidden_size = self.config.backbone_config.decoder.hidden_size
        self.embedding_size = hidden_size * self.config.num_layers if layer == "all" else hidden_size
        if layer != "all" and layer < self.config.num_layers:
            self.decoder.layers = self.decoder.layers[:layer]
            self.decoder.layer_norm = nn.Identity()  # of the last layer

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Embed waveforms `input_values` [windows, samples, 1] as [windows, embedding_size]."""
        codes = self._tokens(input_values)
        every, return_states = self.config.hidden_layer == "all", kwargs.pop("output_hidden_states", False)
        tokens = self._delayed(codes).flatten(0, 1)
        output = self.decoder(tokens, use_cache=False, output_hidden_states=return_states or every, **kwargs)
        # The first positions lack the tokens of some codebooks.
        layers = output.hidden_states[1:] if every else [output.last_hidden_state]
        embeddings = torch.cat([states[:, codes.shape[1] :].mean(dim=1) for states in layers], dim=-1)
        return WindowOutput(
            embeddings=embeddings,
            hidden_states=output.hidden_states if return_states else None,
            attentions=output.get("attentions"),
        )

    # Not compiled: the padding of EnCodec depends on the values of tensors, which would break the graph at every convolution.
    @torch.compiler.disable
    @torch.no_grad()
    def _tokens(self, input_values: Tensor) -> Tensor:
        """Return the codec's tokens [windows, codebooks, frames] of waveforms [windows, samples, 1]."""
        return self.codec.encode(input_values.transpose(1, 2), return_dict=True).audio_codes[0]

    def _delayed(self, codes: Tensor) -> Tensor:
        """Return tokens [windows, codebooks, 1 + frames] as MusicGen reads them: a start token, codebook k delayed by k."""
        start = self.decoder.config.vocab_size
        frames = codes.shape[-1]
        rows = [F.pad(row, (1 + delay, 0), value=start)[:, : 1 + frames] for delay, row in enumerate(codes.unbind(1))]
        return torch.stack(rows, dim=1)


class CALMForAudioClassification(AttentionPreTrainedModel, BackboneForAudioClassification):
    """A codec language model with a linear classifier."""

    config_class = CALMConfig

    def __init__(self, config: CALMConfig):
        super().__init__(config, CALMModel(config))

    @classmethod
    def load_backbone(cls, name_or_path: str, **kwargs) -> tuple[MusicgenForConditionalGeneration, list[str]]:
        """Load a MusicGen checkpoint, such as `facebook/musicgen-small`."""
        pretrained, report = MusicgenForConditionalGeneration.from_pretrained(
            name_or_path, output_loading_info=True, **kwargs
        )
        return pretrained, [name for name in report["missing_keys"] if not name.startswith("text_encoder.")]

    def copy_backbone(self, pretrained: MusicgenForConditionalGeneration) -> None:
        """Copy the codec and the language model, without the parts that are left out."""
        self.model.codec.load_state_dict(pretrained.audio_encoder.state_dict(), strict=False)
        self.model.decoder.load_state_dict(pretrained.decoder.model.decoder.state_dict(), strict=False)


register_auto_classes(AutoModel=CALMModel, AutoModelForAudioClassification=CALMForAudioClassification)
