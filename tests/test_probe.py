"""recipes/probe.py: a head on the stored representations of a frozen encoder, from its command to the finished folder."""

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from conftest import write_music
from encoders import write_encoder, write_musicgen
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_probe_heads import voted
from transformers import BertConfig, BertModel, Wav2Vec2FeatureExtractor, pipeline

from hfmgc.checkpoints import default_checkpoint
from hfmgc.data.split_manifest import SplitManifest
from hfmgc.errors import DataError
from hfmgc.evaluation.checkpoints import load_checkpoint
from hfmgc.evaluation.evaluate import evaluate_checkpoint
from hfmgc.evaluation.task import MULTI_LABEL as MULTI_LABEL_TASK
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models.configuration_musicnn import MusiCNNConfig
from hfmgc.models.modeling_musicnn import MusiCNNForAudioClassification
from hfmgc.training import probe
from hfmgc.training.probe_heads import Representations, fit_logistic
from recipes import FRONT_END, ROOT, TRAIN_CLASSIFIER, classifier_settings, run_here, write_config, write_features


PROBE = ROOT / "recipes" / "probe.py"
MULTI_LABEL = "multi_label_classification"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    """A tiny MusiCNN for other tags, several per track."""
    torch.manual_seed(0)
    config = MusiCNNConfig(
        num_bins=32,
        timbral_channels=4,
        timbral_heights=[8, 16],
        temporal_channels=2,
        temporal_widths=[8, 4],
        midend_channels=4,
        hidden_size=8,
        id2label={0: "happy", 1: "sad"},
        problem_type=MULTI_LABEL,
    )
    folder = tmp_path_factory.mktemp("encoder")
    MusiCNNForAudioClassification(config).save_pretrained(folder)
    SpectrogramFeatureExtractor(**FRONT_END).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    return write_features(tmp_path_factory.mktemp("data") / "features.parquet", tracks=8)


def settings_of(encoder: Path, data: Path, tmp_path: Path, **more) -> dict:
    return {
        "model_name_or_path": str(encoder),
        "model": {"representation": "pooled", "problem_type": "single_label_classification"},
        "data": str(data),
        "shortest_seconds": 0.0,
        "split_ratios": "2:1:1",
        "output_dir": str(tmp_path / "out"),
        "prefix_store": str(tmp_path / "store"),
        "use_cpu": True,
        "disable_tqdm": True,
        **more,
    }


def probed(tmp_path: Path, settings: dict) -> Path:
    result = run_here(PROBE, write_config(tmp_path / "run.yaml", settings))
    assert result.returncode == 0, result.stderr[-3000:]
    return Path(settings["output_dir"])


def error_of(tmp_path: Path, settings: dict) -> str:
    result = run_here(PROBE, write_config(tmp_path / "run.yaml", settings))
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr.strip().splitlines()[-1]


def representations(genres: np.ndarray, *, windows: int = 3, seed: int = 0) -> Representations:
    """Tracks with up to so many windows, whose values depend on the genre and are far from standardised."""
    generator = np.random.default_rng(seed)
    stacks = [
        (generator.standard_normal((1 + index % windows, 6)) + genre) * [1, 10, 0.1, 1, 1, 0] + 5
        for index, genre in enumerate(genres if genres.ndim == 1 else genres[:, 0])
    ]
    return Representations([stack.astype(np.float32) for stack in stacks], genres)


def test_a_probe_ends_with_the_folder_of_any_run(encoder, features, tmp_path):
    folder = probed(tmp_path, settings_of(encoder, features, tmp_path))
    results = json.loads((folder / "results.json").read_text())
    assert results["side"] == "test"
    assert results["metrics"]["accuracy"] >= 0.8
    record = yaml.safe_load((folder / "run.yaml").read_text())
    assert record["training"]["head"] == "logistic regression"
    assert record["training"]["chosen_by"] == "cross_validation"
    assert record["training"]["folds_by"] == "track"
    assert record["settings"]["ProbeArguments"]["probe_folds"] == 5
    assert not (folder / "training_curve.png").exists()
    card = (folder / "README.md").read_text()
    assert "cross-validation of the" in card
    assert "artists are not known" in card
    assert len(SplitManifest.load(folder / "split.json").sides["test"]) == results["tracks"]
    evaluated = {row["track_id"]: row for row in evaluate_checkpoint(str(folder), str(features)).predictions}
    for row in results["predictions"]:
        assert row["predicted"] == evaluated[row["track_id"]]["predicted"]
        assert row["probability"] == pytest.approx(evaluated[row["track_id"]]["probability"], abs=1e-5)
    resumed = settings_of(encoder, features, tmp_path, resume_from_checkpoint="last")
    assert "holds a finished run" in error_of(tmp_path, resumed), "it has no checkpoints, and is not replaced"


