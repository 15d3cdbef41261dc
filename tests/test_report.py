"""The report: one object, as JSON, as text and as a picture."""

import errno
import json
from dataclasses import replace
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
from transformers.trainer_utils import PredictionOutput

from hfmgc.data.features import TrackWindows
from hfmgc.evaluation.plots import (
    plot_average_precision,
    plot_counts,
    plot_training_curve,
)
from hfmgc.evaluation.predictions import TrackPredictions, predict_tracks
from hfmgc.evaluation.report import EvaluationReport
from hfmgc.evaluation.task import SINGLE_LABEL


GENRES = ["blues", "Türkü", "pop"]


def predictions() -> TrackPredictions:
    """Four tracks, three right; of their seven windows five are right."""
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.4, 0.3], [0.2, 0.2, 0.6]])
    blues, folk, pop = np.eye(3)
    return TrackPredictions(
        track_ids=["blues/a.wav", "Türkü/ü.wav", "pop/c.wav", "pop/d.wav"],
        references=np.array([0, 1, 2, 2]),
        logits=np.log(probabilities),
        window_logits=[np.stack([blues, blues, pop]), np.stack([folk]), np.stack([folk]), np.stack([pop, pop])],
    )


def report(**more) -> EvaluationReport:
    fields = {
        "checkpoint": "runs-demo",
        "data": {"name": "folder", "location": "music", "synthetic": False},
        "side": "test",
    }
    return EvaluationReport.from_predictions(predictions(), GENRES, SINGLE_LABEL, **{**fields, **more})


def test_figures_are_those_of_the_predictions():
    made = report()
    assert (made.tracks, made.windows) == (4, 7)
    assert made.metrics["accuracy"] == 0.75
    assert made.metrics["window_accuracy"] == pytest.approx(5 / 7)
    # Each of the two wrong windows is a wrong decision for two of the three genres.
    assert made.metrics["window_ovr_accuracy"] == pytest.approx(1 - 2 * 2 / (3 * 7))
    assert made.confusion_matrix == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    assert [row["recall"] for row in made.per_genre] == [1, 1, 0.5]
    low, high = made.metrics["accuracy_interval"]
    assert low <= 0.75 <= high


def test_every_track_is_listed_with_its_answer_and_probability():
    assert report().predictions[2] == {
        "track_id": "pop/c.wav",
        "genre": "pop",
        "predicted": "Türkü",
        "probability": 0.4,
    }


def test_the_dictionary_is_plain_json_and_leaves_out_what_is_unknown():
    content = report().to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert "split" not in content
    assert "validation" not in content
    assert report(split={"seed": 1}, validation={"accuracy": 0.5}).to_dict()["split"] == {"seed": 1}
    assert content["hfmgc_version"]


def test_the_text_has_every_genre_and_both_accuracies():
    text = report().to_text()
    assert text.startswith("folder (music), side: test, 4 tracks in 7 windows")
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line}
    assert lines["blues"][1:] == ["1", "1.000", "1.000", "1.000", "1.000"]
    assert lines["pop"][1:4] == ["2", "1.000", "0.500"]
    figures = {line.split("  ")[0]: line.split("  ")[1:] for line in text.splitlines()}
    assert figures["Accuracy of tracks"][-2].strip() == "0.750"
    assert figures["Accuracy of tracks"][-1].startswith("(95 % interval")
    assert figures["Accuracy of single windows"][-1].strip() == "0.714"
    assert figures["One-vs-rest accuracy of single windows, mean of genres"] == ["0.810"]
    assert "without tracks" not in text
    assert "skipped" not in text


def test_the_text_counts_the_genres_that_the_means_leave_out():
    made = EvaluationReport.from_predictions(
        replace(predictions(), references=np.array([0, 1, 1, 1])),
        GENRES,
        SINGLE_LABEL,
        checkpoint="runs-demo",
        data={"name": "folder", "location": "music"},
        side="test",
    )
    text = made.to_text()
    assert "means of genres: 1 of 3" in text
    (pop,) = [line.split() for line in text.splitlines() if line.startswith("pop")]
    assert pop == ["pop", "0", "n/a", "n/a", "n/a", "n/a"]


def test_synthetic_data_are_called_so():
    data = {"name": "synthetic", "location": "2 tracks", "synthetic": True}
    assert report(data=data).to_text().startswith("synthetic (2 tracks, synthetic), ")


