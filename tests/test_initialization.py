"""First weights: signals keep their scale, recurrences remember, and loaded weights are left alone."""

import math

import pytest
import torch
from torch import nn

from hfmgc.models.configuration_lenet import LeNetConfig
from hfmgc.models.configuration_recurrent import RecurrentConfig
from hfmgc.models.initialization import initialize
from hfmgc.models.modeling_lenet import LeNetForAudioClassification
from hfmgc.models.modeling_recurrent import RecurrentForAudioClassification


@pytest.mark.parametrize("kind", ["1d", "2d"])
def test_a_deep_convolutional_net_keeps_the_scale_of_its_signal(kind):
    torch.manual_seed(0)
    convolution = nn.Conv1d if kind == "1d" else nn.Conv2d
    hidden = torch.randn(2, 64, *((400,) if kind == "1d" else (24, 24)))
    start = hidden.relu().std()
    for _ in range(20):
        layer = convolution(64, 64, 3, padding=1, padding_mode="circular")
        assert initialize(layer)
        assert not layer.bias.any()
        hidden = layer(hidden).relu()
    # transformers' own 0.02 would leave a ten-thousand-millionth of it.
    assert 0.2 < hidden.std() / start < 5


def test_convolutions_are_he_normal_over_their_fan_out():
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 256, 5)
    initialize(layer)
    assert float(layer.weight.detach().std()) == pytest.approx(math.sqrt(2 / (256 * 25)), rel=0.03)


def test_linear_layers_lie_within_the_root_of_their_fan_in():
    torch.manual_seed(0)
    layer = nn.Linear(400, 100)
    initialize(layer)
    assert float(layer.weight.detach().abs().max()) == pytest.approx(1 / 20, rel=0.01)
    assert float(layer.weight.detach().std()) == pytest.approx(1 / 20 / math.sqrt(3), rel=0.02)
    assert not layer.bias.any()
    assert initialize(nn.Linear(4, 4, bias=False))


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrences_are_orthogonal_gate_by_gate(cell, bidirectional):
    torch.manual_seed(0)
    layer = cell(12, 16, num_layers=2, bidirectional=bidirectional)
    assert initialize(layer)
    matrices = [(name, value) for name, value in layer.named_parameters() if name.startswith("weight_hh")]
    assert len(matrices) == 2 * (1 + bidirectional)
    for _, matrix in matrices:
        gates = matrix.detach().split(16)
        assert len(gates) == (4 if cell is nn.LSTM else 3)
        for gate in gates:
            torch.testing.assert_close(gate @ gate.T, torch.eye(16), atol=1e-5, rtol=0)
        assert not torch.equal(gates[0], gates[1])
    for name, matrix in layer.named_parameters():
        if name.startswith("weight_ih"):
            for gate in matrix.detach().split(16):
                bound = math.sqrt(6 / (16 + gate.shape[1]))
                assert 0.9 * bound < float(gate.abs().max()) <= bound


@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_lstm_starts_with_open_forget_gates_and_a_gru_without_biases(bidirectional):
    layer = nn.LSTM(3, 4, num_layers=2, bidirectional=bidirectional)
    initialize(layer)
    for name, bias in layer.named_parameters():
        if name.startswith("bias"):
            forget = 1.0 if name.startswith("bias_ih") else 0.0  # the two are added: 1 in all
            assert bias.tolist() == [0.0] * 4 + [forget] * 4 + [0.0] * 8
    layer = nn.GRU(3, 4, bidirectional=bidirectional)
    initialize(layer)
    assert not any(bias.any() for name, bias in layer.named_parameters() if name.startswith("bias"))


def test_other_layers_are_not_initialised():
    assert not initialize(nn.LayerNorm(4))
    assert not initialize(nn.BatchNorm2d(4))


@pytest.mark.parametrize(
    "model",
    [
        lambda: RecurrentForAudioClassification(RecurrentConfig(num_bins=8, hidden_size=6, num_layers=2, cell="gru")),
        lambda: RecurrentForAudioClassification(RecurrentConfig(num_bins=8, hidden_size=6, bidirectional=True)),
        lambda: LeNetForAudioClassification(LeNetConfig(num_bins=16)),
    ],
)
def test_loaded_weights_are_not_initialised_again(model, tmp_path):
    made = model()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    made.save_pretrained(tmp_path)
    loaded = type(made).from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in made.state_dict().items())


def test_a_recurrence_that_a_checkpoint_lacks_is_initialised_as_a_new_one(tmp_path):
    from safetensors.torch import load_file, save_file

    made = RecurrentForAudioClassification(RecurrentConfig(num_bins=8, hidden_size=6, num_layers=1))
    made.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in weights.items() if name != "model.layers.0.weight_hh_l0"}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = RecurrentForAudioClassification.from_pretrained(tmp_path)
    for gate in loaded.model.layers[0].weight_hh_l0.detach().split(6):
        torch.testing.assert_close(gate @ gate.T, torch.eye(6), atol=1e-5, rtol=0)
    assert torch.equal(loaded.model.layers[0].weight_ih_l0, made.model.layers[0].weight_ih_l0)
