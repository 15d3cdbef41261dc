"""hfmgc-m2d: the common tests, the sizes of ViT-B, the positions, and the pre-training's masks, loss and moving average."""

import math

import pytest
import torch
from architecture_tester import ArchitectureTester
from conftest import scatter_parameters
from huggingface_hub.errors import StrictDataclassError
from torch.nn import functional as F
from transformers import ViTConfig, ViTModel

from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models.configuration_m2d import M2DConfig
from hfmgc.models.modeling_m2d import (
    M2DForAudioClassification,
    M2DForPreTraining,
    M2DModel,
    duo_loss,
    sincos_positions,
)


TINY = {
    "num_bins": 24,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "predictor_hidden_size": 8,
    "predictor_num_hidden_layers": 1,
    "predictor_num_attention_heads": 2,
}
FRAMES, PATCHES, MASKED = 48, 18, 13  # 6 steps of 3 patches, of which 70 % are masked


def tiny(**fields) -> M2DConfig:
    fields.setdefault("id2label", {0: "a", 1: "b", 2: "c"})
    return M2DConfig(**{**TINY, **fields})


class TestM2D(ArchitectureTester):
    model_type = "hfmgc-m2d"
    num_hidden_states = 3
    num_attentions = 2
    window_shape = (FRAMES, 24)
    other_lengths = (24, 80)
    wrong_windows = (
        ((48, 40), "expected 24 bins in the last dimension, got 40"),
        ((0, 24), "expected at least 8 frames, got 0"),
        ((50, 24), r"multiple of 8 frames \(patch_size\), got 50"),
    )
    most_frames = 64

    def shrunken(self):
        return {
            "hidden_size": 12,
            "num_hidden_layers": 1,
            "num_attention_heads": 3,
            "intermediate_size": 24,
            "predictor_hidden_size": 16,
            "predictor_num_hidden_layers": 1,
        }

    def config(self, **fields):
        return tiny(**fields)

    def extractor(self, **fields):
        return SpectrogramFeatureExtractor(**{"num_bins": 24, "window_frames": FRAMES, **fields})

    def test_the_embedding_is_the_patches_of_a_step_side_by_side_averaged_over_time(self):
        model, values = self.model(), self.values(2)
        encoded = model.model.encoder(model.model.embeddings(values))
        steps = [torch.cat([encoded[:, 1 + 3 * step + row] for row in range(3)], dim=1) for step in range(6)]
        self.close(model.model(values).pooler_output, torch.stack(steps).mean(dim=0))
        assert model.model.embedding_size == 48

    def test_the_encoder_is_transformers_vit_on_the_picture_of_the_spectrogram(self):
        model, values = self.model().model, self.values(2)
        fields = {name: TINY[name] for name in TINY if name not in ("num_bins",) and "predictor" not in name}
        config = ViTConfig(image_size=(FRAMES, 24), num_channels=1, layer_norm_eps=1e-6, **fields)
        vit = ViTModel(config, add_pooling_layer=False).eval()
        vit.layers.load_state_dict(model.encoder.layers.state_dict())
        vit.layernorm.load_state_dict(model.encoder.norm.state_dict())
        projection = model.embeddings.projection
        with torch.no_grad():
            vit.embeddings.patch_embeddings.projection.weight.copy_(projection.weight.unflatten(1, (1, 8, 8)))
            vit.embeddings.patch_embeddings.projection.bias.copy_(projection.bias)
            vit.embeddings.cls_token.copy_(model.embeddings.cls_token)
            vit.embeddings.position_embeddings.copy_(sincos_positions(6, 3, 16, torch.device("cpu")))
            self.close(model.encoder(model.embeddings(values)), vit(values.unsqueeze(1)).last_hidden_state)


def test_the_default_size_is_vit_b_with_3840_features():
    with torch.device("meta"):
        model = M2DForAudioClassification(M2DConfig(num_labels=10))
        assert model.model.embeddings(torch.zeros(1, 608, 80)).shape == (1, 1 + 38 * 5, 768)
    layer = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    assert sum(parameter.numel() for parameter in model.parameters()) == (
        12 * layer + 2 * 768 + (256 + 1) * 768 + 768 + (3840 + 1) * 10
    )


