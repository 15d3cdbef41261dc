"""Config of a pre-trained audio encoder from transformers with a linear classifier."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from .configuration_windowed import WindowedConfig


# Model types whose config consists of several parts -> field with the config of the audio encoder.
_TOWERS = {"clap": "audio_config"}


@strict
class AudioEncoderConfig(WindowedConfig):
    r"""Config of [`AudioEncoderForAudioClassification`].

    Args:
        backbone_config (`PreTrainedConfig` or `dict`, *optional*):
            The encoder; `Wav2Vec2Config` by default. A dict of another architecture contains its `model_type`. For
            Whisper, this is the config of the whole model.
        hidden_layer (`int` or `str`, *optional*, defaults to `"last"`):
            Layer that the classifier reads. A number from 1 selects the output of one layer, averaged over time.
            `"all"` concatenates the averages of all layers [layers x hidden_size]. `"last"` selects the encoder's
            pooled output (CLAP, AST) or, if it has none, its last hidden state, averaged over time [hidden_size].
        kwargs: See [`WindowedConfig`].
    """

    model_type = "hfmgc-audio-encoder"
    sub_configs = {"backbone_config": AutoConfig}

    backbone_config: PreTrainedConfig | dict | None = None
    hidden_layer: int | Literal["last", "all"] = "last"

    def __post_init__(self, **kwargs):
        if not isinstance(self.backbone_config, PreTrainedConfig):
            self.backbone_config = self.encoder_config({"model_type": "wav2vec2", **(self.backbone_config or {})})
        super().__post_init__(**kwargs)

    @staticmethod
    def encoder_config(fields: dict[str, Any]) -> PreTrainedConfig:
        """Return the audio encoder's config from the fields of a `config.json` of transformers.

        Raises:
            ValueError: If transformers does not know the `model_type`.
        """
        fields = dict(fields)
        model_type = str(fields.pop("model_type", None))
        config = AutoConfig.for_model(model_type, **fields)
        return getattr(config, _TOWERS[model_type]) if model_type in _TOWERS else config

    @property
    def num_layers(self) -> int:
        """Number of layers of the encoder."""
        return self.backbone_config.num_hidden_layers

    def check_layer(self) -> None:
        """Raise a ValueError unless `backbone_config` is an audio encoder that has the layer `hidden_layer`.

        The model calls this. The config itself does not, because a checkpoint's backbone may still replace its own.
        """
        backbone, layer = self.backbone_config, self.hidden_layer
        for name in ("hidden_size", "num_hidden_layers"):
            if not isinstance(getattr(backbone, name, None), int):
                raise ValueError(
                    f"backbone_config.model_type {backbone.model_type!r} is no audio encoder: its config has no {name}"
                )
        if layer == "last":
            return
        if backbone.model_type == "clap_audio_model":
            raise ValueError("hidden_layer must be 'last' for CLAP, because its layers differ in width")
        if layer != "all" and not 1 <= layer <= self.num_layers:
            raise ValueError(f"hidden_layer must be 1 to {self.num_layers}, 'last' or 'all', not {layer}")
