"""A checkpoint is data: neither code of its own nor a pickle is run, whoever is at the keyboard."""

import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import write_music

from hfmgc.training import build
from recipes import FINETUNE_AST, hfmgc_here, run_here, tiny_settings, write_config


@pytest.fixture(autouse=True)
def _somebody_says_yes(monkeypatch):
    build._checkpoint.cache_clear()
    monkeypatch.setattr("sys.stdin", io.StringIO("y\ny\ny\n"))


@pytest.fixture
def music(tmp_path) -> Path:
    return write_music(tmp_path / "music", ("blues", "metal", "pop"), tracks=3, seconds=1)


def marked(folder: Path, file: str, **fields) -> Path:
    """Let a checkpoint's file ask for code that leaves a marker; return the marker's path."""
    marker = folder.parent / "was_run"
    (folder / "evil.py").write_text(f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n")
    path = folder / file
    content = json.loads(path.read_text()) if path.is_file() else {}
    autos = ("AutoConfig", "AutoFeatureExtractor", "AutoModelForAudioClassification")
    content |= {"auto_map": dict.fromkeys(autos, "evil.Evil"), **fields}
    path.write_text(json.dumps(content))
    return marker


def results(folder: Path, music: Path, tmp_path: Path) -> list:
    """What predict, evaluate, a training and a search say of a checkpoint."""
    settings = tiny_settings(music, tmp_path / "out", model_name_or_path=str(folder), model={}, front_end={})
    settings.pop("pretrained_backbone", None)
    search = {"space": {"learning_rate": {"low": 1e-4, "high": 1e-3}}, "trials": 1}
    return [
        hfmgc_here("predict", folder, next(music.rglob("*.wav"))),
        hfmgc_here("evaluate", folder, "--data", music),
        run_here(FINETUNE_AST, write_config(tmp_path / "run.yaml", settings)),
        run_here(
            FINETUNE_AST.with_name("search.py"),
            write_config(tmp_path / "search.yaml", {**settings, "search": search}),
        ),
    ]


def refused(result, folder: Path, *words: str) -> None:
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert str(folder) in line
    assert all(word in line for word in words), line
    assert "[y/N]" not in result.stdout + result.stderr


def test_code_that_a_checkpoint_brings_is_never_run(tmp_path, tiny_checkpoint, music):
    folder = tiny_checkpoint()
    marker = marked(folder, "preprocessor_config.json", feature_extractor_type="Evil")
    for result in results(folder, music, tmp_path):
        refused(result, folder, "Evil", "hfmgc list")
        assert not marker.exists()


def test_a_known_architecture_that_names_code_is_loaded_from_the_package(tmp_path, tiny_checkpoint, music):
    folder = tiny_checkpoint()
    marker = marked(folder, "config.json")
    result = hfmgc_here("predict", folder, next(music.rglob("*.wav")))
    assert result.returncode == 0, result.stderr
    assert not marker.exists()


def test_code_that_a_pretrained_backbone_brings_is_never_run(tmp_path, tiny_ast, music):
    folder = tiny_ast()
    marker = marked(folder, "config.json", model_type="evil")
    settings = tiny_settings(music, tmp_path / "out", pretrained_backbone=str(folder), model={})
    refused(run_here(FINETUNE_AST, write_config(tmp_path / "run.yaml", settings)), folder, "evil")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_are_refused(tmp_path, tiny_checkpoint, tiny_ast, music, name):
    folder = tiny_checkpoint()
    weights = {"a": torch.zeros(1)}
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / name)
    for result in results(folder, music, tmp_path):
        refused(result, folder, "has no model.safetensors", "pickles", "save_pretrained")

    backbone = tiny_ast()
    (backbone / "model.safetensors").unlink()
    torch.save(weights, backbone / name)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    settings = tiny_settings(music, tmp_path / "out", pretrained_backbone=str(backbone), model={})
    refused(run_here(FINETUNE_AST, write_config(tmp_path / "run.yaml", settings)), backbone, "pickles")
