"""Training, evaluation and windows start from what `hfmgc extract` wrote, and answer as they do for the audio."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from conftest import write_music
from test_extraction import DECIMATED, FIELDS, RATE, extract

import hfmgc.cli
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.features import track_windows
from hfmgc.data.sources import open_source
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from recipes import FINETUNE_AST, TRAIN_CLASSIFIER, run_here, tiny_settings, write_config


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path, Path]:
    """Music, its features, and a run that was trained on the features alone."""
    place = tmp_path_factory.mktemp("trained")
    music = write_music(place / "music", ("blues", "pop"), tracks=6, seconds=2, sampling_rate=RATE)
    arguments = ["extract", str(music), str(place / "features"), "--shard_size", "5", *DECIMATED]
    assert hfmgc.cli.main(arguments) == 0
    settings = tiny_settings(place / "features", place / "run", front_end=FIELDS, split_policy="stratified")
    result = run_here(FINETUNE_AST, write_config(place / "run.yaml", settings))
    assert result.returncode == 0, result.stderr
    return music, place / "features", place / "run"


def test_training_starts_from_the_extracted_features(trained):
    _, features, run = trained
    results = json.loads((run / "results.json").read_text())
    assert results["data"]["name"] == "features"
    assert results["data"]["location"] == features.name
    assert results["tracks"] == 2
    saved = json.loads((run / "preprocessor_config.json").read_text())
    assert saved["feature_extractor_type"] == "SpectrogramFeatureExtractor"


def test_features_and_audio_are_judged_alike_by_the_same_front_end(trained, capsys):
    music, features, run = trained

    def judge(data: Path) -> dict[str, dict]:
        assert hfmgc.cli.main(["evaluate", str(run), "--data", str(data), "--side", "all", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        return {row["track_id"]: row for row in report["predictions"]}

    by_features, by_audio = judge(features), judge(music)
    assert len(by_features) == 12
    assert by_features == by_audio


def test_stored_features_are_the_windows_of_decoded_audio(trained):
    music, features, _ = trained
    extractor = SpectrogramFeatureExtractor(**FIELDS)
    of_audio = decode_corpus(open_source(str(music)), RATE).tracks
    of_features = decode_corpus(open_source(str(features)), RATE).tracks
    assert of_audio["track_id"] == of_features["track_id"]
    assert of_audio["genre"] == of_features["genre"]
    for one, other in zip(of_audio, of_features, strict=True):
        np.testing.assert_array_equal(track_windows(one, extractor), track_windows(other, extractor))


TINY_LGNET = {
    "backbone_config": {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]},
    "num_experts": 2,
    "expert_hidden_size": 4,
}


@pytest.mark.parametrize(
    ("recipe", "options", "settings"),
    [
        (FINETUNE_AST, ["--front_end", "{max_length: 64, max_windows: 3}"], {}),
        (
            TRAIN_CLASSIFIER,
            DECIMATED,
            {"model_type": "hfmgc-lgnet", "model": TINY_LGNET, "front_end": FIELDS, "split_policy": "stratified"},
        ),
    ],
    ids=["ast", "lgnet"],
)
def test_both_recipes_train_on_extracted_features_and_a_single_file_is_judged(
    tmp_path, capsys, recipe, options, settings
):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=4, seconds=2, sampling_rate=RATE)
    extract(capsys, music, tmp_path / "features", *options)
    run = tmp_path / "run"
    config = write_config(tmp_path / "run.yaml", tiny_settings(tmp_path / "features", run, **settings))
    result = run_here(recipe, config)
    assert result.returncode == 0, result.stderr[-3000:]
    trained = json.loads((run / "results.json").read_text())
    assert (trained["data"]["name"], trained["tracks"]) == ("features", 2)

    judged_ids = json.loads((run / "split.json").read_text())["sides"]["test"]
    table = datasets.load_dataset("parquet", data_files=str(tmp_path / "features" / "*.parquet"), split="train")
    rows = [row for row, track_id in enumerate(table["track_id"]) if track_id in judged_ids]
    table.select(rows).to_parquet(str(tmp_path / "some" / "test.parquet"))
    capsys.readouterr()
    assert hfmgc.cli.main(["evaluate", str(run), "--data", str(tmp_path / "some" / "test.parquet"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert sorted(row["track_id"] for row in report["predictions"]) == judged_ids
    assert report["metrics"]["accuracy"] == trained["metrics"]["accuracy"]
