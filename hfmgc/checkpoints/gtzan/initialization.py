"""Initial weights for convolutions, recurrences and linear layers.

transformers' default, a normal distribution of 0.02, is meant for wide transformers: convolutions lose their signal,
recurrences forget, and GRUs are not initialised at all. All weights are written by transformers' functions, which leave
weights from a checkpoint unchanged. The choices are ours: no paper here names its initial weights.
"""

import math

import torch
from torch import Tensor, nn
from transformers import initialization as init


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_RECURRENCES = (nn.LSTM, nn.GRU)


def initialize(module: nn.Module) -> bool:
    """Initialise a layer; return whether its kind is known here.

    Convolutions: He normal over the fan-out (He et al., 2015). Linear layers: uniform within 1 / sqrt(fan-in), as
    PyTorch's own. Recurrences: Glorot uniform for input weights, orthogonal for recurrent ones (Saxe et al., 2014),
    and 1 as the bias of an LSTM's forget gate (Jozefowicz et al., 2015).
    """
    if isinstance(module, _CONVOLUTIONS):
        init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        init.kaiming_uniform_(module.weight, a=math.sqrt(5))
    elif isinstance(module, _RECURRENCES):
        for name, parameter in module.named_parameters():
            _initialize_recurrence(name, parameter, module)
        return True
    else:
        return False
    if module.bias is not None:
        init.zeros_(module.bias)
    return True


def _initialize_recurrence(name: str, parameter: Tensor, module: nn.LSTM | nn.GRU) -> None:
    # Gates are slices of one tensor. They are filled in a new one, because `copy_` leaves a loaded weight unchanged as a whole.
    values = torch.zeros_like(parameter)
    gates = values.split(module.hidden_size)
    for gate in gates:
        if name.startswith("weight_hh"):
            init.orthogonal_(gate)
        elif name.startswith("weight_ih"):
            init.xavier_uniform_(gate)
    if name.startswith("bias_ih") and isinstance(module, nn.LSTM):
        init.ones_(gates[1])  # input, forget, cell, output
    init.copy_(parameter, values)
