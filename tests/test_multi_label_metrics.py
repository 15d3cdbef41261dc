"""Figures of several genres a track: by hand, and what is said where a figure is not defined."""

import json

import numpy as np
import pytest
from scipy.special import logit
from transformers import EvalPrediction

from hfmgc.errors import ConfigError, DataError
from hfmgc.evaluation.metrics import bootstrap_interval
from hfmgc.evaluation.multi_label_metrics import map_interval, multi_label_metrics, multi_label_table
from hfmgc.evaluation.predictions import TrackPredictions
from hfmgc.evaluation.report import EvaluationReport
from hfmgc.evaluation.task import MULTI_LABEL, SINGLE_LABEL, task_of


# Four tracks, three genres; the second genre is ranked perfectly, the first has a wrong track before its second one.
REFERENCES = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]])
PROBABILITIES = np.array([[0.9, 0.1, 0.2], [0.8, 0.7, 0.3], [0.6, 0.9, 0.1], [0.2, 0.2, 0.6]])
GENRES = ["rock", "folk", "noise"]


def test_figures_are_those_computed_by_hand():
    metrics = multi_label_metrics(PROBABILITIES, REFERENCES)
    # rock: hits at ranks 1 and 3 -> (1/1 + 2/3) / 2 = 5/6; folk 1; noise has no track.
    assert metrics["macro_map"] == pytest.approx((5 / 6 + 1) / 2)
    # All twelve decisions by probability: .9 hit (rock), .9 hit (folk), .8 miss, .7 hit, .6 and .6: one hit, one miss.
    assert metrics["micro_map"] == pytest.approx((2 / 2 * 2 + 3 / 4 + 4 / 6) / 4)
    # rock: of 2 x 2 pairs of a track with it and one without, three are in order.
    assert metrics["macro_roc_auc"] == pytest.approx((3 / 4 + 1) / 2)
    # Named from 0.5 on: rock 3 (2 right), folk 2 (2 right), noise 1 (0 right).
    assert metrics["macro_f1"] == pytest.approx((2 * (2 / 3) * 1 / (2 / 3 + 1) + 1) / 2)
    assert metrics["micro_f1"] == pytest.approx(2 * 4 / (2 * 4 + 2 + 0))
    assert metrics["exact_match"] == 0.5
    assert all(type(value) is float for value in metrics.values())


def test_genres_without_tracks_or_with_all_are_counted_and_in_no_mean():
    everywhere = np.array([[1, 0, 0], [1, 1, 0]])
    probabilities = np.array([[0.9, 0.2, 0.1], [0.8, 0.7, 0.1]])
    metrics = multi_label_metrics(probabilities, everywhere)
    assert (metrics["macro_map"], metrics["macro_roc_auc"]) == (1, 1)
    table = multi_label_table(probabilities, everywhere, GENRES)
    assert [row["roc_auc"] for row in table] == [None, 1, None]
    text = MULTI_LABEL.excluded_genres(table)
    assert [int(word) for word in text.split() if word.isdigit()] == [1, 3, 2, 3]


def test_a_figure_that_is_not_defined_is_none_and_no_crash():
    metrics = multi_label_metrics(np.array([[0.9, 0.2]]), np.array([[1, 0]]))
    assert (metrics["macro_map"], metrics["macro_roc_auc"]) == (1, None)
    metrics = multi_label_metrics(np.array([[0.9, 0.2], [0.1, 0.1]]), np.zeros((2, 2)))
    assert [metrics[name] for name in ("macro_map", "micro_map", "macro_roc_auc", "macro_f1")] == [None] * 4
    assert metrics["exact_match"] == 0.5


def test_the_table_has_a_row_for_each_genre():
    table = multi_label_table(PROBABILITIES, REFERENCES, GENRES)
    assert table[0] == pytest.approx(
        {"genre": "rock", "tracks": 2, "average_precision": 5 / 6, "roc_auc": 0.75, "precision": 2 / 3, "recall": 1, "f1": 0.8}
    )  # fmt: skip
    assert table[2] == {
        "genre": "noise", "tracks": 0, "average_precision": None, "roc_auc": None, "precision": 0, "recall": 0, "f1": 0
    }  # fmt: skip


