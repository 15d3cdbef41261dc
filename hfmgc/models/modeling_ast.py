"""Audio Spectrogram Transformer (AST): transformers' `ASTModel` with the head of the AST report."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ASTConfig, ASTForAudioClassification, ASTModel
from transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer import (
    ASTEmbeddings,
    ASTLayer,
)

from .configuration_ast import HfmgcASTConfig
from .modeling_backbone import BackboneForAudioClassification
from .modeling_windowed import AttentionPreTrainedModel, WindowedModel, WindowOutput, register_auto_classes


# The class token and the distillation token. Their mean is the pooled output.
SPECIAL_TOKENS = 2


class InterpolatedASTEmbeddings(ASTEmbeddings):
    """AST's embeddings for windows of any length: position embeddings are interpolated linearly along time."""

    def forward(self, input_values: Tensor) -> Tensor:
        """Embed spectrograms [windows, frames, bins] as tokens [windows, 2 + patches, hidden]."""
        patches = self.patch_embeddings(input_values)
        special_tokens = torch.cat((self.cls_token, self.distillation_token), dim=1)
        tokens = torch.cat((special_tokens.expand(patches.shape[0], -1, -1), patches), dim=1)
        return self.dropout(tokens + self.interpolate_positions(patches.shape[1]))

    def interpolate_positions(self, num_patches: int) -> Tensor:
        """Return the position embeddings [1, 2 + num_patches, hidden] for windows of `num_patches` patches."""
        frequency_patches, time_patches = self.get_shape(self.config)
        if num_patches == frequency_patches * time_patches:
            return self.position_embeddings
        special, grid = self.position_embeddings.tensor_split([SPECIAL_TOKENS], dim=1)
        grid = grid.unflatten(1, (frequency_patches, time_patches)).permute(0, 3, 1, 2)
        # Some devices interpolate only in float32.
        size = (frequency_patches, num_patches // frequency_patches)
        grid = F.interpolate(grid.float(), size=size, mode="bilinear", align_corners=False).to(special.dtype)
        return torch.cat((special, grid.flatten(2).transpose(1, 2)), dim=1)


class InterpolatedASTModel(ASTModel):
    """transformers' `ASTModel` for windows of any length."""

    def __init__(self, config: ASTConfig):
        super().__init__(config)
        self.embeddings = InterpolatedASTEmbeddings(config)
        self.post_init()


class HfmgcASTPreTrainedModel(AttentionPreTrainedModel):
    """Base class of the model and the classifier."""

    config_class = HfmgcASTConfig
    _no_split_modules = ("InterpolatedASTEmbeddings", "ASTLayer")


class HfmgcASTModel(HfmgcASTPreTrainedModel, WindowedModel):
    """The AST backbone with the layer norm of its AudioSet classifier.

    Stage 0 is the embeddings. Stages 1 + 2i and 2 + 2i are the attention block and the feed-forward block of layer i,
    each with its residual sum. The last stage is both layer norms and the pooling. Because the pooling reads only the
    two special tokens, the last layer computes no others. Up to rounding, the stages give the same embeddings as
    `embed_windows`.
    """

    def __init__(self, config: HfmgcASTConfig):
        super().__init__(config)
        self.backbone = InterpolatedASTModel(config.backbone_config)
        self.embedding_size = config.backbone_config.hidden_size
        self.least_frames = config.backbone_config.patch_size
        self.pooled_layernorm = nn.LayerNorm(self.embedding_size, eps=config.backbone_config.layer_norm_eps)
        self.post_init()

    @property
    def num_bins(self) -> int:
        """Mel bins of a window."""
        return self.config.backbone_config.num_mel_bins

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Embed log-mel spectrograms `input_values` [windows, frames, bins] as pooled outputs [windows, hidden]."""
        output = self.backbone(input_values, **kwargs)
        return WindowOutput(
            embeddings=self.pooled_layernorm(output.pooler_output),
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )

    @property
    def num_stages(self) -> int:
        """The embeddings, two stages for each layer, and the pooling."""
        return 2 + 2 * len(self.backbone.layers)

    def stage_of(self, parameter: str) -> int:
        """See [`WindowedModel`]."""
        parts = parameter.split(".")
        if parts[:2] == ["backbone", "layers"]:
            return 1 + 2 * int(parts[2]) + (parts[3] in ("mlp", "layernorm_after"))
        return 0 if parts[:2] == ["backbone", "embeddings"] else self.num_stages - 1

    def run_stages(self, states: Tensor, first: int, stop: int) -> Tensor:
        """See [`WindowedModel`]. The encoder runs without dropout."""
        for stage in range(first, stop):
            layer_index, feed_forward = divmod(stage - 1, 2)
            if stage == 0:
                states = self.backbone.embeddings(states)
            elif stage == self.num_stages - 1:
                pooled = self.backbone.layernorm(states[:, :SPECIAL_TOKENS]).mean(dim=1)
                states = self.pooled_layernorm(pooled).unsqueeze(1)
            elif feed_forward:
                layer = self.backbone.layers[layer_index]
                states = states + layer.mlp(layer.layernorm_after(states))
            else:
                tokens = SPECIAL_TOKENS if stage == self.num_stages - 3 else states.shape[1]
                states = states[:, :tokens] + _attend(self.backbone.layers[layer_index], states, tokens)
        return states

    def state_shape(self, stages: int, frames: int, bins: int) -> tuple[int, int]:
        """See [`WindowedModel`]."""
        config = self.config.backbone_config
        if stages == self.num_stages:
            return 1, config.hidden_size
        if stages >= self.num_stages - 2:
            return SPECIAL_TOKENS, config.hidden_size
        height = (bins - config.patch_size) // config.frequency_stride + 1
        width = (frames - config.patch_size) // config.time_stride + 1
        return SPECIAL_TOKENS + height * width, config.hidden_size


def _attend(layer: ASTLayer, states: Tensor, tokens: int) -> Tensor:
    """Return a layer's attention output for the first `tokens` tokens of `states` [windows, all tokens, hidden]."""
    attention = layer.attention
    normalized = layer.layernorm_before(states)
    heads = (len(states), -1, attention.num_attention_heads, attention.head_dim)
    # The projections are called as modules, because adapters replace them with modules of their own.
    query = attention.q_proj(normalized[:, :tokens]).view(heads).transpose(1, 2)
    key = attention.k_proj(normalized).view(heads).transpose(1, 2)
    value = attention.v_proj(normalized).view(heads).transpose(1, 2)
    attended = F.scaled_dot_product_attention(query, key, value)
    return attention.o_proj(attended.transpose(1, 2).flatten(2))


class HfmgcASTHead(nn.Module):
    """Dropout -> linear -> GELU -> dropout -> linear (report, Figure 8; widths and rates from its code)."""

    def __init__(self, config: HfmgcASTConfig):
        super().__init__()
        self.input_dropout = nn.Dropout(config.head_input_dropout)
        self.dense = nn.Linear(config.backbone_config.hidden_size, config.head_hidden_size)
        self.activation = nn.GELU()
        self.hidden_dropout = nn.Dropout(config.head_hidden_dropout)
        self.output = nn.Linear(config.head_hidden_size, config.num_labels)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map pooled outputs [windows, hidden] to logits [windows, labels]."""
        hidden = self.activation(self.dense(self.input_dropout(pooled)))
        return self.output(self.hidden_dropout(hidden))


class HfmgcASTForAudioClassification(HfmgcASTPreTrainedModel, BackboneForAudioClassification):
    """AST with the report's head in place of the linear layer of the AudioSet classifier."""

    def __init__(self, config: HfmgcASTConfig):
        super().__init__(config, HfmgcASTModel(config), HfmgcASTHead(config))

    @classmethod
    def load_backbone(cls, name_or_path: str, **kwargs) -> tuple[ASTForAudioClassification, list[str]]:
        """Load an AST checkpoint, such as `MIT/ast-finetuned-audioset-10-10-0.4593`, with or without a classifier."""
        pretrained, report = ASTForAudioClassification.from_pretrained(
            name_or_path, output_loading_info=True, **kwargs
        )
        return pretrained, [name for name in report["missing_keys"] if not name.startswith("classifier.")]

    def copy_backbone(self, pretrained: ASTForAudioClassification) -> None:
        """Copy the backbone and the layer norm of the AudioSet classifier."""
        self.model.backbone.load_state_dict(pretrained.audio_spectrogram_transformer.state_dict())
        self.model.pooled_layernorm.load_state_dict(pretrained.classifier.layernorm.state_dict())


register_auto_classes(AutoModel=HfmgcASTModel, AutoModelForAudioClassification=HfmgcASTForAudioClassification)