def test_test_tracks_that_the_checkpoint_was_trained_on_are_noted(encoder, features, tmp_path):
    first = probed(tmp_path, settings_of(encoder, features, tmp_path))
    notes = {}
    for seed in (0, 1):
        folder = str(tmp_path / f"seed-{seed}")
        settings = settings_of(first, features, tmp_path, split_seed=seed, output_dir=folder)
        notes[seed] = " ".join(json.loads((probed(tmp_path, settings) / "results.json").read_text())["notes"])
    splits = [SplitManifest.load(folder / "split.json") for folder in (first, tmp_path / "seed-1")]
    known = set(splits[0].sides["train"]) & set(splits[1].sides["test"])
    assert (
        known
        and f"{len(known)} of the {len(splits[1].sides['test'])} test tracks were on the training side" in notes[1]
    )
    assert "training side of" not in notes[0], "the split is the same"


def test_the_encoder_stays_as_it_was_and_its_output_is_stored(encoder, features, tmp_path):
    folder = probed(tmp_path, settings_of(encoder, features, tmp_path))
    before, after = (load_checkpoint(str(one))[0].model.state_dict() for one in (encoder, folder))
    assert set(after) < set(before)  # without the layers after pooling
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    assert len(list((tmp_path / "store").rglob("windows.bin"))) == 2
    settings = settings_of(encoder, features, tmp_path, output_dir=str(tmp_path / "other"), probe_folds=3)
    second = run_here(PROBE, write_config(tmp_path / "run.yaml", settings))
    assert "probe: head logistic regression" in second.stdout
    assert "frozen layers, train" not in second.stdout


def test_the_folded_head_is_scikit_learns_pipeline(encoder):
    genres = np.array([0, 1, 2, 0, 1, 2, 1, 2])
    tracks = representations(genres, windows=1)
    layer = fit_logistic(tracks, 3, 0.1)
    windows = np.concatenate(tracks.windows)
    expected = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(windows, genres)
    answers = layer(torch.from_numpy(windows)).softmax(-1).detach().numpy()
    np.testing.assert_allclose(answers, expected.predict_proba(windows), atol=1e-4)


def test_dead_units_are_not_read():
    tracks = representations(np.array([0, 1] * 4))
    windows = [np.concatenate([stack, stack[:, :1] * 1e-19], axis=1) for stack in tracks.windows]
    layer = fit_logistic(Representations(windows, tracks.targets), 2, 1.0)
    assert layer.weight.abs().max() < 100
    assert (layer.weight[:, -2:] == 0).all()


def test_tracks_weigh_the_same_however_many_windows_they_have():
    genres = np.array([0, 1, 0, 1, 1])
    tracks = representations(genres, windows=1)
    repeated = Representations([np.repeat(stack, 1 + row, axis=0) for row, stack in enumerate(tracks.windows)], genres)
    one, other = (fit_logistic(part, 2, 1.0) for part in (tracks, repeated))
    torch.testing.assert_close(voted(one, tracks), voted(other, tracks), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("labels", "present"), [(3, [0, 2]), (4, [1, 2, 3]), (2, [1])])
def test_a_genre_without_training_tracks_is_never_predicted(labels, present):
    tracks = representations(np.array(present * 4))
    answers = voted(fit_logistic(tracks, labels, 1.0), tracks).argmax(-1)
    assert set(answers.tolist()) <= set(present)
    assert (answers.numpy() == tracks.targets).mean() > 0.7


