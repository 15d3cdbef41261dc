"""hfmgc-musicnn: the common tests, the sizes of the published network, its conversion, and what pooling keeps."""

import numpy as np
import pytest
import torch
from architecture_tester import ArchitectureTester
from huggingface_hub.errors import StrictDataclassError

from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models import convert_musicnn
from hfmgc.models.configuration_musicnn import MusiCNNConfig
from hfmgc.models.modeling_musicnn import MusiCNNForAudioClassification, MusiCNNModel


class TestMusiCNN(ArchitectureTester):
    model_type = "hfmgc-musicnn"
    num_hidden_states = 9
    window_shape = (20, 16)
    other_lengths = (4, 50)
    wrong_windows = (
        ((20, 15), "expected 16 bins in the last dimension, got 15"),
        ((0, 16), "expected at least 1 frames, got 0"),
    )

    def config(self, **fields):
        fields.setdefault("id2label", {0: "a", 1: "b", 2: "c"})
        tiny = {
            "num_bins": 16, "timbral_channels": 6, "timbral_heights": [6, 11], "timbral_width": 3, "temporal_channels": 4,
            "temporal_widths": [8, 4, 3], "midend_channels": 5, "midend_width": 3, "hidden_size": 7,
        }  # fmt: skip
        return MusiCNNConfig(**(tiny | fields))

    def graph_model(self):
        return self.model(timbral_heights=[6], temporal_widths=[8])

    def extractor(self, **fields):
        return SpectrogramFeatureExtractor(
            **{"sampling_rate": 8000, "n_fft": 512, "hop_length": 128, "num_bins": 16, "window_frames": 20, **fields}
        )


@pytest.mark.parametrize(("representation", "embedding_size"), [("penultimate", 200), ("pooled", 1506)])
def test_the_published_sizes_are_the_defaults(representation, embedding_size):
    model = MusiCNNForAudioClassification(MusiCNNConfig(num_labels=50, representation=representation))
    assert model.model.embedding_size == embedding_size
    assert (model.num_parameters() == 787159) == (representation == "penultimate")


def test_a_pooled_embedding_alternates_maximum_and_mean_over_time():
    model = TestMusiCNN().model(representation="pooled").model
    pooled = model.embed_windows(TestMusiCNN().values(2)).embeddings
    assert pooled.shape == (2, 2 * (2 * 6 + 3 * 4 + 3 * 5))
    assert (pooled[:, 0::2] - pooled[:, 1::2] > -1e-4).all()  # equal where a feature is constant


def published_variables() -> dict[str, np.ndarray]:
    """Random variables with the names and shapes of the published checkpoint."""
    generator = np.random.default_rng(0)
    shapes = {"dense/kernel": (1506, 200), "dense/bias": (200,), "dense_1/kernel": (200, 50), "dense_1/bias": (50,)}
    kernels = [(7, 38, 1, 204), (7, 67, 1, 204), (128, 1, 1, 51), (64, 1, 1, 51), (32, 1, 1, 51)]
    kernels += [(7, 561, 1, 64), (7, 64, 1, 64), (7, 64, 1, 64)]
    for index, kernel in enumerate(kernels):
        name = "conv2d" if index == 0 else f"conv2d_{index}"
        shapes |= {f"{name}/kernel": kernel, f"{name}/bias": kernel[-1:]}
    for index, size in enumerate((1, 204, 204, 51, 51, 51, 64, 64, 64, 1506, 200)):
        name = "batch_normalization" if index == 0 else f"batch_normalization_{index}"
        shapes |= {f"{name}/{part}": (size,) for part in ("gamma", "beta", "moving_mean", "moving_variance")}
    return {name: generator.uniform(0.1, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def test_converted_variables_fill_the_network():
    variables = published_variables()
    model = MusiCNNForAudioClassification(MusiCNNConfig(num_labels=50))
    tensors = {name: torch.from_numpy(tensor) for name, tensor in convert_musicnn.convert(variables).items()}
    model.load_state_dict(tensors)
    # A kernel that spans all features, at frame 2, from feature 500 to filter 9.
    assert model.model.midend[0].convolution.weight[9, 500, 2] == variables["conv2d_5/kernel"][2, 500, 0, 9]
    assert model.model.timbral[1].convolution.weight[9, 0, 2, 60] == variables["conv2d_1/kernel"][2, 60, 0, 9]


def test_a_wheel_with_another_checksum_is_refused(tmp_path, monkeypatch):
    wheel = tmp_path / "musicnn-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"another wheel")
    monkeypatch.setattr("sys.argv", ["convert_musicnn.py", str(wheel), str(tmp_path / "model.safetensors")])
    with pytest.raises(SystemExit, match=r"musicnn-0\.1\.0-py3-none-any\.whl.*sha256"):
        convert_musicnn.main()
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"timbral_heights": [6, 17]}, "timbral_heights"),
        ({"midend_width": 4}, "midend_width"),
        ({"representation": "logits"}, "representation"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        MusiCNNModel(TestMusiCNN().config(**fields))
