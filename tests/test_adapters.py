"""DoRA and LoRA on layers that are found by role, in AST and in other encoders of transformers."""

import warnings

import pytest
import torch
from conftest import scatter_parameters
from torch import nn
from transformers import (
    ASTConfig,
    ASTModel,
    BertConfig,
    BertModel,
    SwinConfig,
    SwinModel,
    ViTConfig,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from hfmgc.errors import ConfigError
from hfmgc.models.configuration_ast import HfmgcASTConfig
from hfmgc.models.configuration_ts_resformer import TSResformerConfig
from hfmgc.models.modeling_ast import HfmgcASTForAudioClassification
from hfmgc.models.modeling_ts_resformer import TSResformerForAudioClassification
from hfmgc.training.adapters import (
    ADAPTER_ROLES,
    adapter_targets,
    encoder_layers,
    linear_roles,
    without_peft_warnings,
)
from hfmgc.training.arguments import ModelArguments
from hfmgc.training.build import adapt_model


SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}


def ast_classifier() -> HfmgcASTForAudioClassification:
    torch.manual_seed(0)
    model = HfmgcASTForAudioClassification(
        HfmgcASTConfig(backbone_config={**SIZES, "max_length": 64}, num_labels=3, head_hidden_size=16)
    )
    scatter_parameters(model)
    return model.eval()


def encoders() -> dict[str, nn.Module]:
    with torch.device("meta"):
        return {
            "ast": ASTModel(ASTConfig(**SIZES, max_length=64)),
            "vit": ViTModel(ViTConfig(**SIZES, image_size=32, patch_size=16)),
            "bert": BertModel(BertConfig(**SIZES, vocab_size=10)),
            "wav2vec2": Wav2Vec2Model(
                Wav2Vec2Config(**SIZES, conv_dim=(16, 16), conv_stride=(5, 2), conv_kernel=(10, 3), num_feat_extract_layers=2)
            ),
            "ts-resformer": TSResformerForAudioClassification(
                TSResformerConfig(num_bins=32, num_encoder_layers=3, feed_forward_size=64, block_channels=[16, 32])
            ),
        }  # fmt: skip


@pytest.mark.parametrize("name", ["ast", "vit", "bert", "wav2vec2", "ts-resformer"])
def test_roles_are_found_in_encoders_of_any_naming(name):
    model = encoders()[name]
    list_name, layers = encoder_layers(model)
    assert len(layers) == 3
    roles = linear_roles(layers[0])
    assert set(roles) == set(ADAPTER_ROLES)
    linear = {role: layers[0].get_submodule(place) for role, place in roles.items()}
    assert (linear["fc1"].in_features, linear["fc1"].out_features) == (32, 64)
    assert (linear["fc2"].in_features, linear["fc2"].out_features) == (64, 32)
    for role, word in (("q", "q"), ("k", "k"), ("v", "v")):
        assert roles[role].rsplit(".", 1)[-1].startswith(word)
    assert "out" in roles["o"] or "o_proj" in roles["o"]
    assert len(set(roles.values())) == 6
    for target in adapter_targets(model, list(ADAPTER_ROLES), 0):
        assert target.startswith(f"{list_name}.")
        assert isinstance(model.get_submodule(target), nn.Linear)


def test_the_longest_stage_of_a_swin_is_its_encoder():
    with torch.device("meta"):
        model = SwinModel(SwinConfig(image_size=32, patch_size=2, embed_dim=8, depths=[1, 1, 3], num_heads=[1, 1, 1]))
    name, layers = encoder_layers(model)
    assert len(layers) == 3
    assert {"fc1", "fc2"} <= set(linear_roles(layers[0])), name


def test_only_layers_from_the_minimum_on_are_adapted():
    model = ast_classifier()
    assert adapter_targets(model, ["fc2"], 1) == ["model.backbone.layers.1.mlp.fc2", "model.backbone.layers.2.mlp.fc2"]
    assert adapter_targets(model, ["q", "fc1"], 2) == [
        "model.backbone.layers.2.attention.q_proj",
        "model.backbone.layers.2.mlp.fc1",
    ]


