"""Runs of a recipe that reuses the frozen prefix end where plain runs end, and are refused where they could not."""

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
import yaml
from conftest import write_ast, write_music
from forked import distribute
from safetensors.torch import load_file

from hfmgc.cli import main as hfmgc_command
from hfmgc.data.features import ExtractedWindows, TrackWindows
from hfmgc.evaluation.evaluate import evaluate_checkpoint
from hfmgc.training import prefix_reuse
from recipes import FINETUNE_AST, finetune_here, run_and_kill, tiny_settings, write_config


GENRES = ("blues", "metal", "pop")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Music with tracks of one and of several windows, and a pre-trained AST of three layers."""
    place = tmp_path_factory.mktemp("reuse")
    write_music(place / "music", GENRES, tracks=4, seconds=2.0)
    write_music(place / "music" / "short", ("x",), tracks=1, seconds=0.5)
    (place / "music" / "short" / "x" / "x.000.wav").rename(place / "music" / "pop" / "short.wav")
    (place / "music" / "short" / "x").rmdir()
    (place / "music" / "short").rmdir()
    write_ast(place / "pretrained")
    return place


def settings_for(place: Path, output_dir: Path, **more) -> dict:
    settings = {
        "pretrained_backbone": str(place / "pretrained"),
        "model": {"head_hidden_size": 16},
        "adapter": "dora",
        "adapter_min_layer": 1,
        "training_windows": "fixed",
        "augmentation": "offline",
        "logging_steps": 1,
        "per_device_train_batch_size": 8,
        "prefix_store": str(place / "stores"),
        "shortest_seconds": 0.5,
        **more,
    }
    return tiny_settings(place / "music", output_dir, **settings)


def losses(folder: Path) -> list[float]:
    """Losses of all steps and evaluations of a run."""
    state = max(folder.glob("checkpoint-*/trainer_state.json"), key=lambda path: int(path.parent.name[11:]))
    history = json.loads(state.read_text())["log_history"]
    return [value for entry in history for name, value in entry.items() if name in ("loss", "eval_loss")]


def run(place: Path, name: str, **more) -> subprocess.CompletedProcess:
    result = finetune_here(write_config(place / f"{name}.yaml", settings_for(place, place / name, **more)))
    assert result.returncode == 0, result.stderr
    return result


def assert_same_weights(folder: Path, other: Path, **tolerance) -> None:
    weights, others = (load_file(path / "model.safetensors") for path in (folder, other))
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(others[name], tensor, msg=name, **tolerance)


@pytest.fixture(scope="module")
def plain(place) -> Path:
    run(place, "plain")
    return place / "plain"


@pytest.fixture(scope="module")
def reused(place) -> tuple[Path, subprocess.CompletedProcess]:
    return place / "reused", run(place, "reused", reuse_frozen_prefix=True)


def test_run_comes_to_the_losses_and_weights_of_a_plain_one(plain, reused):
    folder, result = reused
    assert "frozen layers, train:" in result.stdout and "frozen layers, validation:" in result.stdout
    expected = losses(plain)
    assert len(expected) > 20
    np.testing.assert_allclose(losses(folder), expected, rtol=1e-4)
    assert_same_weights(plain, folder, rtol=1e-4, atol=1e-5)
    started_from = load_file(folder.parent / "pretrained" / "model.safetensors")
    adapted = "model.backbone.layers.2.mlp.fc2.weight"
    moved = load_file(folder / "model.safetensors")[adapted]
    assert not torch.allclose(
        moved, started_from[f"audio_spectrogram_transformer.{adapted.removeprefix('model.backbone.')}"], atol=1e-4
    )


def test_result_is_judged_by_the_whole_model_as_its_users_run_it(plain, reused, place):
    results, others = (json.loads((folder / "results.json").read_text()) for folder in (plain, reused[0]))
    probabilities = {row["track_id"]: row["probability"] for row in results["predictions"]}
    assert {row["track_id"]: row["probability"] for row in others["predictions"]} == pytest.approx(
        probabilities, abs=1e-5
    )
    again = evaluate_checkpoint(str(reused[0]), str(place / "music"))
    assert {row["track_id"]: row["probability"] for row in again.predictions} == pytest.approx(probabilities, abs=1e-5)


def test_record_says_that_the_prefix_was_reused(reused):
    record = yaml.safe_load((reused[0] / "run.yaml").read_text())
    assert record["settings"]["RunArguments"]["reuse_frozen_prefix"] is True
    assert record["settings"]["RunArguments"]["prefix_dtype"] == "float32"


def test_later_runs_find_the_store_whatever_they_train_above_it(reused, place):
    again = run(place, "again", reuse_frozen_prefix=True)
    assert "frozen layers" not in again.stdout
    assert_same_weights(reused[0], place / "again", rtol=0, atol=0)
    other = run(
        place, "other", reuse_frozen_prefix=True, adapter_rank=3, learning_rate=1e-2, seed=42, num_train_epochs=1
    )
    assert "frozen layers" not in other.stdout


def test_a_store_that_was_cut_off_is_completed(reused, place):
    stores = list((place / "stores").glob("*/windows.bin"))
    assert len(stores) == 2
    for windows in stores:
        os.truncate(windows, windows.stat().st_size - 100)
    completed = run(place, "completed", reuse_frozen_prefix=True)
    assert completed.stdout.count("frozen layers, ") == 2
    assert_same_weights(reused[0], place / "completed", rtol=0, atol=0)


def test_bfloat16_rounds_what_is_kept_and_little_else(plain, place):
    result = run(place, "half", reuse_frozen_prefix=True, prefix_dtype="bfloat16")
    assert "(bfloat16)" in result.stdout
    np.testing.assert_allclose(losses(place / "half"), losses(plain), rtol=0.02)
    assert losses(place / "half") != losses(plain)


def test_average_of_the_weights_and_head_alone(place):
    more = {"adapter": "none", "freeze_backbone": True, "weight_averaging": 0.9, "augmentation": "none"}
    run(place, "average_plain", **more)
    run(place, "average_reused", reuse_frozen_prefix=True, **more)
    np.testing.assert_allclose(losses(place / "average_reused"), losses(place / "average_plain"), rtol=1e-4)
    assert_same_weights(place / "average_plain", place / "average_reused", rtol=1e-4, atol=1e-5)


@pytest.mark.launches
def test_killed_run_resumes_to_the_same_weights(place, tmp_path):
    """SIGKILL between two checkpoints; dropout of the head and of the adapter included."""
    settings = settings_for(
        place,
        tmp_path / "undisturbed",
        reuse_frozen_prefix=True,
        adapter_dropout=0.1,
        prefix_store=str(tmp_path / "stores"),
        num_train_epochs=1,
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=5,
        save_steps=5,
        save_total_limit=None,
        load_best_model_at_end=False,
        dataloader_num_workers=1,
    )
    config = write_config(tmp_path / "run.yaml", settings)
    undisturbed = finetune_here(config)
    assert undisturbed.returncode == 0, undisturbed.stderr
    killed = tmp_path / "killed"
    # With another store, which this run must fill.
    more = ("--output_dir", killed, "--prefix_store", tmp_path / "others")
    run_and_kill(FINETUNE_AST, config, *more, folder=tmp_path, step=5)
    assert (killed / "checkpoint-5" / "trainer_state.json").exists()
    assert not (killed / "model.safetensors").exists()
    resumed = finetune_here(config, "--output_dir", killed, "--resume_from_checkpoint", "last")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_weights(tmp_path / "undisturbed", killed, rtol=0, atol=0)


@pytest.mark.launches
def test_of_two_processes_under_ddp_one_fills_and_both_read(place):
    output = {}
    for name, reuse in (("ddp_plain", False), ("ddp_reused", True)):
        more = {"reuse_frozen_prefix": reuse, "prefix_store": str(place / "ddp_stores")}
        settings = settings_for(
            place, place / name, ddp_backend="gloo", per_device_train_batch_size=4, num_train_epochs=1, **more
        )
        result = distribute(2, FINETUNE_AST, write_config(place / f"{name}.yaml", settings))
        assert result.returncode == 0, result.stderr[-3000:]
        assert yaml.safe_load((place / name / "run.yaml").read_text())["training"]["world_size"] == 2
        output[name] = result.stdout
    assert all(output["ddp_reused"].count(f"frozen layers, {side}:") == 1 for side in ("train", "validation"))
    np.testing.assert_allclose(losses(place / "ddp_reused"), losses(place / "ddp_plain"), rtol=1e-4)
    assert_same_weights(place / "ddp_plain", place / "ddp_reused", rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"training_windows": "random"},
            "reuse_frozen_prefix cannot be combined with training_windows: random windows",
        ),
        ({"training_windows": "random", "augmentation": "fresh"}, "cannot be combined with training_windows"),
        ({"time_crop": 0.5}, "cannot be combined with time_crop"),
        ({"spec_augment": {"time_masks": 1, "time_mask_frames": 8}}, "cannot be combined with spec_augment"),
        ({"spectrogram_effects": {"tempo": 1.1}}, "cannot be combined with spectrogram_effects"),
        ({"mixup_alpha": 0.3}, "cannot be combined with mixup_alpha"),
        ({"gradient_checkpointing": True}, "cannot be combined with gradient_checkpointing"),
        ({"adapter": "none"}, "reuse_frozen_prefix: no layer is frozen, because backbone.embeddings"),
        ({"prefix_dtype": "int8"}, "prefix_dtype must be float32 or bfloat16"),
        ({"prefix_store_gigabytes": 0}, "prefix_store_gigabytes must be above 0"),
        (
            {"pretrained_backbone": None, "model": {"backbone_config": {"hidden_dropout_prob": 0.1}}},
            "model.backbone_config.hidden_dropout_prob to 0",
        ),
        (
            {
                "model_type": "hfmgc-lenet",
                "model": {},
                "front_end": {},
                "adapter": "none",
                "pretrained_backbone": None,
            },
            "reuse_frozen_prefix: no layer is frozen, because convolutions.0.0.weight is trained",
        ),
    ],
)
def test_what_would_change_the_result_is_refused_before_the_data_are_read(place, tmp_path, more, message):
    settings = settings_for(place, tmp_path / "out", reuse_frozen_prefix=True, **more)
    settings["data"] = str(tmp_path / "nothing")
    result = finetune_here(write_config(tmp_path / "run.yaml", settings))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert message in result.stderr.splitlines()[-1]


def test_a_store_above_its_bound_is_refused_with_its_size(place, tmp_path):
    settings = settings_for(
        place, tmp_path / "out", reuse_frozen_prefix=True, prefix_store=str(tmp_path), prefix_store_gigabytes=1e-6
    )
    result = finetune_here(write_config(tmp_path / "run.yaml", settings))
    assert result.returncode == 1
    assert "error: prefix_store_gigabytes 1e-06: " in result.stderr.splitlines()[-1]


def test_what_is_computed_with_another_precision_is_kept_apart():
    """TF32 needs a GPU, so the store is described and not made."""
    prefix = SimpleNamespace(state_shape=lambda frames, bins: (2, 32))
    slices = datasets.Dataset.from_dict({"track_id": ["a"], "features": [np.zeros((1, 16, 8), np.float32).tolist()]})
    windows = ExtractedWindows(TrackWindows(slices, SimpleNamespace(window_shape=(16, 8))))
    run = {"mixed_precision": "no", "tf32": None, "prefix_dtype": "float32", "prefix_store": "stores"}
    wanted = [
        prefix_reuse._store(prefix, "weights", windows, SimpleNamespace(**{**run, **change})).folder
        for change in ({}, {"tf32": False}, {"tf32": True}, {"mixed_precision": "bf16"})
    ]
    assert wanted[0] == wanted[1]
    assert len(set(wanted)) == 3


def test_a_place_that_cannot_hold_stores_is_refused_before_the_data_are_read(place, tmp_path):
    (tmp_path / "file").write_text("")
    for store, message in (
        (place / "music" / "store", "lies in the data folder"),
        (tmp_path / "file" / "store", "file is a file: name a folder"),
        ("x" * 5000, "prefix_store"),
    ):
        settings = settings_for(place, tmp_path / "out", reuse_frozen_prefix=True, prefix_store=str(store))
        result = finetune_here(write_config(tmp_path / "run.yaml", settings))
        assert result.returncode == 1
        assert message in result.stderr.splitlines()[-1]
        assert len(result.stderr.splitlines()[-1]) < 500


def test_both_sides_must_fit_before_the_first_is_filled(place, tmp_path):
    # Of 96 windows for training and 5 for validation, the first alone would fit.
    bound = {"prefix_store": str(tmp_path / "store"), "prefix_store_gigabytes": 0.00077}
    settings = settings_for(place, tmp_path / "out", reuse_frozen_prefix=True, **bound)
    result = finetune_here(write_config(tmp_path / "run.yaml", settings))
    assert result.returncode == 1, result.stdout
    assert "prefix_store_gigabytes 0.00077: " in result.stderr.splitlines()[-1]
    assert not list((tmp_path / "store").glob("*/*"))


def test_show_says_what_a_window_takes(place, tmp_path, capsys):
    config = write_config(tmp_path / "run.yaml", settings_for(place, tmp_path / "out", reuse_frozen_prefix=True))
    hfmgc_command(["show", str(config)])
    assert "everything before backbone.layers.1.mlp, 7.9 kB a window (float32)" in capsys.readouterr().out
