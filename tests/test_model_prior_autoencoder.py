"""The autoencoder whose decoder restores Deformer's patches."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from pretraining_tester import PretrainingTester

from hfmgc.models.configuration_prior_autoencoder import PriorAutoencoderConfig
from hfmgc.models.modeling_prior_autoencoder import PriorAutoencoder
from hfmgc.models.spectrogram_patches import from_patches, to_patches


class TestPriorAutoencoder(PretrainingTester):
    model_type = "hfmgc-prior-autoencoder"
    window_shape = (32, 32)
    wrong_windows = (
        ((32, 30), "patch_size 8 does not divide a window of 32 frames and 30 bins"),
        ((33, 32), "patch_size"),
    )

    def config(self, **fields) -> PriorAutoencoderConfig:
        return PriorAutoencoderConfig(**{"patch_size": 8, "hidden_sizes": [4, 8], "patches_per_window": 3, **fields})

    def recipe(self, folder):
        return {"model": {"patch_size": 8, "hidden_sizes": [4, 8], "patches_per_window": 3}}


def test_patches_run_from_left_to_right_and_then_up_the_bins():
    frames, bins = torch.meshgrid(torch.arange(6), torch.arange(4), indexing="ij")
    spectrogram = (10.0 * frames + bins)[None]  # 6 frames, 4 bins
    patches = to_patches(spectrogram, 2)
    assert patches.shape == (1, 6, 2, 2)
    assert patches[0, 0].tolist() == [[0, 10], [1, 11]]
    assert patches[0, 1].tolist() == [[20, 30], [21, 31]]
    assert patches[0, 3].tolist() == [[2, 12], [3, 13]]
    assert torch.equal(from_patches(patches, 6, 4), spectrogram)


def test_the_loss_is_the_mean_squared_error_of_the_drawn_patches():
    model = TestPriorAutoencoder().model()
    values = TestPriorAutoencoder().values(1)
    patches = to_patches(values, 8)[0]
    errors = (model.decode(model.encode(patches)) - patches).square().mean(dim=(1, 2))
    chosen = torch.randperm(16, generator=torch.Generator().manual_seed(9))[:3]
    torch.testing.assert_close(model(values, seeds=torch.tensor([9])).loss, errors[chosen].mean())
    torch.testing.assert_close(model(values).loss, errors.mean())
    noised, restored = model.restore(values)
    assert torch.equal(noised, values)
    torch.testing.assert_close((restored - values).square().mean(), errors.mean())


def test_the_papers_autoencoder_has_a_vector_of_512_values():
    with torch.device("meta"):
        model = PriorAutoencoder(PriorAutoencoderConfig())
    assert model.config.latent_size == 512
    assert [m.out_channels for m in model.encoder if hasattr(m, "out_channels")] == [32, 64, 128]
    assert [m.out_channels for m in model.decoder if hasattr(m, "out_channels")] == [128, 64, 32, 1]
    assert sum(parameter.numel() for parameter in model.parameters()) == 332_801


def test_a_patch_that_the_pools_cannot_halve_is_refused():
    with pytest.raises(StrictDataclassError, match="patch_size"):
        PriorAutoencoderConfig(patch_size=12)