def test_skipped_tracks_and_notes_are_listed():
    skipped = [{"track_id": f"pop/{number}.wav", "reason": "silent"} for number in range(23)]
    made = report(skipped=skipped, notes=["too good to be true"])
    text = made.to_text()
    assert "skipped: pop/19.wav: silent" in text
    assert "pop/20.wav" not in text
    assert "skipped: 3 more, all listed in the JSON report" in text
    assert "note: too good to be true" in text
    assert made.to_dict()["skipped"] == skipped


def test_a_report_is_written_as_two_json_files_and_a_picture(tmp_path):
    made = report()
    paths = made.save(tmp_path)
    assert sorted(path.name for path in paths) == [
        "confusion_matrix.json",
        "confusion_matrix.png",
        "results.json",
    ]
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == made.to_dict()
    matrix = json.loads((tmp_path / "confusion_matrix.json").read_text(encoding="utf-8"))
    assert matrix == {"genres": GENRES, "counts": made.confusion_matrix, "rows": "true genre", "columns": "predicted"}
    assert "Türkü" in (tmp_path / "results.json").read_text(encoding="utf-8")


def test_a_picture_that_cannot_be_written_leaves_the_earlier_one(tmp_path, monkeypatch):
    def full_disk(figure, path, **options):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full_disk)
    (tmp_path / "confusion_matrix.png").write_bytes(b"earlier")
    with pytest.raises(OSError, match="No space left"):
        report().save(tmp_path)
    assert (tmp_path / "confusion_matrix.png").read_bytes() == b"earlier"
    assert list(tmp_path.glob("*.tmp")) == []


@pytest.mark.parametrize("labels", [1, 2, 16])
def test_the_picture_is_a_png_of_some_size_for_any_number_of_genres(tmp_path, labels):
    from matplotlib.image import imread

    path = tmp_path / "matrix.png"
    counts = np.zeros((labels, labels), dtype=int)
    counts[0, 0] = 3
    plot_counts(counts, [f"genre {i}" for i in range(labels)], path, title="accuracy")
    picture = imread(path)
    assert min(picture.shape[:2]) > 400
    assert picture[..., :3].std() > 0.01


NAMES = ["blues\nand\r\nrhythm", "a genre with a name of many words, as some catalogues have them " * 2, "$\\frac$"]


def test_names_with_line_breaks_and_of_any_length_leave_the_table_whole():
    made = EvaluationReport.from_predictions(
        replace(predictions(), track_ids=["a\nb", "c", "d", "e"]),
        NAMES,
        SINGLE_LABEL,
        checkpoint="runs-demo",
        data={"name": "folder", "location": "mu\nsic"},
        side="test",
        skipped=[{"track_id": "x\ny", "reason": "is\nbroken"}],
        notes=["one\ntwo"],
    )
    lines = made.to_text().splitlines()
    assert lines[0] == "folder (mu sic), side: test, 4 tracks in 7 windows"
    table = lines[2:6]
    assert len({len(line) for line in table}) == 1
    assert [line.split("  ")[0] for line in table[1:4]] == [" ".join(name.split()) for name in NAMES]
    assert lines[-2:] == ["skipped: x y: is broken", "note: one two"]


@pytest.mark.parametrize("draw", ["matrix", "experts", "average precision"])
def test_the_picture_of_long_names_is_cut_nowhere(tmp_path, draw):
    from matplotlib.image import imread

    sizes = {}
    for names in (["x", "y", "z"], NAMES):
        path, title = tmp_path / "picture.png", " ".join(names)
        if draw == "average precision":
            rows = [{"genre": name, "tracks": 3, "average_precision": 0.9} for name in names]
            plot_average_precision(rows, 9, path, title=title)
        else:
            columns = names if draw == "matrix" else ["0", "1", "2"]
            plot_counts(np.eye(3, dtype=int) * 5, names, path, title=title, columns=columns)
        picture = imread(path)[..., :3]
        edges = (picture[0], picture[-1], picture[:, 0], picture[:, -1])
        assert all((edge > 0.99).all() for edge in edges)
        coloured = picture.max(axis=-1) - picture.min(axis=-1) > 0.3
        sizes[names[0]] = int(coloured.any(axis=0).sum()), int(coloured.any(axis=1).sum())
    assert sizes[NAMES[0]] == pytest.approx(sizes["x"], abs=2)  # the labels take no room from what is drawn


