"""The recipe from its command to the finished folder: DoRA on a pre-trained AST, whole tracks, pipeline, card."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from conftest import tone, write_ast, write_music
from forked import distribute
from hub_stand_in import HubStandIn
from safetensors.torch import load_file
from transformers import pipeline

from hfmgc.data.split_manifest import SplitManifest
from hfmgc.evaluation.evaluate import evaluate_checkpoint
from recipes import (
    FINETUNE_AST,
    ROOT,
    finetune_here,
    hfmgc_here,
    run_and_kill,
    tiny_settings,
    write_config,
)


GENRES = ("blues", "metal", "pop")
RUN_FILES = {
    "README.md",
    "config.json",
    "confusion_matrix.json",
    "confusion_matrix.png",
    "model.safetensors",
    "preprocessor_config.json",
    "results.json",
    "run.yaml",
    "split.json",
    "training_curve.png",
}


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> Path:
    """Four tracks of each genre and two files that cannot be used."""
    folder = write_music(tmp_path_factory.mktemp("data") / "music", GENRES, tracks=4, seconds=2.0)
    (folder / "pop" / "broken.mp3").write_bytes(b"not audio at all")
    soundfile.write(folder / "metal" / "silent.wav", np.zeros(16000), 16000)
    return folder


@pytest.fixture(scope="module")
def finished(music, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """A finished run: DoRA on an AST with the old layer names, offline augmentation."""
    place = tmp_path_factory.mktemp("finished")
    settings = tiny_settings(
        music,
        place / "out",
        pretrained_backbone=str(write_ast(place / "pretrained", old_names=True)),
        model={"head_hidden_size": 16},
        adapter="dora",
        adapter_min_layer=1,
        augmentation="offline",
        license="cc-by-4.0",
    )
    result = finetune_here(write_config(place / "run.yaml", settings))
    assert result.returncode == 0, result.stderr
    return place / "out", result


def test_run_leaves_every_file_that_a_card_or_a_later_evaluation_needs(finished):
    folder, _ = finished
    files = {path.name for path in folder.iterdir()}
    assert files >= RUN_FILES | {"modeling_ast.py", "modeling_windowed.py", "feature_extraction_ast.py", "adapter"}
    assert (folder / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")
    config = json.loads((folder / "config.json").read_text())
    assert config["auto_map"]["AutoModelForAudioClassification"].endswith("HfmgcASTForAudioClassification")
    assert config["id2label"] == {"0": "blues", "1": "metal", "2": "pop"}


def test_results_name_split_skipped_files_and_interval(finished):
    folder, _ = finished
    results = json.loads((folder / "results.json").read_text())
    manifest = SplitManifest.load(folder / "split.json")
    assert results["split"]["digest"] == manifest.digest
    assert results["tracks"] == len(manifest.sides["test"]) == 3
    assert sorted(row["track_id"] for row in results["predictions"]) == manifest.sides["test"]
    assert {row["track_id"]: row["reason"][:6] for row in results["skipped"]} == {
        "metal/silent.wav": "silent",
        "pop/broken.mp3": "cannot",
    }
    low, high = results["metrics"]["accuracy_interval"]
    assert low <= results["metrics"]["accuracy"] <= high
    assert set(results["metrics"]) >= {
        "macro_precision",
        "macro_recall",
        "macro_f1",
        "ovr_accuracy",
        "window_accuracy",
        "window_ovr_accuracy",
    }
    sides = [set(members) for members in manifest.sides.values()]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


def test_record_holds_settings_versions_and_parameter_counts(finished):
    folder, _ = finished
    record = yaml.safe_load((folder / "run.yaml").read_text())
    assert record["settings"]["DataArguments"]["split_ratios"] == "2:1:1"
    assert record["versions"]["transformers"]
    assert record["model"]["adapter"]["kind"] == "dora"
    assert 0 < record["model"]["trainable_parameters"] < record["model"]["parameters"]
    assert record["training"]["world_size"] == 1
    assert str(folder.parent) not in record["command"]


def test_only_head_and_adapter_differ_from_the_backbone_that_it_started_from(finished):
    folder, _ = finished
    merged = load_file(folder / "model.safetensors")
    adapter = load_file(folder / "adapter" / "adapter_model.safetensors")
    started_from = load_file(folder.parent / "pretrained" / "model.safetensors")
    assert any("lora_magnitude_vector" in name for name in adapter)
    first, last = "model.backbone.layers.0.mlp.fc2.weight", "model.backbone.layers.2.mlp.fc2.weight"
    old = "audio_spectrogram_transformer.encoder.layer.{}.output.dense.weight"
    assert torch.equal(merged[first], started_from[old.format(0)])  # below min_layer: frozen
    assert not torch.equal(merged[last], started_from[old.format(2)])
    assert torch.equal(merged["model.pooled_layernorm.weight"], started_from["classifier.layernorm.weight"])


def test_run_prints_table_matrix_and_an_answer(finished):
    _, result = finished
    assert "Accuracy of tracks" in result.stdout
    assert "confusion_matrix.png" in result.stdout
    assert "epoch 2 of 2: train loss" in result.stdout
    assert "{'" not in result.stdout
    assert "prediction for" in result.stdout


def test_card_has_no_path_of_this_machine(finished):
    folder, _ = finished
    card = (folder / "README.md").read_text()
    assert "model-index" in card
    assert "license: cc-by-4.0" in card
    assert "](training_curve.png)" in card
    assert str(folder.parent) not in card
    published = [
        path for path in folder.rglob("*") if path.suffix in (".json", ".md") and "checkpoint-" not in str(path)
    ]
    assert not [path for path in published if str(folder.parent) in path.read_text()]


def test_finished_folder_answers_with_and_without_hfmgc(finished, tmp_path, elsewhere):
    # Its name is that of its code's package, which no other checkpoint fills.
    folder = shutil.copytree(finished[0], tmp_path / "finished_finetune_ast")
    waveform = 0.1 * np.random.default_rng(0).standard_normal(16000 * 3).astype(np.float32)
    np.savez(tmp_path / "inputs.npz", values=np.zeros((1, 64, 128), np.float32), waveform=waveform)
    without = elsewhere.ask(folder, tmp_path / "inputs.npz")
    assert "error" not in without, without["error"]
    scores = {item["label"]: item["score"] for item in without["scores"]}
    answers = pipeline("audio-classification", model=str(folder))(waveform, top_k=None)
    assert {item["label"]: item["score"] for item in answers} == pytest.approx(scores, abs=1e-6)
    assert set(scores) == set(GENRES)
    assert sum(scores.values()) == pytest.approx(1)


def test_evaluate_repeats_the_result_of_the_run(finished, music):
    folder, _ = finished
    result = hfmgc_here("evaluate", folder, "--data", music, "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)  # one document and nothing else
    recorded = json.loads((folder / "results.json").read_text())
    assert report["side"] == "test"
    assert report["metrics"] == recorded["metrics"]
    assert report["confusion_matrix"] == recorded["confusion_matrix"]
    assert report["skipped"] == recorded["skipped"]


def test_evaluate_on_all_tracks_says_how_many_were_trained_on(finished, music):
    folder, _ = finished
    result = hfmgc_here("evaluate", folder, "--data", music, "--json", "--side", "all")
    report = json.loads(result.stdout)
    assert report["tracks"] == 12
    assert "9 of the 12 tracks are known from training (6 from the training side, 3 from" in report["notes"][0]


def test_evaluate_never_falls_back_to_training_tracks_when_files_are_missing_or_new(finished, music, tmp_path):
    folder, _ = finished
    copy = tmp_path / "music"
    shutil.copytree(music, copy)
    gone = SplitManifest.load(folder / "split.json").sides["test"][0]
    (copy / gone).unlink()
    soundfile.write(copy / "pop" / "unheard.wav", tone(99, seconds=1.0), 16000)
    report = evaluate_checkpoint(str(folder), str(copy))
    assert (report.side, report.tracks) == ("test", 2)
    assert "1 of the 3 tracks of that side are missing" in report.notes[1]
    assert report.notes[2] == "1 tracks that are not in the split are excluded"


def test_evaluate_refuses_genres_that_the_checkpoint_does_not_know(finished, tmp_path):
    folder, _ = finished
    other = write_music(tmp_path / "other", ("blues", "polka"), tracks=1, seconds=1.0)
    result = hfmgc_here("evaluate", folder, "--data", other, "--json")
    assert (result.returncode, result.stdout) == (1, "")
    assert "polka" in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("error: ")


def test_predict_answers_for_good_files_and_names_bad_ones(finished, music):
    folder, _ = finished
    good, bad = music / "pop" / "pop.000.wav", music / "pop" / "broken.mp3"
    result = hfmgc_here("predict", folder, good, bad, "--json")
    assert result.returncode == 3, result.stderr
    assert hfmgc_here("predict", folder, good).returncode == 0
    answer = json.loads(result.stdout)
    assert [item["label"] in GENRES for item in answer["predictions"][str(good)]["genres"]] == [True] * 3
    assert "cannot be decoded" in answer["skipped"][str(bad)]


def test_earlier_run_is_neither_overwritten_nor_resumed_unasked(finished, tmp_path):
    folder, _ = finished
    before = (folder / "model.safetensors").read_bytes()
    config = write_config(tmp_path / "again.yaml", tiny_settings(tmp_path, folder))
    result = finetune_here(config)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: output_dir")
    assert "--overwrite" in result.stderr
    assert (folder / "model.safetensors").read_bytes() == before


# Pushing


def test_run_is_pushed_in_one_commit(music, tmp_path, monkeypatch):
    config = write_config(tmp_path / "run.yaml", tiny_settings(music, tmp_path / "out", num_train_epochs=1))
    push = ("--push_to_hub", "--hub_model_id", "tester/genres")
    with HubStandIn() as hub:
        hub.use_here(monkeypatch, tmp_path / "home")
        result = finetune_here(config, *push)
        assert result.returncode == 0, result.stderr
        (commit,) = hub.commits("tester/genres")
    pushed = set(commit.files)
    assert pushed >= RUN_FILES | {"modeling_ast.py"}
    assert not [name for name in pushed if name.startswith("checkpoint-")]
    assert "tester/genres" in result.stdout


def test_failed_push_leaves_a_finished_run_and_the_command_for_later(music, tmp_path):
    config = write_config(tmp_path / "run.yaml", tiny_settings(music, tmp_path / "out", num_train_epochs=1))
    result = finetune_here(config, "--push_to_hub", "--hub_model_id", "tester/genres")  # the tests are offline
    assert result.returncode == 0, result.stderr
    assert f"hfmgc push {tmp_path / 'out'} --hub_model_id tester/genres" in result.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} >= RUN_FILES


# Killed and resumed


@pytest.mark.launches
def test_killed_run_resumes_to_the_same_weights(music, tmp_path):
    """SIGKILL between two checkpoints, in the middle of an epoch; fresh augmentation and dropout included."""
    settings = tiny_settings(
        music,
        tmp_path / "undisturbed",
        augmentation="fresh",
        num_train_epochs=3,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=2,
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=4,
        save_steps=4,
        save_total_limit=None,
        load_best_model_at_end=False,  # the best checkpoint could be from before the kill
        dataloader_num_workers=1,
    )
    settings["model"]["backbone_config"]["hidden_dropout_prob"] = 0.1
    config = write_config(tmp_path / "run.yaml", settings)
    undisturbed = finetune_here(config)
    assert undisturbed.returncode == 0, undisturbed.stderr

    killed = tmp_path / "killed"
    run_and_kill(FINETUNE_AST, config, "--output_dir", killed, folder=tmp_path, step=4)
    assert (killed / "checkpoint-4" / "trainer_state.json").exists()
    assert not (killed / "model.safetensors").exists()
    # What a kill within the writing of a checkpoint leaves: newer than the last whole one, and incomplete.
    (killed / "checkpoint-7").mkdir()
    (killed / "checkpoint-7" / "model.safetensors").write_bytes(b"half")

    resumed = finetune_here(config, "--output_dir", killed, "--resume_from_checkpoint", "last")
    assert resumed.returncode == 0, resumed.stderr
    record = yaml.safe_load((killed / "run.yaml").read_text())
    assert record["training"]["resumed_from"].startswith("checkpoint-")
    assert record["training"]["resumed_from"] != "checkpoint-7"
    expected, reached = (load_file(folder / "model.safetensors") for folder in (tmp_path / "undisturbed", killed))
    assert all(torch.equal(expected[name], reached[name]) for name in expected)


# Many processes


@pytest.mark.launches
def test_two_processes_train_under_ddp_and_judge_each_track_once(music, tmp_path):
    config = write_config(
        tmp_path / "run.yaml", tiny_settings(music, tmp_path / "out", ddp_backend="gloo", num_train_epochs=1)
    )
    result = distribute(2, FINETUNE_AST, config)
    assert result.returncode == 0, result.stderr[-3000:]
    _check_two_processes(tmp_path / "out", music)


@pytest.mark.launches
@pytest.mark.parametrize("stage", [2, 3])
def test_two_processes_train_under_deepspeed(music, tmp_path, stage):
    """ZeRO-2 divides gradients and optimizer states; ZeRO-3 the weights too, which must be whole again when saved."""
    pytest.importorskip("deepspeed", reason="the extra `deepspeed` is not installed")
    zero = {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "zero_optimization": {"stage": stage, "stage3_gather_16bit_weights_on_model_save": True},
        "optimizer": {"type": "AdamW", "params": {"lr": "auto", "torch_adam": True}},
    }
    settings = tiny_settings(
        music,
        tmp_path / "out",
        pretrained_backbone=str(write_ast(tmp_path / "pretrained")),
        model={"head_hidden_size": 16},
        adapter="dora",
        adapter_min_layer=1,
        num_train_epochs=1,
        deepspeed=zero,
    )
    config = write_config(tmp_path / "run.yaml", settings)
    # Through a script that keeps DeepSpeed from compiling what training does not use.
    script = ROOT / "tests" / "deepspeed_uncompiled.py"
    result = distribute(2, script, FINETUNE_AST, config, environment={"DS_ACCELERATOR": "cpu"})
    assert result.returncode == 0, result.stderr[-3000:]
    _check_two_processes(tmp_path / "out", music)


def _check_two_processes(folder: Path, music: Path) -> None:
    record = yaml.safe_load((folder / "run.yaml").read_text())
    results = json.loads((folder / "results.json").read_text())
    assert record["training"]["world_size"] == 2
    # Three test tracks on two processes with batches of two: one process is handed a repeated track to fill up.
    assert results["tracks"] == 3
    assert sorted(row["track_id"] for row in results["predictions"]) == sorted(
        SplitManifest.load(folder / "split.json").sides["test"]
    )
    assert sum(map(sum, results["confusion_matrix"])) == 3
    # What was saved is what was judged: the whole model, not one process's part of it.
    again = evaluate_checkpoint(str(folder), str(music))
    probabilities = {row["track_id"]: row["probability"] for row in results["predictions"]}
    assert {row["track_id"]: row["probability"] for row in again.predictions} == pytest.approx(probabilities, abs=1e-4)
