"""M2D's pre-training: the common tests, who sees which patches, and loss and moving average against cases computed by hand."""

import math
from pathlib import Path

import pytest
import torch
from forked import distribute
from pretraining_tester import PretrainingTester, pretrain_here, pretraining_settings
from safetensors.torch import load_file
from test_model_m2d import FRAMES, TINY, tiny
from torch.nn import functional as F
from transformers import Trainer

from hfmgc.errors import ConfigError
from hfmgc.models.configuration_m2d import M2DConfig
from hfmgc.models.modeling_m2d import (
    M2DForPreTraining,
    deviation_between_examples,
    duo_loss,
)
from hfmgc.settings import settings_from
from hfmgc.training.pretraining.arguments import PRETRAINING_GROUPS, PRETRAINING_SETTINGS
from hfmgc.training.pretraining.fit import fit_pretraining
from recipes import PRETRAIN, write_config, write_features


PATCHES, MASKED = 18, 13  # 3 rows of 6 patches, of which 70 % are masked


class TestM2DForPreTraining(PretrainingTester):
    model_type = "hfmgc-m2d"
    window_shape = (FRAMES, 24)
    wrong_windows = (
        ((FRAMES, 32), "expected 24 bins"),
        ((50, 24), "patch_size 8 does not divide"),
    )

    def config(self, **fields) -> M2DConfig:
        return tiny(**fields)

    def recipe(self, folder):
        # The recipe's windows have 32 bins; the target moves visibly in a few steps.
        return {"model": {**TINY, "num_bins": 32, "ema_decay_start": 0.5, "ema_decay_end": 0.9}}


def pretraining(**fields) -> M2DForPreTraining:
    return TestM2DForPreTraining().model(**fields).train()


def spectrograms(examples: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(examples, FRAMES, 24, generator=torch.Generator().manual_seed(seed))


def patch(index: int) -> tuple[slice, slice]:
    """Return the frames and bins of a patch."""
    row, step = divmod(index, 6)
    return slice(8 * step, 8 * step + 8), slice(8 * row, 8 * row + 8)


def test_the_loss_of_a_case_computed_by_hand():
    predictions = torch.tensor([[[3.0, 4.0, 0.0], [0.0, 0.0, -2.0]]])
    targets = torch.tensor([[[5.0, 7.0, 9.0], [1.0, 1.0, 4.0]]])
    # Standardised: (-1, 0, 1) for a deviation of 2; (-1, -1, 2) / sqrt(3) for a variance of 3. The 1e-6 cancels in the cosine.
    cosines = [-3 / (5 * math.sqrt(2)), -2 / math.sqrt(6)]
    expected = sum(2 - 2 * cosine for cosine in cosines) / 2
    assert duo_loss(predictions, targets).item() == pytest.approx(expected, abs=1e-6)
    # Scale and offset of a target count for nothing, nor does the scale of a prediction.
    assert duo_loss(10 * predictions, 7 * targets + 3).item() == pytest.approx(expected, abs=1e-5)
    assert duo_loss(targets - targets.mean(dim=-1, keepdim=True), targets).item() == pytest.approx(0, abs=1e-6)


def test_the_loss_is_that_of_its_parts():
    model, values = pretraining(), spectrograms()
    output = model(values, seeds=torch.arange(3))
    assert output.masked.shape == (3, MASKED)
    assert output.predictions.shape == output.targets.shape == (3, MASKED, 16)
    losses = []
    for prediction, target in zip(output.predictions.flatten(0, 1), output.targets.flatten(0, 1), strict=True):
        target = (target - target.mean()) / (target.var() + 1e-6).sqrt()
        losses.append((F.normalize(prediction, dim=0) - F.normalize(target, dim=0)).square().sum())
    torch.testing.assert_close(output.loss, torch.stack(losses).mean())


def test_each_example_has_its_own_mask_from_its_seed_alone():
    model = pretraining()
    visible, masked = model.draw_masks(4, PATCHES, torch.tensor([7, 8, 9, 7]), torch.device("cpu"))
    assert visible.shape == (4, PATCHES - MASKED) and masked.shape == (4, MASKED)
    for example in range(4):
        assert sorted([*visible[example].tolist(), *masked[example].tolist()]) == list(range(PATCHES))
    assert torch.equal(masked[0], masked[3])
    assert not torch.equal(masked[0], masked[1]) and not torch.equal(masked[1], masked[2])
    torch.manual_seed(1)  # the global state does not matter
    assert torch.equal(model.draw_masks(1, PATCHES, torch.tensor([9]), torch.device("cpu"))[1], masked[2:3])
    first, second = (model.draw_masks(4, PATCHES, None, torch.device("cpu"))[1] for _ in range(2))
    assert not torch.equal(first, second)


def test_every_patch_is_masked_in_its_share_of_the_examples():
    _, masked = pretraining().draw_masks(4000, PATCHES, torch.arange(4000), torch.device("cpu"))
    shares = masked.flatten().bincount(minlength=PATCHES) / 4000
    assert (shares - MASKED / PATCHES).abs().max() < 0.03


@torch.no_grad()
def test_the_target_sees_the_masked_patches_and_the_online_encoder_the_others():
    model, values, seeds, seen = pretraining(), spectrograms(1), torch.tensor([5]), []
    model.model.encoder.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    before = model(values, seeds=seeds)
    masked = set(before.masked[0].tolist())
    assert seen[0][0].shape == (1, 1 + PATCHES - MASKED, 16), "masked patches are dropped, not computed"
    for index in range(PATCHES):
        changed = values.clone()
        changed[0, *patch(index)] += 1
        after = model(changed, seeds=seeds)
        assert torch.equal(after.targets, before.targets) == (index not in masked)
        assert torch.equal(seen[-1][1], seen[0][1]) == (index in masked)
        assert torch.equal(after.predictions, before.predictions) == (index in masked)
        if index in masked:  # self-attention: each target knows of all masked patches
            assert (after.targets != before.targets).any(dim=-1).all()


@torch.no_grad()
def test_the_predictor_knows_where_a_masked_patch_lies():
    predictions = pretraining()(spectrograms(1), seeds=torch.tensor([5])).predictions[0]
    assert torch.cdist(predictions, predictions).fill_diagonal_(1).min() > 1e-3


@torch.no_grad()
def test_predictor_reads_visible_tokens_in_any_order():
    model = pretraining()
    encoded = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(0))
    visible, masked = torch.tensor([[2, 9, 16]]), torch.tensor([[0, 5]])
    order = [1, 2, 0]
    shuffled = torch.cat((encoded[:, :1], encoded[:, 1:][:, order]), dim=1)
    first = model.predictor(encoded, visible, masked, (3, 6))
    torch.testing.assert_close(model.predictor(shuffled, visible[:, order], masked, (3, 6)), first)
    assert not torch.allclose(model.predictor(shuffled, visible, masked, (3, 6)), first, atol=1e-4)


