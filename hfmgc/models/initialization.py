"""First weights for convolutions, recurrences and linear layers.

transformers' default, a normal distribution of 0.02, is meant for wide transformers: behind it a convolution loses its
signal, a recurrence forgets, and a GRU is left alone altogether. Every write goes through transformers' own functions,
which spare the weights that were loaded from a checkpoint. The choices are ours: no paper here names its first weights.
"""

import math

from torch import Tensor, nn
from transformers import initialization as init


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_RECURRENCES = (nn.LSTM, nn.GRU)


def initialize(module: nn.Module) -> bool:
    """Give a layer its first weights; return whether it is of a kind that is known here.

    Convolutions: He normal over the fan-out (He et al., 2015). Linear layers: uniform within 1 / sqrt(fan-in), as
    PyTorch's own. Recurrences: Glorot uniform from the input, orthogonal from step to step (Saxe et al., 2014), and an
    LSTM that begins by remembering (forget gate's bias 1; Jozefowicz et al., 2015).
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
    # Gates are slices of one tensor, and a slice does not carry the mark of a loaded weight.
    if getattr(parameter, "_is_hf_initialized", False):
        return
    gates = parameter.data.split(module.hidden_size)
    if name.startswith("weight_hh"):
        for gate in gates:
            init.orthogonal_(gate)
    elif name.startswith("weight_ih"):
        for gate in gates:
            init.xavier_uniform_(gate)
    elif name.startswith("bias"):
        init.zeros_(parameter)
        if isinstance(module, nn.LSTM) and name.startswith("bias_ih"):
            init.ones_(gates[1])  # input, forget, cell, output
