"""Config of S3T: a Swin Transformer on spectrograms, pre-trained by momentum contrast."""

from huggingface_hub.dataclasses import strict
from transformers import SwinConfig
from transformers.utils.type_validators import interval, positive_int_field

from .config_fields import rate, size
from .configuration_backbone import BackboneConfig


@strict
class S3TConfig(BackboneConfig):
    r"""Config of [`S3TForPreTraining`] and [`S3TForAudioClassification`].

    We had no access to S3T's own settings. The network follows its description in the Deformer paper (section 4.1),
    and the contrast follows MoCo v2 (Chen et al., 2020).

    Args:
        backbone_config (`SwinConfig` or `dict`, *optional*):
            The encoder; by default Swin-T for one channel. A dict overrides single fields. `image_size` is not used,
            because windows may have any number of frames (ours).
        num_bins (`int`, *optional*): Required number of bins of a window (ours); by default any number.
        dropout (`float`, *optional*, defaults to 0.0): Dropout rate before the classifier (ours).
        projection_size (`int`, *optional*, defaults to 128): Size of the vectors that the contrast compares.
        momentum (`float`, *optional*, defaults to 0.999): Decay of the key encoder's moving average.
        temperature (`float`, *optional*, defaults to 0.2): Divisor of the similarities.
        queue_length (`int`, *optional*, defaults to 65536):
            Number of keys from earlier batches that serve as negatives. It must be a multiple of the global batch, and
            at most the number of examples; otherwise an example would be its own negative.
        kwargs: See [`WindowedConfig`].
    """

    model_type = "hfmgc-s3t"
    sub_configs = {"backbone_config": SwinConfig}
    # SwinConfig describes Swin-T (C = 96, depths 2-2-6-2) for three channels. As in MoCo, there is no stochastic depth
    # (ours); fine-tuning may turn it on.
    backbone_defaults = {"num_channels": 1, "drop_path_rate": 0.0}

    num_bins: int | None = positive_int_field(default=None)
    dropout: float | int = rate(default=0.0)
    projection_size: int = size(default=128)
    momentum: float | int = interval(min=0, max=1)(default=0.999)
    temperature: float | int = interval(min=0, exclude_min=True)(default=0.2)
    queue_length: int = size(default=65536)

    def validate_swin(self) -> None:
        """Raise a ValueError unless Swin's own fields fit each other and windows of any length."""
        backbone = self.backbone_config
        if backbone.use_absolute_embeddings:
            raise ValueError("backbone_config.use_absolute_embeddings must be false, because windows differ in length")
        if len(backbone.num_heads) != len(backbone.depths):
            raise ValueError(
                f"backbone_config.num_heads must have {len(backbone.depths)} entries, as depths does, not "
                f"{len(backbone.num_heads)}"
            )
        for stage, heads in enumerate(backbone.num_heads):
            if backbone.embed_dim * 2**stage % heads:
                raise ValueError(
                    f"backbone_config.num_heads: {heads} does not divide the channels of stage {stage + 1}, "
                    f"{backbone.embed_dim * 2**stage}"
                )
