"""Config of the Audio Spectrogram Transformer (AST) with the head of the AST report."""

from huggingface_hub.dataclasses import strict
from transformers import ASTConfig

from .config_fields import rate, size
from .configuration_backbone import BackboneConfig


@strict
class HfmgcASTConfig(BackboneConfig):
    r"""Config of [`HfmgcASTForAudioClassification`].

    Args:
        backbone_config (`ASTConfig` or `dict`, *optional*):
            The Audio Spectrogram Transformer; by default AST-base, the size of the checkpoints pre-trained on
            AudioSet. Its `max_length` is the number of frames with stored position embeddings. Windows of any length
            are accepted: the position embeddings are interpolated along time.
        head_hidden_size (`int`, *optional*, defaults to 200):
            Width of the head's hidden layer (report, Table 1).
        head_input_dropout (`float`, *optional*, defaults to 0.05):
            Dropout rate before the head's first linear layer (the report's code).
        head_hidden_dropout (`float`, *optional*, defaults to 0.1):
            Dropout rate before the head's second linear layer (the report's code).
        kwargs: See [`WindowedConfig`].
    """

    model_type = "hfmgc-ast"
    sub_configs = {"backbone_config": ASTConfig}

    head_hidden_size: int = size(default=200)
    head_input_dropout: float | int = rate(default=0.05)
    head_hidden_dropout: float | int = rate(default=0.1)
