"""hfmgc-lenet: the common tests, LeNet-5's own sizes, and the average that makes any length fit them."""

import pytest
import torch
from architecture_tester import ArchitectureTester
from huggingface_hub.errors import StrictDataclassError

from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models.configuration_lenet import LeNetConfig
from hfmgc.models.modeling_lenet import LeNetForAudioClassification


class TestLeNet(ArchitectureTester):
    model_type = "hfmgc-lenet"
    num_hidden_states = 3
    window_shape = (32, 24)
    other_lengths = (16, 75)
    wrong_windows = (
        ((32, 32), "expected 24 bins in the last dimension, got 32"),
        ((15, 24), "expected at least 16 frames, got 15"),
    )

    def config(self, **fields):
        fields.setdefault("id2label", {0: "a", 1: "b", 2: "c"})
        return LeNetConfig(**{"num_bins": 24, **fields})

    def extractor(self, **fields):
        return SpectrogramFeatureExtractor(
            **{"sampling_rate": 8000, "n_fft": 512, "hop_length": 128, "num_bins": 24, "window_frames": 32, **fields}
        )

    @pytest.mark.parametrize(
        "fields", [{"num_bins": 15}, {"activation": "gelu"}, {"subsampling": "mean"}, {"dropout": 1.0}]
    )
    def test_impossible_fields_are_refused_by_name(self, fields):
        with pytest.raises(StrictDataclassError, match=next(iter(fields))):
            self.config(**fields)

    def test_the_smallest_accepted_spectrogram_is_classified(self):
        model = self.model(num_bins=16)
        values = self.values(2)[:, :16, :16]
        assert not torch.allclose(model(values).logits[0], model(values).logits[1], atol=1e-4)

    def test_the_fields_choose_the_activation_and_the_subsampling(self):
        values = self.values(2)
        answers = [
            self.model(activation=activation, subsampling=subsampling)(values).logits
            for activation in ("tanh", "relu")
            for subsampling in ("average", "max")
        ]
        for index, answer in enumerate(answers):
            assert not any(torch.allclose(answer, other, atol=1e-4) for other in answers[index + 1 :])

    def test_dropout_acts_before_the_classifier_and_only_in_training(self):
        model, values = self.model(dropout=0.5), self.values(4)
        self.close(model(values).logits, self.model()(values).logits)
        seen = []
        model.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        model.train()(values)
        assert 0.25 < (seen[0] == 0).float().mean() < 0.75


def test_a_picture_of_32x32_goes_through_lenets_own_layers():
    torch.manual_seed(0)
    model = LeNetForAudioClassification(LeNetConfig(num_bins=32, num_labels=10)).eval()
    values = torch.randn(2, 32, 32)
    hidden = model.model.convolutions(values.unsqueeze(1))
    assert hidden.shape == (2, 16, 5, 5)  # nothing is left to average
    expected = model.classifier(model.model.dense(hidden.flatten(1)))
    torch.testing.assert_close(model(values).window_logits[:, 0], expected)


@pytest.mark.parametrize(("num_bins", "num_labels", "count"), [(32, 10, 61_706), (128, 10, 61_706), (128, 16, 62_216)])
def test_it_has_lenets_parameters_whatever_the_size_of_the_spectrogram(num_bins, num_labels, count):
    layers = (1 * 25 + 1) * 6 + (6 * 25 + 1) * 16 + (400 + 1) * 120 + (120 + 1) * 84 + (84 + 1) * num_labels
    assert layers == count
    model = LeNetForAudioClassification(LeNetConfig(num_bins=num_bins, num_labels=num_labels))
    assert model.num_parameters() == count
