"""The recipe with several genres a track: from a manifest to the finished folder, `hfmgc evaluate` and the card."""

import json
from pathlib import Path

import pytest
import yaml
from conftest import write_music
from huggingface_hub import ModelCard

from hfmgc.cli import main
from hfmgc.data.split_manifest import SplitManifest
from hfmgc.errors import DataError
from hfmgc.evaluation.evaluate import evaluate_checkpoint
from recipes import finetune_here, tiny_settings, write_config


MULTI_LABEL = "multi_label_classification"


def settings_for(data: Path, output_dir: Path, **more) -> dict:
    settings = tiny_settings(data, output_dir, num_train_epochs=1, **more)
    settings["model"] = {**settings["model"], "problem_type": MULTI_LABEL}
    return settings


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> Path:
    """Twelve tracks of three genres, half of them `live` as well; `one.csv` has one genre for each."""
    folder = write_music(tmp_path_factory.mktemp("data") / "music", tracks=4, seconds=2.0)
    rows, single = [], ["path,label"]
    for path in sorted(folder.rglob("*.wav")):
        name, genre = str(path.relative_to(folder)), path.parent.name
        live = int(path.stem[-1]) % 2 == 0
        rows.append({"path": name, "genres": [genre, "live"] if live else [genre]})
        single.append(f"{name},{genre}")
    (folder / "tracks.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "one.csv").write_text("\n".join(single))
    return folder


@pytest.fixture(scope="module")
def finished(music, tmp_path_factory):
    place = tmp_path_factory.mktemp("finished")
    settings = settings_for(music / "tracks.jsonl", place / "out", augmentation="fresh")
    result = finetune_here(write_config(place / "run.yaml", settings))
    assert result.returncode == 0, result.stderr
    return place / "out", result


def test_the_run_learns_and_is_judged_genre_by_genre(finished):
    folder, result = finished
    config = json.loads((folder / "config.json").read_text())
    assert config["problem_type"] == MULTI_LABEL
    assert list(config["id2label"].values()) == ["blues", "live", "metal", "pop"]
    results = json.loads((folder / "results.json").read_text())
    assert results["problem_type"] == MULTI_LABEL
    assert results["tracks"] == 3
    assert set(results["metrics"]) >= {
        "macro_map",
        "micro_map",
        "macro_roc_auc",
        "macro_f1",
        "micro_f1",
        "exact_match",
    }
    truth = {row["track_id"]: row["genres"] for row in results["predictions"]}
    assert sorted(truth) == SplitManifest.load(folder / "split.json").sides["test"]
    assert all(("live" in genres) == (int(name[-5]) % 2 == 0) for name, genres in truth.items())
    assert {row["genre"]: row["tracks"] for row in results["per_genre"]}["pop"] == 1
    assert "divided by the first genre" in results["notes"][0]
    assert "Average precision, mean of genres" in result.stdout
    assert "average_precision.png" in result.stdout
    assert (folder / "average_precision.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "confusion_matrix.png").exists()


def test_the_checkpoint_is_chosen_by_the_mean_average_precision(finished):
    folder, _ = finished
    record = yaml.safe_load((folder / "run.yaml").read_text())
    results = json.loads((folder / "results.json").read_text())
    assert 0 < record["training"]["best_validation_macro_map"] <= 1
    assert results["validation"] == {"macro_map": record["training"]["best_validation_macro_map"]}


def test_the_card_shows_the_figures_and_the_picture_of_several_genres(finished):
    folder, _ = finished
    card = (folder / "README.md").read_text()
    results = json.loads((folder / "results.json").read_text())
    assert "the genres of a piece of music: any number of 4" in card
    assert "| Average precision, mean of genres | " in card
    assert "| Average precision, mean of genres, validation side | " in card
    assert "| Genre | Tracks | Average precision | ROC-AUC |" in card
    assert "](average_precision.png)" in card
    assert "Accuracy of tracks" not in card
    assert "confusion" not in card
    assert "one of its genres to every input" not in card
    values = {
        result.metric_type: result.metric_value for result in ModelCard.load(folder / "README.md").data.eval_results
    }
    assert values["average_precision"] == results["metrics"]["macro_map"]


def test_evaluate_repeats_the_result_of_the_run(finished, music, capsys):
    folder, _ = finished
    assert main(["evaluate", str(folder), "--data", str(music / "tracks.jsonl"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    recorded = json.loads((folder / "results.json").read_text())
    assert report["side"] == "test"
    assert report["metrics"] == recorded["metrics"]
    assert report["per_genre"] == recorded["per_genre"]


def test_predict_gives_each_genre_a_probability_of_its_own(finished, music, capsys):
    folder, _ = finished
    file = str(music / "pop" / "pop.000.wav")
    assert main(["predict", str(folder), file, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["predictions"].values()
    report = evaluate_checkpoint(str(folder), str(music / "tracks.jsonl"), side="all")
    recorded = {row["track_id"]: row["probabilities"] for row in report.predictions}["pop/pop.000.wav"]
    assert {item["label"]: item["score"] for item in row["genres"]}["pop"] == pytest.approx(recorded["pop"], abs=1e-5)
    assert sum(item["score"] for item in row["genres"]) != pytest.approx(1, abs=1e-3)


def test_data_of_the_other_kind_are_refused(finished, music, tiny_checkpoint):
    folder, _ = finished
    with pytest.raises(DataError, match=r"each of the 12 tracks has one genre.*column genres"):
        evaluate_checkpoint(str(folder), str(music / "one.csv"))
    with pytest.raises(DataError, match=r"6 of 12 tracks have several genres.*problem_type"):
        evaluate_checkpoint(str(tiny_checkpoint()), str(music / "tracks.jsonl"))


def test_genres_that_a_checkpoint_does_not_know_are_refused_when_they_are_second_too(finished, music):
    folder, _ = finished
    path = music / "unknown.csv"
    path.write_text("path,genres\npop/pop.000.wav,pop|polka\npop/pop.001.wav,pop\n")
    with pytest.raises(DataError, match=r"genres that checkpoint .* lacks: polka"):
        evaluate_checkpoint(str(folder), str(path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": "one.csv"}, "each of the 9 tracks has one genre"),
        (
            {"metric_for_best_model": "accuracy"},
            "metric_for_best_model 'accuracy' does not exist for models with several genres per track",
        ),
        ({"model.label_smoothing": "0.1"}, "label_smoothing must be 0 for problem_type multi_label_classification"),
        ({"model.problem_type": "single_label_classification"}, "of 9 tracks have several genres"),
        ({"metric_for_best_model": "macro_mpa"}, "metric_for_best_model 'macro_mpa'"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(music, tmp_path, change, said):
    config = write_config(tmp_path / "run.yaml", settings_for(music / "tracks.jsonl", tmp_path / "out"))
    if "data" in change:
        change = {"data": str(music / change["data"])}
    result = finetune_here(config, *(word for name, value in change.items() for word in (f"--{name}", value)))
    assert result.returncode == 1
    assert said in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("error: ")
