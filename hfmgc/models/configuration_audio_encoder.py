"""Config of a pre-trained audio encoder of transformers with a linear head."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from .configuration_windowed import WindowedConfig


# Composite configs, and where they hold that of their audio encoder.
_TOWERS = {"clap": "audio_config"}


@strict
class AudioEncoderConfig(WindowedConfig):
    r"""Config of [`AudioEncoderForAudioClassification`].

    Args:
        backbone_config (`PreTrainedConfig` or `dict`, *optional*):
            The encoder, with its `model_type`; `Wav2Vec2Config` by default. Whisper's is the whole model's config, of which
            the encoder is used.
        hidden_layer (`int` or `str`, *optional*, defaults to `"last"`):
            Whose output the head reads: `"last"`, the encoder's pooled output if it has one (CLAP, AST), else the mean over
            time of its last hidden state; a layer from 1, the mean over time of its output; `"all"`, the means of all
            layers one after the other [layers x hidden_size].
        kwargs: See [`WindowedConfig`].
    """

    model_type = "hfmgc-audio-encoder"
    sub_configs = {"backbone_config": AutoConfig}

    backbone_config: PreTrainedConfig | dict | None = None
    hidden_layer: int | Literal["last", "all"] = "last"

    def __post_init__(self, **kwargs):
        if not isinstance(self.backbone_config, PreTrainedConfig):
            self.backbone_config = self.backbone_of({"model_type": "wav2vec2", **(self.backbone_config or {})})
        super().__post_init__(**kwargs)

    @staticmethod
    def backbone_of(fields: dict[str, Any]) -> PreTrainedConfig:
        """Return the encoder's config in a `config.json` of transformers.

        Raises:
            ValueError: If transformers does not have the architecture.
        """
        fields = dict(fields)
        model_type = str(fields.pop("model_type", None))
        config = AutoConfig.for_model(model_type, **fields)
        return getattr(config, _TOWERS[model_type]) if model_type in _TOWERS else config

    @property
    def num_layers(self) -> int:
        """Layers among which `hidden_layer` chooses."""
        return self.backbone_config.num_hidden_layers

    def check_layer(self) -> None:
        """Raise a ValueError unless the encoder has a size and the layer.

        For models: the backbone of a config can still be replaced by that of a checkpoint.
        """
        backbone, layer = self.backbone_config, self.hidden_layer
        for name in ("hidden_size", "num_hidden_layers"):
            if not isinstance(getattr(backbone, name, None), int):
                raise ValueError(
                    f"backbone_config.model_type {backbone.model_type}: no audio encoder (its config has no {name})"
                )
        if layer == "last":
            return
        if backbone.model_type == "clap_audio_model":
            raise ValueError("hidden_layer must be 'last' for CLAP, whose layers differ in width")
        if layer != "all" and not 1 <= layer <= self.num_layers:
            raise ValueError(f"hidden_layer must lie in [1, {self.num_layers}], or be 'last' or 'all', not {layer}")
