"""Config of M2D, the Masked Modeling Duo, which is a baseline of the Deformer paper."""

from huggingface_hub.dataclasses import strict
from transformers.utils.type_validators import interval

from .config_fields import size
from .configuration_windowed import WindowedConfig


decay = interval(min=0, max=1)
# Some patches must be masked and some visible.
mask_share = interval(min=0, max=1, exclude_min=True, exclude_max=True)


@strict
class M2DConfig(WindowedConfig):
    r"""Config of [`M2DForPreTraining`] and [`M2DForAudioClassification`].

    The defaults are those of the authors' code (Niizumi et al., 2023): ViT-B for spectrograms of 80 mel bins.

    Args:
        num_bins (`int`, *optional*, defaults to 80): Mel bins of a window; a multiple of `patch_size`.
        patch_size (`int`, *optional*, defaults to 16): Height and width of a patch in bins and frames.
        hidden_size (`int`, *optional*, defaults to 768):
            Width of the encoder; a multiple of 4, because positions are encoded by sines and cosines on two axes.
        num_hidden_layers (`int`, *optional*, defaults to 12): Number of layers of the encoder.
        num_attention_heads (`int`, *optional*, defaults to 12): Attention heads of each layer of the encoder.
        intermediate_size (`int`, *optional*, defaults to 3072): Width of the feed-forward blocks of the encoder.
        layer_norm_eps (`float`, *optional*, defaults to 1e-6): Epsilon of the layer norms.
        mask_ratio (`float`, *optional*, defaults to 0.7):
            Share of the patches that pre-training masks. In the paper it is 0.6.
        predictor_hidden_size (`int`, *optional*, defaults to 512):
            Width of the predictor; a multiple of 4. Its feed-forward blocks are four times as wide.
        predictor_num_hidden_layers (`int`, *optional*, defaults to 8): Number of layers of the predictor.
        predictor_num_attention_heads (`int`, *optional*, defaults to 16):
            Attention heads of each layer of the predictor.
        ema_decay_start (`float`, *optional*, defaults to 0.99995):
            Decay of the target encoder's moving average in the first step of pre-training.
        ema_decay_end (`float`, *optional*, defaults to 0.99999):
            Decay in the last step. It changes linearly from step to step.
        kwargs: See [`WindowedConfig`].
    """

    model_type = "hfmgc-m2d"
    # Constants that transformers' ViT layers read.
    hidden_act = "gelu"
    hidden_dropout_prob = 0.0
    attention_probs_dropout_prob = 0.0
    qkv_bias = True

    num_bins: int = size(default=80)
    patch_size: int = size(default=16)
    hidden_size: int = size(default=768)
    num_hidden_layers: int = size(default=12)
    num_attention_heads: int = size(default=12)
    intermediate_size: int = size(default=3072)
    layer_norm_eps: float = 1e-6
    mask_ratio: float = mask_share(default=0.7)
    predictor_hidden_size: int = size(default=512)
    predictor_num_hidden_layers: int = size(default=8)
    predictor_num_attention_heads: int = size(default=16)
    ema_decay_start: float | int = decay(default=0.99995)
    ema_decay_end: float | int = decay(default=0.99999)

    def validate_patches(self) -> None:
        """Raise a ValueError unless whole patches cover the bins."""
        if self.num_bins % self.patch_size:
            raise ValueError(f"patch_size {self.patch_size} does not divide num_bins {self.num_bins}")

    def validate_widths(self) -> None:
        """Raise a ValueError unless both widths fit their attention heads and the position encoding."""
        for prefix in ("", "predictor_"):
            width, heads = (getattr(self, prefix + name) for name in ("hidden_size", "num_attention_heads"))
            if width % heads:
                raise ValueError(
                    f"{prefix}hidden_size {width} is not divisible by {prefix}num_attention_heads {heads}"
                )
            if width % 4:
                raise ValueError(f"{prefix}hidden_size {width} is not a multiple of 4")
