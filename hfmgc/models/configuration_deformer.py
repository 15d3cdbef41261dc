"""Config of Deformer: a vision transformer over spectrograms, pre-trained by denoising patches."""

from huggingface_hub.dataclasses import strict
from transformers import ViTConfig

from .config_fields import check_sizes
from .configuration_prior_autoencoder import PriorAutoencoderConfig
from .configuration_windowed import WindowedConfig


_BACKBONE_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "patch_size")


@strict
class DeformerConfig(WindowedConfig):
    r"""Config of [`DeformerForPreTraining`] and [`DeformerForAudioClassification`].

    Args:
        backbone_config (`ViTConfig` or `dict`, *optional*):
            The transformer; by default ViT-B over one channel of 224x224 in patches of 16x16 (Table 2). A dict overrides
            its fields. `image_size` is the size of a window, or [bins, frames].
        prior_config (`PriorAutoencoderConfig` or `dict`, *optional*):
            The autoencoder whose decoder restores patches in pre-training; the paper's by default.
        noise_ratio (`float`, *optional*, defaults to 0.75):
            Share of the patches that get noise in pre-training, the paper's beta (Table 2).
        kwargs: See [`WindowedConfig`] (`voting`, `label_smoothing`) and `PreTrainedConfig` (`id2label`, ...).

    Example:

    ```python
    >>> from hfmgc.models.configuration_deformer import DeformerConfig
    >>> from hfmgc.models.modeling_deformer import DeformerForAudioClassification

    >>> model = DeformerForAudioClassification(DeformerConfig(num_labels=10))
    >>> model.classifier
    Linear(in_features=768, out_features=10, bias=True)
    ```
    """

    model_type = "hfmgc-deformer"
    sub_configs = {"backbone_config": ViTConfig, "prior_config": PriorAutoencoderConfig}  # noqa: RUF012 (transformers reads it)

    backbone_config: ViTConfig | dict | None = None
    prior_config: PriorAutoencoderConfig | dict | None = None
    noise_ratio: float | int = 0.75

    def __post_init__(self, **kwargs):
        if not isinstance(self.backbone_config, ViTConfig):
            self.backbone_config = ViTConfig(**{"num_channels": 1, **(self.backbone_config or {})})
        if not isinstance(self.prior_config, PriorAutoencoderConfig):
            self.prior_config = PriorAutoencoderConfig(**(self.prior_config or {}))
        super().__post_init__(**kwargs)

    @property
    def window_shape(self) -> tuple[int, int]:
        """Bins and frames of a window."""
        size = self.backbone_config.image_size
        return (size, size) if isinstance(size, int) else tuple(size)

    @property
    def num_patches(self) -> int:
        """Patches of a window."""
        bins, frames = self.window_shape
        return bins * frames // self.backbone_config.patch_size**2

    def validate_backbone(self) -> None:
        """Raise a ValueError naming a field of `backbone_config` that no model can be built with."""
        backbone = self.backbone_config
        check_sizes(**{f"backbone_config.{name}": getattr(backbone, name) for name in _BACKBONE_SIZES})
        check_sizes(**{"backbone_config.image_size": self.window_shape})
        if backbone.num_channels != 1:
            raise ValueError(
                f"backbone_config.num_channels must be 1 (a spectrogram is one), not {backbone.num_channels}"
            )
        if any(length % backbone.patch_size for length in self.window_shape):
            raise ValueError(
                f"backbone_config.patch_size {backbone.patch_size} does not divide image_size {backbone.image_size}"
            )
        if backbone.hidden_size % backbone.num_attention_heads:
            raise ValueError(
                f"backbone_config.hidden_size {backbone.hidden_size} is not divisible by num_attention_heads "
                f"{backbone.num_attention_heads}"
            )

    def validate_pretraining(self) -> None:
        """Raise a ValueError naming a field of the pre-training that does not fit."""
        if not 0 < self.noise_ratio <= 1:
            raise ValueError(f"noise_ratio must be above 0 and at most 1, not {self.noise_ratio}")
        if self.prior_config.patch_size != self.backbone_config.patch_size:
            raise ValueError(
                f"prior_config.patch_size is {self.prior_config.patch_size}, and backbone_config.patch_size is "
                f"{self.backbone_config.patch_size}: train the prior autoencoder on patches of that size"
            )


# Saved checkpoints include the code, so they load without hfmgc.
DeformerConfig.register_for_auto_class()