def drawn(tracks: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that know something of the references [tracks, 3]."""
    generator = np.random.default_rng(seed)
    references = (generator.random((tracks, 3)) < 0.4).astype(int)
    return 0.6 * generator.random((tracks, 3)) + 0.3 * references, references


def test_the_interval_holds_the_figure_narrows_and_repeats():
    few, many = drawn(30), drawn(300)
    (low, high, method), other = map_interval(*few), map_interval(*many)
    assert low < multi_label_metrics(*few)["macro_map"] < high
    assert other.high - other.low < (high - low) / 2
    assert map_interval(*few) == (low, high, method)
    assert "1,000 resamples" in method


@pytest.mark.parametrize("decimals", [1, 8])  # with and without tracks of equal probability
def test_each_resample_has_the_map_of_its_tracks(monkeypatch, decimals):
    probabilities, references = drawn(12)
    probabilities = probabilities.round(decimals)
    references[:, 2] = np.arange(12) == 0  # a genre that many resamples lack
    differences = []

    def compared(values, statistic, resamples, **options):
        for seed in range(50):
            rows = np.random.default_rng(seed).integers(12, size=12)
            expected = multi_label_metrics(probabilities[rows], references[rows])["macro_map"]
            differences.append(statistic(rows) - expected)
        return bootstrap_interval(values, statistic, 10, **options)

    monkeypatch.setattr("hfmgc.evaluation.multi_label_metrics.bootstrap_interval", compared)
    map_interval(probabilities, references)
    assert len(differences) == 50
    assert differences == pytest.approx([0] * 50, abs=1e-12)


def test_an_interval_that_says_nothing_is_called_so():
    perfect = np.eye(2)[[0, 1, 0, 1]]
    low, high, method = map_interval(perfect, perfect)
    assert (low, high) == (1, 1)
    assert "too few" in method
    assert map_interval(perfect[:1], perfect[:1]) is None


def report(references=REFERENCES, probabilities=PROBABILITIES, **more) -> EvaluationReport:
    return EvaluationReport.from_predictions(
        TrackPredictions(
            track_ids=[f"{i}.wav" for i in range(len(references))],
            references=references,
            logits=logit(probabilities),
            window_logits=[row[None] for row in logit(probabilities)],
        ),
        GENRES,
        MULTI_LABEL,
        checkpoint="runs-demo",
        data={"name": "manifest", "location": "tracks.csv"},
        side="test",
        **more,
    )


def test_the_report_is_plain_json_and_lists_the_genres_of_each_track():
    content = report().to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["problem_type"] == "multi_label_classification"
    assert "confusion_matrix" not in content
    assert content["predictions"][1] == {
        "track_id": "1.wav",
        "genres": ["folk"],
        "predicted": ["rock", "folk"],
        "probabilities": {"rock": 0.8, "folk": 0.7},
    }
    assert content["predictions"][3]["genres"] == []
    low, high = content["metrics"]["macro_map_interval"]
    assert low <= content["metrics"]["macro_map"] <= high


def test_the_text_says_what_is_left_out_and_a_single_track_is_no_crash():
    text = report().to_text()
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    assert lines["rock"] == ["2", "0.833", "0.750", "0.667", "1.000", "0.800"]
    assert lines["noise"] == ["0", "n/a", "n/a", "n/a", "n/a", "n/a"]
    (figure,) = [line for line in text.splitlines() if line.startswith("Average precision, mean of genres")]
    assert figure.split()[-7:-2] == [
        "0.917",
        "(95",
        "%",
        "interval",
        f"{report().metrics['macro_map_interval'][0]:.3f}",
    ]
    assert "means of genres: 1 of 3" in text
    single = report(REFERENCES[:1], PROBABILITIES[:1])
    assert "interval" not in single.to_text()
    assert single.to_dict()["metrics"]["macro_roc_auc"] is None


@pytest.mark.parametrize("number", [3, 161])
def test_the_report_is_written_with_a_picture_of_its_own(tmp_path, number):
    from matplotlib.image import imread

    from hfmgc.evaluation.plots import plot_average_precision

    paths = report().save(tmp_path)
    assert [path.name for path in paths] == ["results.json", "average_precision.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["average_precision.png", "results.json"]
    rows = [{"genre": f"genre {i}", "tracks": i, "average_precision": i / number or None} for i in range(number)]
    plot_average_precision(rows, number, tmp_path / "other.png", title="t")
    picture = imread(tmp_path / "other.png")
    assert min(picture.shape[:2]) > 400
    assert picture[..., :3].std() > 0.01


def test_the_problem_type_of_a_config_chooses_the_task_and_its_best_metric():
    assert task_of(None) is task_of("single_label_classification") is SINGLE_LABEL
    assert task_of("multi_label_classification") is MULTI_LABEL
    assert [task.best_metric("auto") for task in (SINGLE_LABEL, MULTI_LABEL)] == ["accuracy", "macro_map"]
    assert [MULTI_LABEL.best_metric(name) for name in (None, "eval_micro_f1", "loss")] == [
        None,
        "micro_f1",
        "loss",
    ]
    with pytest.raises(ConfigError, match="metric_for_best_model 'accuracy'"):
        MULTI_LABEL.best_metric("accuracy")


@pytest.mark.parametrize("task", [SINGLE_LABEL, MULTI_LABEL])
def test_validation_computes_every_metric_that_can_choose_the_checkpoint(task):
    references = REFERENCES if task is MULTI_LABEL else np.array([0, 1, 2, 2])
    metrics = task.validation_metrics(EvalPrediction((logit(PROBABILITIES),), references))
    assert {*metrics, "loss"} == set(task.best_metrics)


def test_a_best_metric_that_is_undefined_is_refused():
    prediction = EvalPrediction((logit(PROBABILITIES[:1]),), REFERENCES[:1])
    assert "macro_roc_auc" not in MULTI_LABEL.validation_metrics(prediction, best="macro_map")
    with pytest.raises(DataError, match="metric_for_best_model macro_roc_auc"):
        MULTI_LABEL.validation_metrics(prediction, best="macro_roc_auc")
