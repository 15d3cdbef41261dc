"""Figures of a report against the same counted by hand."""

import numpy as np
import pytest

from hfmgc.evaluation.metrics import (
    accuracy_interval,
    genre_metrics,
    one_vs_rest_accuracy,
    per_genre_table,
)


def answers(seed: int = 0, tracks: int = 200, labels: int = 5, right: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    references = generator.integers(0, labels, tracks)
    guesses = generator.integers(0, labels, tracks)
    return np.where(generator.random(tracks) < right, references, guesses), references


def counted(predictions, references, label: int) -> dict[str, int]:
    counts = {"tp": 0, "tn": 0, "fp": 0, "fn": 0}
    for prediction, reference in zip(predictions, references, strict=True):
        if prediction == label:
            counts["tp" if reference == label else "fp"] += 1
        else:
            counts["fn" if reference == label else "tn"] += 1
    return counts


def test_one_vs_rest_accuracy_is_the_papers_equation_10():
    predictions, references = answers()
    expected = []
    for label in range(5):
        c = counted(predictions, references, label)
        expected.append((c["tp"] + c["tn"]) / (c["tp"] + c["tn"] + c["fp"] + c["fn"]))
    np.testing.assert_allclose(one_vs_rest_accuracy(predictions, references, 5), expected)
    metrics = genre_metrics(predictions, references, 5)
    assert metrics["ovr_accuracy"] == pytest.approx(np.mean(expected))


def test_macro_figures_are_means_over_the_genres():
    predictions, references = answers(1)
    precision, recall, f1 = [], [], []
    for label in range(5):
        c = counted(predictions, references, label)
        p, r = c["tp"] / (c["tp"] + c["fp"]), c["tp"] / (c["tp"] + c["fn"])
        precision.append(p)
        recall.append(r)
        f1.append(2 * p * r / (p + r))
    metrics = genre_metrics(predictions, references, 5)
    assert metrics == pytest.approx(
        {
            "accuracy": np.mean(predictions == references),
            "macro_precision": np.mean(precision),
            "macro_recall": np.mean(recall),
            "macro_f1": np.mean(f1),
            "ovr_accuracy": metrics["ovr_accuracy"],
        }
    )
    assert all(type(value) is float for value in metrics.values())


def test_the_papers_90_percent_are_61_percent_top_1():
    # 8 balanced genres: each wrong answer is one false positive and one false negative, so ovr = 1 - 2 (1 - top-1) / 8.
    references = np.repeat(np.arange(8), 1000)
    predictions = references.copy()
    for label in range(8):
        wrong = label * 1000 + np.arange(391)
        predictions[wrong] = (references[wrong] + 1 + np.arange(391) % 7) % 8
    metrics = genre_metrics(predictions, references, 8)
    assert metrics["accuracy"] == pytest.approx(0.609)
    assert metrics["ovr_accuracy"] == pytest.approx(0.9023, abs=1e-4)


def test_genres_without_tracks_do_not_lower_the_macro_figures():
    metrics = genre_metrics([0, 1, 1, 0], [0, 1, 1, 0], 4)
    assert metrics["macro_f1"] == metrics["macro_recall"] == metrics["accuracy"] == 1
    assert metrics["ovr_accuracy"] == 1


def test_ovr_accuracy_is_a_mean_over_the_genres_that_occur_as_the_macro_figures_are():
    few, many = (genre_metrics([0, 0, 1, 1], [0, 1, 0, 1], labels) for labels in (2, 40))
    assert few == many
    assert few["ovr_accuracy"] == 0.5


def test_an_answer_of_an_absent_genre_is_wrong_and_no_error():
    metrics = genre_metrics([3, 3], [0, 1], 4)
    assert metrics == {
        "accuracy": 0, "macro_precision": 0, "macro_recall": 0, "macro_f1": 0, "ovr_accuracy": pytest.approx(0.5)
    }  # fmt: skip


def test_the_table_has_a_row_for_each_genre_in_their_order():
    predictions, references = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 2, 0])
    table = per_genre_table(predictions, references, ["blues", "metal", "pop", "rock"])
    assert [row["genre"] for row in table] == ["blues", "metal", "pop", "rock"]
    assert [row["tracks"] for row in table] == [2, 2, 1, 0]
    assert table[0] == pytest.approx(
        {"genre": "blues", "tracks": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5, "ovr_accuracy": 0.6}
    )
    assert table[3] == {"genre": "rock", "tracks": 0, "precision": 0, "recall": 0, "f1": 0, "ovr_accuracy": 1}


def test_the_numbers_of_tracks_are_whole_where_nothing_is_right():
    assert [row["tracks"] for row in per_genre_table([1, 0], [0, 1], ["jazz", "rock"])] == [1, 1]
    assert all(isinstance(row["tracks"], int) for row in per_genre_table([1, 0], [0, 1], ["jazz", "rock"]))


def test_the_interval_is_near_the_normal_approximation():
    correct = np.arange(400) < 340
    low, high, _ = accuracy_interval(correct, np.ones(400))
    half = 1.96 * np.sqrt(0.85 * 0.15 / 400)
    assert low == pytest.approx(0.85 - half, abs=0.006)
    assert high == pytest.approx(0.85 + half, abs=0.006)
    assert isinstance(low, float)


def test_the_interval_narrows_with_more_tracks_and_is_the_same_every_time():
    few, many = answers(2, tracks=50), answers(2, tracks=1000)
    width = lambda interval: interval[1] - interval[0]  # noqa: E731
    assert width(accuracy_interval(*many)) < width(accuracy_interval(*few)) / 3
    state = np.random.get_state()[1].copy()
    sets = [answers(seed, tracks=200) for seed in range(3)]
    assert [accuracy_interval(*item) for item in sets] == [accuracy_interval(*item) for item in sets]
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_answers_that_are_all_alike_do_not_make_a_model_infallible():
    """Each resample of 20 right answers is right; the exact interval begins at 0.025 ** (1 / 20)."""
    low, high, method = accuracy_interval([1] * 20, [1] * 20)
    assert (low, high) == (pytest.approx(0.025 ** (1 / 20)), 1)
    assert "binomial" in method
    assert accuracy_interval([0] * 20, [1] * 20)[:2] == pytest.approx((0, 1 - low))
    assert "bootstrap" in accuracy_interval([0, 1], [1, 1]).method


def test_tracks_labelled_minus_100_are_left_out():
    predictions, references = answers()
    expected = genre_metrics(predictions[20:], references[20:], 5)
    references[:20] = -100
    assert genre_metrics(predictions, references, 5) == expected
