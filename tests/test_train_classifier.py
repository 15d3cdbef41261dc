"""recipes/train_classifier.py from its command to the finished folder, with everything that training can do switched on."""

import json
import shutil
import subprocess
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from conftest import write_music
from forked import run_forked
from safetensors.torch import load_file

from hfmgc.evaluation.evaluate import evaluate_checkpoint
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models.modeling_lgnet import LGNetModel
from hfmgc.training.trainer import AVERAGED_WEIGHTS
from recipes import (
    FRONT_END,
    ROOT,
    TRAIN_CLASSIFIER,
    classifier_settings,
    run_and_kill,
    run_here,
    write_config,
    write_features,
)


GENRES = ("blues", "metal", "pop")
MASKS = {"time_masks": 1, "time_mask_frames": 8, "frequency_masks": 1, "frequency_mask_bins": 8}


def everything(data: Path, output_dir: Path, **more) -> dict:
    return classifier_settings(
        data,
        output_dir,
        **{
            "training_windows": "fixed",
            "time_crop": 0.75,
            "spec_augment": MASKS,
            "mixup_alpha": 0.3,
            "class_weights": "balanced",
            "weight_averaging": 0.9,
            "decay_from_epoch": 1,
            "channels_last": True,
            **more,
        },
    )


def train_here(tmp_path: Path, settings: dict, *overrides: str | Path) -> subprocess.CompletedProcess:
    """Run the recipe within this process."""
    return run_here(TRAIN_CLASSIFIER, write_config(tmp_path / "run.yaml", settings), *overrides)


def trained(tmp_path: Path, settings: dict, *overrides: str | Path) -> Path:
    result = train_here(tmp_path, settings, *overrides)
    assert result.returncode == 0, result.stderr[-3000:]
    return Path(settings["output_dir"])


def fails(tmp_path: Path, settings: dict) -> str:
    """Run the recipe, which must end in one line; return it."""
    result = train_here(tmp_path, settings)
    assert result.returncode == 1, result.stderr
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert "Traceback" not in result.stderr
    return line


def judged(folder: Path) -> dict[str, tuple[str, float]]:
    """What the run said of each track: genre and probability."""
    return _said(json.loads((folder / "results.json").read_text())["predictions"])


def answers(folder: Path, data: Path) -> dict[str, tuple[str, float]]:
    """What the saved model says of the same tracks."""
    return _said(evaluate_checkpoint(str(folder), str(data)).predictions)


def _said(rows: list[dict]) -> dict[str, tuple[str, float]]:
    return {row["track_id"]: (row["predicted"], row["probability"]) for row in rows}


def furthest(one: dict, other: dict) -> float:
    """Return by how much two answers differ at most; 1 where they name different genres."""
    assert one.keys() == other.keys()
    return max(abs(one[track][1] - other[track][1]) if one[track][0] == other[track][0] else 1.0 for track in one)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    return write_features(tmp_path_factory.mktemp("data") / "features.parquet")


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> Path:
    return write_music(tmp_path_factory.mktemp("data") / "music", GENRES, tracks=4, seconds=1.5)


