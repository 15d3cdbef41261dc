"""Pre-trained audio encoders from transformers (Wav2Vec2, Whisper, CLAP, AST, ...) with a linear classifier."""

import torch
from torch import Tensor
from transformers import (
    MODEL_MAPPING,
    AutoModel,
    ClapAudioModel,
    ClapModel,
    PreTrainedConfig,
    PreTrainedModel,
    WhisperModel,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from .configuration_audio_encoder import AudioEncoderConfig
from .modeling_backbone import BackboneForAudioClassification
from .modeling_windowed import AttentionPreTrainedModel, WindowedModel, WindowOutput, register_auto_classes


# Replaces masked frames in training. Many checkpoints lack it.
_MASK_EMBEDDING = "masked_spec_embed"
# Encoders that are part of a larger model: model type -> encoder class, model class, and attribute of the model.
_PARTS = {
    "whisper": (WhisperEncoder, WhisperModel, "encoder"),
    "clap_audio_model": (ClapAudioModel, ClapModel, "audio_model"),
}


class AudioEncoderModel(AttentionPreTrainedModel, WindowedModel):
    """An audio encoder; the embedding is the output of the config's `hidden_layer`, averaged over time."""

    config_class = AudioEncoderConfig

    def __init__(self, config: AudioEncoderConfig):
        super().__init__(config)
        self.select_layer(config.hidden_layer)  # before the encoder is built: it checks the config
        self.backbone = _new_encoder(config.backbone_config)
        self.least_frames = _least_samples(config.backbone_config)
        self.post_init()

    @property
    def num_bins(self) -> int:
        """Bins of a spectrogram, or 1 for a waveform."""
        backbone = self.config.backbone_config
        return getattr(backbone, "num_mel_bins", None) or getattr(backbone, "feature_projection_input_dim", 1)

    def select_layer(self, layer: int | str) -> None:
        """Set the config's `hidden_layer`. This can change the embedding size, so build the classifier afterwards."""
        self.config.hidden_layer = layer
        self.config.check_layer()
        self.embedding_size = self.config.backbone_config.hidden_size * (
            self.config.num_layers if layer == "all" else 1
        )

    def check_on_meta(self, frames: int, bins: int) -> None:
        """Check a window by running the encoder, because each encoder has other limits and outputs."""
        super().check_on_meta(frames, bins)
        try:
            self.embed_windows(torch.zeros(1, frames, bins, device="meta", dtype=self.dtype))
        except Exception as error:  # encoders raise errors of many types
            kind = self.config.backbone_config.model_type
            raise ValueError(f"backbone_config.model_type {kind!r}, windows of [{frames}, {bins}]: {error}") from error

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Embed waveforms [windows, samples, 1] or spectrograms [windows, frames, bins]."""
        layer, return_states = self.config.hidden_layer, kwargs.pop("output_hidden_states", False)
        inputs = self._encoder_inputs(input_values)
        output = self.backbone(**inputs, output_hidden_states=return_states or layer != "last", **kwargs)
        states = output.get("hidden_states")
        if layer == "all":
            embeddings = torch.cat([state.mean(dim=1) for state in states[1:]], dim=-1)
        elif layer != "last":
            embeddings = states[layer].mean(dim=1)
        else:
            embeddings = output.get("pooler_output")
            if embeddings is None and output.get("last_hidden_state") is not None:
                embeddings = output["last_hidden_state"].mean(dim=1)
        if embeddings is None or embeddings.shape[1:] != (self.embedding_size,):
            shape = None if embeddings is None else list(embeddings.shape)
            raise ValueError(
                f"the encoder's pooled output is {shape}, not [windows, {self.embedding_size}]: choose another encoder"
            )
        return WindowOutput(
            embeddings=embeddings,
            hidden_states=states if return_states else None,
            attentions=output.get("attentions"),
        )

    def _encoder_inputs(self, input_values: Tensor) -> dict[str, Tensor]:
        """Return the encoder's arguments for windows [windows, frames, bins]."""
        kind = self.config.backbone_config.model_type
        if kind == "clap_audio_model":
            values = input_values.unsqueeze(1)
            # Windows are never longer than CLAP's input.
            return {"input_features": values, "is_longer": torch.zeros_like(values[:, 0, :1, 0], dtype=torch.bool)}
        if kind == "whisper":
            return {"input_features": input_values.transpose(1, 2)}
        values = input_values.squeeze(-1) if self.num_bins == 1 else input_values
        return {self.backbone.main_input_name: values}


class AudioEncoderForAudioClassification(AttentionPreTrainedModel, BackboneForAudioClassification):
    """A pre-trained audio encoder with a linear classifier."""

    config_class = AudioEncoderConfig

    def __init__(self, config: AudioEncoderConfig):
        super().__init__(config, AudioEncoderModel(config))

    @classmethod
    def load_backbone(cls, name_or_path: str, **kwargs) -> tuple[PreTrainedModel, list[str]]:
        """Load the encoder of a checkpoint, such as `facebook/wav2vec2-base-960h`."""
        fields, _ = PreTrainedConfig.get_config_dict(name_or_path, **kwargs)
        kind = AudioEncoderConfig.encoder_config(fields).model_type
        _, auto_class, part = _PARTS.get(kind, (None, AutoModel, ""))
        model, report = auto_class.from_pretrained(name_or_path, output_loading_info=True, **kwargs)
        missing = [name for name in report["missing_keys"] if name.startswith(part) and _MASK_EMBEDDING not in name]
        return getattr(model, part) if part else model, missing


def _new_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """Return an encoder with random weights."""
    if config.model_type in _PARTS:
        return _PARTS[config.model_type][0](config)
    if type(config) not in MODEL_MAPPING:
        raise ValueError(f"backbone_config.model_type {config.model_type!r} has no AutoModel in transformers")
    return MODEL_MAPPING[type(config)](config)


def _least_samples(config: PreTrainedConfig) -> int:
    """Return the fewest samples from which an encoder's convolutions make a frame; 1 for encoders of spectrograms."""
    samples = 1
    if getattr(config, "num_mel_bins", None) is None:
        for kernel, stride in zip(
            reversed(getattr(config, "conv_kernel", ())), reversed(getattr(config, "conv_stride", ())), strict=True
        ):
            samples = (samples - 1) * stride + kernel
    return samples


register_auto_classes(AutoModel=AudioEncoderModel, AutoModelForAudioClassification=AudioEncoderForAudioClassification)
