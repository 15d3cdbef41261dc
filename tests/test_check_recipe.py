"""One check for all: a run, `hfmgc show` and a search refuse the same settings, and no code changes them afterwards."""

import copy
import dataclasses
import json
import runpy
import socket

import pytest
import yaml
from conftest import write_ast, write_music
from huggingface_hub import constants

from hfmgc.errors import HfmgcError
from hfmgc.settings import read_settings
from hfmgc.stopping import release_signals
from hfmgc.training.arguments import RECIPE_GROUPS
from hfmgc.training.base_recipe import BaseRecipe
from hfmgc.training.search.space import read_space
from recipes import (
    FRONT_END,
    ROOT,
    TRAIN_CLASSIFIER,
    classifier_settings,
    hfmgc_here,
    run_here,
    tiny_settings,
    write_config,
    write_features,
)


SPACE = {"learning_rate": {"low": 1e-4, "high": 1e-3}}


def refusal(result) -> str:
    """Return the last line of a refused command."""
    assert result.returncode == 1, result.stdout
    assert "Traceback" not in result.stderr
    return result.stderr.strip().splitlines()[-1].removeprefix("error: ")


def check_alike(tmp_path, settings: dict, field: str) -> None:
    """Assert that run, show and search refuse the settings with one message, which names the field."""
    config = write_config(tmp_path / "config.yaml", settings)
    shown = refusal(hfmgc_here("show", config))
    assert field in shown
    assert refusal(run_here(TRAIN_CLASSIFIER, config)) == shown
    with pytest.raises(HfmgcError) as refused:
        read_space(SPACE, BaseRecipe(settings, str(config)))
    assert str(refused.value).endswith(shown.removeprefix(f"{config}: "))
    assert not (tmp_path / "out").is_dir()


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("adapter_rank", {"adapter_rank": 0}),
        ("adapter_alpha", {"adapter_alpha": 0}),
        ("model_type", {"model_type": "hfmgc-lgnat"}),
        ("training_windows", {"training_windows": "fixed", "augmentation": "fresh"}),
        ("mixup_alpha", {"mixup_alpha": -1.0}),
        ("time_crop", {"time_crop": 0.0}),
        ("time_crop", {"time_crop": 0.1}),
        ("weight_averaging", {"weight_averaging": 1.0}),
        ("per_device_train_batch_size", {"per_device_train_batch_size": 0}),
        ("push_to_hub", {"push_to_hub": True}),
        ("front_end", {"front_end": {**FRONT_END, "num_bin": 32}}),
        ("front_end", {"front_end": {**FRONT_END, "window_frames": 6}}),
        ("spec_augment", {"spec_augment": {"time_masks": 1, "time_mask_frames": 32}}),
        ("spectrogram_effects", {"spectrogram_effects": {"pitch_bins": 32}}),
        ("class_weights", {"class_weights": "balanced", "model": {"class_weights": [1, 2, 3]}}),
        ("dropuot", {"model": {"dropuot": 0.1}}),
        ("expert_hidden_size", {"model": {"expert_hidden_size": 0}}),
        ("label_smoothing", {"model": {"problem_type": "multi_label_classification", "label_smoothing": 0.1}}),
        ("metric_for_best_model", {"metric_for_best_model": "macro_map"}),
        ("adapter", {"adapter": "lora", "adapter_min_layer": 7}),
        ("reuse_frozen_prefix", {"reuse_frozen_prefix": True}),
        ("reuse_frozen_prefix", {"reuse_frozen_prefix": True, "training_windows": "fixed"}),
        ("model_name_or_path", {"model_name_or_path": "any", "pretrained_backbone": "any"}),
        ("/nowhere/at/all", {"model_name_or_path": "/nowhere/at/all"}),
        ("split_policy", {"split_policy": "grouped"}),
        ("split_ratios", {"split_ratios": "8"}),
        ("/nowhere/split.json", {"split_manifest": "/nowhere/split.json"}),
        ("/nowhere/bad.csv", {"exclude": "/nowhere/bad.csv"}),
    ],
)
def test_run_show_and_search_refuse_the_same_settings(tmp_path, field, more):
    check_alike(tmp_path, classifier_settings("synthetic", tmp_path / "out", **more), field)


