"""hfmgc-recurrent: the common tests for one and two directions, parameter counts, pooling, and the batch norm."""

import pytest
import torch
from architecture_tester import ArchitectureTester
from huggingface_hub.errors import StrictDataclassError

from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models.configuration_recurrent import RecurrentConfig
from hfmgc.models.modeling_recurrent import RecurrentForAudioClassification


class TestRecurrent(ArchitectureTester):
    """A Bi-LSTM, pooled by the mean."""

    model_type = "hfmgc-recurrent"
    num_hidden_states = 3
    window_shape = (20, 16)
    other_lengths = (4, 50)
    wrong_windows = (
        ((20, 17), "expected 16 bins in the last dimension, got 17"),
        ((0, 16), "expected at least 1 frames, got 0"),
    )
    fields = {"bidirectional": True}  # noqa: RUF012 (pytest's classes are no dataclasses)
    most_frames = 64
    graph_frames = 2
    one_graph = False

    def graph_model(self):
        return self.model(num_layers=1)

    def shrunken(self):
        return {"hidden_size": 8}

    def config(self, **fields):
        fields.setdefault("id2label", {0: "a", 1: "b", 2: "c"})
        return RecurrentConfig(**({"num_bins": 16, "hidden_size": 24} | self.fields | fields))

    def extractor(self, **fields):
        return SpectrogramFeatureExtractor(
            **{"sampling_rate": 8000, "n_fft": 512, "hop_length": 128, "num_bins": 16, "window_frames": 20, **fields}
        )


class TestRecurrentGRU(TestRecurrent):
    """A GRU in one direction, of which the last state counts, without batch norm."""

    fields = {"cell": "gru", "pooling": "last", "input_normalization": False}  # noqa: RUF012
    one_graph = True


def tiny(**fields) -> RecurrentForAudioClassification:
    case = TestRecurrent()
    case.fields = {}
    return case.model(**fields)


def values(*leading: int) -> torch.Tensor:
    return TestRecurrent().values(*leading)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_parameters_follow_from_the_sizes(cell, bidirectional, num_layers):
    hidden, bins, gates, directions = 24, 16, {"lstm": 4, "gru": 3}[cell], 1 + bidirectional
    expected = 2 * bins + (directions * hidden + 1) * 3
    for layer in range(num_layers):
        inputs = bins if layer == 0 else directions * hidden
        expected += directions * gates * hidden * (inputs + hidden + 2)
    model = tiny(cell=cell, bidirectional=bidirectional, num_layers=num_layers)
    assert model.num_parameters() == expected


@pytest.mark.parametrize(
    ("fields", "count"),
    [({}, 265_738), ({"bidirectional": True}, 662_282), ({"cell": "gru"}, 199_690)],
)
def test_parameters_at_the_default_size(fields, count):
    assert RecurrentForAudioClassification(RecurrentConfig(num_labels=10, **fields)).num_parameters() == count


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_mean_and_last_pool_the_states_of_the_last_layer(cell, bidirectional):
    fields = {"cell": cell, "bidirectional": bidirectional, "input_normalization": False}
    mean, last = tiny(pooling="mean", **fields), tiny(pooling="last", **fields)
    states, final = mean.model.layers[1](mean.model.layers[0](values(3))[0])
    final = final[0] if cell == "lstm" else final  # [directions, windows, hidden]
    torch.testing.assert_close(mean(values(3)).window_logits[:, 0], mean.classifier(states.mean(dim=1)))
    torch.testing.assert_close(last(values(3)).window_logits[:, 0], last.classifier(final.transpose(0, 1).flatten(1)))
    assert not torch.allclose(mean(values(3)).logits, last(values(3)).logits, atol=1e-3)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_the_order_of_the_frames_matters(pooling):
    model = tiny(pooling=pooling)
    assert not torch.allclose(model(values(2).flip(1)).logits, model(values(2)).logits, atol=1e-3)


def test_the_batch_norm_takes_each_bins_own_level_and_range_away():
    normalized, plain = tiny().train(), tiny(input_normalization=False).train()
    for model in (normalized, plain):
        model.dropout.p = model.model.dropout.p = 0.0
    level, scale = torch.linspace(-80, 0, 16), torch.linspace(1, 20, 16)
    torch.testing.assert_close(
        normalized(values(4) * scale + level).logits, normalized(values(4)).logits, atol=1e-3, rtol=1e-3
    )
    assert not torch.allclose(plain(values(4) * scale + level).logits, plain(values(4)).logits, atol=1e-2)
    assert not any("normalization" in name for name in plain.state_dict())


def test_dropout_acts_between_layers_and_before_the_classifier():
    seen = {}
    model = tiny(dropout=0.5, num_layers=2).train()
    for name, module in (
        ("first", model.model.layers[0]),
        ("second", model.model.layers[1]),
        ("classifier", model.classifier),
    ):
        module.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
    model(values(8))
    dropped = {name: float((inputs == 0).float().mean()) for name, inputs in seen.items()}
    assert dropped["first"] < 0.01
    assert 0.4 < dropped["second"] < 0.6 and 0.3 < dropped["classifier"] < 0.7


@pytest.mark.parametrize(
    "fields",
    [
        {"num_bins": 0},
        {"num_layers": 0},
        {"hidden_size": 0},
        {"cell": "rnn"},
        {"pooling": "max"},
        {"dropout": 1.0},
    ],
)
def test_impossible_fields_are_refused_by_name(fields):
    with pytest.raises(StrictDataclassError, match=next(iter(fields))):
        RecurrentConfig(**fields)
