"""hfmgc-ts-resformer: the common tests, every row of the paper's tables, its attention, its sizes."""

from itertools import pairwise

import pytest
import torch
from architecture_tester import ArchitectureTester
from conftest import scatter_parameters
from huggingface_hub.errors import StrictDataclassError

from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models.configuration_ts_resformer import TSResformerConfig
from hfmgc.models.modeling_ts_resformer import (
    PairedFilters,
    PooledGate,
    RecurrentBranch,
    SEResBlock,
    TransformerBranch,
    TSResformerForAudioClassification,
    sinusoidal_positions,
)


PLAIN = {"time_frequency_attention": False, "squeeze_excitation": False}
ALONE = {"residual_branch": False}
# Every row of Tables 3, 4 and 5 as what differs from the default.
ROWS = {
    "table 3, serial": {**PLAIN, "arrangement": "serial"},
    "table 3, Res-Transformer": PLAIN,
    "table 3, TF-attention": {"squeeze_excitation": False},
    "table 3, SE-Res": {"time_frequency_attention": False},
    "table 3, TS-Resformer": {},
    **{f"table 4, {layers} layers": {"num_encoder_layers": layers} for layers in range(1, 6)},
    "table 5, LSTM": {**ALONE, "sequence_branch": "lstm"},
    "table 5, GRU": {**ALONE, "sequence_branch": "gru"},
    "table 5, Bi-GRU": {**ALONE, "sequence_branch": "bi_gru"},
    "table 5, Transformer": ALONE,
    "table 5, ResNet": {**PLAIN, "sequence_branch": "none"},
    "table 5, ResNet + LSTM": {**PLAIN, "sequence_branch": "lstm"},
    "table 5, ResNet + GRU": {**PLAIN, "sequence_branch": "gru"},
    "table 5, ResNet + Bi-GRU": {**PLAIN, "sequence_branch": "bi_gru"},
    "beyond, Bi-LSTM": {**ALONE, "sequence_branch": "bi_lstm"},
    "beyond, serial LSTM": {"arrangement": "serial", "sequence_branch": "lstm"},
    "beyond, no encoder layers": {"num_encoder_layers": 0},
}
TINY = {
    "num_bins": 16,
    "num_filters": 4,
    "filter_height": 3,
    "filter_width": 4,
    "attention_channels": 2,
    "initial_pool": [2, 4],
    "block_channels": [8, 12],
    "squeeze_reduction": 4,
    "num_encoder_layers": 2,
    "num_attention_heads": 2,
    "feed_forward_size": 24,
    "encoder_dropout": 0.1,
    "recurrent_hidden_size": 10,
}


def tiny(**fields) -> TSResformerConfig:
    fields.setdefault("id2label", {0: "a", 1: "b", 2: "c"})
    return TSResformerConfig(**{**TINY, **fields})


def built(**fields) -> TSResformerForAudioClassification:
    torch.manual_seed(0)
    return TSResformerForAudioClassification(tiny(**fields))


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


class TestTSResformer(ArchitectureTester):
    model_type = "hfmgc-ts-resformer"
    num_hidden_states = 5
    num_attentions = 2
    window_shape = (64, 16)
    other_lengths = (4, 37, 150)
    wrong_windows = (
        ((64, 15), "expected 16 bins in the last dimension, got 15"),
        ((3, 16), "expected at least 4 frames"),
    )

    def graph_model(self):
        return self.model(block_channels=[8], num_encoder_layers=1)

    def shrunken(self):
        return {
            "num_filters": 2,
            "attention_channels": 2,
            "block_channels": [4, 4],
            "squeeze_reduction": 2,
            "feed_forward_size": 8,
            "recurrent_hidden_size": 8,
        }

    def config(self, **fields):
        return tiny(**fields)

    def extractor(self, **fields):
        return SpectrogramFeatureExtractor(**{"num_bins": 16, "n_fft": 1024, "window_frames": 64, **fields})


@pytest.mark.parametrize("row", ROWS)
def test_every_row_of_the_tables_is_what_it_says_and_learns(row):
    fields = ROWS[row]
    model = built(**fields).train()
    loss = model(noise(4, 64, 16), labels=torch.tensor([0, 1, 2, 0])).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert not [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]

    assert (model.model.residual is not None) == fields.get("residual_branch", True)
    if model.model.residual is not None:
        # The paired filters stay in every row; what weighs them does not.
        assert isinstance(model.model.residual.filters, PairedFilters)
        attentions = [module for module in model.model.residual.modules() if isinstance(module, PooledGate)]
        expected = [(3,), (2,)] if fields.get("time_frequency_attention", True) else []
        expected += [(2, 3), (2, 3)] if fields.get("squeeze_excitation", True) else []
        assert [attention.pooled_dims for attention in attentions] == expected
    kind = fields.get("sequence_branch", "transformer")
    if kind == "none":
        assert model.model.sequence is None
    elif kind == "transformer":
        assert isinstance(model.model.sequence, TransformerBranch)
        assert len(model.model.sequence.layers) == fields.get("num_encoder_layers", 2)
    else:
        assert isinstance(model.model.sequence, RecurrentBranch)
        assert isinstance(model.model.sequence.recurrence, torch.nn.LSTM if "lstm" in kind else torch.nn.GRU)
        assert model.model.sequence.recurrence.bidirectional == kind.startswith("bi_")


@pytest.mark.parametrize("sequence_branch", ["transformer", "lstm", "gru", "bi_lstm", "bi_gru", "none"])
def test_every_branch_survives_saving(sequence_branch, tmp_path):
    model = built(sequence_branch=sequence_branch).eval()
    model.save_pretrained(tmp_path)
    loaded = TSResformerForAudioClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded(noise(2, 64, 16)).logits, model(noise(2, 64, 16)).logits)


@pytest.mark.parametrize(
    ("height", "width"), [(size, 2) for size in range(2, 16)] + [(2, size) for size in range(2, 16)]
)
def test_the_filter_sweeps_keep_the_size_of_the_map(height, width):
    filters = PairedFilters(tiny(filter_height=height, filter_width=width, initial_pool=[1, 1])).eval()
    assert filters.frequency[1].weight.shape == (4, 1, height, 2)
    assert filters.time[1].weight.shape == (4, 1, 2, width)
    assert filters(noise(2, 1, 16, 20)).shape == (2, 8, 16, 20)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("shape", [(3, 2), (6, 2), (2, 10), (2, 15)])
def test_the_padding_is_pytorchs_same(shape):
    config = tiny(filter_height=shape[0]) if shape[1] == 2 else tiny(filter_width=shape[1])
    filters = getattr(PairedFilters(config), "frequency" if shape[1] == 2 else "time")
    spectrogram = noise(1, 1, 16, 20)
    expected = torch.nn.functional.conv2d(spectrogram, filters[1].weight, padding="same")
    torch.testing.assert_close(filters[:2](spectrogram), expected)


@pytest.mark.parametrize(("branch", "shape"), [("frequency", (16, 1)), ("time", (1, 20))])
def test_attention_weighs_each_filters_own_axis_between_zero_and_one(branch, shape):
    torch.manual_seed(0)
    attention = next(
        module for module in getattr(PairedFilters(tiny()), branch).modules() if isinstance(module, PooledGate)
    )
    features = noise(2, 4, 16, 20)
    weights = attention.weights(features)
    assert weights.shape == (2, 4, *shape)
    assert ((weights > 0) & (weights < 1)).all()
    assert weights.std(dim=(2, 3)).min() > 1e-4, "places along the axis are not told apart"
    torch.testing.assert_close(attention(features), features * weights)
    # Only the averages over the other axis count: their order along it does not.
    other = 3 if branch == "frequency" else 2
    torch.testing.assert_close(attention.weights(features.flip(other)), weights)
    torch.testing.assert_close(attention.weights(features.flip(5 - other)), weights.flip(5 - other))


def test_squeeze_and_excitation_weighs_channels_before_the_skip_is_added():
    block = SEResBlock(3, 8, stride=2, config=tiny()).eval()
    features = noise(2, 3, 16, 20)
    assert block(features).shape == (2, 8, 8, 10)
    attention = block.residual[-1]
    assert attention.weights(block.residual[:-1](features)).shape == (2, 8, 1, 1)
    with torch.no_grad():
        attention.excite.bias.fill_(-100.0)  # all weights zero: the skip alone is left
    torch.testing.assert_close(block(features), block.skip(features).relu())


def test_serial_gives_the_sequence_branch_the_residual_branchs_map():
    heard = {}
    for arrangement in ("parallel", "serial"):
        model = built(arrangement=arrangement).eval()
        model.model.sequence.register_forward_hook(
            lambda _, inputs, __, key=arrangement: heard.update({key: inputs[0]})
        )
        values = noise(2, 64, 16)
        model(values)
        if arrangement == "parallel":
            expected = values.unflatten(1, (16, 4)).amax(dim=2)  # the spectrogram itself, every four frames
            assert model.classifier.in_features == 12 + 16
        else:
            expected = model.model.residual(values).mean(dim=2).transpose(1, 2)  # 64 frames / 4 / 2, 12 channels
            assert expected.shape == (2, 8, 12)
            assert model.classifier.in_features == 12
        torch.testing.assert_close(heard[arrangement], expected)


def test_parallel_uses_both_branches():
    model, values = built().eval(), noise(2, 64, 16)
    logits = model(values).logits
    for used in (slice(0, 12), slice(12, 28)):
        silenced = built().eval()
        with torch.no_grad():
            silenced.classifier.weight[:, used] = 0
        assert not torch.allclose(silenced(values).logits, logits, atol=1e-3)


def test_the_transformer_knows_the_order_of_the_frames():
    model, values = built(residual_branch=False).eval(), noise(2, 64, 16)
    assert not torch.allclose(model(values.flip(1)).logits, model(values).logits, atol=1e-4)


def test_an_encoder_layer_computes_what_torchs_own_does():
    layer = TransformerBranch(tiny(encoder_dropout=0.0)).layers[0]
    torchs = torch.nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, batch_first=True)
    attention, feed_forward = layer.attention, layer.feed_forward
    scatter_parameters(layer)
    with torch.no_grad():
        for kind in ("weight", "bias"):
            joined = torch.cat([getattr(getattr(attention, f"{name}_proj"), kind) for name in "qkv"])
            getattr(torchs.self_attn, f"in_proj_{kind}").copy_(joined)
            for ours, other in (
                (attention.out_proj, torchs.self_attn.out_proj),
                (feed_forward.intermediate_dense, torchs.linear1),
                (feed_forward.output_dense, torchs.linear2),
                (layer.layer_norm, torchs.norm1),
                (layer.final_layer_norm, torchs.norm2),
            ):
                getattr(other, kind).copy_(getattr(ours, kind))
    frames = noise(3, 9, 16)
    layer.attention.config._attn_implementation = "eager"
    torch.testing.assert_close(layer(frames), torchs(frames))


def test_the_attention_can_be_chosen_and_changed(tmp_path):
    model, values = built().eval(), noise(2, 64, 16)
    assert model.config._attn_implementation == "sdpa"
    model.save_pretrained(tmp_path)
    eager = TSResformerForAudioClassification.from_pretrained(tmp_path, attn_implementation="eager")
    assert eager.config._attn_implementation == "eager"
    torch.testing.assert_close(eager(values).logits, model(values).logits)
    model.set_attn_implementation("eager")
    assert torch.equal(model(values).logits, eager(values).logits)


def test_layers_that_are_offloaded_to_disk_give_the_same_answers(tmp_path):
    model, values = built().eval(), noise(2, 64, 16)
    model.save_pretrained(tmp_path / "model")
    offloaded = TSResformerForAudioClassification.from_pretrained(
        tmp_path / "model",
        device_map={"model.residual": "cpu", "model.sequence": "disk", "classifier": "disk"},
        offload_folder=tmp_path / "offloaded",
    )
    assert offloaded.model.sequence.layers[0].attention.out_proj.weight.device.type == "meta"
    with torch.no_grad():
        torch.testing.assert_close(offloaded(values).logits, model(values).logits)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor")
def test_dynamic_quantisation_quantises_every_linear_layer():
    model, values = built().eval(), noise(4, 64, 16)
    quantised = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    assert not [name for name, module in quantised.named_modules() if type(module) is torch.nn.Linear]
    with torch.no_grad():
        expected, answers = model(values).logits, quantised(values).logits
    assert not torch.equal(answers, expected)
    torch.testing.assert_close(answers, expected, atol=0.05, rtol=0)


