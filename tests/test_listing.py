"""`hfmgc list`: every architecture is named, with its size and what trains it; `hfmgc show` counts a config that has a base."""

import json
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import torch

import hfmgc.cli
from hfmgc.data.sources import SOURCES
from hfmgc.hub.card import REFERENCES
from hfmgc.registry import ARCHITECTURES, MODELS
from hfmgc.training.arguments import ModelArguments
from hfmgc.training.listing import DEFAULT_MODEL_TYPE, NUM_GENRES


ROOT = Path(__file__).parents[1]
# Architectures and parts without a paper of their own.
NO_PAPER = {"hfmgc-audio-encoder"}


def listed(capsys) -> dict[str, dict]:
    """Run `hfmgc list --json` and return its architectures by model type."""
    capsys.readouterr()
    assert hfmgc.cli.main(["list", "--json"]) == 0
    return {row["model_type"]: row for row in json.loads(capsys.readouterr().out)["architectures"]}


def test_every_architecture_is_listed_with_its_size(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = listed(capsys)
    assert list(rows) == list(ARCHITECTURES)
    for model_type, architecture in ARCHITECTURES.items():
        assert (rows[model_type]["paper"], rows[model_type]["recipe"]) == (architecture.paper, architecture.recipe)
        assert rows[model_type]["configs"] is None, "there are none where there is no checkout"
        assert rows[model_type]["parameters"] == architecture.parameters


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_the_registry_has_the_parameters_of_the_default_config(architecture):
    with torch.device("meta"):
        model = architecture.load("model")(architecture.load("config")(num_labels=NUM_GENRES))
    assert sum(parameter.numel() for parameter in model.parameters()) == architecture.parameters


def test_the_readme_has_a_row_for_every_architecture_and_dataset():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lacking = [name for name in (*ARCHITECTURES, *SOURCES) if f"\n| `{name}` | " not in text]
    assert not lacking, "add a row for each to README.md"


def test_every_reference_is_of_a_model_a_dataset_or_a_backbone_and_every_model_has_one():
    text = files("hfmgc.hub").joinpath(REFERENCES).read_text(encoding="utf-8")
    found = [re.search(r"\n  keywords = \{(.*)\},", entry) for entry in text.strip().split("\n\n")]
    assert all(found), f"{REFERENCES}: an empty line between entries, and a line `  keywords = {{...}},` in each"
    keywords = {word for match in found for word in match[1].split(", ")}
    assert keywords <= {*MODELS, *SOURCES, "MIT/ast-finetuned-audioset-10-10-0.4593"}
    assert MODELS.keys() - keywords == NO_PAPER, f"add the paper to {REFERENCES}, or the model type to NO_PAPER"


def test_listing_imports_no_torch():
    script = "import sys; from hfmgc.cli import main; main(['list']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True).returncode == 0


def test_a_config_without_an_architecture_has_the_recipes_default():
    assert ModelArguments.model_type == DEFAULT_MODEL_TYPE


def test_in_a_checkout_the_configs_of_each_are_listed_as_they_resolve(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "recipes" / "configs"
    (folder / "some").mkdir(parents=True)
    (folder / "bare.yaml").write_text("data: synthetic")
    (folder / "some" / "_common.yaml").write_text("model_type: hfmgc-fcn")
    (folder / "some" / "a.yaml").write_text("base: _common.yaml")
    (folder / "some" / "b.yaml").write_text("base: a.yaml\nmodel_type: hfmgc-lenet")
    (folder / "some" / "baselines.yaml").write_text("pipelines: [svm]")
    rows = listed(capsys)
    assert rows["hfmgc-fcn"]["configs"] == ["recipes/configs/some/a.yaml"]
    assert rows["hfmgc-lenet"]["configs"] == ["recipes/configs/some/b.yaml"]
    assert rows["hfmgc-ast"]["configs"] == ["recipes/configs/bare.yaml"], "the recipes' default architecture"
    assert rows["hfmgc-crnn"]["configs"] == []
    (folder / "broken.yaml").write_text("a: [1")
    assert hfmgc.cli.main(["list"]) == 1
    assert "broken.yaml: not valid YAML" in capsys.readouterr().err


def test_a_config_of_classical_baselines_has_no_network_to_show(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert hfmgc.cli.main(["show", "recipes/configs/lgnet/classical_mel.yaml"]) == 1
    assert "recipes/classical_baselines.py" in capsys.readouterr().err


def test_the_text_names_sizes_papers_and_recipes(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert hfmgc.cli.main(["list"]) == 0
    text = capsys.readouterr().out
    for model_type, architecture in ARCHITECTURES.items():
        assert f"{model_type} " in text
        assert architecture.paper in text
        assert f"{architecture.recipe} (configs here: " in text
    assert "12,243,436 parameters" in text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["--front_end.num_bins", "64"],
            "model and front_end do not fit: expected 128 bins in the last dimension, got 64",
        ),
        (["--data", "synthetic"], "split_policy"),
        (["--spec_augment", "{frequency_masks: 1, frequency_mask_bins: 128}"], "spec_augment.frequency_mask_bins"),
        (["--spectrogram_effects", "{pitch_bins: 128}"], "spectrogram_effects.pitch_bins must be below 128"),
        (["--model.kernel_sizes", "[1.5, 5, 3]"], "model: field 'kernel_sizes[0]' takes int, not 1.5"),
    ],
)
def test_show_refuses_what_the_recipe_would_refuse(overrides, message, capsys):
    config = ROOT / "recipes" / "configs" / "lgnet" / "mel_fcn.yaml"
    assert hfmgc.cli.main(["show", str(config), *overrides]) == 1
    assert message in capsys.readouterr().err


def test_show_counts_a_config_that_is_based_on_another(capsys):
    config = ROOT / "recipes" / "configs" / "lgnet" / "stft_fcn_lstm.yaml"
    assert hfmgc.cli.main(["show", str(config), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["model_type"], shown["parameters"]) == ("hfmgc-fcn", 1_120_778)
    assert (shown["front_end"]["representation"], shown["split"]["policy"]) == ("stft", "fault_filtered")
    assert shown["training"]["epochs"] == 300
