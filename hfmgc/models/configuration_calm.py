"""Config of a codec language model with a linear classifier."""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import MusicgenConfig

from .configuration_backbone import BackboneConfig


# MusicGen's codec, facebook/encodec_32khz. The defaults of EncodecConfig describe the 24 kHz codec.
_CODEC_32KHZ = {
    "model_type": "encodec", "sampling_rate": 32000, "target_bandwidths": [2.2], "codebook_size": 2048, "num_filters": 64,
    "upsampling_ratios": [8, 5, 4, 4], "use_causal_conv": False, "use_conv_shortcut": False,
}  # fmt: skip


@strict
class CALMConfig(BackboneConfig):
    r"""Config of [`CALMForAudioClassification`]: codified audio language modelling (Castellon et al., 2021).

    Args:
        backbone_config (`MusicgenConfig` or `dict`, *optional*):
            The codec, EnCodec (`audio_encoder`), and the language model of its tokens (`decoder`); by default with the
            sizes of `facebook/musicgen-small`.
        hidden_layer (`int` or `str`, *optional*, defaults to 12):
            Layer of the language model that the classifier reads. A number from 1 selects the output of one layer,
            averaged over time [hidden_size]; the model is built without the layers after it. The paper uses the middle
            layer. `"all"` concatenates the averages of all layers [layers x hidden_size] (ours).
        kwargs: See [`WindowedConfig`].
    """

    model_type = "hfmgc-calm"
    sub_configs = {"backbone_config": MusicgenConfig}
    # transformers would warn about the default token ids, which equal `vocab_size`. It is the model's start token.
    backbone_defaults = {
        "audio_encoder": _CODEC_32KHZ,
        "decoder": {"pad_token_id": None, "bos_token_id": None},
    }

    hidden_layer: int | Literal["all"] = 12

    @property
    def num_layers(self) -> int:
        """Number of layers of the language model."""
        return self.backbone_config.decoder.num_hidden_layers

    def check_layer(self) -> None:
        """Raise a ValueError unless `hidden_layer` exists and the language model fits the codec's tokens.

        The model calls this. The config itself does not, because a checkpoint's backbone may still replace its own.
        """
        codec, decoder = self.backbone_config.audio_encoder, self.backbone_config.decoder
        if self.hidden_layer != "all" and not 1 <= self.hidden_layer <= self.num_layers:
            raise ValueError(f"hidden_layer must be 1 to {self.num_layers} or 'all', not {self.hidden_layer}")
        if codec.audio_channels != 1:
            raise ValueError(f"backbone_config.audio_encoder.audio_channels must be 1, not {codec.audio_channels}")
        for name, actual, expected in (
            ("num_codebooks", decoder.num_codebooks, codec.num_quantizers),
            ("vocab_size", decoder.vocab_size, codec.codebook_size),
        ):
            if actual != expected:
                raise ValueError(
                    f"backbone_config.decoder.{name} must be {expected}, as in its audio_encoder, not {actual}"
                )