def test_class_weights_favour_their_genre():
    tracks = representations(np.array([0, 1] * 6))
    even, uneven = (fit_logistic(tracks, 2, 0.01, class_weights=one) for one in (None, [1.0, 20.0]))
    assert voted(uneven, tracks)[:, 1].mean() > voted(even, tracks)[:, 1].mean()


def test_several_genres_per_track_have_one_regression_each():
    targets = np.array([[0, 1, 1], [1, 0, 1], [0, 1, 1], [1, 0, 1]] * 2, dtype=np.float32)
    tracks = representations(targets)
    answers = voted(fit_logistic(tracks, 3, 1.0), tracks).sigmoid().numpy()
    np.testing.assert_array_equal(answers[:, :2] > 0.5, targets[:, :2] > 0.5)
    assert (answers[:, 2] > 0.99).all()  # all tracks have it


def test_an_artist_is_in_one_fold():
    targets = np.array([0, 1] * 12)
    artists = [f"artist {row // 4}" for row in range(24)]
    folds = probe._folds(targets, artists, 3, seed=0)
    assert len(folds) == 3
    for rows, held_out in folds:
        assert not {artists[row] for row in rows} & {artists[row] for row in held_out}
    assert probe._folds(np.arange(4), list("abcd"), 3, seed=0) == []


def test_artists_of_a_manifest_make_the_folds(encoder, tmp_path):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=8, seconds=1.0)
    names = sorted(path.relative_to(music) for path in music.rglob("*.wav"))
    rows = [f"{name},{name.parent},{name.parent} {index // 2}" for index, name in enumerate(names)]
    (music / "tracks.csv").write_text("\n".join(["path,label,artist", *rows]))
    settings = settings_of(encoder, music / "tracks.csv", tmp_path, split_policy="grouped", split_ratios="3:1")
    folder = probed(tmp_path, settings)
    assert yaml.safe_load((folder / "run.yaml").read_text())["training"]["folds_by"] == "artist"
    answers = pipeline("audio-classification", model=str(folder))(np.zeros(16000, np.float32))
    assert {answer["label"] for answer in answers} == {"blues", "pop"}


def test_the_validation_side_can_choose(encoder, features, tmp_path):
    folder = probed(tmp_path, settings_of(encoder, features, tmp_path, probe_choice="validation"))
    results = json.loads((folder / "results.json").read_text())
    assert results["validation"]["accuracy"] > 0.5
    assert "cross_validation" not in yaml.safe_load((folder / "run.yaml").read_text())["training"]


