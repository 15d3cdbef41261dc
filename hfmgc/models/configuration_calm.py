"""Config of a codec language model with a linear head."""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import MusicgenConfig

from .configuration_backbone import BackboneConfig


# The codec of MusicGen (facebook/encodec_32khz); the defaults of EncodecConfig are those of another one.
_CODEC_32KHZ = {
    "model_type": "encodec", "sampling_rate": 32000, "target_bandwidths": [2.2], "codebook_size": 2048, "num_filters": 64,
    "upsampling_ratios": [8, 5, 4, 4], "use_causal_conv": False, "use_conv_shortcut": False,
}  # fmt: skip


@strict
class CALMConfig(BackboneConfig):
    r"""Config of [`CALMForAudioClassification`], codified audio language modelling (Castellon et al., 2021).

    Args:
        backbone_config (`MusicgenConfig` or `dict`, *optional*):
            EnCodec (`audio_encoder`) and the language model over its tokens (`decoder`); the sizes of
            `facebook/musicgen-small` by default.
        hidden_layer (`int` or `str`, *optional*, defaults to 12):
            Layer of the language model, from 1, whose output is averaged over time. The paper takes the middle one; the
            layers after it are left out. `"all"`: the means of all layers one after the other [layers x hidden_size].
        kwargs: See [`WindowedConfig`].
    """

    model_type = "hfmgc-calm"
    sub_configs = {"backbone_config": MusicgenConfig}
    # The model uses `vocab_size` as the start token; transformers would warn of the default, which is the same number.
    backbone_defaults = {
        "audio_encoder": _CODEC_32KHZ,
        "decoder": {"pad_token_id": None, "bos_token_id": None},
    }

    hidden_layer: int | Literal["all"] = 12

    @property
    def num_layers(self) -> int:
        """Layers among which `hidden_layer` chooses."""
        return self.backbone_config.decoder.num_hidden_layers

    def check_layer(self) -> None:
        """Raise a ValueError unless the layer exists and the language model reads the codec's tokens.

        For models: the backbone of a config can still be replaced by that of a checkpoint.
        """
        codec, decoder = self.backbone_config.audio_encoder, self.backbone_config.decoder
        if self.hidden_layer != "all" and not 1 <= self.hidden_layer <= self.num_layers:
            raise ValueError(f"hidden_layer must lie in [1, {self.num_layers}] or be 'all', not {self.hidden_layer}")
        if codec.audio_channels != 1:
            raise ValueError(f"backbone_config.audio_encoder.audio_channels must be 1, not {codec.audio_channels}")
        for name, found, wanted in (
            ("num_codebooks", decoder.num_codebooks, codec.num_quantizers),
            ("vocab_size", decoder.vocab_size, codec.codebook_size),
        ):
            if found != wanted:
                raise ValueError(f"backbone_config.decoder.{name} is {found}, but its audio_encoder has {wanted}")