def test_initial_weights_are_those_of_mae_and_the_targets_are_its_own():
    torch.manual_seed(0)
    model = M2DForPreTraining(tiny(hidden_size=256, num_hidden_layers=1, predictor_hidden_size=256))
    online, target = model.model.encoder.state_dict(), model.target.state_dict()
    assert online.keys() == target.keys()
    matrices = [name for name, weight in online.items() if weight.ndim == 2]
    assert matrices and not any(torch.equal(online[name], target[name]) for name in matrices)
    for encoder in (online, target):
        for name in matrices:
            fan_in, fan_out = encoder[name].T.shape
            if any(part in name for part in ("q_proj", "k_proj", "v_proj")):  # one layer in MAE
                fan_out *= 3
            bound = math.sqrt(6 / (fan_in + fan_out))
            assert 0.95 * bound < encoder[name].abs().max() <= bound
    assert not any(weight.any() for name, weight in model.state_dict().items() if name.endswith("proj.bias"))
    for token in (model.model.embeddings.cls_token, model.predictor.mask_token):
        assert token.std().item() == pytest.approx(0.02, rel=0.2)


def test_the_moving_average_of_a_case_computed_by_hand():
    model = pretraining(ema_decay_start=0.5, ema_decay_end=0.9)
    expected = {name: value.clone() for name, value in model.target.named_parameters()}
    frozen = {name: value.clone() for name, value in model.state_dict().items() if not name.startswith("target.")}
    for step, decay in enumerate((0.5, 0.6, 0.7, 0.8, 0.9)):
        model.after_optimizer_step(step, 5)
        for name, value in model.model.encoder.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * value.detach()
    for name, value in model.target.named_parameters():
        torch.testing.assert_close(value, expected[name])
    assert all(torch.equal(model.state_dict()[name], value) for name, value in frozen.items())
    model.after_optimizer_step(0, 1)  # a run of one step


def test_a_ratio_that_leaves_no_patch_is_refused():
    with pytest.raises(ValueError, match=r"mask_ratio 0\.9 leaves 0 of 3 patches visible"):
        pretraining(mask_ratio=0.9)(spectrograms()[:, :8])
    with pytest.raises(ValueError, match="patch_size 8 does not divide"):
        pretraining()(spectrograms()[:, :12])


def test_bfloat16_pretrains_near_float32():
    model, values, seeds = pretraining(), spectrograms(), torch.arange(3)
    expected = model(values, seeds=seeds).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(values, seeds=seeds)
    assert output.loss.dtype == torch.float32
    torch.testing.assert_close(output.loss, expected, atol=0.02, rtol=0)
    output.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)
    torch.testing.assert_close(model.bfloat16()(values.bfloat16(), seeds=seeds).loss, expected, atol=0.05, rtol=0)