@pytest.mark.parametrize("min_layer", [-1, 3])
def test_a_layer_that_does_not_exist_is_refused(min_layer):
    with pytest.raises(ConfigError, match=rf"adapter_min_layer {min_layer}: .*layers 0 to 2"):
        adapter_targets(ast_classifier(), ["fc2"], min_layer)


def test_a_role_or_layers_that_do_not_exist_are_refused():
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Sequential(nn.Linear(4, 8)) for _ in range(2)])

    with pytest.raises(ConfigError, match=r"adapter_targets: .*'q': .*\['fc1'\]"):
        adapter_targets(Other(), ["q"], 0)
    with pytest.raises(ConfigError, match="Sequential has no encoder layers"):
        encoder_layers(nn.Sequential(nn.Linear(2, 2)))


def adapted(kind: str, roles: list[str] | None = None, **more):
    arguments = ModelArguments(adapter=kind, adapter_targets=roles or ["fc2"], adapter_min_layer=1, **more)
    return adapt_model(ast_classifier(), arguments)


@pytest.mark.parametrize("kind", ["dora", "lora"])
def test_the_adapter_and_the_head_are_trained_and_nothing_else(kind):
    model = adapted(kind)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    head = [name for name in trained if ".classifier.modules_to_save." in name]
    adapter = [name for name in trained if name not in head]
    assert len(head) == 4
    assert all("lora_" in name and ("layers.1." in name or "layers.2." in name) for name in adapter)
    assert len(adapter) == 2 * (3 if kind == "dora" else 2)
    numel = sum(p.numel() for name, p in model.named_parameters() if name in adapter)
    assert numel == 2 * (2 * 64 + 32 * 2 + (32 if kind == "dora" else 0))


@pytest.mark.parametrize("kind", ["dora", "lora"])
def test_training_changes_only_what_is_trained(kind):
    model = adapted(kind).train()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(2):
        loss = model(
            input_values=torch.randn(4, 64, 128, generator=torch.Generator().manual_seed(0)),
            labels=torch.tensor([0, 1, 2, 0]),
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("kind", ["dora", "lora"])
def test_a_new_adapter_changes_no_answer(kind):
    values = torch.randn(2, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = ast_classifier()(values).logits
        torch.testing.assert_close(adapted(kind).eval()(input_values=values).logits, before)


@pytest.mark.parametrize("kind", ["dora", "lora"])
@pytest.mark.parametrize("roles", [["fc2"], list(ADAPTER_ROLES)], ids=["fc2", "all roles"])
def test_the_merged_model_answers_as_the_adapted_one(kind, roles):
    model = adapted(kind, roles).eval()
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(2, 3, 64, 128, generator=generator)
    with torch.no_grad():
        start = model(input_values=values).logits
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                # Magnitudes are norms of rows: they are scaled, everything else is shifted.
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(parameter * (1 + 0.2 * noise) if "magnitude" in name else parameter + 0.2 * noise)
        expected = model(input_values=values).logits
        merged = model.merge_and_unload()
        assert type(merged) is HfmgcASTForAudioClassification
        assert not any("lora" in name for name in merged.state_dict())
        torch.testing.assert_close(merged(values).logits, expected, atol=1e-4, rtol=1e-4)
    assert (start - expected).abs().max() > 0.01


def test_alpha_is_divided_by_the_rank():
    arguments = ModelArguments(adapter="lora", adapter_min_layer=2, adapter_rank=4, adapter_alpha=6.0)
    model = adapt_model(ast_classifier(), arguments)
    layer = model.get_submodule("base_model.model.model.backbone.layers.2.mlp.fc2")
    assert layer.scaling == {"default": 1.5}


def test_a_deprecation_within_peft_is_not_shown_to_a_user_and_others_are():
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        adapted("dora")
        with without_peft_warnings():
            warnings.warn("something else is deprecated", FutureWarning, stacklevel=1)
    assert [str(warning.message) for warning in shown if warning.category is FutureWarning] == [
        "something else is deprecated"
    ]
