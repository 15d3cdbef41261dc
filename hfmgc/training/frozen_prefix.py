"""The first stages of a model without trained parameters, whose output for a window never changes."""

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import ConfigError
from ..evaluation.checkpoints import weights_digest
from ..models.configuration_windowed import WindowedConfig


# Dropout rates of a backbone with several stages; they apply to its frozen layers as well.
_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")


class FrozenPrefix:
    """The frozen stages of a classifier's base model.

    The model may have an adapter, and be on the meta device. `description` says where the prefix ends.

    Raises:
        ConfigError: If no stage is frozen, or dropout changes the output of the frozen stages.
    """

    def __init__(self, model: PreTrainedModel | PeftModel):
        self.model = model.get_base_model() if isinstance(model, PeftModel) else model
        self.encoder = self.model.model
        self.stages = self.encoder.num_frozen_stages()
        self.description = "the whole backbone"
        if self.stages == self.encoder.num_stages:
            return
        first_trained = next(
            name
            for name, parameter in self.encoder.named_parameters()
            if parameter.requires_grad and self.encoder.stage_of(name) == self.stages
        )
        self.description = f"everything before {'.'.join(first_trained.split('.')[:4])}"
        if not self.stages:
            adapter = " or use an adapter (adapter: dora)" if self.encoder.num_stages > 1 else ""
            raise ConfigError(
                f"reuse_frozen_prefix: no layer is frozen, because {first_trained} is trained: set "
                f"freeze_backbone: true{adapter}, or leave out reuse_frozen_prefix"
            )
        for name in _DROPOUTS:
            rate = getattr(getattr(self.model.config, "backbone_config", None), name, 0)
            if rate > 0:
                raise ConfigError(
                    f"reuse_frozen_prefix: dropout changes the output of the frozen layers: set "
                    f"model.backbone_config.{name} to 0 (it is {rate}), or leave out reuse_frozen_prefix"
                )

    def state_shape(self, frames: int, bins: int) -> tuple[int, int]:
        """Return the number of tokens and the hidden size of the prefix's output for a window."""
        return self.encoder.state_shape(self.stages, frames, bins)

    @torch.no_grad()
    def states(self, input_values: Tensor) -> Tensor:
        """Return the prefix's output for windows [windows, frames, bins]: [windows, tokens, hidden]."""
        return self.encoder.run_stages(input_values, 0, self.stages)

    def fingerprint(self) -> str:
        """Return a digest of the prefix: its architecture, its weights, and where it ends."""
        config = getattr(self.model.config, "backbone_config", self.model.config)
        ignored = WindowedConfig().to_dict()  # labels, voting and loss do not change the prefix
        fields = {name: value for name, value in config.to_dict().items() if name not in ignored}
        layer = getattr(self.model.config, "hidden_layer", None)
        if layer is not None:
            fields["hidden_layer"] = layer
        weights = self.encoder.state_dict()
        frozen = {name: tensor for name, tensor in weights.items() if self.encoder.stage_of(name) < self.stages}
        return weights_digest([type(self.encoder).__name__, self.stages, fields], frozen)
