"""Config of S3T: a Swin Transformer on spectrograms, pre-trained with momentum contrast."""

from huggingface_hub.dataclasses import strict
from transformers import SwinConfig
from transformers.activations import ACT2FN
from transformers.utils.type_validators import interval

from .config_fields import check_sizes, rate, size
from .configuration_windowed import WindowedConfig


# transformers' defaults are Swin-T (C = 96, depths 2-2-6-2) for images of three channels. Ours: no stochastic depth, which
# MoCo does not have either; fine-tuning may turn it on.
_SWIN_T = {"num_channels": 1, "drop_path_rate": 0.0}


@strict
class S3TConfig(WindowedConfig):
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

    Example:

    ```python
    >>> from hfmgc.models.configuration_s3t import S3TConfig
    >>> from hfmgc.models.modeling_s3t import S3TForAudioClassification

    >>> S3TForAudioClassification(S3TConfig(num_labels=10)).classifier
    Linear(in_features=768, out_features=10, bias=True)
    ```
    """

    model_type = "hfmgc-s3t"
    sub_configs = {"backbone_config": SwinConfig}  # noqa: RUF012 (transformers reads it as a plain class attribute)

    backbone_config: SwinConfig | dict | None = None
    num_bins: int | None = None
    dropout: float | int = rate(default=0.0)
    projection_size: int = size(default=128)
    momentum: float | int = interval(min=0, max=1)(default=0.999)
    temperature: float | int = interval(min=0, exclude_min=True)(default=0.2)
    queue_length: int = size(default=65536)

    def __post_init__(self, **kwargs):
        if not isinstance(self.backbone_config, SwinConfig):
            self.backbone_config = SwinConfig(**{**_SWIN_T, **(self.backbone_config or {})})
        super().__post_init__(**kwargs)

    def validate_backbone(self) -> None:
        """Raise a ValueError naming a field of `backbone_config`, or `num_bins`, that no model can be built with."""
        backbone = self.backbone_config
        if backbone.num_channels != 1:
            raise ValueError(
                f"backbone_config.num_channels must be 1 (a spectrogram is one), not {backbone.num_channels}"
            )
        if backbone.use_absolute_embeddings:
            raise ValueError("backbone_config.use_absolute_embeddings must be false: windows differ in length")
        names = ("patch_size", "embed_dim", "depths", "num_heads", "window_size")
        check_sizes(**{f"backbone_config.{name}": getattr(backbone, name) for name in names})
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
        if backbone.hidden_act not in ACT2FN:
            raise ValueError(f"backbone_config.hidden_act: transformers knows no activation {backbone.hidden_act!r}")
        if self.num_bins is not None:
            check_sizes(num_bins=self.num_bins)


# Saved checkpoints include the code, so they load without hfmgc.
S3TConfig.register_for_auto_class()
