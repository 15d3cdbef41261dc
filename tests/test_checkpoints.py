"""The checkpoints in the package: their size, their code, and what they answer with and without hfmgc."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tone
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, pipeline

import hfmgc
from hfmgc.errors import CheckpointError
from hfmgc.evaluation.checkpoints import load_checkpoint
from hfmgc.hub.push import files_to_push
from hfmgc.models.convert_musicnn import fixed_inputs
from recipes import ROOT, python


def test_msd_gives_the_published_logits():
    model, _ = load_checkpoint("package:msd")
    expected = json.loads((Path(__file__).parent / "musicnn_logits.json").read_text())
    with torch.no_grad():
        found = model(torch.from_numpy(fixed_inputs())).window_logits[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["gtzan", "msd"])
def test_a_packaged_checkpoint_is_small_and_answers_with_and_without_hfmgc(name, tmp_path, elsewhere):
    folder = hfmgc.default_checkpoint(name)
    assert sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) < 3.3e6
    assert "Music Technology Group" in (folder / "README.md").read_text()
    waveform = tone(0, seconds=4.0)
    values = fixed_inputs()[:2]
    np.savez(tmp_path / "inputs.npz", values=values, waveform=waveform)
    without = elsewhere.ask(folder, tmp_path / "inputs.npz")
    model = AutoModelForAudioClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(values)).logits
    np.testing.assert_allclose(without["logits"], logits, atol=1e-5)
    with_hfmgc = pipeline("audio-classification", model=str(folder))(waveform, top_k=3)
    assert [one["label"] for one in without["scores"][:3]] == [one["label"] for one in with_hfmgc]


@pytest.mark.parametrize("name", ["gtzan", "msd"])
def test_a_packaged_checkpoint_carries_all_code_that_saving_it_writes(name, tmp_path):
    folder = hfmgc.default_checkpoint(name)
    AutoModelForAudioClassification.from_pretrained(folder).save_pretrained(tmp_path)
    AutoFeatureExtractor.from_pretrained(folder).save_pretrained(tmp_path)
    assert not any(path.is_symlink() for path in tmp_path.iterdir())
    assert code_in(tmp_path) == code_in(folder)
    assert set(files_to_push(folder)) == {path.name for path in folder.iterdir() if path.is_file()}


def code_in(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*.py")}


def test_a_built_package_contains_the_checkpoints_with_their_code(tmp_path):
    arguments = ["build_py", "--build-lib", tmp_path / "built", "egg_info", "--egg-base", tmp_path]
    done = python("-c", "import setuptools; setuptools.setup()", *arguments, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for name in ("gtzan", "msd"):
        folder, built = hfmgc.default_checkpoint(name), tmp_path / "built" / "hfmgc" / "checkpoints" / name
        assert {path.name for path in built.iterdir()} == {path.name for path in folder.iterdir()} - {"__pycache__"}
        assert code_in(built) == code_in(folder)
        assert not any(path.is_symlink() for path in built.iterdir())


def test_the_genres_among_the_tags_are_recorded():
    config = load_checkpoint("package:msd")[0].config
    assert set(config.genres) < set(config.label2id)
    assert "jazz" in config.genres
    assert "guitar" not in config.genres


def test_an_unknown_packaged_checkpoint_is_refused_with_the_nearest():
    with pytest.raises(CheckpointError, match=r"package:gtzna.*gtzan"):
        load_checkpoint("package:gtzna")