def test_several_genres_per_track(encoder, tmp_path):
    music = write_music(tmp_path / "music", tracks=8, seconds=1.0)
    names = sorted(path.relative_to(music) for path in music.rglob("*.wav"))
    rows = [
        {"path": str(name), "genres": [name.parent.name, *["live"] * (index % 2)]} for index, name in enumerate(names)
    ]
    (music / "tracks.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = settings_of(encoder, music / "tracks.jsonl", tmp_path)
    settings["model"] = {"representation": "pooled", "problem_type": MULTI_LABEL}
    folder = probed(tmp_path, settings)
    assert json.loads((folder / "results.json").read_text())["metrics"]["macro_map"] > 0.4
    assert "macro_map" in yaml.safe_load((folder / "run.yaml").read_text())["training"]["cross_validation"]


def answers_of(folder: Path) -> dict[str, float]:
    return {
        row["track_id"]: row["probability"] for row in json.loads((folder / "results.json").read_text())["predictions"]
    }


SMALL_GRID = {"batch_size": [8], "learning_rate": [0.01], "dropout": [0.25], "l2": [0.0], "hidden_size": [0, 6]}


def test_the_best_head_of_a_grid_becomes_part_of_the_checkpoint(encoder, features, tmp_path):
    more = {"probe_head": "torch", "max_steps": 60, "early_stopping_patience": 4}
    folders = {}
    for hidden_size in (0, 6):
        grid = {**SMALL_GRID, "hidden_size": [hidden_size]}
        more["output_dir"] = str(tmp_path / f"run-{hidden_size}")
        folders[hidden_size] = probed(tmp_path, settings_of(encoder, features, tmp_path, probe_grid=grid, **more))
    for hidden_size, folder in folders.items():
        model, _ = load_checkpoint(str(folder))
        assert model.config.classifier_hidden_size == (hidden_size or None)
        evaluated = evaluate_checkpoint(str(folder), str(features)).predictions
        assert answers_of(folder) == pytest.approx(
            {row["track_id"]: row["probability"] for row in evaluated}, abs=1e-5
        )
        scores = pipeline("audio-classification", model=str(folder))(np.zeros(16000, np.float32))
        assert sum(answer["score"] for answer in scores) == pytest.approx(1, abs=1e-5)
    both = probed(
        tmp_path,
        settings_of(
            encoder, features, tmp_path, probe_grid=SMALL_GRID, **{**more, "output_dir": str(tmp_path / "both")}
        ),
    )
    record = yaml.safe_load((both / "run.yaml").read_text())["training"]
    assert (record["grid"], record["chosen_by"]) == (4, "validation")
    losses = json.loads((both / "results.json").read_text())["validation"]
    assert losses["accuracy"] == max(
        json.loads((folder / "results.json").read_text())["validation"]["accuracy"] for folder in folders.values()
    )
    assert "chosen among 4" in (both / "README.md").read_text()


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> Path:
    return write_music(tmp_path_factory.mktemp("sounds") / "music", tracks=4, seconds=1.0)


def encoder_settings(kind: str, music: Path, tmp_path: Path, *, hidden_layer: int | str = "all", **more) -> dict:
    settings = settings_of(tmp_path, music, tmp_path, **more)
    del settings["model_name_or_path"]
    write = write_musicgen if kind == "musicgen" else partial(write_encoder, kind=kind)
    pretrained = tmp_path / kind if (tmp_path / kind).exists() else write(tmp_path / kind)
    return {
        **settings,
        "model_type": "hfmgc-calm" if kind == "musicgen" else "hfmgc-audio-encoder",
        "pretrained_backbone": str(pretrained),
        "model": {"hidden_layer": hidden_layer},
        "front_end": {"window_seconds": 0.1 if kind == "musicgen" else 0.25},
    }


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper", "musicgen"])
def test_a_layer_of_an_encoder_is_chosen_in_one_pass_over_the_audio(kind, music, tmp_path):
    settings = encoder_settings(kind, music, tmp_path, probe_choice="validation", license="mit")
    folder = probed(tmp_path, settings)
    record = yaml.safe_load((folder / "run.yaml").read_text())["training"]
    model, _ = load_checkpoint(str(folder))
    assert model.config.hidden_layer == record["hidden_layer"] in (1, 2)
    assert model.classifier.in_features == model.model.embedding_size
    assert len(list((tmp_path / "store").rglob("windows.bin"))) == 2, "one for each side, with all layers"
    evaluated = evaluate_checkpoint(str(folder), str(music)).predictions  # all tracks
    evaluated = {row["track_id"]: row["probability"] for row in evaluated}
    assert {name: evaluated[name] for name in answers_of(folder)} == pytest.approx(answers_of(folder), abs=1e-5)
    assert f"`{kind}`" in (folder / "README.md").read_text(), "the card names the encoder"

    alone = {**settings, "model": {"hidden_layer": record["hidden_layer"]}, "output_dir": str(tmp_path / "alone")}
    other, _ = load_checkpoint(str(probed(tmp_path, alone)))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, atol=1e-4, rtol=1e-4)


def test_an_encoder_that_no_audio_enters_is_refused_before_the_data_are_read(music, tmp_path):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=20, **sizes)).save_pretrained(tmp_path / "bert")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "bert")
    settings = encoder_settings("bert", tmp_path / "none", tmp_path)
    assert "backbone_config.model_type 'bert'" in error_of(tmp_path, settings)
    settings = encoder_settings("wav2vec2", music, tmp_path, hidden_layer=9)
    assert "hidden_layer" in error_of(tmp_path, settings)


@pytest.mark.parametrize("head", ["logistic", "torch"])
def test_two_songs_of_each_genre_are_enough_and_the_report_says_how_little_they_are(head, encoder, tmp_path):
    music = write_music(tmp_path / "music", tracks=2, seconds=1.0)
    more = {"probe_head": head, "probe_grid": SMALL_GRID if head == "torch" else {}, "max_steps": 16}
    folder = probed(tmp_path, settings_of(encoder, music, tmp_path, split_ratios="4:1", **more))
    notes = " ".join(json.loads((folder / "results.json").read_text())["notes"])
    assert ("too few training tracks for a cross-validation" if head == "logistic" else "the 3 tracks of") in notes
    assert ("optimistic" in notes) == (head == "torch")
    assert "the smallest genre has 1 training track:" in notes


