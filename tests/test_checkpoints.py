"""The checkpoints in the package: their size, their code, and what they answer with and without hfmgc."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tone
from packaged_code import copies
from transformers import AutoModelForAudioClassification, pipeline

import hfmgc
from hfmgc.errors import CheckpointError
from hfmgc.evaluation.checkpoints import load_checkpoint
from hfmgc.models.convert_musicnn import fixed_inputs


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


def test_the_code_of_packaged_checkpoints_is_that_of_the_package():
    assert copies()
    for copy, source in copies():
        assert copy.read_text() == source.read_text(), f"{copy}: run python tests/packaged_code.py"


def test_the_genres_among_the_tags_are_recorded():
    config = load_checkpoint("package:msd")[0].config
    assert set(config.genres) < set(config.label2id)
    assert "jazz" in config.genres
    assert "guitar" not in config.genres


def test_an_unknown_packaged_checkpoint_is_refused_with_the_nearest():
    with pytest.raises(CheckpointError, match=r"package:gtzna.*gtzan"):
        load_checkpoint("package:gtzna")
