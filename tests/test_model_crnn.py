"""hfmgc-crnn: the common tests, the paper's parameter counts, pools that do not fit, and which weights L2 holds."""

import pytest
import torch
from architecture_tester import ArchitectureTester
from huggingface_hub.errors import StrictDataclassError

from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models.configuration_crnn import DivideAndConquerCRNNConfig
from hfmgc.models.modeling_crnn import DivideAndConquerCRNNForAudioClassification


class TestDivideAndConquerCRNN(ArchitectureTester):
    model_type = "hfmgc-crnn"
    num_hidden_states = 5
    window_shape = (20, 16)
    other_lengths = (10, 33)
    wrong_windows = (
        ((20, 15), "expected 16 bins in the last dimension, got 15"),
        ((9, 16), r"expected at least 10 frames, got 9"),
    )
    graph_frames = 10

    def graph_model(self):
        return self.model(channels=[16], pools=[[4, 2]], gru_hidden_sizes=[40])

    def shrunken(self):
        return {"channels": 4, "gru_hidden_sizes": 8, "dense_size": 8}

    def config(self, **fields):
        fields.setdefault("id2label", {0: "a", 1: "b", 2: "c"})
        tiny = {
            "num_frames": 20,
            "num_bins": 16,
            "channels": [16, 32],
            "pools": [[2, 2], [2, 3]],
            "gru_hidden_sizes": [48, 40],
            "dense_size": 24,
            "dense_dropout": 0.1,
        }
        return DivideAndConquerCRNNConfig(**(tiny | fields))

    def extractor(self, **fields):
        return SpectrogramFeatureExtractor(
            **{"sampling_rate": 8000, "n_fft": 512, "hop_length": 128, "num_bins": 16, "window_frames": 20, **fields}
        )

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"num_frames": 0}, "num_frames"),
            ({"num_bins": 0}, "num_bins"),
            ({"dense_size": 0}, "dense_size"),
            ({"channels": [4, 0]}, "channels"),
            ({"channels": [], "pools": []}, "channels"),
            ({"gru_hidden_sizes": []}, "gru_hidden_sizes"),
            ({"gru_hidden_sizes": [8, 0]}, "gru_hidden_sizes"),
            ({"convolution_dropout": 1.0}, "convolution_dropout"),
            ({"dense_dropout": -0.1}, "dense_dropout"),
            ({"l2": -0.001}, "l2"),
            ({"batch_norm_epsilon": 0.0}, "batch_norm_epsilon"),
            ({"batch_norm_momentum": 0.0}, "batch_norm_momentum"),
            ({"pools": [[2, 2]]}, "pools must have 2 entries"),
            ({"pools": [[2, 2], [2]]}, r"pools must be pairs \[time, mel\]"),
            ({"pools": [[2, 2], [0, 2]]}, r"pools\[1\]"),
            ({"pools": [[2, 2], [8, 2]]}, r"pools\[1\] \[8, 2\] .* 7 of num_frames 20 "),
            ({"pools": [[2, 2], [2, 6]]}, r"pools\[1\] \[2, 6\] .* 5 of num_bins 16 "),
            ({"num_bins": 2}, r"pools\[0\] \[2, 2\] .* 0 of num_bins 2 "),
        ],
    )
    def test_impossible_fields_are_refused_by_name(self, fields, message):
        with pytest.raises(StrictDataclassError, match=message):
            self.config(**fields)

    def test_the_largest_pools_that_fit_leave_one_frame_and_one_bin(self):
        model = self.model(pools=[[2, 2], [7, 5]])
        hidden = self.values(2).unsqueeze(1)
        for block in model.model.blocks:
            hidden = block(hidden)
        assert hidden.shape == (2, 32, 1, 1)

    def test_what_is_left_of_the_mel_axis_enters_the_gru(self):
        model = self.model(pools=[[2, 2], [2, 1]])
        assert model.model.grus[0].input_size == 32 * 5
        assert model(self.values(2)).logits.shape == (2, 3)

    def test_each_frame_of_the_gru_holds_all_channels_of_one_time(self):
        model = self.model(pools=[[2, 2], [2, 2]])  # two mels are left
        seen = []
        model.model.grus[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        before = self.values(1)
        after = before.clone()
        after[:, -6:] += 1  # reaches only the last of the three frames that the pools leave
        model(before), model(after)
        changed = (seen[0] != seen[1]).any(dim=0)
        assert seen[0].shape == (1, 3, 64)
        assert not changed[0].any() and changed[-1].all()

    def test_there_is_no_activation_and_the_norm_follows_the_pool(self):
        block = self.model().model.blocks[0]
        assert [type(part).__name__ for part in block.children()] == ["Conv2d", "MaxPool2d", "BatchNorm2d", "Dropout"]
        assert (block.norm.eps, block.norm.momentum) == (0.001, 0.01)  # Keras' defaults
        values = self.values(2).unsqueeze(1)
        expected = block.norm(torch.nn.functional.max_pool2d(block.convolution(values), 2))
        assert (expected < 0).any()
        self.close(block(values), expected)

    def test_first_weights_are_keras_defaults(self):
        torch.manual_seed(0)
        config = self.config(channels=[16, 64], gru_hidden_sizes=[48, 40], dense_size=64)
        model = DivideAndConquerCRNNForAudioClassification(config)
        # Keras' Glorot counts the kernels of all gates at once.
        for name, fans in (
            ("model.blocks.1.convolution.weight", (16 + 64) * 9),
            ("model.grus.1.weight_ih_l0", 48 + 3 * 40),
            ("model.dense.weight", 40 + 64),
        ):
            weight, bound = model.get_parameter(name).detach(), (6 / fans) ** 0.5
            assert 0.97 * bound < float(weight.abs().max()) <= bound, name
            assert float(weight.std()) == pytest.approx(bound / 3**0.5, rel=0.05), name
        recurrent = model.model.grus[1].weight_hh_l0.detach()
        self.close(recurrent.T @ recurrent, torch.eye(40))
        biases = [parameter for name, parameter in model.named_parameters() if "bias" in name]
        assert biases and not any(bias.any() for bias in biases)

    def test_the_penalty_is_the_squares_of_the_convolutions_and_the_dense_kernel(self):
        model = self.model(l2=0.01)
        squares = sum(
            model.get_parameter(name).square().sum()
            for name in (
                "model.blocks.0.convolution.weight",
                "model.blocks.1.convolution.weight",
                "model.dense.weight",
            )
        )
        penalty = model.training_loss(torch.zeros(()))
        self.close(penalty, 0.01 * squares)
        penalty.backward()
        held = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert held == {"model.blocks.0.convolution.weight", "model.blocks.1.convolution.weight", "model.dense.weight"}

    def test_the_penalty_enters_the_loss_only_while_training(self):
        values, labels = self.values(4), torch.tensor([0, 1, 2, 0])
        without_dropout = {"convolution_dropout": 0.0, "dense_dropout": 0.0}
        plain, held = self.model(**without_dropout), self.model(l2=0.01, **without_dropout)
        self.close(held(values, labels=labels).loss, plain(values, labels=labels).loss)
        losses = [model.train()(values, labels=labels).loss for model in (held, plain)]
        penalty = held.training_loss(torch.zeros(()))
        self.close(losses[0] - losses[1], penalty)
        assert penalty > 0.01
