"""Codified audio language modelling (CALM): classification of the hidden states of a codec language model.

Castellon, Donahue and Liang (2021) read a middle layer of Jukebox, which transformers no longer contains. MusicGen, a
language model of EnCodec's tokens, takes its place (ours).
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
    """Waveform -> EnCodec's tokens -> MusicGen's decoder -> output of the config's `hidden_layer`, averaged over time.

    The parts that cannot affect the embedding are removed: the codec's decoder, the layers after `hidden_layer`, and
    the cross-attention to a text, which adds zeros if there is no text.
    """

    config_class = CALMConfig
    num_bins = 1

    def __init__(self, config: CALMConfig):
        super().__init__(config)
        self.codec = EncodecModel(config.backbone_config.audio_encoder)
        del self.codec.decoder
        self.codec.requires_grad_(False)  # no gradient passes through tokens
        self.decoder = MusicgenDecoder(config.backbone_config.decoder)
        for layer in self.decoder.layers:
            del layer.encoder_attn, layer.encoder_attn_layer_norm
        self.least_frames = (self.decoder.num_codebooks - 1) * self.codec.config.hop_length + 1
        self.select_layer(config.hidden_layer)
        self.post_init()

    def select_layer(self, layer: int | str) -> None:
        """Set the config's `hidden_layer` and remove the layers after it.

        This can change the embedding size, so build the classifier afterwards.
        """
        self.config.hidden_layer = layer
        self.config.check_layer()
        hidden_size = self.config.backbone_config.decoder.hidden_size
        self.embedding_size = hidden_size * self.config.num_layers if layer == "all" else hidden_size
        if layer != "all" and layer < self.config.num_layers:
            self.decoder.layers = self.decoder.layers[:layer]
            self.decoder.layer_norm = nn.Identity()  # normalises the output of the last layer

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Embed waveforms `input_values` [windows, samples, 1]."""
        codes = self._encode(input_values)
        all_layers, return_states = self.config.hidden_layer == "all", kwargs.pop("output_hidden_states", False)
        tokens = self._delay(codes).flatten(0, 1)
        output = self.decoder(tokens, use_cache=False, output_hidden_states=return_states or all_layers, **kwargs)
        layers = output.hidden_states[1:] if all_layers else [output.last_hidden_state]
        # The delay leaves the first positions without tokens of some codebooks, so they are skipped.
        embeddings = torch.cat([states[:, codes.shape[1] :].mean(dim=1) for states in layers], dim=-1)
        return WindowOutput(
            embeddings=embeddings,
            hidden_states=output.hidden_states if return_states else None,
            attentions=output.get("attentions"),
        )

    # EnCodec's padding depends on tensor values, which would break a compiled graph at every convolution.
    @torch.compiler.disable
    @torch.no_grad()
    def _encode(self, input_values: Tensor) -> Tensor:
        """Encode waveforms [windows, samples, 1] as tokens [windows, codebooks, frames]."""
        return self.codec.encode(input_values.transpose(1, 2), return_dict=True).audio_codes[0]

    def _delay(self, codes: Tensor) -> Tensor:
        """Delay codebook k by 1 + k start tokens, as MusicGen does, to [windows, codebooks, 1 + frames]."""
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
        """Copy the codec and the language model, without the parts that this model removes."""
        self.model.codec.load_state_dict(pretrained.audio_encoder.state_dict(), strict=False)
        self.model.decoder.load_state_dict(pretrained.decoder.model.decoder.state_dict(), strict=False)


register_auto_classes(AutoModel=CALMModel, AutoModelForAudioClassification=CALMForAudioClassification)
