"""hfmgc-fcn: the common tests for FCN and FCN-LSTM, parameter counts, padding that keeps the length, the two branches."""

import pytest
import torch
from architecture_tester import ArchitectureTester
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from torch.nn import functional as F

from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models.configuration_fcn import FCNConfig
from hfmgc.models.modeling_fcn import FCNBlock, FCNForAudioClassification


class TestFCN(ArchitectureTester):
    model_type = "hfmgc-fcn"
    num_hidden_states = 4
    window_shape = (20, 16)
    other_lengths = (4, 50)
    wrong_windows = (
        ((20, 15), "expected 16 bins in the last dimension, got 15"),
        ((0, 16), "expected at least 1 frames, got 0"),
    )
    recurrent_hidden_size = 0
    most_frames = 256

    def shrunken(self):
        return {"channels": [8, 8, 8]}

    def config(self, **fields):
        fields.setdefault("id2label", {0: "a", 1: "b", 2: "c"})
        tiny = {
            "num_bins": 16,
            "channels": [8, 12, 10],
            "recurrent_hidden_size": self.recurrent_hidden_size,
        }
        return FCNConfig(**(tiny | fields))

    def extractor(self, **fields):
        return SpectrogramFeatureExtractor(
            **{"sampling_rate": 8000, "n_fft": 512, "hop_length": 128, "num_bins": 16, "window_frames": 20, **fields}
        )


class TestFCNLSTM(TestFCN):
    recurrent_hidden_size = 9
    num_hidden_states = 5
    graph_frames = 2

    def graph_model(self):
        return self.model(channels=[8], kernel_sizes=[8])


def tiny(**fields) -> FCNForAudioClassification:
    return TestFCN().model(**fields)


def values(*leading: int) -> torch.Tensor:
    return TestFCN().values(*leading)


@pytest.mark.parametrize("recurrent_hidden_size", [0, 5])
@pytest.mark.parametrize(("channels", "kernel_sizes"), [([8], [4]), ([8, 12, 10], [8, 5, 3])])
def test_parameters_follow_from_the_sizes(channels, kernel_sizes, recurrent_hidden_size):
    expected = (channels[-1] + recurrent_hidden_size + 1) * 3
    for inputs, outputs, kernel in zip([16, *channels], channels, kernel_sizes, strict=False):
        expected += (inputs * kernel + 1) * outputs + 2 * outputs
    if recurrent_hidden_size:
        expected += 4 * recurrent_hidden_size * (16 + recurrent_hidden_size + 2)
    model = tiny(channels=channels, kernel_sizes=kernel_sizes, recurrent_hidden_size=recurrent_hidden_size)
    assert model.num_parameters() == expected


@pytest.mark.parametrize(("recurrent_hidden_size", "count"), [(0, 396_042), (128, 529_418)])
def test_parameters_at_the_default_size(recurrent_hidden_size, count):
    config = FCNConfig(num_labels=10, recurrent_hidden_size=recurrent_hidden_size)
    assert FCNForAudioClassification(config).num_parameters() == count


def test_only_fcn_lstm_has_an_lstm():
    def kinds(model):
        return {type(module) for module in model.modules()}

    assert nn.LSTM not in kinds(tiny().model) and nn.Dropout not in kinds(tiny().model)
    assert {nn.LSTM, nn.Dropout} <= kinds(tiny(recurrent_hidden_size=5).model)


def test_the_classifier_reads_the_mean_of_the_convolutions_and_the_last_state_of_the_lstm():
    model = tiny(recurrent_hidden_size=5)
    _, (state, _) = model.model.recurrence(values(3))
    pooled = model.model.blocks(values(3).transpose(1, 2)).mean(dim=2)
    expected = model.classifier(torch.cat((pooled, state[-1]), dim=1))
    torch.testing.assert_close(model(values(3)).window_logits[:, 0], expected)


def test_dropout_falls_on_the_lstm_alone_and_only_in_training():
    model = tiny(recurrent_hidden_size=64, recurrent_dropout=0.8)
    seen = []
    model.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(values(4)), model.train()(values(4))
    heard, trained = (pooled[:, 10:] == 0 for pooled in seen)
    assert not heard.any()
    assert 0.7 < trained.float().mean() < 0.9
    assert (seen[1][:, :10] != 0).any(dim=0).all()


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 5, 8])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # in the reference
def test_a_block_keeps_the_length_as_same_padding_does(kernel_size):
    torch.manual_seed(0)
    block = FCNBlock(4, 6, kernel_size).eval()
    series = torch.randn(2, 4, 11)
    for frames in (1, 11):
        assert block(series[:, :, :frames]).shape == (2, 6, frames)
    convolution = block[1]
    expected = F.conv1d(series, convolution.weight, convolution.bias, padding="same")
    torch.testing.assert_close(block(series), F.relu(block[2](expected)))


def test_the_kernels_run_over_time_and_have_the_papers_lengths():
    kernels = [block[1].weight.shape for block in FCNForAudioClassification(FCNConfig(num_bins=40)).model.blocks]
    assert kernels == [(128, 40, 8), (256, 128, 5), (128, 256, 3)]


@pytest.mark.parametrize(
    "fields",
    [
        {"num_bins": 0},
        {"channels": []},
        {"channels": [8, 0, 8]},
        {"kernel_sizes": [8, 5, 0]},
        {"kernel_sizes": [8, 5]},
        {"recurrent_hidden_size": -1},
        {"recurrent_dropout": 1.0},
    ],
)
def test_impossible_fields_are_refused_by_name(fields):
    with pytest.raises(StrictDataclassError, match=next(iter(fields))):
        FCNConfig(**fields)
