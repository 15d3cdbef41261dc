"""Configs made in Python refuse values of the wrong kind, naming the field, and not first when the model runs."""

import math

import numpy as np
import pytest

from hfmgc.models.configuration_ast import HfmgcASTConfig
from hfmgc.models.configuration_crnn import DivideAndConquerCRNNConfig
from hfmgc.models.configuration_fcn import FCNConfig
from hfmgc.models.configuration_lenet import LeNetConfig
from hfmgc.models.configuration_lgnet import LGNetConfig
from hfmgc.models.configuration_recurrent import RecurrentConfig
from hfmgc.models.configuration_resnet_bigru import ResNetBiGRUConfig
from hfmgc.models.configuration_ts_resformer import TSResformerConfig


@pytest.mark.parametrize(
    ("config_class", "name", "value", "wanted"),
    [
        (HfmgcASTConfig, "head_hidden_size", "200", "a whole number"),
        (HfmgcASTConfig, "head_input_dropout", None, "a number"),
        (HfmgcASTConfig, "label_smoothing", math.nan, "a number"),
        (DivideAndConquerCRNNConfig, "l2", math.nan, "a number"),
        (DivideAndConquerCRNNConfig, "batch_norm_momentum", "much", "a number"),
        (DivideAndConquerCRNNConfig, "gru_hidden_sizes", [8, 8.5], "whole numbers"),
        (FCNConfig, "kernel_sizes", [8, True, 3], "whole numbers"),
        (FCNConfig, "recurrent_hidden_size", 0.5, "a whole number"),
        (LeNetConfig, "num_bins", 128.0, "a whole number"),
        (LeNetConfig, "activation", ["tanh"], "one of tanh, relu"),
        (LGNetConfig, "num_experts", 2.5, "a whole number"),
        (LGNetConfig, "num_bins", 40.5, "a whole number"),
        (LGNetConfig, "router_frozen_after_epochs", True, "a whole number"),
        (RecurrentConfig, "num_layers", math.inf, "a whole number"),
        (ResNetBiGRUConfig, "dropout", True, "a number"),
        (TSResformerConfig, "num_encoder_layers", 1.5, "a whole number"),
        (TSResformerConfig, "block_channels", 64, "whole numbers"),
    ],
)
def test_values_of_another_kind_are_refused_with_their_field(config_class, name, value, wanted):
    with pytest.raises(ValueError, match=rf"{name}.* must be .*{wanted}"):
        config_class(**{name: value})


def test_numbers_of_numpy_are_numbers():
    config = LGNetConfig(num_experts=np.int64(4), dropout=np.float32(0.5))
    assert (config.num_experts, config.dropout) == (4, 0.5)