def test_gradient_checkpointing_changes_no_gradient_of_the_pretraining():
    model, values, gradients = pretraining().train(), spectrograms(), []
    for enable in (False, True):
        if enable:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        model(values, seeds=torch.arange(3)).loss.backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(gradients[0], gradients[1])


def test_the_target_is_not_trained_and_biases_and_norms_have_no_weight_decay():
    model = pretraining()
    decayed = set(Trainer.get_decay_parameter_names(None, model))
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != name.startswith("target.")
        assert (name in decayed) == (parameter.ndim > 1), name


def test_the_deviation_between_examples_of_a_case_computed_by_hand():
    # Two values at position 0, 1 and 4, three at position 2, 1, 2 and 6; one at position 1, which counts for nothing.
    positions = torch.tensor([[0, 2], [2, 0], [1, 2]])
    values = torch.tensor([[1.0, 1.0], [2.0, 4.0], [100.0, 6.0]]).unsqueeze(-1)
    expected = math.sqrt((1.5**2 + 1.5**2 + 2**2 + 1**2 + 3**2) / (6 - 3))
    assert deviation_between_examples(values, positions, 4).item() == pytest.approx(expected)


def test_a_collapse_of_the_target_is_named(caplog):
    model = pretraining()
    assert model.monitored() == {}
    model(spectrograms(), seeds=torch.arange(3))
    healthy = model.monitored()["target_deviation"]
    assert 0.1 < healthy < 1.1
    model.eval()(spectrograms(seed=1), seeds=torch.arange(3))
    assert model.monitored()["target_deviation"] == healthy, "of the latest training step"
    assert not caplog.text
    model.train()(spectrograms(1), seeds=torch.arange(1))
    assert model.monitored()["target_deviation"] == healthy, "a single example has no deviation"
    with torch.no_grad():  # outputs that depend on the position alone, which other masks change a little
        model.model.embeddings.projection.weight.zero_()
        model.model.embeddings.projection.bias.zero_()
    same_masks = torch.zeros(3, dtype=torch.int64)
    model(spectrograms(), seeds=same_masks)
    assert model.monitored()["target_deviation"] < 1e-5
    assert "target_deviation" in caplog.text and "ema_decay_start" in caplog.text
    caplog.clear()
    model._deviation = torch.tensor(0.05)  # a real run that diverged: the loss fell to 0.15
    model.monitored()
    assert "collapse" in caplog.text


# Runs


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """A run of four steps with batches of four, and its settings."""
    folder = tmp_path_factory.mktemp("m2d")
    data = write_features(folder / "features.parquet")
    # Plain gradient descent: Adam enlarges rounding errors where a gradient is zero.
    more = {"model_type": "hfmgc-m2d", "save_strategy": "no", "optim": "sgd", "learning_rate": 0.1}
    settings = pretraining_settings(data, folder / "run", **more, **TestM2DForPreTraining().recipe(folder))
    pretrain_here(folder, settings)
    weights = load_file(folder / "run" / "model.safetensors")
    return settings, weights


def assert_same_weights(folder: Path, expected: dict[str, torch.Tensor]) -> None:
    weights = load_file(folder / "model.safetensors")
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, atol=1e-6, rtol=1e-5, msg=name)


def test_the_target_moves_once_in_each_optimizer_step_also_with_gradient_accumulation(one_process, tmp_path):
    settings, expected = one_process
    more = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "output_dir": str(tmp_path / "run")}
    pretrain_here(tmp_path, settings | more)
    assert_same_weights(tmp_path / "run", expected)


def test_two_processes_stay_equal_and_equal_one(one_process, tmp_path):
    settings, expected = one_process
    more = {"per_device_train_batch_size": 2, "ddp_backend": "gloo", "output_dir": str(tmp_path / "run")}
    result = distribute(2, PRETRAIN, write_config(tmp_path / "pretrain.yaml", settings | more))
    assert result.returncode == 0, result.stderr
    # Each process computes half of the gradient: targets that differed would show in the weights.
    assert_same_weights(tmp_path / "run", expected)


@pytest.mark.parametrize("sharding", [{"fsdp": ["full_shard"]}, {"deepspeed": "zero3.json"}])
def test_sharded_weights_are_refused_because_the_target_averages_them(one_process, sharding):
    settings = settings_from({**PRETRAINING_SETTINGS, **one_process[0]}, PRETRAINING_GROUPS, where="test")
    *groups, run = settings
    with pytest.raises(ConfigError, match="fsdp, deepspeed"):
        fit_pretraining((*groups, run.with_values(**sharding)), data=None)
