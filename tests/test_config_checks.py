"""Configs made in Python refuse values of the wrong kind, naming the field, and not first when the model runs."""

import math

import numpy as np
import pytest
from huggingface_hub.errors import StrictDataclassError

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


WRONG = pytest.mark.parametrize(
    ("config_class", "name", "value"),
    [
        (HfmgcASTConfig, "head_hidden_size", "200"),
        (HfmgcASTConfig, "head_input_dropout", None),
        (HfmgcASTConfig, "label_smoothing", math.nan),
        (DivideAndConquerCRNNConfig, "l2", math.nan),
        (DivideAndConquerCRNNConfig, "batch_norm_momentum", "much"),
        (DivideAndConquerCRNNConfig, "gru_hidden_sizes", [8, 8.5]),
        (FCNConfig, "kernel_sizes", [8, True, 3]),
        (FCNConfig, "recurrent_hidden_size", 0.5),
        (LeNetConfig, "num_bins", 128.0),
        (LeNetConfig, "activation", ["tanh"]),
        (LGNetConfig, "num_experts", 2.5),
        (LGNetConfig, "num_bins", 40.5),
        (LGNetConfig, "router_frozen_after_epochs", True),
        (RecurrentConfig, "num_layers", math.inf),
        (ResNetBiGRUConfig, "dropout", True),
        (TSResformerConfig, "num_encoder_layers", 1.5),
        (TSResformerConfig, "block_channels", 64),
        (HfmgcASTConfig, "voting", "median"),
        (LGNetConfig, "gate", "x"),
        (RecurrentConfig, "pooling", "median"),
    ],
)


@WRONG
def test_values_of_another_type_are_refused_with_their_field(config_class, name, value):
    with pytest.raises(StrictDataclassError, match=f"'{name}'"):
        config_class(**{name: value})
    config = config_class()
    with pytest.raises(StrictDataclassError, match=f"'{name}'"):
        setattr(config, name, value)
    assert getattr(config, name) == getattr(config_class(), name)


def test_numbers_of_numpy_are_refused_because_json_cannot_hold_them():
    with pytest.raises(StrictDataclassError, match="num_experts"):
        LGNetConfig(num_experts=np.int64(4))


def test_fields_assigned_one_by_one_are_compared_before_a_model_is_built_or_the_config_saved(tmp_path):
    config = TSResformerConfig()
    config.num_attention_heads = 3
    for use in (TSResformerForAudioClassification, lambda config: config.save_pretrained(tmp_path)):
        with pytest.raises(StrictDataclassError, match=r"num_bins 128 .* num_attention_heads 3"):
            use(config)
    assert not (tmp_path / "config.json").exists()


def test_overrides_of_a_checkpoint_are_checked_with_its_own_fields(tmp_path):
    config = TSResformerConfig(num_bins=16, num_attention_heads=2, num_encoder_layers=1, block_channels=[16])
    TSResformerForAudioClassification(config).save_pretrained(tmp_path)
    with pytest.raises(StrictDataclassError, match="num_bins 16 is not divisible by num_attention_heads 3"):
        TSResformerForAudioClassification.from_pretrained(tmp_path, num_attention_heads=3)
    assert TSResformerForAudioClassification.from_pretrained(tmp_path, voting="majority").config.voting == "majority"


def test_overrides_of_a_backbone_are_checked(tmp_path):
    LGNetConfig().save_pretrained(tmp_path)
    config = LGNetConfig.from_pretrained(tmp_path, backbone_config={"num_channels": 3})
    with pytest.raises(StrictDataclassError, match=r"backbone_config\.num_channels must be 1"):
        LGNetForAudioClassification(config)


def test_a_tuple_is_a_list_as_in_json():
    config = FCNConfig(channels=(8, 8, 8))
    config.kernel_sizes = (3, 3, 3)
    assert (config.channels, config.kernel_sizes) == ([8, 8, 8], [3, 3, 3])


@pytest.mark.parametrize(
    ("config_class", "fields", "message"),
    [
        (RecurrentConfig, {"bidirectional": "false"}, "bidirectional"),
        (RecurrentConfig, {"input_normalization": "no"}, "input_normalization"),
        (TSResformerConfig, {"residual_branch": "no"}, "residual_branch"),
        (HfmgcASTConfig, {"backbone_config": {"num_attention_heads": 0}}, "num_attention_heads"),
        (HfmgcASTConfig, {"backbone_config": {"patch_size": 0}}, "patch_size"),
        (RecurrentConfig, {"class_weights": 5}, "class_weights"),
        (RecurrentConfig, {"class_weights": "ab"}, "class_weights"),
    ],
)
def test_wrong_types_and_sizes_of_zero_are_refused(config_class, fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        config_class(**fields, num_labels=2)
