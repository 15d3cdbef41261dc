"""Find the layers for DoRA and LoRA adapters of PEFT: linear layers by their role, or convolutions."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ..errors import ConfigError


# Query, key, value and output of the attention; first and last linear layer of the feed-forward block.
ADAPTER_ROLES = ("q", "k", "v", "o", "fc1", "fc2")
# Target for networks without encoder layers: all convolutions.
CONVOLUTIONS = "conv"

# The square projections of an attention differ only by name; these are the names that transformers uses.
_ATTENTION_NAMES = {
    "q": re.compile(r"(^|\.)(q_proj|query|q_lin|q)$"),
    "k": re.compile(r"(^|\.)(k_proj|key|k_lin|k)$"),
    "v": re.compile(r"(^|\.)(v_proj|value|v_lin|v)$"),
    "o": re.compile(r"(^|\.)(o_proj|out_proj|out_lin|attention\.output\.dense)$"),
}


def encoder_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the name of the encoder's layers and the layers: the longest list of modules of one class with linear layers.

    Raises:
        ConfigError: If there is no such list.
    """
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        and len({type(layer) for layer in module}) == 1
        and any(isinstance(part, nn.Linear) for part in module.modules())
    ]
    if not lists:
        raise ConfigError(
            f"adapter: {type(model).__name__} has no encoder layers: set adapter_targets conv, or adapter none"
        )
    return max(lists, key=lambda item: len(item[1]))


def linear_roles(layer: nn.Module) -> dict[str, str]:
    """Return role -> name of the linear layer in an encoder layer.

    The layers of the feed-forward block are recognised by their shapes: the first one widens, the last one narrows.
    """
    roles = {}
    for name, module in layer.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        if module.out_features > module.in_features:
            roles["fc1"] = name
        elif module.out_features < module.in_features:
            roles["fc2"] = name
        else:
            roles.update({role: name for role, pattern in _ATTENTION_NAMES.items() if pattern.search(name)})
    return roles


def adapter_targets(model: nn.Module, roles: list[str], min_layer: int) -> list[str]:
    """Return the full names of the linear layers with these roles in all encoder layers from `min_layer` on.

    The single role `conv` returns all convolutions of the model.

    Raises:
        ConfigError: If the model has no such layers.
    """
    if roles == [CONVOLUTIONS]:
        convolutions = [name for name, module in model.named_modules() if isinstance(module, nn.Conv1d | nn.Conv2d)]
        if not convolutions or min_layer:
            raise ConfigError(
                f"adapter_targets conv needs convolutions ({type(model).__name__} has {len(convolutions)}) and "
                f"adapter_min_layer 0 (it is {min_layer})"
            )
        return convolutions
    list_name, layers = encoder_layers(model)
    if not 0 <= min_layer < len(layers):
        raise ConfigError(f"adapter_min_layer {min_layer}: choose one of the encoder layers 0 to {len(layers) - 1}")
    targets = []
    for index in range(min_layer, len(layers)):
        names = linear_roles(layers[index])
        for role in roles:
            if role not in names:
                raise ConfigError(
                    f"adapter_targets: the encoder layers have no {role!r}: choose among {sorted(names)}"
                )
            targets.append(f"{list_name}.{index}.{names[role]}")
    return targets


@contextmanager
def without_peft_warnings() -> Iterator[None]:
    """Silence a warning about a name that PEFT uses and transformers 5 deprecates; users cannot act on it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield
