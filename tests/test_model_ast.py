"""hfmgc-ast: the common tests, the report's head and sizes, positions along time, and the way in from AudioSet."""

import gc
import json
import re
import shutil

import numpy as np
import pytest
import torch
from architecture_tester import ArchitectureTester
from conftest import old_ast_name
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file, save_file
from transformers import ASTConfig, ASTForAudioClassification, AutoModelForAudioClassification, ViTConfig

from hfmgc.features.feature_extraction_ast import HfmgcASTFeatureExtractor
from hfmgc.models.configuration_ast import HfmgcASTConfig
from hfmgc.models.modeling_ast import HfmgcASTForAudioClassification
from hfmgc.training.arguments import ModelArguments
from hfmgc.training.build import adapt_model


BACKBONE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_length": 64,
    "num_mel_bins": 128,
    "hidden_dropout_prob": 0.1,
}
REPORT_HEAD = 155_810


class TestHfmgcAST(ArchitectureTester):
    model_type = "hfmgc-ast"
    num_hidden_states = 4
    num_attentions = 3
    window_shape = (64, 128)
    other_lengths = (48, 100)
    wrong_windows = (
        ((64, 64), "expected 128 bins in the last dimension, got 64"),
        ((15, 128), r"expected at least 16 frames, got 15"),
    )
    most_frames = 64

    def shrunken(self):
        backbone = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
        return {"head_hidden_size": 8, "backbone_config": backbone}

    def config(self, **fields):
        fields.setdefault("id2label", {0: "a", 1: "b", 2: "c"})
        return HfmgcASTConfig(**{"backbone_config": dict(BACKBONE), "head_hidden_size": 16, **fields})

    def extractor(self, **fields):
        return HfmgcASTFeatureExtractor(**{"max_length": 64, **fields})

    def graph_model(self):
        return self.model(backbone_config={**BACKBONE, "num_hidden_layers": 1})

    def test_only_existing_windows_are_computed(self):
        mask = torch.tensor([[True, True, False], [True, False, False]])
        output = self.model()(self.values(2, 3), window_mask=mask, output_hidden_states=True)
        assert output.hidden_states[0].shape[0] == 3

    def test_eager_and_fused_attention_agree(self):
        model, values = self.model(), self.values(2)
        fused = model(values).logits
        model.set_attn_implementation("eager")
        self.close(model(values).logits, fused)

    def test_the_head_is_the_reports(self):
        head = self.model(head_input_dropout=0.3, head_hidden_dropout=0.4).classifier
        assert [type(part).__name__ for part in head.children()] == ["Dropout", "Linear", "GELU", "Dropout", "Linear"]
        assert (head.input_dropout.p, head.hidden_dropout.p) == (0.3, 0.4)
        pooled = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
        hidden = pooled @ head.dense.weight.T + head.dense.bias
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
        self.close(head(pooled), hidden @ head.output.weight.T + head.output.bias)

    @pytest.mark.parametrize(
        "fields",
        [{"head_hidden_size": 0}, {"head_input_dropout": 1.0}, {"head_hidden_dropout": -0.1}],
    )
    def test_impossible_fields_are_refused_by_name(self, fields):
        with pytest.raises(StrictDataclassError, match=next(iter(fields))):
            self.config(**fields)


def tiny_model(**fields) -> HfmgcASTForAudioClassification:
    return TestHfmgcAST().model(**fields)


def test_the_head_has_the_reports_parameters_at_the_reports_sizes():
    with torch.device("meta"):
        model = HfmgcASTForAudioClassification(HfmgcASTConfig(num_labels=10))
    assert sum(parameter.numel() for parameter in model.classifier.parameters()) == REPORT_HEAD
    assert (model.config.head_input_dropout, model.config.head_hidden_dropout) == (0.05, 0.1)


# Position embeddings


def stored_grid(embeddings) -> np.ndarray:
    """The stored positions as [frequency, time, hidden]: patches run along time within a row of equal frequency."""
    config = embeddings.config
    frequency = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
    return embeddings.position_embeddings[0, 2:].detach().numpy().reshape(frequency, -1, config.hidden_size)


def interpolate_along_time(grid: np.ndarray, length: int) -> np.ndarray:
    """Linear interpolation with the samples in the middles of their cells, written out."""
    stored = grid.shape[1]
    places = np.clip((np.arange(length) + 0.5) * stored / length - 0.5, 0, stored - 1)
    return np.stack(
        [
            np.stack(
                [np.interp(places, np.arange(stored), row[:, channel]) for channel in range(row.shape[1])], axis=-1
            )
            for row in grid
        ]
    )


def test_stored_positions_are_untouched_at_the_stored_length():
    embeddings = tiny_model().model.backbone.embeddings
    assert embeddings.interpolate_positions(12 * 5) is embeddings.position_embeddings


@pytest.mark.parametrize("length", [1, 2, 4, 6, 9, 23])
def test_positions_are_interpolated_along_time_alone(length):
    embeddings = tiny_model().model.backbone.embeddings
    grid = stored_grid(embeddings)
    assert grid.shape == (12, 5, 32)
    positions = embeddings.interpolate_positions(12 * length)[0].detach().numpy()
    np.testing.assert_array_equal(positions[:2], embeddings.position_embeddings[0, :2].detach().numpy())
    expected = interpolate_along_time(grid, length)
    np.testing.assert_allclose(positions[2:].reshape(12, length, 32), expected, atol=1e-5)


def test_positions_that_are_constant_in_time_stay_constant():
    embeddings = tiny_model().model.backbone.embeddings
    with torch.no_grad():
        grid = embeddings.position_embeddings[0, 2:].view(12, 5, 32)
        grid[:] = grid[:, :1].clone()
        positions = embeddings.interpolate_positions(12 * 17)[0, 2:].view(12, 17, 32)
        torch.testing.assert_close(positions, grid[:, :1].expand(12, 17, 32))


@pytest.mark.parametrize("frames", [16, 40, 64, 70, 200])
def test_windows_of_any_length_are_classified(frames):
    values = torch.randn(2, 3, frames, 128, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(tiny_model()(values).logits).all()


def test_positions_are_interpolated_in_bfloat16_too():
    embeddings = tiny_model().model.backbone.embeddings
    expected = embeddings.interpolate_positions(12 * 9)
    positions = embeddings.to(torch.bfloat16).interpolate_positions(12 * 9)
    assert positions.dtype == torch.bfloat16
    torch.testing.assert_close(positions.float(), expected, atol=0.02, rtol=0.02)


# From a pre-trained checkpoint


def classifier_norm(model: HfmgcASTForAudioClassification) -> torch.nn.LayerNorm:
    """The one layer norm that is not the backbone's."""
    (norm,) = (
        module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.LayerNorm) and not name.startswith("model.backbone.")
    )
    return norm


def input_of(module: torch.nn.Module, run) -> torch.Tensor:
    """What `module` is given while `run()` runs."""
    seen = []
    hook = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():
        run()
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("old_names", [False, True], ids=["new names", "old names"])
def test_features_are_those_of_the_checkpoint_up_to_its_dense_layer(tiny_ast, old_names):
    folder = tiny_ast(old_names=old_names)
    if old_names:
        names = set(load_file(folder / "model.safetensors"))
        assert "audio_spectrogram_transformer.encoder.layer.2.attention.attention.query.weight" in names
        assert "audio_spectrogram_transformer.encoder.layer.0.attention.output.dense.bias" in names
        assert "audio_spectrogram_transformer.encoder.layer.1.output.dense.weight" in names
        assert not any("mlp" in name or "_proj" in name for name in names)
    reference = ASTForAudioClassification.from_pretrained(folder).eval()
    model = HfmgcASTForAudioClassification.from_pretrained_backbone(folder, HfmgcASTConfig(num_labels=4)).eval()
    values = torch.randn(3, 64, 128, generator=torch.Generator().manual_seed(0))
    expected = input_of(reference.classifier.dense, lambda: reference(values))
    assert torch.equal(input_of(model.classifier, lambda: model(values)), expected)
    assert expected.std() > 0.1


def test_the_layer_norm_of_the_classifier_is_kept(tiny_ast):
    folder = tiny_ast()
    weights = load_file(folder / "model.safetensors")
    model = HfmgcASTForAudioClassification.from_pretrained_backbone(folder)
    for part in ("weight", "bias"):
        assert torch.equal(getattr(classifier_norm(model), part), weights[f"classifier.layernorm.{part}"])
    assert not torch.equal(classifier_norm(model).weight, torch.ones(32))


def test_a_backbone_without_classifier_gets_a_new_layer_norm(tiny_ast):
    model = HfmgcASTForAudioClassification.from_pretrained_backbone(tiny_ast(drop=r"^classifier\."))
    assert torch.equal(classifier_norm(model).weight, torch.ones(32))
    assert torch.equal(classifier_norm(model).bias, torch.zeros(32))


@pytest.mark.parametrize("old_names", [False, True], ids=["new names", "old names"])
def test_an_incomplete_checkpoint_is_refused_and_a_missing_weight_named(tiny_ast, old_names):
    folder = tiny_ast(old_names=old_names, drop=r"layers\.1\.mlp\.fc2\.weight")
    with pytest.raises(ValueError, match=r"1 backbone weights.*layers\.1\.mlp\.fc2\.weight"):
        HfmgcASTForAudioClassification.from_pretrained_backbone(folder)


