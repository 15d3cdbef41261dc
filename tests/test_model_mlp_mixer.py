"""MLP-Mixer: the common tests, and its patches."""

import pytest
import torch
from architecture_tester import ArchitectureTester
from huggingface_hub.errors import StrictDataclassError

from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models.configuration_mlp_mixer import MLPMixerConfig


class TestMLPMixer(ArchitectureTester):
    model_type = "hfmgc-mlp-mixer"
    window_shape = (32, 16)
    num_hidden_states = 3
    wrong_windows = (((32, 8), "expected 16 bins"), ((31, 16), "expected 32 frames"))

    def config(self, **fields):
        tiny = {"num_labels": 3, "num_frames": 32, "num_bins": 16, "patch_frames": 4, "hidden_size": 16}
        return MLPMixerConfig(**{**tiny, "token_size": 8, "channel_size": 32, "dropout": 0.0, **fields})

    def extractor(self, **fields):
        tiny = {"sampling_rate": 16000, "n_fft": 512, "hop_length": 160, "num_bins": 16, "window_frames": 32}
        return SpectrogramFeatureExtractor(**{**tiny, "normalization": "z_score", **fields})

    def test_frames_that_are_no_whole_number_of_patches_are_refused(self):
        with pytest.raises(StrictDataclassError, match=r"num_frames \(30\).*patch_frames \(4\)"):
            self.config(num_frames=30)

    def test_each_patch_is_mixed_with_all_others(self):
        model, values = self.model().model, self.values(1).requires_grad_()
        (gradient,) = torch.autograd.grad(model(values).pooler_output.pow(2).sum(), values)
        assert gradient.abs().amin(dim=(0, 2)).gt(0).all()