def test_every_picture_names_the_model_and_the_data(tmp_path, monkeypatch):
    titles = []
    for module in ("task", "report"):
        name = f"hfmgc.evaluation.{module}.plot_counts"
        monkeypatch.setattr(name, lambda *args, title, **more: titles.append(title))
    replace(report(model_type="hfmgc-lgnet"), expert_usage=[[1], [2], [3]]).save(tmp_path)
    assert [title.startswith("runs-demo (hfmgc-lgnet) on folder, test: ") for title in titles] == [True, True]


def test_rows_without_tracks_are_marked_and_the_colours_explained(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("hfmgc.evaluation.plots._save", lambda figure, path: figures.append(figure))
    plot_counts([[3, 1], [0, 0]], ["x", "y"], tmp_path / "matrix.png", title="t")
    (matrix,) = figures[0].axes
    (bar,) = matrix.child_axes
    assert bar.get_ylabel() == "share of the true genre's tracks"
    assert [(text.get_text(), text.get_position()[1]) for text in matrix.texts] == [
        ("3", 0),
        ("1", 0),
        ("no tracks", 1),
    ]


def test_the_training_curve_shows_losses_measure_and_the_best_checkpoint(tmp_path, monkeypatch):
    figures = []
    history = [
        {"epoch": 0.5, "loss": 2.0},
        {"epoch": 1.0, "loss": 1.5},
        {"epoch": 1.0, "eval_loss": 1.4, "eval_accuracy": 0.5},
        {"epoch": 2.0, "eval_loss": 1.6, "eval_accuracy": 0.25},
        {"epoch": 2.0, "train_loss": 1.2},
    ]
    with monkeypatch.context() as patch:
        patch.setattr("hfmgc.evaluation.plots._save", lambda figure, path: figures.append(figure))
        plot_training_curve(history, tmp_path / "c.png", measure="accuracy", best=0.5, title="m on d")
    losses, measure = figures[0].axes
    drawn = {line.get_label(): line.get_xydata().tolist() for axes in (losses, measure) for line in axes.lines}
    assert drawn == {
        "train loss": [[0.5, 2.0], [1.0, 1.5]],
        "validation loss": [[1.0, 1.4], [2.0, 1.6]],
        "validation accuracy": [[1.0, 0.5], [2.0, 0.25]],
        "best checkpoint": [[1.0, 0.5]],
    }
    assert losses.get_title() + measure.get_title() == "m on d"
    plot_training_curve([], tmp_path / "empty.png", measure="loss", best=None, title="m on d")
    assert (tmp_path / "empty.png").read_bytes().startswith(b"\x89PNG")


def routed(log_probabilities, routing):
    """A Trainer's answers, of a model with three experts, filled up as the Trainer does."""
    windows = np.zeros((len(routing), max(map(len, routing)), 3))
    filled = np.full(windows.shape[:2], -100)
    for row, experts in enumerate(routing):
        filled[row, : len(experts)] = experts
    return PredictionOutput(
        predictions=(log_probabilities, windows, filled), label_ids=np.array([0, 1, 1]), metrics={}
    )


def test_which_expert_answered_is_counted_by_genre_and_drawn(tmp_path):
    routing = [[0, 0, 2], [2], [1, 2]]
    tracks = datasets.Dataset.from_dict(
        {"track_id": ["a", "b", "c"], "features": [[[[0.0]]] * len(experts) for experts in routing]},
    ).cast_column("features", datasets.LargeList(datasets.List(datasets.List(datasets.Value("float32")))))
    trainer = SimpleNamespace(
        predict=lambda *args, **kwargs: routed(np.log(np.full((3, 3), 1 / 3)), routing),
        model=SimpleNamespace(config=SimpleNamespace(num_experts=3)),
    )
    found = predict_tracks(trainer, TrackWindows(tracks, SimpleNamespace(window_shape=(1, 1))))
    assert found.expert_usage.tolist() == [[2, 0, 1], [0, 1, 2], [0, 0, 0]]
    made = EvaluationReport.from_predictions(
        found, GENRES, SINGLE_LABEL, checkpoint="c", data={"name": "folder", "location": "music"}, side="test"
    )
    assert "0.33, 0.17, 0.50" in made.to_text()
    assert tmp_path / "expert_usage.png" in made.save(tmp_path)
    assert (tmp_path / "expert_usage.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "results.json").read_text())["expert_usage"][1] == [0, 1, 2]


def test_without_experts_nothing_is_said_of_them(tmp_path):
    made = report()
    assert "expert" not in made.to_text()
    assert not (tmp_path / "expert_usage.png").exists()
    made.save(tmp_path)
    assert "expert_usage" not in json.loads((tmp_path / "results.json").read_text())
