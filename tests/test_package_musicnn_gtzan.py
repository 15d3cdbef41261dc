"""The packaged checkpoint `gtzan`: its size, its weights, its recipe on stand-ins, and its figures on real clips."""

import os
import sys
from pathlib import Path
from unittest import mock

import datasets
import numpy as np
import pytest
import soundfile
import torch
from conftest import tone

from hfmgc.checkpoints import default_checkpoint
from hfmgc.errors import HfmgcError
from hfmgc.evaluation.checkpoints import load_checkpoint
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from recipes import ROOT


sys.path.insert(0, str(ROOT / "recipes"))
import convert_spectrograms
import package_musicnn_gtzan as recipe


REAL_DATA = os.environ.get("HFMGC_REAL_DATA")


def test_its_encoder_is_that_of_msd():
    weights, before = (load_checkpoint(f"package:{name}")[0].model.state_dict() for name in ("gtzan", "msd"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights.items())


def test_its_card_is_the_repositorys():
    card = ROOT / "model_cards" / "musicnn-gtzan.md"
    assert (default_checkpoint("gtzan") / "README.md").read_bytes() == card.read_bytes()


def test_a_stored_spectrogram_becomes_the_front_ends_features():
    extractor = SpectrogramFeatureExtractor(preset="musicnn")
    levels = np.zeros((128, 387), np.uint8)
    levels[:, 193:] = 255
    features = convert_spectrograms.convert(levels, extractor)
    assert features.shape == (1875, 96)
    loudest = extractor.cut_features(features)[-1]
    np.testing.assert_allclose(loudest, np.log10(1 + 1e4 * 10 ** (convert_spectrograms.LOUDEST / 10)), rtol=1e-4)
    steps = np.diff(features[:, 40])
    assert steps.argmax() == pytest.approx(935, abs=5)
    levels = np.zeros((128, 387), np.uint8)
    levels[20] = 255  # one mel band
    peak = convert_spectrograms.convert(levels, extractor)[0].argmax()
    assert peak == pytest.approx(20 * 96 / 128, abs=4)


@pytest.mark.parametrize(
    "columns, output, named",
    [
        ({"log_mel": [[0]]}, "stored", "stored: .*choose another folder"),
        ({"features": [[0]]}, "converted", "train.parquet: .*log_mel.*features"),
        (None, "converted", "train.parquet: cannot be read"),
        ({}, "converted", "stored: .*parquet"),
    ],
)
def test_unusable_spectrograms_are_refused_before_anything_is_written(tmp_path, columns, output, named):
    stored = tmp_path / "stored"
    stored.mkdir()
    if columns:
        datasets.Dataset.from_dict(columns).to_parquet(str(stored / "train.parquet"))
    elif columns is None:
        (stored / "train.parquet").write_bytes(b"no parquet")
    before = {path: path.read_bytes() for path in stored.iterdir()}
    arguments = ["convert_spectrograms.py", str(stored), str(tmp_path / output)]
    with mock.patch.object(sys, "argv", arguments), pytest.raises(HfmgcError, match=named):
        convert_spectrograms.main()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_recipe_makes_a_checkpoint_that_knows_its_training_clips(tmp_path, monkeypatch, capsys):
    genres = ("blues", "rock")
    monkeypatch.setattr(recipe, "GENRES", genres)
    monkeypatch.setattr(recipe, "STRENGTHS", (0.01, 0.1))
    (tmp_path / "stored").mkdir()
    generator = np.random.default_rng(0)
    for number, side in enumerate(("train", "validation")):
        ids = [f"{genre}.{2 * number + index:05d}" for genre in genres for index in range(2)]
        levels = [generator.integers(0, 256, (128, 387)) // (1 + (track[0] == "r")) for track in ids]
        stored = datasets.Features(
            {"track_id": datasets.Value("string"), "log_mel": datasets.Array2D((128, 387), "uint8")}
        )
        rows = datasets.Dataset.from_dict({"track_id": ids, "log_mel": levels}, stored)
        rows.to_parquet(str(tmp_path / "stored" / f"{side}.parquet"))
        name = {"train": "train", "validation": "valid"}[side]
        (tmp_path / f"{name}_filtered.txt").write_text("".join(f"{one.split('.')[0]}/{one}.wav\n" for one in ids))
        for index, one in enumerate(ids):
            path = tmp_path / "clips" / one.split(".")[0] / f"{one}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(index, seconds=3.2, sampling_rate=22050), 22050)
    with mock.patch.object(sys, "argv", ["convert_spectrograms.py", str(tmp_path / "stored"), str(tmp_path)]):
        convert_spectrograms.main()
    arguments = [str(tmp_path), str(tmp_path / "clips"), str(tmp_path), str(tmp_path / "out")]
    with mock.patch.object(sys, "argv", ["package_musicnn_gtzan.py", *arguments]):
        recipe.main()
    assert '"validation, audio"' in capsys.readouterr().out
    model, extractor = load_checkpoint(str(tmp_path / "out"))
    assert list(model.config.id2label.values()) == list(genres)
    assert set(model.model.state_dict()) < set(load_checkpoint("package:msd")[0].model.state_dict())
    clips = recipe.load_clips(tmp_path / "clips", tmp_path / "train_filtered.txt", extractor)
    assert len(clips) == 4
    part = recipe.represent(model.model, clips)
    answers = recipe.vote_by_track(recipe.window_logits(model.classifier, part)).argmax(-1)
    assert answers.tolist() == [0, 0, 1, 1]  # it was fitted to them


# Real music is no part of the project: its tests run where the variable names a folder of it.
@pytest.mark.skipif(REAL_DATA is None, reason="HFMGC_REAL_DATA (a folder of real music) is not set")
def test_it_answers_for_real_clips_of_the_validation_side():
    model, extractor = load_checkpoint("package:gtzan")
    listed = Path(REAL_DATA) / "gtzan_fault_filtered" / "valid_filtered.txt"
    clips = recipe.load_clips(Path(REAL_DATA) / "gtzan_audio", listed, extractor)
    assert len(clips) == 28
    assert recipe.accuracy(model.classifier, recipe.represent(model.model, clips))[0] > 0.6
