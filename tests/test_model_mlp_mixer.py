"""hfmgc-mlp-mixer: the common tests, and its layers compared with the paper's equation."""

import pytest
import torch
from architecture_tester import ArchitectureTester
from huggingface_hub.errors import StrictDataclassError

from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models.configuration_mlp_mixer import MLPMixerConfig


class TestMLPMixer(ArchitectureTester):
    model_type = "hfmgc-mlp-mixer"
    num_hidden_states = 3
    window_shape = (32, 24)
    wrong_windows = (
        ((32, 32), "expected 24 bins in the last dimension, got 32"),
        ((40, 24), "expected 32 frames, got 40"),
    )

    def config(self, **fields):
        fields.setdefault("id2label", {0: "a", 1: "b", 2: "c"})
        sizes = {"num_frames": 32, "num_bins": 24, "patch_size": 8, "hidden_size": 16}
        return MLPMixerConfig(**{**sizes, "tokens_mlp_size": 8, "channels_mlp_size": 32, **fields})

    def extractor(self, **fields):
        return SpectrogramFeatureExtractor(
            **{"sampling_rate": 8000, "n_fft": 512, "hop_length": 128, "num_bins": 24, "window_frames": 32, **fields}
        )

    @pytest.mark.parametrize("fields", [{"num_layers": 0}, {"hidden_size": 0}, {"dropout": 1.0}])
    def test_impossible_fields_are_refused_by_name(self, fields):
        with pytest.raises(StrictDataclassError, match=next(iter(fields))):
            self.config(**fields)

    @pytest.mark.parametrize("fields", [{"num_frames": 36}, {"num_bins": 20}])
    def test_patches_that_do_not_cover_a_window_are_refused(self, fields):
        with pytest.raises(StrictDataclassError, match="patch_size 8 does not divide a window"):
            self.config(**fields)

    def test_a_layer_mixes_patches_then_channels(self):
        layer = self.model().model.layers[0]
        hidden = torch.randn(1, 12, 16)
        expected = hidden.clone()
        normed = layer.tokens_norm(expected)
        for channel in range(16):
            expected[..., channel] = expected[..., channel] + layer.tokens_mlp(normed[..., channel])
        expected = expected + layer.channels_mlp(layer.channels_norm(expected))
        self.close(layer(hidden), expected)
