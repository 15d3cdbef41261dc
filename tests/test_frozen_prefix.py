"""A network cut at its first trained half-layer gives the numbers of the whole one: logits, losses, gradients."""

import copy

import pytest
import torch
from conftest import scatter_parameters

from hfmgc.errors import ConfigError
from hfmgc.models.configuration_ast import HfmgcASTConfig
from hfmgc.models.configuration_lgnet import LGNetConfig
from hfmgc.models.modeling_ast import HfmgcASTForAudioClassification
from hfmgc.models.modeling_lgnet import LGNetForAudioClassification
from hfmgc.training.arguments import ModelArguments
from hfmgc.training.build import adapt_model
from hfmgc.training.frozen_prefix import FrozenPrefix


LAYERS = 3
# Embeddings, attention and feed-forward block of each layer, pooling.
STAGES = 2 + 2 * LAYERS


def tiny(attention: str = "sdpa", dropout: float = 0.0, backbone: dict | None = None, **fields):
    """A tiny AST of three layers with all of its weights away from their start; dropout: of the head."""
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_length": 64,
        "frequency_stride": 16,
        "time_stride": 16,
        **(backbone or {}),
    }
    config = HfmgcASTConfig(
        backbone_config=sizes,
        head_hidden_size=16,
        head_input_dropout=dropout,
        head_hidden_dropout=dropout,
        num_labels=3,
        **fields,
    )
    torch.manual_seed(0)
    model = HfmgcASTForAudioClassification(config)
    model.set_attn_implementation(attention)
    scatter_parameters(model)
    return model


def adapted(min_layer: int = 1, roles: tuple[str, ...] = ("fc2",), kind: str = "dora", rate: float = 0.0, **more):
    """A tiny AST with an adapter that has been trained a little (a new one answers as if it were not there)."""
    adapter = ModelArguments(
        adapter=kind, adapter_targets=list(roles), adapter_min_layer=min_layer, adapter_dropout=rate
    )
    model = adapt_model(tiny(**more), adapter)
    scatter_parameters(model, seed=1)
    return model.train()


def windows(tracks: int = 4, frames: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(tracks, frames, 128, generator=torch.Generator().manual_seed(seed))


def step(model, values, **more):
    """Logits, loss and the gradient of every trained parameter."""
    model.zero_grad()
    output = model(input_values=values, **more)
    output.loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return output.logits.detach(), output.loss.detach(), gradients


def assert_same_step(model, values, **more) -> FrozenPrefix:
    """Compare a training step from windows to one from states."""
    prefix = FrozenPrefix(model)
    logits, loss, gradients = step(model, values, **more)
    single = values.flatten(0, -3)
    states = prefix.states(single)
    assert states.shape[1:] == prefix.state_shape(*values.shape[-2:])
    found = step(model, states.unflatten(0, values.shape[:-2]), first_stage=prefix.stages, **more)
    torch.testing.assert_close(found[0], logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1], loss, rtol=1e-5, atol=1e-6)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert found[2].keys() == gradients.keys() == trained
    scale = max(gradient.abs().max() for gradient in gradients.values())
    assert scale > 1e-3
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[2][name], gradient, rtol=1e-4, atol=float(scale) * 1e-5, msg=name)
    return prefix


LABELS = torch.tensor([0, 1, 2, 1])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("role", ["q", "k", "v", "o", "fc1", "fc2"])
@pytest.mark.parametrize("min_layer", range(LAYERS))
def test_states_give_logits_loss_and_gradients_of_windows_under_dora(min_layer, role, attention):
    prefix = assert_same_step(adapted(min_layer, (role,), attention=attention), windows(), labels=LABELS)
    assert prefix.stages == 1 + 2 * min_layer + role.startswith("fc")  # as high as it can lie


def test_states_give_the_same_under_lora_on_all_roles():
    assert (
        assert_same_step(adapted(1, ("q", "k", "v", "o", "fc1", "fc2"), kind="lora"), windows(), labels=LABELS).stages
        == 3
    )


