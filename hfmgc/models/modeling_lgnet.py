"""LGNet: transformers' `ResNetModel`, a linear router, and several expert MLPs, of which each window goes to one."""

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
    """A linear layer for each expert, applied to its own rows.

    An expert without rows gets a gradient of zero rather than none, as DistributedDataParallel requires.
    """

    def __init__(self, num_experts: int, in_features: int, out_features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_experts, out_features, in_features))
        self.bias = nn.Parameter(torch.empty(num_experts, out_features))

    def forward(self, groups: Sequence[Tensor]) -> list[Tensor]:
        """Map the rows of each expert [its rows, in_features] to [its rows, out_features]."""
        return [F.linear(*group) for group in zip(groups, self.weight, self.bias, strict=True)]


class LGNetClassifier(nn.Module):
    """Router and experts: y = p_i x MLP_i(r), where i is the expert of the greatest p (paper, section 3.3)."""

    def __init__(self, config: LGNetConfig):
        super().__init__()
        hidden_size = config.backbone_config.hidden_sizes[-1]
        self.gate = config.gate
        self.router = nn.Linear(hidden_size, config.num_experts)
        self.dense = LGNetExpertLayer(config.num_experts, hidden_size, config.expert_hidden_size)
        self.activation = nn.ReLU()
        self.output = LGNetExpertLayer(config.num_experts, config.expert_hidden_size, config.num_labels)

    def forward(self, representation: Tensor) -> tuple[Tensor, Tensor]:
        """Map representations [windows, hidden] to logits [windows, labels] and their experts' indices [windows]."""
        gate, expert = self.probabilities(representation).max(dim=1)
        if torch.compiler.is_compiling():
            # The shapes of a graph cannot depend on the routing, so every expert computes every row.
            outputs = torch.stack(self.experts([representation] * self.router.out_features), dim=1)
            logits = outputs.gather(1, expert[:, None, None].expand(-1, 1, outputs.shape[2])).squeeze(1)
        else:
            # Grouped by expert: one matrix product for each.
            order = expert.argsort(stable=True)
            sizes = torch.bincount(expert, minlength=self.router.out_features).tolist()
            logits = torch.cat(self.experts(representation[order].split(sizes)))[order.argsort()]
        return gate.unsqueeze(1).to(logits.dtype) * logits, expert

    def experts(self, groups: Sequence[Tensor]) -> list[Tensor]:
        """Map the rows of each expert [its rows, hidden] to its logits [its rows, labels]."""
        return self.output([self.activation(group) for group in self.dense(groups)])

    def probabilities(self, representation: Tensor) -> Tensor:
        """Map representations [windows, hidden] to routing probabilities [windows, experts], float32 at least."""
        # In half precision the gate would make many scores equal, and the first of them would win.
        scores = self.router(representation)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        if self.gate == "softmax":
            return F.softmax(scores, dim=1)
        return scores.sigmoid() if self.gate == "sigmoid" else scores


class LGNetModel(WindowedModel):
    """LGNet's front-end network, a ResNet."""

    config_class = LGNetConfig
    _no_split_modules = ("ResNetConvLayer", "ResNetShortCut")

    def __init__(self, config: LGNetConfig):
        super().__init__(config)
        self.backbone = ResNetModel(config.backbone_config)
        self.embedding_size = config.backbone_config.hidden_sizes[-1]
        self.least_frames = self.least_bins = config.total_stride
        self.post_init()

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Embed spectrograms `input_values` [windows, frames, bins] as [windows, the last stage's channels]."""
        pictures = input_values.transpose(1, 2).unsqueeze(1)  # [windows, 1, bins, frames]
        output = self.backbone(pictures, return_dict=True, **kwargs)
        return WindowOutput(embeddings=output.pooler_output.flatten(1), hidden_states=output.hidden_states)


class LGNetForAudioClassification(WindowedForAudioClassification):
    """LGNet for genres; without experts the plain ResNet with a linear classifier."""

    config_class = LGNetConfig

    def __init__(self, config: LGNetConfig):
        model = LGNetModel(config)  # first: it validates the config
        super().__init__(
            config, model, LGNetClassifier(config) if config.num_experts else None, dropout=config.dropout
        )
        self.router_is_frozen = False

    @property
    def uses_all_parameters(self) -> bool:
        """Whether every step gives every parameter a gradient; a router that freezes gets none."""
        return not self.config.num_experts or self.config.router_frozen_after_epochs is None

    def classify_windows(self, embeddings: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map embeddings [windows, hidden] to logits [windows, labels] and experts [windows]."""
        output = self.classifier(self.dropout(embeddings))
        return output if self.config.num_experts else (output, None)

    def begin_epoch(self, epoch: int) -> None:
        """Freeze the router from the config's epoch on; unfreeze it when a new training starts at epoch 0."""
        if not self.config.num_experts:
            return
        after = self.config.router_frozen_after_epochs
        freeze = after is not None and epoch >= after
        if freeze == self.router_is_frozen:
            return  # also keeps a router frozen that the caller froze
        self.classifier.router.requires_grad_(not freeze)
        if freeze:
            # The optimizer would apply the last gradient again.
            self.classifier.router.zero_grad(set_to_none=True)
        self.router_is_frozen = freeze

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, LGNetExpertLayer):
            # As separate linear layers: within 1 / sqrt(fan-in), biases zero.
            bound = 1 / math.sqrt(module.weight.shape[-1])
            init.uniform_(module.weight, -bound, bound)
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)


register_auto_classes(AutoModel=LGNetModel, AutoModelForAudioClassification=LGNetForAudioClassification)