@pytest.fixture(scope="module")
def finished(features, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("finished")
    return trained(place, everything(features, place / "out"))


def test_what_is_saved_is_the_average_that_was_judged(finished, features, tmp_path):
    assert furthest(judged(finished), answers(finished, features)) < 1e-5
    record = yaml.safe_load((finished / "run.yaml").read_text())["training"]
    best = finished / record["best_checkpoint"]
    averaged, saved = load_file(best / AVERAGED_WEIGHTS), weights_of(finished)
    assert all(torch.equal(averaged[f"module.{name}"], value) for name, value in saved.items())
    # The raw weights are others, and answer otherwise: had they been saved, this would show.
    raw = tmp_path / "raw"
    shutil.copytree(finished, raw, ignore=shutil.ignore_patterns("checkpoint-*"))
    shutil.copy(best / "model.safetensors", raw)
    assert furthest(judged(finished), answers(raw, features)) > 1e-3


def test_a_compiled_model_is_saved_under_the_names_of_the_plain_one(features, tmp_path):
    more = {"torch_compile": True, "torch_compile_backend": "eager", "load_best_model_at_end": False}
    folder = trained(tmp_path, classifier_settings(features, tmp_path / "out", **more))
    assert furthest(judged(folder), answers(folder, features)) < 1e-5
    # The best validation figure may be that of an earlier checkpoint.
    assert "validation" not in json.loads((folder / "results.json").read_text())


def test_the_validation_figure_of_the_best_checkpoint_is_that_of_the_average(finished, features):
    record = yaml.safe_load((finished / "run.yaml").read_text())["training"]
    report = evaluate_checkpoint(str(finished), str(features), side="validation")
    assert report.metrics["accuracy"] == pytest.approx(record["best_validation_accuracy"])


def test_record_and_card_say_all_of_it(finished):
    record = yaml.safe_load((finished / "run.yaml").read_text())["settings"]
    data, run = record["DataArguments"], record["RunArguments"]
    expected = everything(Path("features.parquet"), finished)
    for name in ("training_windows", "time_crop", "spec_augment", "mixup_alpha", "class_weights"):
        assert data[name] == expected[name]
    for name in ("weight_averaging", "decay_from_epoch", "channels_last"):
        assert run[name] == expected[name]
    assert run["epoch_decay"] == 0.1
    assert record["ModelArguments"]["model_name_or_path"] is None
    card = (finished / "README.md").read_text()
    for row in (
        "| DataArguments.training_windows | fixed |",
        "| DataArguments.time_crop | 0.75 |",
        f"| DataArguments.spec_augment | {json.dumps(MASKS, sort_keys=True)} |",
        "| DataArguments.mixup_alpha | 0.3 |",
        "| DataArguments.class_weights | balanced |",
        "| RunArguments.weight_averaging | 0.9 |",
        "| RunArguments.decay_from_epoch | 1 |",
        "| RunArguments.channels_last | true |",
    ):
        assert row in card


def test_class_weights_are_those_of_the_training_side(finished):
    sides = json.loads((finished / "split.json").read_text())["sides"]
    genres = [track.split(".")[0] for track in sides["train"]]
    expected = [len(genres) / (3 * genres.count(genre)) for genre in GENRES]
    assert len(set(expected)) > 1
    assert json.loads((finished / "config.json").read_text())["class_weights"] == pytest.approx(expected)


def test_the_learning_rate_falls_by_epochs(finished):
    last = max(finished.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    schedule = torch.load(last / "scheduler.pt", weights_only=True)
    steps = schedule["last_epoch"]
    assert steps % 3 == 0
    # After the last step of the third epoch it stands where a fourth would begin.
    assert schedule["_last_lr"] == pytest.approx([0.02 * np.exp(-0.3)] * len(schedule["_last_lr"]))


def test_everything_works_on_audio_and_with_random_windows(music, tmp_path):
    settings = everything(music, tmp_path / "out", training_windows="random", windows_per_track=2)
    settings["augmentation"] = "fresh"
    settings["front_end"] = {**FRONT_END, "normalize_over": "track"}
    folder = trained(tmp_path, settings)
    assert furthest(judged(folder), answers(folder, music)) < 1e-5


def test_spectrograms_of_whole_tracks_are_made_once(music, tmp_path):
    """After offline augmentation, too."""
    settings = classifier_settings(music, tmp_path / "out", num_train_epochs=2, augmentation="offline")
    settings["front_end"] = {**FRONT_END, "normalize_over": "track"}
    with mock.patch.object(SpectrogramFeatureExtractor, "audio_window", side_effect=AssertionError("computed again")):
        folder = trained(tmp_path, settings)
    assert furthest(judged(folder), answers(folder, music)) < 1e-5


def test_stored_slices_train_as_fixed_windows(tmp_path):
    data = write_features(tmp_path / "slices.parquet", slices=True)
    settings = classifier_settings(data, tmp_path / "out", training_windows="fixed", num_train_epochs=1)
    folder = trained(tmp_path, settings)
    assert furthest(judged(folder), answers(folder, data)) < 1e-5
    record = yaml.safe_load((folder / "run.yaml").read_text())["training"]
    tracks = len(json.loads((folder / "split.json").read_text())["sides"]["train"])
    assert record["steps"] == -(-3 * tracks // 3)


# Killed and resumed


@pytest.mark.launches
def test_a_killed_run_resumes_to_the_same_weights(features, tmp_path):
    """SIGKILL within an epoch, with averaged weights, mixup, masks, a router that freezes, and dropout."""
    settings = everything(
        features,
        tmp_path / "undisturbed",
        num_train_epochs=2,
        gradient_accumulation_steps=2,
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=3,
        save_steps=3,
        save_total_limit=None,
        load_best_model_at_end=False,
    )
    config = write_config(tmp_path / "run.yaml", settings)
    undisturbed = run_here(TRAIN_CLASSIFIER, config)
    assert undisturbed.returncode == 0, undisturbed.stderr[-3000:]
    killed = tmp_path / "killed"
    run_and_kill(TRAIN_CLASSIFIER, config, "--output_dir", killed, folder=tmp_path, step=6)
    assert (killed / "checkpoint-6" / "trainer_state.json").exists()
    assert not (killed / "model.safetensors").exists()
    resumed = run_here(TRAIN_CLASSIFIER, config, "--output_dir", killed, "--resume_from_checkpoint", "last")
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    record = yaml.safe_load((killed / "run.yaml").read_text())["training"]
    assert record["resumed_from"].startswith("checkpoint-")
    expected, reached = weights_of(tmp_path / "undisturbed"), weights_of(killed)
    assert all(torch.equal(expected[name], reached[name]) for name in expected)
    assert judged(killed) == judged(tmp_path / "undisturbed")


# Many processes


@pytest.mark.launches
def test_two_processes_average_and_freeze_and_answer_alike(features, tmp_path):
    """Each half of the tracks is judged by another process: all answers must be those of what was saved."""
    settings = everything(
        features, tmp_path / "out", ddp_backend="gloo", num_train_epochs=2, load_best_model_at_end=False
    )
    config = write_config(tmp_path / "run.yaml", settings)
    result = run_forked(ROOT / "tests" / "forked_torchrun.py", TRAIN_CLASSIFIER, config)
    assert result.returncode == 0, result.stderr[-3000:]
    record = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())
    assert record["training"]["world_size"] == 2
    assert furthest(judged(tmp_path / "out"), answers(tmp_path / "out", features)) < 1e-5


# Going on from a checkpoint


def test_a_new_run_goes_on_from_a_finished_one_and_resumes(finished, tmp_path):
    data = write_features(tmp_path / "other.parquet", ("jazz", "rock"), tracks=6)
    settings = classifier_settings(data, tmp_path / "whole", num_train_epochs=2, freeze_backbone=True)
    del settings["model_type"], settings["front_end"]
    settings |= {"model": {"dropout": 0.2}, "model_name_or_path": str(finished), "load_best_model_at_end": False}
    whole = trained(tmp_path, settings)
    before, after = weights_of(finished), weights_of(whole)
    frozen = [name for name in before if name.startswith("model.") and "running" not in name and "num_b" not in name]
    assert frozen
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    config = json.loads((whole / "config.json").read_text())
    assert list(config["id2label"].values()) == ["jazz", "rock"]
    assert (config["model_type"], config["dropout"], config["class_weights"]) == ("hfmgc-lgnet", 0.2, None)
    record = yaml.safe_load((whole / "run.yaml").read_text())
    assert record["model"]["backbone"] == "out"
    assert record["settings"]["ModelArguments"]["model_type"] == "hfmgc-lgnet"
    assert str(finished) not in (whole / "README.md").read_text()
    assert furthest(judged(whole), answers(whole, data)) < 1e-5

    half = {**settings, "output_dir": str(tmp_path / "resumed")}
    trained(tmp_path, half, "--num_train_epochs", "1")
    resumed = trained(tmp_path, half, "--resume_from_checkpoint", "last")
    assert all(torch.equal(value, weights_of(resumed)[name]) for name, value in after.items())


def test_an_adapter_goes_on_from_an_ast(tiny_checkpoint, music, tmp_path):
    checkpoint = tiny_checkpoint(("jazz", "rock"))
    settings = classifier_settings(music, tmp_path / "out", num_train_epochs=1, weight_averaging=0.9, adapter="dora")
    del settings["model_type"], settings["front_end"]
    folder = trained(tmp_path, {**settings, "model": {}, "model_name_or_path": str(checkpoint)})
    before, after = load_file(checkpoint / "model.safetensors"), weights_of(folder)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("fc2" in name for name in changed)
    assert not [name for name in changed if "fc2" not in name and "classifier" not in name]
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    assert furthest(judged(folder), answers(folder, music)) < 1e-4


# What does not go together


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"time_crop": 0.1}, "model and time_crop do not fit: expected at least 8 frames"),
        (
            {"spec_augment": {"time_masks": 1, "time_mask_frames": 32}},
            "spec_augment.time_mask_frames must be below 32",
        ),
        (
            {"class_weights": "balanced", "model": {"class_weights": [1, 2, 3]}},
            "class_weights and model.class_weights exclude each other",
        ),
        ({"training_windows": "fixed", "windows_per_track": 2}, "windows_per_track applies"),
        ({"training_windows": "fixed", "augmentation": "fresh"}, "augmentation must be none or offline"),
        ({"training_windows": "slices"}, "training_windows must be random or fixed, not 'slices'"),
        ({"class_weights": "even"}, "class_weights must be none or balanced, not 'even'"),
        ({"model_name_or_path": "/nowhere/at/all"}, "checkpoint '/nowhere/at/all': no such folder"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line_before_the_data_are_read(tmp_path, more, message):
    line = fails(tmp_path, classifier_settings(tmp_path / "no_data", tmp_path / "out", **more))
    assert message in line


def test_a_crop_is_refused_for_a_model_of_fixed_length(tmp_path):
    def check_window(self, frames: int, bins: int) -> None:
        if frames != 32:
            raise ValueError(f"expected 32 frames, got {frames}")

    with mock.patch.object(LGNetModel, "check_window", check_window):
        line = fails(tmp_path, classifier_settings(tmp_path / "no_data", tmp_path / "out", time_crop=0.5))
    assert "model and time_crop do not fit: expected 32 frames, got 16" in line


def test_a_users_own_class_weights_are_taken(features, tmp_path):
    settings = classifier_settings(features, tmp_path / "out", num_train_epochs=1)
    settings["model"]["class_weights"] = [1, 2, 3]
    folder = trained(tmp_path, settings)
    assert json.loads((folder / "config.json").read_text())["class_weights"] == [1, 2, 3]