def test_run_show_and_search_refuse_the_same_backbone(tmp_path):
    folder = write_ast(tmp_path / "pretrained")
    settings = tiny_settings("synthetic", tmp_path / "out", model={}, pretrained_backbone=str(folder))
    check_alike(tmp_path, {**settings, "pretrained_backbone": str(tmp_path / "none")}, "pretrained_backbone")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "vit"}))
    check_alike(tmp_path, settings, "architecture 'vit'")
    (folder / "config.json").unlink()
    check_alike(tmp_path, settings, "pretrained_backbone")


def test_run_show_and_search_refuse_the_same_folder(tmp_path):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=1, seconds=0.5)
    (tmp_path / "file").touch()
    check_alike(tmp_path, classifier_settings(music, music / "out"), "output_dir")
    check_alike(tmp_path, classifier_settings(music, tmp_path / "file" / "out"), "output_dir")


def test_run_show_and_search_refuse_offline_augmentation_of_stored_features(tmp_path):
    data = write_features(tmp_path / "features.parquet")
    settings = classifier_settings(data, tmp_path / "out", augmentation="offline", split_policy="stratified")
    check_alike(tmp_path, settings, "augmentation")


def values_of(groups) -> list[dict]:
    return [
        {one.name: copy.deepcopy(getattr(group, one.name)) for one in dataclasses.fields(group)} for group in groups
    ]


def test_a_run_leaves_its_settings_as_they_were(tmp_path, tiny_checkpoint):
    """Though it starts from a checkpoint of another type, weighs the genres, picks a metric and wants to publish."""
    data = write_music(tmp_path / "music", ("blues", "metal", "pop"), tracks=3, seconds=0.5)
    settings = tiny_settings(data, tmp_path / "out", model={}, front_end={}, num_train_epochs=1, adapter="lora")
    settings |= {
        "model_type": "hfmgc-lgnet",
        "model_name_or_path": str(tiny_checkpoint()),
        "class_weights": "balanced",
    }
    settings |= {"push_to_hub": True, "hub_model_id": "tester/genres", "seed": 3}
    config = write_config(tmp_path / "config.yaml", settings)
    groups = read_settings([str(config)], RECIPE_GROUPS)
    before = values_of(groups)
    try:
        runpy.run_path(str(TRAIN_CLASSIFIER))["train_and_evaluate"](groups)
    finally:
        release_signals()
    assert values_of(groups) == before
    saved = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (saved["model_type"], saved["class_weights"]) == ("hfmgc-ast", [1.0, 1.0, 1.0])


def test_a_run_resumed_with_another_model_is_one_line_that_names_the_weight(tmp_path):
    data = write_features(tmp_path / "features.parquet")
    settings = classifier_settings(data, tmp_path / "out", num_train_epochs=1)
    config = write_config(tmp_path / "config.yaml", settings)
    assert run_here(TRAIN_CLASSIFIER, config).returncode == 0
    resume = ("--num_train_epochs", "2", "--resume_from_checkpoint", "last")
    line = refusal(run_here(TRAIN_CLASSIFIER, config, *resume, "--model.expert_hidden_size", "8"))
    assert "checkpoint-" in line
    assert "classifier.dense.bias: [2, 4] " in line
    recorded = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())["settings"]
    assert recorded["ModelArguments"]["model"] == settings["model"]  # those of the run, not the refused ones
    assert run_here(TRAIN_CLASSIFIER, config, *resume).returncode == 0


def test_show_asks_nothing_of_the_network(tmp_path, monkeypatch):
    """With HF_HUB_OFFLINE unset, for the recipe whose backbone is on the Hub."""
    requests = []

    def refuse(*arguments, **keywords):
        requests.append(arguments)
        raise OSError("unreachable")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    result = hfmgc_here("show", ROOT / "recipes" / "configs" / "ast_gtzan.yaml", "--output_dir", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert requests == []
    assert "pretrained_backbone MIT/ast-finetuned-audioset-10-10-0.4593" in result.stdout
    assert "default sizes" in result.stdout
    data = ("--data", "hub", "--data_options", "{repository: user/music}", "--output_dir", tmp_path / "out")
    result = hfmgc_here("show", ROOT / "recipes" / "configs" / "folder.yaml", *data)
    assert result.returncode == 0, result.stderr
    assert "data hub is not in the local cache" in result.stdout