def test_the_settings_of_a_training_are_refused(encoder, features, tmp_path):
    for field, value in (("freeze_backbone", False), ("reuse_frozen_prefix", False), ("adapter", "lora")):
        assert field in error_of(tmp_path, settings_of(encoder, features, tmp_path, **{field: value}))
    for augmentation in ("fresh", "offline"):
        settings = settings_of(encoder, features, tmp_path, augmentation=augmentation)
        assert "augmentation" in error_of(tmp_path, settings)
    assert "probe_grid" in error_of(tmp_path, settings_of(encoder, features, tmp_path, probe_grid=SMALL_GRID))
    assert "probe_strengths" in error_of(tmp_path, settings_of(encoder, features, tmp_path, probe_strengths=[0.0]))


def test_a_checkpoint_that_lacks_the_configs_fields_is_refused_by_its_architecture(encoder, features, tmp_path):
    settings = settings_of(encoder, features, tmp_path, model_type="hfmgc-lgnet")
    settings["model"] = {"num_experts": 2}
    assert "'hfmgc-musicnn', but model_type is" in error_of(tmp_path, settings)


def test_an_undefined_metric_chooses_no_head():
    sides = SimpleNamespace(
        task=MULTI_LABEL_TASK, metric="macro_roc_auc", config=MusiCNNConfig(problem_type=MULTI_LABEL)
    )
    tracks = representations(np.ones((2, 2), dtype=np.float32))
    with pytest.raises(DataError, match="metric_for_best_model macro_roc_auc"):
        probe._Sides.score(sides, tracks, [torch.zeros(1, 2), torch.zeros(2, 2)])


def test_a_head_of_several_layers_is_refused(features, tmp_path):
    settings = classifier_settings(features, tmp_path / "out", prefix_store=str(tmp_path / "store"))
    assert "probe_head" in error_of(tmp_path, settings)


def test_one_genre_and_a_folder_without_audio_are_refused(encoder, tmp_path):
    one = write_music(tmp_path / "one", ("blues",), seconds=1.0)
    assert "one genre only" in error_of(tmp_path, settings_of(encoder, one, tmp_path))
    (tmp_path / "none" / "blues").mkdir(parents=True)
    assert "none" in error_of(tmp_path, settings_of(encoder, tmp_path / "none", tmp_path))


def test_an_unknown_packaged_checkpoint_is_refused(features, tmp_path):
    assert "package:mds" in error_of(tmp_path, settings_of("package:mds", features, tmp_path))


def test_a_packaged_checkpoint_is_named_without_a_path():
    model, _ = load_checkpoint("package:msd")
    other, _ = load_checkpoint(str(default_checkpoint("msd")))
    assert torch.equal(model.classifier.weight, other.classifier.weight)


def test_lora_on_the_convolutions_is_merged_and_batch_norm_stays(encoder, features, tmp_path):
    settings = settings_of(encoder, features, tmp_path, adapter="lora", adapter_targets=["conv"], augmentation="none")
    settings |= {"num_train_epochs": 2, "learning_rate": 0.01}
    result = run_here(TRAIN_CLASSIFIER, write_config(tmp_path / "run.yaml", settings))
    assert result.returncode == 0, result.stderr[-3000:]
    folder = Path(settings["output_dir"])
    evaluated = {row["track_id"]: row for row in evaluate_checkpoint(str(folder), str(features)).predictions}
    for row in json.loads((folder / "results.json").read_text())["predictions"]:
        assert row["probability"] == pytest.approx(evaluated[row["track_id"]]["probability"], abs=1e-4)
    before, after = (load_checkpoint(str(one))[0].model.state_dict() for one in (encoder, folder))
    moved = {name.rpartition(".")[2] for name in after if not torch.equal(before[name], after[name])}
    assert moved == {"weight"}
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