def test_positions_are_sines_and_cosines_on_two_axes_with_zeros_for_cls():
    positions = sincos_positions(4, 3, 8, torch.device("cpu"))
    assert positions.shape == (13, 8)
    assert not positions[0].any()
    for step in range(4):
        for row in range(3):
            expected = [
                function(index * rate)
                for index in (step, row)
                for function in (math.sin, math.cos)
                for rate in (1.0, 0.01)
            ]
            torch.testing.assert_close(positions[1 + 3 * step + row], torch.tensor(expected))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"patch_size": 16}, "patch_size 16 does not divide num_bins 24"),
        ({"mask_ratio": 0.0}, "mask_ratio"),
        ({"mask_ratio": 1.0}, "mask_ratio"),
        ({"num_attention_heads": 3}, "hidden_size 16 is not divisible by num_attention_heads 3"),
        ({"predictor_num_attention_heads": 3}, "predictor_hidden_size 8 is not divisible by predictor_num_attention"),
        ({"hidden_size": 6}, "hidden_size 6 is not a multiple of 4"),
        ({"ema_decay_end": 1.1}, "ema_decay_end"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
    ],
)
def test_impossible_configs_are_refused(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        tiny(**fields)


# Pre-training


def pretraining(**fields) -> M2DForPreTraining:
    torch.manual_seed(0)
    model = M2DForPreTraining(tiny(**fields))
    scatter_parameters(model)
    return model


def spectrograms(examples: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(examples, FRAMES, 24, generator=torch.Generator().manual_seed(seed))


def patch(index: int) -> tuple[slice, slice]:
    """Return the frames and bins of a patch."""
    step, row = divmod(index, 3)
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
    first = model.predictor(encoded, visible, masked, (6, 3))
    torch.testing.assert_close(model.predictor(shuffled, visible[:, order], masked, (6, 3)), first)
    assert not torch.allclose(model.predictor(shuffled, visible, masked, (6, 3)), first, atol=1e-4)


def test_gradients_reach_everything_but_the_target():
    model = pretraining().train()
    model(spectrograms(), seeds=torch.arange(3)).loss.backward()
    for name, parameter in model.named_parameters():
        if name.startswith("target."):
            assert not parameter.requires_grad and parameter.grad is None
        else:
            assert parameter.grad.any(), name


def test_initial_weights_are_those_of_mae_and_the_targets_are_its_own():
    torch.manual_seed(0)
    model = M2DForPreTraining(tiny(hidden_size=256, num_hidden_layers=1, predictor_hidden_size=256))
    online, target = model.model.encoder.state_dict(), model.target.state_dict()
    assert online.keys() == target.keys()
    matrices = [name for name, weight in online.items() if weight.ndim == 2]
    assert matrices and not any(torch.equal(online[name], target[name]) for name in matrices)
    for encoder in (online, target):
        for name in matrices:
            bound = math.sqrt(6 / sum(encoder[name].shape))
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


def test_equal_seeds_give_equal_losses_and_other_seeds_others():
    model, values = pretraining(), spectrograms()
    losses = [model(values, seeds=torch.tensor(seeds)).loss for seeds in ([1, 2, 3], [1, 2, 3], [1, 2, 4])]
    assert losses[0] == losses[1] != losses[2]


def test_a_ratio_that_leaves_no_patch_is_refused():
    with pytest.raises(ValueError, match=r"mask_ratio 0\.9 leaves 0 of 3 patches visible"):
        pretraining(mask_ratio=0.9)(spectrograms()[:, :8])
    with pytest.raises(ValueError, match="multiple of 8 frames"):
        pretraining()(spectrograms()[:, :12])


def test_a_pretrained_checkpoint_starts_encoder_classifier_and_itself(tmp_path, capfd):
    model, values = pretraining(), spectrograms()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        embedded = model.model(values).pooler_output
        again, report = M2DForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"]
        seeds = torch.arange(3)
        assert torch.equal(again(values, seeds=seeds).loss, model(values, seeds=seeds).loss)
        assert not any(parameter.requires_grad for parameter in again.target.parameters())
        encoder, report = M2DModel.from_pretrained(tmp_path, output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"]
        assert torch.equal(encoder(values).pooler_output, embedded)
        classifier, report = M2DForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
        assert set(report["missing_keys"]) == {"classifier.weight", "classifier.bias"}
        assert torch.equal(classifier.model(values).pooler_output, embedded)
    assert "target" not in capfd.readouterr().err


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
