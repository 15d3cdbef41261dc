"""Config of Deformer: a vision transformer that is pre-trained by denoising patches of spectrograms."""

from huggingface_hub.dataclasses import strict
from transformers import ViTConfig
from transformers.utils.type_validators import interval

from .configuration_backbone import BackboneConfig
from .configuration_prior_autoencoder import PriorAutoencoderConfig


@strict
class DeformerConfig(BackboneConfig):
    r"""Config of [`DeformerForPreTraining`] and [`DeformerForAudioClassification`].

    Args:
        backbone_config (`ViTConfig` or `dict`, *optional*):
            The transformer; by default ViT-B for windows of 224x224 in patches of 16x16 (Table 2). A dict overrides
            single fields. `image_size` is the size of a window, or [bins, frames].
        prior_config (`PriorAutoencoderConfig` or `dict`, *optional*):
            The autoencoder whose decoder restores patches in pre-training; the paper's by default.
        noise_ratio (`float`, *optional*, defaults to 0.75):
            Share of the patches to which pre-training adds noise, the paper's beta (Table 2).
        kwargs: See [`WindowedConfig`].
    """

    model_type = "hfmgc-deformer"
    sub_configs = {"backbone_config": ViTConfig, "prior_config": PriorAutoencoderConfig}
    backbone_defaults = {"num_channels": 1}

    prior_config: PriorAutoencoderConfig | dict | None = None
    noise_ratio: float | int = interval(min=0, max=1, exclude_min=True)(default=0.75)

    def __post_init__(self, **kwargs):
        if not isinstance(self.prior_config, PriorAutoencoderConfig):
            self.prior_config = PriorAutoencoderConfig(**(self.prior_config or {}))
        super().__post_init__(**kwargs)

    @property
    def window_shape(self) -> tuple[int, int]:
        """Bins and frames of a window."""
        size = self.backbone_config.image_size
        return (size, size) if isinstance(size, int) else tuple(size)

    def validate_patches(self) -> None:
        """Raise a ValueError unless whole patches of the prior autoencoder's size cover a window."""
        backbone = self.backbone_config
        if any(length % backbone.patch_size for length in self.window_shape):
            raise ValueError(
                f"backbone_config.patch_size {backbone.patch_size} does not divide image_size {backbone.image_size}"
            )
        if self.prior_config.patch_size != backbone.patch_size:
            raise ValueError(
                f"prior_config.patch_size is {self.prior_config.patch_size}, but backbone_config.patch_size is "
                f"{backbone.patch_size}: train the prior autoencoder with patch_size {backbone.patch_size}"
            )
