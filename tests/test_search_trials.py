"""Trials that end badly do not end the search: diverged, out of memory, failed, pruned, taken by another worker."""

import json
from pathlib import Path

import pytest
import torch
from optuna.trial import TrialState
from searches import before_each_model, load, refusal, search_here, search_settings, table

from hfmgc.training.search.trial import INDEX
from recipes import write_features


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    return write_features(tmp_path_factory.mktemp("data") / "features.parquet")


def test_a_trial_that_diverges_is_recorded_and_the_search_continues(features, tmp_path):
    space = {"learning_rate": {"choices": [0.02, 1e30]}, "weight_decay": {"low": 0.0, "high": 0.1}}
    result = search_here(tmp_path, search_settings(features, tmp_path / "out", space=space))
    assert result.returncode == 0, result.stderr
    rows = table(tmp_path / "out")
    ends = {float(row["learning_rate"]): row["outcome"] for row in rows}
    assert ends[1e30] == "diverged"
    assert ends[0.02] in ("complete", "pruned")
    assert len(rows) == 4
    diverged = [row for row in rows if row["outcome"] == "diverged"]
    assert all("loss" in row["reason"] and "nan" in row["reason"] for row in diverged)
    record = json.loads((tmp_path / "out" / "search.json").read_text())
    assert record["trials"]["diverged"] == len(diverged)


def test_trials_without_memory_or_with_another_error_do_not_stop_the_search(features, tmp_path, monkeypatch):
    errors = [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("something else"),
    ]

    def fail():
        if errors:
            raise errors.pop(0)

    before_each_model(monkeypatch, fail)
    result = search_here(
        tmp_path, search_settings(features, tmp_path / "out", num_train_epochs=1, search={"trials": 6})
    )
    assert result.returncode == 0, result.stderr
    outcomes = [row["outcome"] for row in table(tmp_path / "out")]
    assert outcomes[:4] == [*["out of memory"] * 3, "failed"]
    assert len(outcomes) == 6
    assert set(outcomes[4:]) <= {"complete", "pruned"}


def test_a_recipe_that_fails_in_every_trial_stops_with_the_reason_and_resumes(features, tmp_path, monkeypatch):
    def fail():
        raise RuntimeError("the weights are elsewhere")

    settings = search_settings(features, tmp_path / "out", num_train_epochs=1, search={"trials": 4})
    with monkeypatch.context() as patched:
        before_each_model(patched, fail)
        assert "the weights are elsewhere" in refusal(search_here(tmp_path, settings))
        assert len(load(tmp_path / "out").trials) == 3
        assert all(row["reason"] == "the weights are elsewhere" for row in table(tmp_path / "out"))
    assert search_here(tmp_path, settings).returncode == 0
    assert [row["outcome"] for row in table(tmp_path / "out")] == ["failed", "failed", "failed", "complete"]


def test_a_storage_that_is_lost_during_a_trial_is_one_line(features, tmp_path, monkeypatch):
    before_each_model(monkeypatch, (tmp_path / "out" / "study.db").unlink)
    assert "search.storage" in refusal(search_here(tmp_path, search_settings(features, tmp_path / "out")))


def test_without_a_complete_trial_the_table_gives_the_reasons(features, tmp_path):
    space = {"learning_rate": {"low": 1e30, "high": 1e31, "log": True}}
    settings = search_settings(features, tmp_path / "out", space=space, search={"trials": 2})
    assert "trials.csv" in refusal(search_here(tmp_path, settings))
    assert {row["outcome"] for row in table(tmp_path / "out")} == {"diverged"}
    assert not (tmp_path / "out" / "best.yaml").exists()


def test_hopeless_trials_are_pruned(features, tmp_path):
    space = {"learning_rate": {"choices": [0.02, 1e-7]}, "weight_decay": {"low": 0.0, "high": 0.1}}
    settings = search_settings(features, tmp_path / "out", space=space, metric_for_best_model="loss")
    result = search_here(tmp_path, settings)
    assert result.returncode == 0, result.stderr
    pruned = [trial for trial in load(tmp_path / "out").trials if trial.state == TrialState.PRUNED]
    assert pruned
    assert all(len(trial.intermediate_values) < 3 for trial in pruned)


def test_a_trial_that_another_worker_failed_meanwhile_is_dropped_and_repeated(features, tmp_path, monkeypatch):
    """As after a laptop's sleep, when other workers took this one for killed."""
    before_each_model(
        monkeypatch, lambda: load(tmp_path / "out").tell(0, state=TrialState.FAIL, skip_if_finished=True)
    )
    settings = search_settings(features, tmp_path / "out", num_train_epochs=1, search={"trials": 2})
    result = search_here(tmp_path, settings)
    assert result.returncode == 0, result.stderr
    assert "search.grace_period" in result.stdout
    trials = load(tmp_path / "out").trials
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    (repeated,) = [trial for trial in trials[1:] if trial.user_attrs[INDEX] == 0]
    assert repeated.params == trials[0].params
