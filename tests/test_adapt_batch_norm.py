"""recipes/adapt_batch_norm.py: statistics of other data, unchanged weights, and an encoder that other commands read."""

import sys

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoModel

from hfmgc.errors import ConfigError
from hfmgc.evaluation.checkpoints import load_checkpoint
from hfmgc.training.arguments import ModelArguments, RunArguments
from hfmgc.training.build import build_model
from recipes import ROOT


sys.path.insert(0, str(ROOT / "recipes"))
import adapt_batch_norm as recipe


@pytest.fixture
def stored(tmp_path):
    """A folder of stored features of MusiCNN's front end: two sides of two genres."""
    generator = np.random.default_rng(0)
    kinds = datasets.Features(
        {
            "track_id": datasets.Value("string"),
            "genre": datasets.Value("string"),
            "features": datasets.Array2D((None, 96), "float32"),
        }
    )
    (tmp_path / "stored").mkdir()
    for side in ("train", "validation"):
        rows = [
            {"track_id": f"{side}{number}", "genre": genre, "features": generator.standard_normal((400, 96)) - 4}
            for number, genre in enumerate(("blues", "rock"))
        ]
        datasets.Dataset.from_list(rows, kinds).to_parquet(str(tmp_path / "stored" / f"{side}.parquet"))
    return tmp_path / "stored"


def adapt(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["adapt_batch_norm.py", *map(str, arguments)])
    recipe.main()


def test_statistics_are_those_of_the_training_windows_and_weights_stay(stored, tmp_path, monkeypatch):
    folder = tmp_path / "adapted"
    adapt(monkeypatch, "--data", stored, "--split_policy", "official", "--output_dir", folder, "--use_cpu", "true")
    encoder, extractor = load_checkpoint(str(folder), auto_class=AutoModel)
    before = load_checkpoint("package:msd")[0].model.state_dict()
    tracks = datasets.Dataset.from_parquet(str(stored / "train.parquet")).with_format("numpy")
    windows = np.concatenate([extractor.cut_features(features.astype(np.float32)) for features in tracks["features"]])
    statistics = {"running_mean", "running_var", "num_batches_tracked"}
    for name, tensor in encoder.state_dict().items():
        if name.rpartition(".")[2] not in statistics:
            assert torch.equal(tensor, before[name]), name
    assert encoder.input_norm.running_mean.item() == pytest.approx(windows.mean(), abs=1e-4)
    assert encoder.input_norm.running_var.item() == pytest.approx(windows.var(), rel=1e-3)
    assert (folder / "split.json").is_file()
    assert (folder / "run.yaml").is_file()
    arguments = ModelArguments(
        model_type="hfmgc-musicnn", model={"representation": "pooled"}, model_name_or_path=str(folder)
    )
    started = build_model(arguments, ["blues", "rock"], RunArguments(output_dir=str(tmp_path / "run"), use_cpu=True))
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(started.base_model.state_dict()[name], tensor), name


def test_dropout_does_not_change_the_statistics(stored, tmp_path, monkeypatch):
    found = []
    for seed in (0, 1):  # all windows are in one batch, so that only dropout could differ
        options = ["--model", "{representation: penultimate}", "--seed", seed, "--use_cpu", "true"]
        folder = tmp_path / str(seed)
        adapt(monkeypatch, "--data", stored, "--split_policy", "official", "--output_dir", folder, *options)
        found.append(load_checkpoint(str(folder), auto_class=AutoModel)[0])
    for one, other in zip(*(encoder.state_dict().values() for encoder in found), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    assert found[0].config.dropout > 0


def test_a_folder_with_a_checkpoint_is_not_replaced(stored, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"output_dir .*out.*--overwrite"):
        adapt(monkeypatch, "--data", stored, "--split_policy", "official", "--output_dir", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.json"]


def test_a_network_without_batch_norm_is_refused(stored, tmp_path, monkeypatch):
    config = ROOT / "recipes" / "configs" / "deformer" / "small_m2d_finetune.yaml"
    front_end = "{sampling_rate: 16000, frames_per_second: 31.25, num_bins: 96, window_seconds: 2.016}"
    model = "{num_bins: 96, hidden_size: 24, num_hidden_layers: 1, num_attention_heads: 1, intermediate_size: 24}"
    options = ["--model", model, "--front_end", front_end, "--fit_statistics", "none", "--use_cpu", "true"]
    with pytest.raises(ConfigError, match="batch norm"):
        adapt(monkeypatch, config, "--data", stored, "--output_dir", tmp_path / "out", *options)