def test_states_below_a_head_that_is_trained_alone_are_the_embeddings():
    model = tiny().requires_grad_(False).train()
    model.classifier.requires_grad_(True)
    prefix = assert_same_step(model, windows(), labels=LABELS)
    assert (prefix.stages, prefix.state_shape(64, 128)) == (STAGES, (1, 32))
    torch.testing.assert_close(prefix.states(windows())[:, 0], model.eval().model(windows()).pooler_output)


def test_states_below_a_layer_norm_that_is_trained_are_two_tokens():
    model = tiny().requires_grad_(False).train()
    model.model.pooled_layernorm.requires_grad_(True)
    model.classifier.requires_grad_(True)
    prefix = assert_same_step(model, windows(), labels=LABELS)
    assert (prefix.stages, prefix.state_shape(64, 128)) == (STAGES - 1, (2, 32))


def test_states_of_layers_that_are_trained_whole_begin_before_them():
    model = tiny().requires_grad_(False).train()
    model.classifier.requires_grad_(True)
    model.model.backbone.layers[1].requires_grad_(True)
    assert assert_same_step(model, windows(), labels=LABELS).stages == 3


def test_a_layer_whose_norm_alone_is_trained_is_cut_before_that_norm():
    for norm, half in (("layernorm_before", 0), ("layernorm_after", 1)):
        model = tiny().requires_grad_(False).train()
        getattr(model.model.backbone.layers[1], norm).requires_grad_(True)
        assert assert_same_step(model, windows(), labels=LABELS).stages == 3 + half


def test_only_two_tokens_are_kept_where_the_last_layer_alone_is_trained_above_its_attention():
    prefix = FrozenPrefix(adapted(LAYERS - 1))
    assert prefix.states(windows()).shape == (4, 2, 32)
    assert FrozenPrefix(adapted(LAYERS - 1, ("v",))).states(windows()).shape == (4, 2 + 8 * 4, 32)


@pytest.mark.parametrize("frames", [32, 70, 160])
def test_windows_of_another_length_than_the_positions_are_made_for(frames):
    assert_same_step(adapted(), windows(frames=frames), labels=LABELS)


def test_stacks_of_windows_are_voted_on_and_masked_as_ever():
    stack = windows(12).unflatten(0, (4, 3))
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    assert_same_step(adapted(), stack, window_mask=mask, labels=LABELS)
    with pytest.raises(ValueError, match="without any window"):
        adapted()(
            input_values=torch.zeros(2, 3, 34, 32), window_mask=torch.tensor([[1, 0, 0], [0, 0, 0]]), first_stage=3
        )


@pytest.mark.parametrize(
    ("fields", "labels"),
    [
        ({"label_smoothing": 0.2, "class_weights": [1.0, 2.0, 0.5]}, LABELS),
        ({"problem_type": "multi_label_classification"}, torch.eye(3)[LABELS]),
        ({"voting": "majority"}, LABELS),
    ],
)
def test_losses_of_every_kind_stay_what_they_are(fields, labels):
    assert_same_step(adapted(**fields), windows(), labels=labels)


def test_dropout_above_the_cut_is_drawn_in_training_and_the_same_from_the_same_seed():
    model = adapted(rate=0.3, dropout=0.4)
    prefix = FrozenPrefix(model)
    values = windows()

    def loss(seed, given, first_stage=prefix.stages):
        torch.manual_seed(seed)
        return model(input_values=given, labels=LABELS, first_stage=first_stage).loss.detach()

    # In the last layer the adapter drops from two tokens and not from all, so its draws differ from the whole network's: the
    # loss is another number, drawn from the same distribution.
    states = prefix.states(values)
    first, second, other = loss(0, states), loss(0, states), loss(1, states)
    model.eval()
    quiet = loss(0, states)
    assert first == second != other
    assert quiet not in (first, other)
    torch.testing.assert_close(quiet, loss(0, values, first_stage=0))


