"""Trials that end badly do not end the search: diverged, out of memory, failed, pruned, taken by another worker."""

import json
from pathlib import Path

import pytest
import torch
from optuna.trial import TrialState
from searches import load, refusal, search_here, search_settings, table

from hfmgc.training.search import trial as trial_module
from hfmgc.training.search.queue import INDEX
from recipes import write_features


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    return write_features(tmp_path_factory.mktemp("data") / "features.parquet")


def test_a_trial_that_diverges_is_pruned_and_the_search_continues(features, tmp_path):
    space = {"learning_rate": {"choices": [0.02, 1e30]}, "weight_decay": {"low": 0.0, "high": 0.1}}
    result = search_here(tmp_path, search_settings(features, tmp_path / "out", space=space))
    assert result.returncode == 0, result.stderr
    rows = table(tmp_path / "out")
    ends = {float(row["learning_rate"]): row["outcome"] for row in rows}
    assert ends[1e30] == "diverged"
    assert ends[0.02] in ("complete", "pruned")
    assert len(rows) == 6
    diverged = [row for row in rows if row["outcome"] == "diverged"]
    assert all("loss" in row["reason"] and "nan" in row["reason"] for row in diverged)
    record = json.loads((tmp_path / "out" / "search.json").read_text())
    assert record["trials"]["diverged"] == len(diverged)
    assert f"{len(diverged)} diverged" in result.stdout


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (MemoryError(), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "out of memory"),
        (RuntimeError("something else"), "failed"),
    ],
)
def test_a_trial_without_memory_or_with_another_error_does_not_stop_the_search(
    features, tmp_path, monkeypatch, error, end
):
    build = trial_module.build_model

    def build_small_ones(arguments, genres, run):
        if run.per_device_train_batch_size == 4:
            raise error
        return build(arguments, genres, run)

    monkeypatch.setattr(trial_module, "build_model", build_small_ones)
    settings = search_settings(features, tmp_path / "out", num_train_epochs=1)
    result = search_here(tmp_path, settings)
    assert result.returncode == 0, result.stderr
    ends = [(row["per_device_train_batch_size"], row["outcome"]) for row in table(tmp_path / "out")]
    assert {outcome for size, outcome in ends if size == "4"} == {end}
    assert not {outcome for size, outcome in ends if size == "2"} & {"failed", "out of memory"}
    assert len(ends) == 6


def test_a_recipe_that_fails_in_every_trial_stops_with_the_reason_and_resumes(features, tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("the weights are elsewhere")

    settings = search_settings(features, tmp_path / "out", num_train_epochs=1)
    with monkeypatch.context() as patched:
        patched.setattr(trial_module, "build_model", broken)
        line = refusal(search_here(tmp_path, settings))
        assert "the last 3 trials failed" in line
        assert "the weights are elsewhere" in line
        assert len(load(tmp_path / "out").trials) == 3
        assert all(row["reason"] == "the weights are elsewhere" for row in table(tmp_path / "out"))
    assert search_here(tmp_path, settings).returncode == 0
    assert [row["outcome"] for row in table(tmp_path / "out")].count("failed") == 3


def test_a_storage_that_is_lost_during_a_trial_is_one_line(features, tmp_path, monkeypatch):
    build = trial_module.build_model

    def build_without_storage(*arguments):
        (tmp_path / "out" / "study.db").unlink()
        return build(*arguments)

    monkeypatch.setattr(trial_module, "build_model", build_without_storage)
    assert "cannot be reached" in refusal(search_here(tmp_path, search_settings(features, tmp_path / "out")))


def test_without_a_complete_trial_the_table_says_why(features, tmp_path):
    space = {"learning_rate": {"low": 1e30, "high": 1e31, "log": True}}
    line = refusal(search_here(tmp_path, search_settings(features, tmp_path / "out", space=space)))
    assert "trials.csv" in line
    assert {row["outcome"] for row in table(tmp_path / "out")} == {"diverged"}
    assert not (tmp_path / "out" / "best.yaml").exists()


def test_hopeless_trials_are_pruned(features, tmp_path):
    space = {"learning_rate": {"choices": [0.02, 1e-7]}, "weight_decay": {"low": 0.0, "high": 0.1}}
    settings = search_settings(features, tmp_path / "out", space=space, num_train_epochs=5, search={"trials": 8})
    result = search_here(tmp_path, settings)
    assert result.returncode == 0, result.stderr
    pruned = [trial for trial in load(tmp_path / "out").trials if trial.state == TrialState.PRUNED]
    assert pruned
    assert all(len(trial.intermediate_values) < 5 for trial in pruned)
    fewer = ("--search.trials", "2")
    without = search_here(tmp_path, settings, "--output_dir", tmp_path / "whole", "--search.pruner", "none", *fewer)
    assert without.returncode == 0
    assert {trial.state for trial in load(tmp_path / "whole").trials} == {TrialState.COMPLETE}


def test_a_trial_that_another_worker_failed_meanwhile_is_dropped_and_repeated(features, tmp_path, monkeypatch):
    """As after a laptop's sleep, when other workers took this one for killed."""
    build, taken = trial_module.build_model, []

    def build_while_others_look(*arguments):
        if not taken:
            taken.append(load(tmp_path / "out").tell(0, state=TrialState.FAIL))
        return build(*arguments)

    monkeypatch.setattr(trial_module, "build_model", build_while_others_look)
    settings = search_settings(features, tmp_path / "out", num_train_epochs=1, search={"trials": 2})
    result = search_here(tmp_path, settings)
    assert result.returncode == 0, result.stderr
    assert "search.grace_period" in result.stdout
    trials = load(tmp_path / "out").trials
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    (again,) = [trial for trial in trials[1:] if trial.user_attrs[INDEX] == 0]
    assert again.params == trials[0].params
