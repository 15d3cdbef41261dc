"""Initial weights of convolutional, recurrent and linear layers.

transformers draws weights from a normal distribution with a deviation of 0.02, which suits wide transformers. With it,
the signal vanishes in a deep convolutional network, recurrent networks forget their input, and GRUs are not
initialised at all. The choices below are ours, because the papers do not state their initial weights. Weights are
written with the functions of `transformers.initialization`, which leave weights loaded from a checkpoint unchanged.
"""

import math

import torch
from torch import Tensor, nn
from transformers import initialization as init


def initialize(module: nn.Module) -> bool:
    """Initialise a convolutional, recurrent or linear layer; return False for any other module.

    - Convolutions: He normal over the fan-out (He et al., 2015).
    - Linear layers: uniform within 1 / sqrt(fan-in), PyTorch's default.
    - LSTM and GRU: Glorot uniform input weights, orthogonal recurrent weights (Saxe et al., 2014), and a bias of 1 for
      the forget gate of an LSTM (Jozefowicz et al., 2015).

    All other biases are zero.
    """
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        init.kaiming_uniform_(module.weight, a=math.sqrt(5))
    elif isinstance(module, (nn.LSTM, nn.GRU)):
        for name, parameter in module.named_parameters():
            _initialize_recurrence(name, parameter, module)
        return True
    else:
        return False
    if module.bias is not None:
        init.zeros_(module.bias)
    return True


def _initialize_recurrence(name: str, parameter: Tensor, module: nn.LSTM | nn.GRU) -> None:
    # The gates are slices of one parameter, and the mark of a loaded parameter does not reach its slices. They are
    # therefore filled in a new tensor, which `init.copy_` writes only to a parameter without that mark.
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