def test_labels_and_head_are_the_configs_and_sizes_the_checkpoints(tiny_ast):
    config = HfmgcASTConfig(id2label={0: "jazz", 1: "pop"}, head_hidden_size=24, voting="majority")
    model = HfmgcASTForAudioClassification.from_pretrained_backbone(tiny_ast(), config)
    assert model.config.id2label == {0: "jazz", 1: "pop"}
    assert model.config.backbone_config.num_labels == 2
    assert model.config.voting == "majority"
    assert model.config.backbone_config.hidden_size == 32
    assert model.classifier.dense.weight.shape == (24, 32)
    assert model.classifier.output.weight.shape == (2, 24)


def test_a_saved_checkpoint_names_no_path_of_this_machine(tiny_ast, tmp_path):
    source = tiny_ast()
    model = HfmgcASTForAudioClassification.from_pretrained_backbone(source)
    model.save_pretrained(tmp_path / "saved")
    for path in (tmp_path / "saved").glob("*.json"):
        assert str(tmp_path) not in path.read_text()
    assert "LABEL_6" not in json.dumps(json.loads((tmp_path / "saved" / "config.json").read_text())["backbone_config"])


def test_windows_of_other_lengths_start_from_the_checkpoint_too(tiny_ast):
    model = HfmgcASTForAudioClassification.from_pretrained_backbone(tiny_ast(max_length=128)).eval()
    assert torch.isfinite(model(torch.zeros(1, 2, 64, 128)).logits).all()


# The sizes of the report


@pytest.fixture
def full_size_checkpoint(tmp_path):
    """AST-base as it is on the Hub (527 labels, 1,024 frames), with random weights; in bfloat16 to spare the disk."""
    folder = tmp_path / "ast-base"
    config = ASTConfig(num_labels=527)
    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in ASTForAudioClassification(config).state_dict().items()}
    # Each weight is another section of the same noise; drawing 86 million numbers would take longer than loading them.
    noise = torch.empty(3_000_000, dtype=torch.bfloat16)
    noise.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    weights = {
        old_ast_name(name): noise[start : start + shape.numel()].view(shape).clone()
        for start, (name, shape) in enumerate(shapes.items())
    }
    config.architectures = ["ASTForAudioClassification"]
    config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    yield folder, weights
    shutil.rmtree(folder)
    gc.collect()


def test_a_full_size_checkpoint_loads_and_takes_the_reports_adapter(full_size_checkpoint):
    folder, weights = full_size_checkpoint
    model = HfmgcASTForAudioClassification.from_pretrained_backbone(str(folder), HfmgcASTConfig(num_labels=10))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    arrived = {
        f"audio_spectrogram_transformer.{name}": value for name, value in model.model.backbone.state_dict().items()
    }
    arrived |= {f"classifier.layernorm.{name}": value for name, value in classifier_norm(model).state_dict().items()}
    names = {name: old_ast_name(name) for name in arrived}
    assert set(names.values()) == {name for name in weights if "classifier.dense" not in name}
    assert all(torch.equal(value.bfloat16(), weights[names[name]]) for name, value in arrived.items())

    adapted = adapt_model(model, ModelArguments(adapter="dora", adapter_min_layer=10, adapter_alpha=8.493977318))
    trained = {name: p.numel() for name, p in adapted.named_parameters() if p.requires_grad}
    assert {match for name in trained for match in re.findall(r"layers\.\d+\.[\w.]*fc2", name)} == {
        "layers.10.mlp.fc2",
        "layers.11.mlp.fc2",
    }
    # A layer of PEFT's DoRA: A [2, 3072], B [768, 2] and one magnitude for each output (768) = 8,448. The report's own
    # code has one magnitude for each input (3,072) = 10,752, hence its 177,314 = 155,810 + 2 x 10,752.
    layer = 2 * 3072 + 768 * 2
    assert sum(trained.values()) == REPORT_HEAD + 2 * (layer + 768) == 172_706
    assert REPORT_HEAD + 2 * (layer + 3072) == 177_314


def test_a_half_precision_checkpoint_is_saved_and_loaded_again_in_one_precision(tiny_ast, tmp_path):
    folder = tiny_ast()
    weights = load_file(folder / "model.safetensors")
    save_file({k: v.bfloat16() for k, v in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    model = HfmgcASTForAudioClassification.from_pretrained_backbone(folder).eval()
    model.save_pretrained(tmp_path / "saved")
    loaded = AutoModelForAudioClassification.from_pretrained(tmp_path / "saved")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    values = torch.randn(1, 2, 64, 128, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(values).logits, model(values).logits)


def test_a_backbone_config_of_another_architecture_names_the_field():
    with pytest.raises(ValueError, match="backbone_config"):
        HfmgcASTConfig(backbone_config=ViTConfig())
