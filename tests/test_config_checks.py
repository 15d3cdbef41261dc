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
from hfmgc.models.modeling_lgnet import LGNetForAudioClassification
from hfmgc.models.modeling_ts_resformer import TSResformerForAudioClassification
from hfmgc.registry import ARCHITECTURES


WRONG = pytest.mark.parametrize(
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
        (HfmgcASTConfig, "voting", "median", "one of mean, majority"),
        (LGNetConfig, "gate", "x", "one of softmax, sigmoid, linear"),
        (RecurrentConfig, "pooling", "median", "one of mean, last"),
    ],
)


@WRONG
def test_values_of_another_kind_are_refused_with_their_field(config_class, name, value, wanted):
    with pytest.raises(ValueError, match=rf"{name}.* must be .*{wanted}"):
        config_class(**{name: value})


def test_numbers_of_numpy_are_numbers():
    config = LGNetConfig(num_experts=np.int64(4), dropout=np.float32(0.5))
    assert (config.num_experts, config.dropout) == (4, 0.5)


@WRONG
def test_values_that_are_assigned_are_refused_before_a_model_is_built_or_the_config_saved(
    config_class, name, value, wanted, tmp_path
):
    config = config_class()
    setattr(config, name, value)
    model_class = ARCHITECTURES[config_class.model_type].load("model")
    for use in (model_class, lambda config: config.save_pretrained(tmp_path)):
        with pytest.raises(ValueError, match=rf"{name}.* must be .*{wanted}"):
            use(config)
    assert not (tmp_path / "config.json").exists()


def test_overrides_of_a_checkpoint_are_judged_together_with_its_own_fields(tmp_path):
    config = TSResformerConfig(num_bins=16, num_attention_heads=2, num_encoder_layers=1, block_channels=[16])
    TSResformerForAudioClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="num_bins 16 is not divisible by num_attention_heads 3"):
        TSResformerForAudioClassification.from_pretrained(tmp_path, num_attention_heads=3)
    assert TSResformerForAudioClassification.from_pretrained(tmp_path, voting="majority").config.voting == "majority"


def test_overrides_of_a_backbone_are_judged(tmp_path):
    LGNetConfig().save_pretrained(tmp_path)
    config = LGNetConfig.from_pretrained(tmp_path, backbone_config={"num_channels": 3})
    with pytest.raises(ValueError, match=r"backbone_config\.num_channels must be 1"):
        LGNetForAudioClassification(config)


def test_a_tuple_is_a_list_as_in_json():
    config = FCNConfig(channels=(8, 8, 8))
    config.kernel_sizes = (3, 3, 3)
    assert (config.channels, config.kernel_sizes) == ([8, 8, 8], [3, 3, 3])


@pytest.mark.parametrize(
    ("config_class", "fields", "message"),
    [
        (RecurrentConfig, {"bidirectional": "false"}, "bidirectional must be true or false"),
        (RecurrentConfig, {"input_normalization": "no"}, "input_normalization must be true or false"),
        (TSResformerConfig, {"residual_branch": "no"}, "residual_branch must be true or false"),
        (HfmgcASTConfig, {"backbone_config": {"num_attention_heads": 0}}, "num_attention_heads must be at least 1"),
        (HfmgcASTConfig, {"backbone_config": {"patch_size": 0}}, "patch_size must be at least 1"),
        (RecurrentConfig, {"class_weights": 5}, "class_weights must be 2 positive numbers"),
        (RecurrentConfig, {"class_weights": "ab"}, "class_weights must be 2 positive numbers"),
    ],
)
def test_texts_for_flags_and_sizes_of_nothing_are_refused(config_class, fields, message):
    with pytest.raises(ValueError, match=message):
        config_class(**fields, num_labels=2)