def test_positions_are_the_sines_and_cosines_of_vaswani():
    positions = sinusoidal_positions(7, 6, torch.device("cpu"))
    for place in range(7):
        for index in range(6):
            angle = torch.tensor(place / 10000 ** (2 * (index // 2) / 6))
            torch.testing.assert_close(positions[place, index], angle.cos() if index % 2 else angle.sin())
    assert sinusoidal_positions(4, 5, torch.device("cpu")).shape == (4, 5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sequence_branch": "rnn"}, "sequence_branch"),
        ({"arrangement": "crossed"}, "arrangement"),
        ({"residual_branch": False, "sequence_branch": "none"}, "residual_branch is False and sequence_branch"),
        ({"arrangement": "serial", "sequence_branch": "none"}, "arrangement 'serial' needs"),
        ({"arrangement": "serial", "residual_branch": False}, "arrangement 'serial' needs"),
        ({"initial_pool": [17, 1]}, r"initial_pool \[17, 1\] .* num_bins 16"),
        ({"initial_pool": [2]}, "initial_pool"),
        ({"initial_pool": [0, 1]}, "initial_pool"),
        ({"block_channels": []}, "block_channels"),
        ({"block_channels": [8, 0]}, "block_channels"),
        ({"block_channels": [8, 3]}, "block_channels .* at least squeeze_reduction 4"),
        ({"num_attention_heads": 3}, "num_bins 16 is not divisible by num_attention_heads 3"),
        ({"arrangement": "serial", "num_attention_heads": 8}, r"block_channels\[-1\] 12 is not divisible"),
        ({"num_encoder_layers": -1}, "num_encoder_layers"),
        ({"encoder_dropout": 1.0}, "encoder_dropout"),
        *(
            ({name: 0}, name)
            for name in (
                "num_bins",
                "num_filters",
                "filter_height",
                "filter_width",
                "attention_channels",
                "squeeze_reduction",
                "sequence_pool",
                "num_attention_heads",
                "feed_forward_size",
                "recurrent_hidden_size",
            )
        ),
    ],
)
def test_impossible_configs_are_refused_by_the_name_of_the_field(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        tiny(**fields)


def test_fields_of_a_branch_that_is_off_are_not_checked():
    built(residual_branch=False, initial_pool=[17, 1], block_channels=[2])
    built(sequence_branch="gru", num_attention_heads=3)
    model = built(sequence_branch="none", sequence_pool=32, initial_pool=[2, 2]).eval()
    assert model(noise(2, 5, 16)).logits.shape == (2, 3)
    with pytest.raises(ValueError, match="expected at least 32 frames"):
        built(sequence_pool=32)(noise(2, 31, 16))


# The paper's sizes, counted by hand.
FILTERS = 32 * (6 * 2) + 32 * (2 * 10) + 2 * (32 + 32)  # weights, two batch norms
TF_ATTENTION = 2 * (32 * 16 + 16 + 16 * 32 + 32)
ENCODER_LAYER = 4 * (128 * 128 + 128) + (128 * 512 + 512 + 512 * 128 + 128) + 2 * 2 * 128


def blocks(*widths: int) -> int:
    """3x3, 3x3 and 1x1 convolutions, three batch norms."""
    return sum(9 * i * o + 9 * o * o + i * o + 6 * o for i, o in pairwise(widths))


RES_BLOCKS = blocks(64, 64, 128, 128)
SQUEEZE = sum(2 * c * (c // 16) + c // 16 + c for c in (64, 128, 128))


def head(size: int) -> int:
    return 8 * size + 8


def recurrence(gates: int, directions: int = 1) -> int:
    """Weights from the 128 bins and from the 128 of the step before, two biases, for each gate."""
    return directions * gates * (128 * 128 + 128 * 128 + 2 * 128)


RESNET = FILTERS + RES_BLOCKS
SIZES = {
    "table 3, TS-Resformer": RESNET + TF_ATTENTION + SQUEEZE + 4 * ENCODER_LAYER + head(256),
    "table 3, Res-Transformer": RESNET + 4 * ENCODER_LAYER + head(256),
    "table 3, TF-attention": RESNET + TF_ATTENTION + 4 * ENCODER_LAYER + head(256),
    "table 3, SE-Res": RESNET + SQUEEZE + 4 * ENCODER_LAYER + head(256),
    "table 3, serial": RESNET + 4 * ENCODER_LAYER + head(128),
    **{
        f"table 4, {layers} layers": RESNET + TF_ATTENTION + SQUEEZE + layers * ENCODER_LAYER + head(256)
        for layers in range(1, 6)
    },
    "table 5, LSTM": recurrence(4) + head(128),
    "table 5, GRU": recurrence(3) + head(128),
    "table 5, Bi-GRU": recurrence(3, 2) + head(256),
    "table 5, Transformer": 4 * ENCODER_LAYER + head(128),
    "table 5, ResNet": RESNET + head(128),
    "table 5, ResNet + LSTM": RESNET + recurrence(4) + head(256),
    "table 5, ResNet + GRU": RESNET + recurrence(3) + head(256),
    "table 5, ResNet + Bi-GRU": RESNET + recurrence(3, 2) + head(384),
}


@pytest.mark.parametrize("row", SIZES)
def test_paper_size_models_have_the_parameters_of_their_formulas(row):
    with torch.device("meta"):
        model = TSResformerForAudioClassification(TSResformerConfig(num_labels=8, **ROWS[row]))
    assert model.num_parameters() == SIZES[row]
    assert SIZES["table 3, TS-Resformer"] == 1_423_804
