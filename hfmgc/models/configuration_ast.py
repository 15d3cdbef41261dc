"""Config of the Audio Spectrogram Transformer with the head of the AST report."""

from huggingface_hub.dataclasses import strict
from transformers import ASTConfig

from .config_fields import check_sizes, rate, size
from .configuration_windowed import WindowedConfig


_BACKBONE_SIZES = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "patch_size", "frequency_stride",
    "time_stride", "max_length", "num_mel_bins",
)  # fmt: skip


@strict
class HfmgcASTConfig(WindowedConfig):
    r"""Config of [`HfmgcASTForAudioClassification`].

    Args:
        backbone_config (`ASTConfig` or `dict`, *optional*):
            The Audio Spectrogram Transformer; AST-base, as pre-trained on AudioSet, by default. Its `max_length` is the
            number of frames with stored position embeddings, not a limit: for windows of another length they are
            interpolated along time.
        head_hidden_size (`int`, *optional*, defaults to 200):
            Width of the head's hidden layer (report, Table 1).
        head_input_dropout (`float`, *optional*, defaults to 0.05):
            Dropout before the head's first linear layer (the report's code).
        head_hidden_dropout (`float`, *optional*, defaults to 0.1):
            Dropout before the head's second linear layer (the report's code).
        kwargs: See [`WindowedConfig`] (`voting`, `label_smoothing`) and `PreTrainedConfig` (`id2label`, ...).

    Example:

    ```python
    >>> from hfmgc.models.configuration_ast import HfmgcASTConfig
    >>> from hfmgc.models.modeling_ast import HfmgcASTForAudioClassification

    >>> model = HfmgcASTForAudioClassification(HfmgcASTConfig(num_labels=10))
    >>> sum(parameter.numel() for parameter in model.classifier.parameters())
    155810
    ```
    """

    model_type = "hfmgc-ast"
    sub_configs = {"backbone_config": ASTConfig}  # noqa: RUF012 (transformers reads it as a plain class attribute)

    backbone_config: ASTConfig | dict | None = None
    head_hidden_size: int = size(default=200)
    head_input_dropout: float | int = rate(default=0.05)
    head_hidden_dropout: float | int = rate(default=0.1)

    def __post_init__(self, **kwargs):
        if not isinstance(self.backbone_config, ASTConfig):
            self.backbone_config = ASTConfig(**(self.backbone_config or {}))
        super().__post_init__(**kwargs)

    def validate_backbone(self) -> None:
        """Raise a ValueError naming a field of `backbone_config` that no model can be built with."""
        backbone = self.backbone_config
        check_sizes(**{f"backbone_config.{name}": getattr(backbone, name) for name in _BACKBONE_SIZES})
        if backbone.hidden_size % backbone.num_attention_heads:
            raise ValueError(
                f"backbone_config.hidden_size {backbone.hidden_size} is not divisible by num_attention_heads "
                f"{backbone.num_attention_heads}"
            )


# Saved checkpoints include the code, so they load without hfmgc.
HfmgcASTConfig.register_for_auto_class()
