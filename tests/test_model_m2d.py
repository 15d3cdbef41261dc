"""hfmgc-m2d: the common tests, the sizes of ViT-B, and the positions; `test_m2d_pretraining.py` tests its pre-training."""

import math

import pytest
import torch
from architecture_tester import ArchitectureTester
from huggingface_hub.errors import StrictDataclassError
from transformers import ViTConfig, ViTModel

from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models.configuration_m2d import M2DConfig
from hfmgc.models.modeling_m2d import M2DForAudioClassification, sincos_positions


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
FRAMES = 48


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
        ((50, 24), "patch_size 8 does not divide"),
    )
    most_frames = 64

    def graph_model(self):
        return self.model(num_hidden_layers=1)

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
        steps = [torch.cat([encoded[:, 1 + 6 * row + step] for row in range(3)], dim=1) for step in range(6)]
        self.close(model.model(values).pooler_output, torch.stack(steps).mean(dim=0))
        assert model.model.embedding_size == 48

    def test_the_encoder_is_transformers_vit_on_the_picture_of_the_spectrogram(self):
        model, values = self.model().model, self.values(2)
        fields = {name: TINY[name] for name in TINY if name not in ("num_bins",) and "predictor" not in name}
        config = ViTConfig(image_size=(24, FRAMES), num_channels=1, layer_norm_eps=1e-6, **fields)
        vit = ViTModel(config, add_pooling_layer=False).eval()
        vit.layers.load_state_dict(model.encoder.layers.state_dict())
        vit.layernorm.load_state_dict(model.encoder.norm.state_dict())
        projection = model.embeddings.projection
        with torch.no_grad():
            vit.embeddings.patch_embeddings.projection.weight.copy_(projection.weight.unflatten(1, (1, 8, 8)))
            vit.embeddings.patch_embeddings.projection.bias.copy_(projection.bias)
            vit.embeddings.cls_token.copy_(model.embeddings.cls_token)
            vit.embeddings.position_embeddings.copy_(sincos_positions(3, 6, 16, torch.device("cpu")))
            self.close(
                model.encoder(model.embeddings(values)), vit(values.transpose(1, 2).unsqueeze(1)).last_hidden_state
            )


def test_the_default_size_is_vit_b_with_3840_features():
    with torch.device("meta"):
        model = M2DForAudioClassification(M2DConfig(num_labels=10))
        assert model.model.embeddings(torch.zeros(1, 608, 80)).shape == (1, 1 + 38 * 5, 768)
    layer = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    assert sum(parameter.numel() for parameter in model.parameters()) == (
        12 * layer + 2 * 768 + (256 + 1) * 768 + 768 + (3840 + 1) * 10
    )


def test_positions_are_sines_and_cosines_on_two_axes_with_zeros_for_cls():
    positions = sincos_positions(3, 4, 8, torch.device("cpu"))
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
            torch.testing.assert_close(positions[1 + 4 * row + step], torch.tensor(expected))


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
