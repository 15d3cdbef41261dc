"""The layers below the first trained one, which never change, apart from those above, which are all that has to be trained.

An encoder layer has two halves, attention and feed-forward block, each added to what goes in. A place in the network is
counted in halves: 2 i is before the attention of layer i, 2 i + 1 between its attention and its feed-forward block. The
prefix ends before the first half with a trained parameter. Of what comes out of the last layer the head reads two tokens
(cls and distillation), so its attention answers for these two alone, and so does all that follows. Ours; the same
numbers as the whole network gives, within rounding.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import ASTModel, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer import (
    ASTLayer,
    eager_attention_forward,
)

from ..errors import ConfigError
from ..models.modeling_ast import HfmgcASTForAudioClassification
from ..models.modeling_windowed import WindowOutput


SPECIAL_TOKENS = 2
# Rates of the encoder: it has one of each for all of its layers, so none of them can act in the trained layers alone.
_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")


class FrozenPrefix:
    """What of an AST is frozen below the first trained parameter, and what is above.

    Args:
        model: An AST of ours with its adapter, if it gets one; it may lie on the meta device.

    Raises:
        ConfigError: If it is another architecture, nothing of it is frozen, or dropout acts within the frozen layers.
    """

    def __init__(self, model: PreTrainedModel | PeftModel):
        self.model = model.get_base_model() if isinstance(model, PeftModel) else model
        if not isinstance(self.model, HfmgcASTForAudioClassification):
            raise ConfigError(
                f"reuse_frozen_prefix: {self.model.config.model_type} has no frozen layers that could be told apart; it "
                "is for hfmgc-ast"
            )
        self.backbone = self.model.model.backbone
        self.split = _first_trained_half(self.backbone)
        config = self.model.config.backbone_config
        for name in _DROPOUTS:
            if getattr(config, name) > 0:
                raise ConfigError(
                    f"reuse_frozen_prefix: dropout in the frozen layers gives other numbers in each epoch: set "
                    f"model.backbone_config.{name} to 0 (it is {getattr(config, name)}), or leave out reuse_frozen_prefix"
                )

    @property
    def describes(self) -> str:
        """Say where the prefix ends."""
        layers = self.backbone.layers
        if self.split == 2 * len(layers):
            return f"all {len(layers)} encoder layers"
        return f"the encoder up to layer {self.split // 2}'s {'feed-forward block' if self.split % 2 else 'attention'}"

    def state_shape(self, frames: int, bins: int) -> tuple[int, int]:
        """Return the tokens and the width of what the prefix makes of a window."""
        config = self.model.config.backbone_config
        patches = ((bins - config.patch_size) // config.frequency_stride + 1) * (
            (frames - config.patch_size) // config.time_stride + 1
        )
        only_special = self.split > 2 * (len(self.backbone.layers) - 1)
        return SPECIAL_TOKENS + (0 if only_special else patches), config.hidden_size

    @torch.no_grad()
    def states(self, input_values: Tensor) -> Tensor:
        """Return what the prefix makes of windows [windows, frames, bins]: [windows, tokens, hidden] (`state_shape`)."""
        hidden = self.backbone.embeddings(input_values)
        return self._advance(hidden, 0, self.split)

    def embed_states(self, states: Tensor, **kwargs) -> WindowOutput:
        """Embed windows by their states [windows, tokens, hidden], as the model's `embed_windows` does by their features."""
        hidden = self._advance(states, self.split, 2 * len(self.backbone.layers))
        pooled = self.backbone.layernorm(hidden).mean(dim=1)
        return WindowOutput(embeddings=self.model.model.pooled_layernorm(pooled))

    def check_states(self, tokens: int, hidden: int) -> None:
        """Raise a ValueError unless a state has the width of the backbone."""
        if hidden != self.model.config.backbone_config.hidden_size:
            raise ValueError(f"expected states of the frozen prefix [tokens, hidden], got {[tokens, hidden]}")

    @contextmanager
    def reading_states(self) -> Iterator[None]:
        """Let the model's `forward` take states in place of windows for a while; all else it does stays the same."""
        encoder = self.model.model
        encoder.embed_windows, encoder.check_window = self.embed_states, self.check_states
        try:
            yield
        finally:  # the class's own are there again
            del encoder.embed_windows, encoder.check_window

    def fingerprint(self) -> str:
        """Return a digest of the prefix: its weights, its sizes, and where it ends."""
        config = self.model.config.backbone_config
        sizes = (
            "num_attention_heads",
            "hidden_act",
            "layer_norm_eps",
            "patch_size",
            "frequency_stride",
            "time_stride",
        )
        described = {name: getattr(config, name) for name in (*sizes, "max_length", "num_mel_bins")}
        digest = hashlib.sha256(repr([self.split, len(self.backbone.layers), described]).encode())
        parts = [self.backbone.embeddings, *self.backbone.layers[: (self.split + 1) // 2]]
        for index, part in enumerate(parts):
            for name, tensor in part.state_dict().items():
                if index == (self.split + 1) // 2 and self.split % 2 and _half(name):
                    continue  # trained, or at least not part of the prefix
                digest.update(f"{index} {name} {tensor.dtype} {list(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _advance(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        """Run the halves of the encoder from one place to another."""
        layers = self.backbone.layers
        for place in range(start, stop):
            layer = layers[place // 2]
            if place % 2:
                hidden = hidden + layer.dropout(layer.mlp(layer.layernorm_after(hidden)))
            else:
                tokens = SPECIAL_TOKENS if place // 2 == len(layers) - 1 else hidden.shape[1]
                hidden = hidden[:, :tokens] + layer.dropout(_attention(layer, hidden, tokens))
        return hidden[:, :SPECIAL_TOKENS] if stop == 2 * len(layers) else hidden


def _first_trained_half(backbone: ASTModel) -> int:
    """Return the place of the first half of an encoder layer with a trained parameter; behind the last one: none has."""
    layers = backbone.layers
    trained = [name for name, parameter in backbone.embeddings.named_parameters() if parameter.requires_grad]
    if trained:
        raise ConfigError(
            f"reuse_frozen_prefix: the embeddings are trained ({trained[0]}), so nothing below them stays as it is: "
            "train an adapter (adapter: dora), or the head alone (freeze_backbone: true)"
        )
    places = [
        2 * index + _half(name)
        for index, layer in enumerate(layers)
        for name, parameter in layer.named_parameters()
        if parameter.requires_grad
    ]
    return min(places, default=2 * len(layers))


def _half(name: str) -> int:
    """Return in which half of an encoder layer one of its parameters lies: 0 attention, 1 feed-forward block."""
    return int(name.startswith(("mlp.", "layernorm_after.")))


def _attention(layer: ASTLayer, hidden: Tensor, tokens: int) -> Tensor:
    """Return what a layer's attention answers for the first `tokens` of [windows, all tokens, hidden]."""
    attention: nn.Module = layer.attention
    normal = layer.layernorm_before(hidden)
    by_head = (len(hidden), -1, attention.num_attention_heads, attention.head_dim)
    # The linear layers are called as modules: an adapter's is one as well.
    query = attention.q_proj(normal[:, :tokens]).view(by_head).transpose(1, 2)
    key = attention.k_proj(normal).view(by_head).transpose(1, 2)
    value = attention.v_proj(normal).view(by_head).transpose(1, 2)
    interface = ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, eager_attention_forward)
    answer, _ = interface(
        attention,
        query,
        key,
        value,
        None,
        dropout=attention.attention_dropout if attention.training else 0.0,
        scaling=attention.scaling,
    )
    return attention.o_proj(answer.reshape(len(hidden), tokens, -1))