class DropoutByPlace(torch.nn.Module):
    """Dropout whose draw belongs to the place of a token, so that fewer tokens draw no others."""

    def forward(self, tokens):
        kept = torch.rand(64, tokens.shape[-1], generator=torch.Generator().manual_seed(5)) > 0.3
        return tokens * kept[: tokens.shape[-2]] / 0.7


@pytest.mark.parametrize("role", ["q", "v", "fc2"])
def test_dropout_of_the_adapter_gives_the_same_wherever_it_draws_the_same(role):
    model = adapted(roles=(role,), rate=0.3)
    replaced = [module for name, module in model.named_modules() if name.endswith("lora_dropout")]
    for module in replaced:
        module["default"] = DropoutByPlace()
    assert len(replaced) == LAYERS - 1
    with pytest.raises(AssertionError):
        torch.testing.assert_close(step(model, windows(), labels=LABELS)[0], model.eval()(windows()).logits)
    assert_same_step(model.train(), windows(), labels=LABELS)


def test_dropout_of_the_head_draws_the_very_same_from_windows_and_from_states():
    model = adapted(dropout=0.4)
    prefix = FrozenPrefix(model)
    torch.manual_seed(3)
    expected = model(input_values=windows(), labels=LABELS).loss.detach()
    states = prefix.states(windows())
    torch.manual_seed(3)
    found = model(input_values=states, labels=LABELS, first_stage=prefix.stages).loss.detach()
    torch.testing.assert_close(found, expected)


def test_a_copy_of_the_model_reads_states_with_its_own_weights():
    model = adapted()
    prefix = FrozenPrefix(model)
    states = prefix.states(windows())
    before = model(input_values=states, first_stage=prefix.stages).logits
    other = copy.deepcopy(model)  # as weight averaging makes one
    scatter_parameters(other, seed=5)
    assert torch.equal(model(input_values=states, first_stage=prefix.stages).logits, before)
    assert not torch.allclose(other(input_values=states, first_stage=prefix.stages).logits, before, atol=1e-3)


def test_fingerprint_follows_the_frozen_weights_and_the_cut_and_nothing_else():
    model = adapted(1)
    before = FrozenPrefix(model).fingerprint()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad or ".layers.2." in name or ".layers.1.mlp." in name:
                parameter.add_(1.0)
    assert FrozenPrefix(model).fingerprint() == before
    assert FrozenPrefix(adapted(1)).fingerprint() == before
    assert FrozenPrefix(adapted(1, ("fc1",))).fingerprint() == before  # the same cut
    assert FrozenPrefix(adapted(1, ("q",))).fingerprint() != before
    assert FrozenPrefix(adapted(2)).fingerprint() != before
    for changed in ("embeddings.cls_token", "layers.0.mlp.fc2.bias", "layers.1.attention.v_proj.weight"):
        model = adapted(1)
        with torch.no_grad():
            model.get_base_model().model.backbone.get_parameter(changed).view(-1)[0].add_(1e-3)
        assert FrozenPrefix(model).fingerprint() != before, changed


def test_what_cannot_be_reused_is_refused_with_its_field():
    with pytest.raises(ConfigError, match=r"reuse_frozen_prefix: .*backbone\.embeddings\..*freeze_backbone.*adapter"):
        FrozenPrefix(tiny())
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        with pytest.raises(ConfigError, match=rf"reuse_frozen_prefix: .*set model\.backbone_config\.{name} to 0"):
            FrozenPrefix(adapted(backbone={name: 0.1}))
    with pytest.raises(ConfigError, match=r"reuse_frozen_prefix: .*backbone\..* is trained.*set freeze_backbone"):
        FrozenPrefix(LGNetForAudioClassification(LGNetConfig(num_labels=3)))
