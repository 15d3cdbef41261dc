"""Config of the Audio Spectrogram Transformer with the head of the AST report."""

from transformers import ASTConfig

from .config_checks import check_rates, check_sizes
from .configuration_windowed import WindowedConfig


_BACKBONE_SIZES = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "patch_size", "frequency_stride",
    "time_stride", "max_length", "num_mel_bins",
)  # fmt: skip


class HfmgcASTConfig(WindowedConfig):
    r"""Config of [`HfmgcASTForAudioClassification`].

    Args:
        backbone_config (`ASTConfig` or `dict`, *optional*):
            The Audio Spectrogram Transformer underneath; AST-base (as pre-trained on AudioSet) by default. Its
            `max_length` is the number of frames for which position embeddings are stored, not a limit: for windows of
            another length they are interpolated along time.
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

    def __init__(
        self,
        backbone_config: ASTConfig | dict | None = None,
        head_hidden_size: int = 200,
        head_input_dropout: float = 0.05,
        head_hidden_dropout: float = 0.1,
        **kwargs,
    ):
        if backbone_config is None:
            backbone_config = ASTConfig()
        elif isinstance(backbone_config, dict):
            backbone_config = ASTConfig(**backbone_config)
        self.backbone_config = backbone_config
        self.head_hidden_size = head_hidden_size
        self.head_input_dropout = head_input_dropout
        self.head_hidden_dropout = head_hidden_dropout
        super().__init__(**kwargs)

    def validate(self) -> None:
        """Raise a ValueError that names the field from which no model can be built."""
        super().validate()
        backbone = self.backbone_config
        check_sizes(**{f"backbone_config.{name}": getattr(backbone, name) for name in _BACKBONE_SIZES})
        if backbone.hidden_size % backbone.num_attention_heads:
            raise ValueError(
                f"backbone_config.hidden_size {backbone.hidden_size} is not divisible by num_attention_heads "
                f"{backbone.num_attention_heads}"
            )
        check_sizes(head_hidden_size=self.head_hidden_size)
        check_rates(head_input_dropout=self.head_input_dropout, head_hidden_dropout=self.head_hidden_dropout)


# The code travels with every checkpoint, so that it loads where hfmgc is not installed.
HfmgcASTConfig.register_for_auto_class()
