"""LGNet: transformers' `ResNetModel`, and a linear router that sends each window to one of several expert MLPs."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ResNetModel
from transformers import initialization as init

from .configuration_lgnet import LGNetConfig
from .modeling_windowed import WindowedForAudioClassification, WindowedModel, WindowOutput, register_auto_classes


class LGNetExpertLayer(nn.Module):
    """One linear layer for each expert, applied to that expert's rows.

    All experts share two parameters. An expert without rows then gets a zero gradient instead of None, which
    DistributedDataParallel would not accept.
    """

    def __init__(self, num_experts: int, in_features: int, out_features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_experts, out_features, in_features))
        self.bias = nn.Parameter(torch.empty(num_experts, out_features))

    def forward(self, groups: Sequence[Tensor]) -> list[Tensor]:
        """Map each expert's rows [rows of the expert, in_features] to [rows of the expert, out_features]."""
        return [F.linear(*group) for group in zip(groups, self.weight, self.bias, strict=True)]


class LGNetClassifier(nn.Module):
    """Router and experts: y = p_i * MLP_i(r), where expert i has the highest probability p (paper, section 3.3)."""

    def __init__(self, config: LGNetConfig):
        super().__init__()
        hidden_size = config.backbone_config.hidden_sizes[-1]
        self.gate = config.gate
        self.router = nn.Linear(hidden_size, config.num_experts)
        self.dense = LGNetExpertLayer(config.num_experts, hidden_size, config.expert_hidden_size)
        self.activation = nn.ReLU()
        self.output = LGNetExpertLayer(config.num_experts, config.expert_hidden_size, config.num_labels)

    def forward(self, representation: Tensor) -> tuple[Tensor, Tensor]:
        """Map representations [windows, hidden] to logits [windows, labels] and expert indices [windows]."""
        gate, expert = self.probabilities(representation).max(dim=1)
        if torch.compiler.is_compiling():
            # Shapes in a graph cannot depend on the routing, so every expert computes every row.
            outputs = torch.stack(self.experts([representation] * self.router.out_features), dim=1)
            logits = outputs.gather(1, expert[:, None, None].expand(-1, 1, outputs.shape[2])).squeeze(1)
        else:
            # Rows are sorted by expert, so that each expert needs one matrix product.
            order = expert.argsort(stable=True)
            sizes = torch.bincount(expert, minlength=self.router.out_features).tolist()
            logits = torch.cat(self.experts(representation[order].split(sizes)))[order.argsort()]
        return gate.unsqueeze(1).to(logits.dtype) * logits, expert

    def experts(self, groups: Sequence[Tensor]) -> list[Tensor]:
        """Map each expert's rows [rows of the expert, hidden] to logits [rows of the expert, labels]."""
        return self.output([self.activation(group) for group in self.dense(groups)])

    def probabilities(self, representation: Tensor) -> Tensor:
        """Map representations [windows, hidden] to routing probabilities [windows, experts], in at least float32."""
        # Half precision would round many probabilities to the same value, and the first of these experts would win.
        scores = self.router(representation)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        if self.gate == "softmax":
            return F.softmax(scores, dim=1)
        return scores.sigmoid() if self.gate == "sigmoid" else scores


class LGNetModel(WindowedModel):
    """A ResNet on spectrograms; the embedding is its pooled output."""

    config_class = LGNetConfig
    _no_split_modules = ("ResNetConvLayer", "ResNetShortCut")

    def __init__(self, config: LGNetConfig):
        super().__init__(config)
        self.backbone = ResNetModel(config.backbone_config)
        self.embedding_size = config.backbone_config.hidden_sizes[-1]
        self.least_frames = self.least_bins = config.total_stride
        self.post_init()

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Embed spectrograms `input_values` [windows, frames, bins] as [windows, channels of the last stage]."""
        images = input_values.transpose(1, 2).unsqueeze(1)  # [windows, 1, bins, frames]
        output = self.backbone(images, return_dict=True, **kwargs)
        return WindowOutput(embeddings=output.pooler_output.flatten(1), hidden_states=output.hidden_states)


class LGNetForAudioClassification(WindowedForAudioClassification):
    """LGNet with dropout; without experts, a ResNet with dropout and a linear classifier."""

    config_class = LGNetConfig

    def __init__(self, config: LGNetConfig):
        model = LGNetModel(config)  # validates the config, which LGNetClassifier relies on
        super().__init__(
            config, model, LGNetClassifier(config) if config.num_experts else None, dropout=config.dropout
        )
        self.router_is_frozen = False

    @property
    def uses_all_parameters(self) -> bool:
        """Whether every training step gives every parameter a gradient; a frozen router gets none."""
        return not self.config.num_experts or self.config.router_frozen_after_epochs is None

    def classify_windows(self, embeddings: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map embeddings [windows, hidden] to logits [windows, labels] and expert indices [windows] or None."""
        output = self.classifier(self.dropout(embeddings))
        return output if self.config.num_experts else (output, None)

    def begin_epoch(self, epoch: int) -> None:
        """Freeze the router after `router_frozen_after_epochs`, and unfreeze it when a new training starts."""
        if not self.config.num_experts:
            return
        after = self.config.router_frozen_after_epochs
        freeze = after is not None and epoch >= after
        if freeze == self.router_is_frozen:
            return  # a router that the caller froze stays frozen
        self.classifier.router.requires_grad_(not freeze)
        if freeze:
            # Otherwise the optimizer would apply the last gradient in every step.
            self.classifier.router.zero_grad(set_to_none=True)
        self.router_is_frozen = freeze

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, LGNetExpertLayer):
            # Each expert starts like a linear layer; see `initialize`.
            bound = 1 / math.sqrt(module.weight.shape[-1])
            init.uniform_(module.weight, -bound, bound)
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)


register_auto_classes(AutoModel=LGNetModel, AutoModelForAudioClassification=LGNetForAudioClassification)
