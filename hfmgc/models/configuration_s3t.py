"""Config of S3T: a Swin Transformer on spectrograms, pre-trained with momentum contrast."""

from huggingface_hub.dataclasses import strict
from transformers import SwinConfig
from transformers.utils.type_validators import interval, positive_int_field

from .config_fields import rate, size
from .configuration_backbone import BackboneConfig


@strict
class S3TConfig(BackboneConfig):
    r"""Config of [`S3TForPreTraining`] and [`S3TForAudioClassification`].

    S3T's own settings could not be read; the network is the Deformer paper's description of it (section 4.1), and the
    contrast is MoCo v2's (Chen et al., 2020).

    Args:
        backbone_config (`SwinConfig` or `dict`, *optional*):
            The encoder; Swin-T over one channel by default. A dict overrides its fields. Its `image_size` is not used:
            windows may have any number of frames (ours).
        num_bins (`int`, *optional*): Bins that a window must have (ours); None: any number.
        dropout (`float`, *optional*, defaults to 0.0): Before the linear classifier (ours).
        projection_size (`int`, *optional*, defaults to 128): Dimensions in which views are compared.
        momentum (`float`, *optional*, defaults to 0.999): Of the key encoder, which follows the query encoder.
        temperature (`float`, *optional*, defaults to 0.2): Divides the similarities.
        queue_length (`int`, *optional*, defaults to 65536):
            Keys of earlier batches that serve as negatives: a multiple of the global batch, and no more than there are
            examples, or an example would be its own negative.
        kwargs: See [`WindowedConfig`] (`voting`, `label_smoothing`) and `PreTrainedConfig` (`id2label`, ...).
    """

    model_type = "hfmgc-s3t"
    sub_configs = {"backbone_config": SwinConfig}
    # transformers' defaults are Swin-T (C = 96, depths 2-2-6-2) for images of three channels. Ours: no stochastic depth,
    # which MoCo does not have either; fine-tuning may turn it on.
    backbone_defaults = {"num_channels": 1, "drop_path_rate": 0.0}

    num_bins: int | None = positive_int_field(default=None)
    dropout: float | int = rate(default=0.0)
    projection_size: int = size(default=128)
    momentum: float | int = interval(min=0, max=1)(default=0.999)
    temperature: float | int = interval(min=0, exclude_min=True)(default=0.2)
    queue_length: int = size(default=65536)

    def validate_swin(self) -> None:
        """Raise a ValueError naming a field of `backbone_config` that is special to Swin."""
        backbone = self.backbone_config
        if backbone.use_absolute_embeddings:
            raise ValueError("backbone_config.use_absolute_embeddings must be false: windows differ in length")
        if len(backbone.num_heads) != len(backbone.depths):
            raise ValueError(
                f"backbone_config.num_heads must be one for each of the {len(backbone.depths)} stages, not "
                f"{list(backbone.num_heads)}"
            )
        for stage, heads in enumerate(backbone.num_heads):
            if backbone.embed_dim * 2**stage % heads:
                raise ValueError(
                    f"backbone_config.num_heads: the {backbone.embed_dim * 2**stage} channels of stage {stage + 1} are not "
                    f"divisible by {heads}"
                )
