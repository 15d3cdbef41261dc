"""Audio Spectrogram Transformer with the head of the AST report, on transformers' `ASTModel`."""

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


# The class and distillation tokens, whose mean is the pooled output.
SPECIAL_TOKENS = 2


class InterpolatedASTEmbeddings(ASTEmbeddings):
    """AST's embeddings for windows of any length: positions are interpolated linearly along time (never frequency)."""

    def forward(self, input_values: Tensor) -> Tensor:
        """Embed `input_values` [windows, frames, bins] as [windows, 2 + patches, hidden]."""
        patches = self.patch_embeddings(input_values)
        special_tokens = torch.cat((self.cls_token, self.distillation_token), dim=1)
        tokens = torch.cat((special_tokens.expand(patches.shape[0], -1, -1), patches), dim=1)
        return self.dropout(tokens + self.interpolated_positions(patches.shape[1]))

    def interpolated_positions(self, num_patches: int) -> Tensor:
        """Return position embeddings [1, 2 + num_patches, hidden]; the stored ones where the length is theirs."""
        frequency_patches, time_patches = self.get_shape(self.config)
        if num_patches == frequency_patches * time_patches:
            return self.position_embeddings
        special, grid = self.position_embeddings[:, :2], self.position_embeddings[:, 2:]
        grid = grid.unflatten(1, (frequency_patches, time_patches)).permute(0, 3, 1, 2)
        # In float32: not every device has a half-precision kernel for linear interpolation.
        size = (frequency_patches, num_patches // frequency_patches)
        grid = F.interpolate(grid.float(), size=size, mode="bilinear", align_corners=False).to(special.dtype)
        return torch.cat((special, grid.flatten(2).transpose(1, 2)), dim=1)


class InterpolatedASTModel(ASTModel):
    """transformers' `ASTModel` that accepts windows of any length."""

    def __init__(self, config: ASTConfig):
        super().__init__(config)
        self.embeddings = InterpolatedASTEmbeddings(config)
        self.post_init()


class HfmgcASTPreTrainedModel(AttentionPreTrainedModel):
    """Base of the model and the classifier."""

    config_class = HfmgcASTConfig
    _no_split_modules = ("InterpolatedASTEmbeddings", "ASTLayer")


class HfmgcASTModel(HfmgcASTPreTrainedModel, WindowedModel):
    """AST backbone, and the layer norm of its AudioSet classifier.

    Its stages: 0, the embeddings; 1 + 2 i and 2 + 2 i, attention and feed-forward block of layer i, each with the residual
    sum; the last one, both layer norms and the pooling. The pooling reads only the two special tokens, so the attention of
    the last layer computes only these. The results equal those of `embed_windows` within rounding.
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
        """Embed log-mel spectrograms `input_values` [windows, frames, bins] as [windows, hidden]."""
        output = self.backbone(input_values, **kwargs)
        return WindowOutput(
            embeddings=self.pooled_layernorm(output.pooler_output),
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )

    @property
    def num_stages(self) -> int:
        """Embeddings, two for each layer, and the pooling."""
        return 2 + 2 * len(self.backbone.layers)

    def stage_of(self, parameter: str) -> int:
        """Return the stage, from 0, that a parameter belongs to."""
        parts = parameter.split(".")
        if parts[:2] == ["backbone", "layers"]:
            return 1 + 2 * int(parts[2]) + (parts[3] in ("mlp", "layernorm_after"))
        return 0 if parts[:2] == ["backbone", "embeddings"] else self.num_stages - 1

    def run_stages(self, states: Tensor, first: int, stop: int) -> Tensor:
        """Run some of the stages on single windows (see [`WindowedModel`]); without dropout in the encoder."""
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
                states = states[:, :tokens] + _attention(self.backbone.layers[layer_index], states, tokens)
        return states

    def state_shape(self, stages: int, frames: int, bins: int) -> tuple[int, int]:
        """Return the tokens and the hidden size of a window's states after so many stages."""
        config = self.config.backbone_config
        if stages == self.num_stages:
            return 1, config.hidden_size
        if stages >= self.num_stages - 2:
            return SPECIAL_TOKENS, config.hidden_size
        height = (bins - config.patch_size) // config.frequency_stride + 1
        width = (frames - config.patch_size) // config.time_stride + 1
        return SPECIAL_TOKENS + height * width, config.hidden_size


def _attention(layer: ASTLayer, hidden: Tensor, tokens: int) -> Tensor:
    """Return the attention output of a layer for the first `tokens` of `hidden` [windows, all tokens, hidden]."""
    attention = layer.attention
    normal = layer.layernorm_before(hidden)
    by_head = (len(hidden), -1, attention.num_attention_heads, attention.head_dim)
    # The linear layers are called as modules, because an adapter replaces them by its own.
    query = attention.q_proj(normal[:, :tokens]).view(by_head).transpose(1, 2)
    key = attention.k_proj(normal).view(by_head).transpose(1, 2)
    value = attention.v_proj(normal).view(by_head).transpose(1, 2)
    attended = F.scaled_dot_product_attention(query, key, value)
    return attention.o_proj(attended.transpose(1, 2).flatten(2))


class HfmgcASTHead(nn.Module):
    """Dropout -> Linear -> GELU -> Dropout -> Linear (report, Figure 8; widths and rates from its code)."""

    def __init__(self, config: HfmgcASTConfig):
        super().__init__()
        self.input_dropout = nn.Dropout(config.head_input_dropout)
        self.dense = nn.Linear(config.backbone_config.hidden_size, config.head_hidden_size)
        self.activation = nn.GELU()
        self.hidden_dropout = nn.Dropout(config.head_hidden_dropout)
        self.output = nn.Linear(config.head_hidden_size, config.num_labels)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map the pooled output [windows, hidden] to logits [windows, labels]."""
        hidden = self.activation(self.dense(self.input_dropout(pooled)))
        return self.output(self.hidden_dropout(hidden))


class HfmgcASTForAudioClassification(HfmgcASTPreTrainedModel, BackboneForAudioClassification):
    """AST for genres: the report's head in place of the dense layer of the AudioSet classifier."""

    def __init__(self, config: HfmgcASTConfig):
        super().__init__(config, HfmgcASTModel(config), HfmgcASTHead(config))

    @classmethod
    def load_backbone(cls, name_or_path: str, **kwargs) -> tuple[ASTForAudioClassification, list[str]]:
        """Load an AST checkpoint, such as `MIT/ast-finetuned-audioset-10-10-0.4593`; it need not have a classifier."""
        pretrained, report = ASTForAudioClassification.from_pretrained(
            name_or_path, output_loading_info=True, ignore_mismatched_sizes=False, **kwargs
        )
        return pretrained, [name for name in report["missing_keys"] if not name.startswith("classifier.")]

    def copy_backbone(self, pretrained: ASTForAudioClassification) -> None:
        """Copy the backbone and the layer norm of its classifier."""
        self.model.backbone.load_state_dict(pretrained.audio_spectrogram_transformer.state_dict())
        self.model.pooled_layernorm.load_state_dict(pretrained.classifier.layernorm.state_dict())


register_auto_classes(AutoModel=HfmgcASTModel, AutoModelForAudioClassification=HfmgcASTForAudioClassification)
