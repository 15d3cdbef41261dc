"""Several workers on one study, killed and stopped; several processes where they are of use and where not."""

import json
import signal
from pathlib import Path

import pytest
import yaml
from forked import distribute
from optuna.trial import TrialState
from searches import load, search_settings, table

from hfmgc.training.search.queue import DUPLICATE, INDEX, outcome
from recipes import SEARCH, Hold, run_here, write_config, write_features


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    return write_features(tmp_path_factory.mktemp("data") / "features.parquet")


def held_trial(folder: Path, process):
    """The trial that a worker stands still in."""
    (trial,) = [
        trial
        for trial in load(folder).get_trials(states=(TrialState.RUNNING,))
        if trial.user_attrs["worker"].endswith(f":{process.pid}")
    ]
    return trial


@pytest.mark.launches
def test_two_workers_started_at_once_finish_the_trials_between_them(features, tmp_path):
    # No worker is killed here: on a busy machine none must be taken for killed.
    settings = search_settings(features, tmp_path / "out", search={"trials": 8, "grace_period": 600})
    config = write_config(tmp_path / "search.yaml", settings)
    hold = Hold(tmp_path, "on_evaluate")
    workers = [hold.start(SEARCH, config), hold.start(SEARCH, config)]
    for worker in workers:
        hold.wait_for(worker)
    assert held_trial(tmp_path / "out", workers[0]).params != held_trial(tmp_path / "out", workers[1]).params
    hold.release()
    for worker in workers:
        _, errors = worker.communicate()
        assert worker.returncode == 0, errors
    trials = [trial for trial in load(tmp_path / "out").trials if outcome(trial) != DUPLICATE]
    assert len(trials) == 8
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert len({json.dumps(trial.params, sort_keys=True) for trial in trials}) == 8
    assert len({trial.user_attrs["worker"] for trial in trials}) == 2
    assert len(table(tmp_path / "out")) == 8


@pytest.mark.launches
def test_a_killed_workers_trial_is_failed_and_repeated_by_the_other(features, tmp_path):
    settings = search_settings(features, tmp_path / "out", search={"trials": 4, "pruner": "none"})
    config = write_config(tmp_path / "search.yaml", settings)
    hold = Hold(tmp_path, "on_evaluate")
    killed, other = hold.start(SEARCH, config), hold.start(SEARCH, config)
    for worker in (killed, other):
        hold.wait_for(worker)
    trial = held_trial(tmp_path / "out", killed)
    killed.kill()
    killed.communicate()
    hold.release()
    _, errors = other.communicate()
    assert other.returncode == 0, errors
    trials = load(tmp_path / "out").trials
    assert outcome(trials[trial.number]) == "interrupted"
    assert trials[trial.number].state == TrialState.FAIL
    (again,) = [
        one for one in trials if one.user_attrs.get(INDEX) == trial.user_attrs[INDEX] and one.number != trial.number
    ]
    assert (again.state, again.params) == (TrialState.COMPLETE, trial.params)
    whole = [one for one in trials if one.state == TrialState.COMPLETE]
    assert len(whole) == 4
    assert {one.user_attrs[INDEX] for one in whole} == {0, 1, 2, 3}
    rows = {row["trial"]: row for row in table(tmp_path / "out")}
    assert rows[str(trial.number)]["outcome"] == "interrupted"
    assert rows[str(again.number)]["attempt_of"] == str(trial.number)


@pytest.mark.launches
def test_the_trial_of_a_worker_stopped_with_ctrl_c_is_repeated_at_once(features, tmp_path):
    section = {"trials": 2, "heartbeat_interval": 60, "grace_period": 600}
    config = write_config(tmp_path / "search.yaml", search_settings(features, tmp_path / "out", search=section))
    hold = Hold(tmp_path, "on_evaluate")
    worker = hold.start(SEARCH, config)
    hold.wait_for(worker)
    trial = held_trial(tmp_path / "out", worker)
    worker.send_signal(signal.SIGINT)
    _, errors = worker.communicate()
    assert errors.strip().splitlines()[-1].startswith("stopped; ")
    (stopped,) = load(tmp_path / "out").trials
    assert outcome(stopped) == "interrupted"
    result = run_here(SEARCH, config)  # without waiting for the grace period
    assert result.returncode == 0, result.stderr
    trials = load(tmp_path / "out").trials
    assert trials[1].params == trial.params
    assert len([one for one in trials if one.state in (TrialState.COMPLETE, TrialState.PRUNED)]) == 2


@pytest.mark.launches
def test_several_processes_make_the_final_fit_of_a_finished_search_and_no_trials(features, tmp_path):
    settings = search_settings(features, tmp_path / "out", num_train_epochs=1, search={"trials": 1})
    config = write_config(tmp_path / "search.yaml", settings)
    several = (SEARCH, config, "--search.final_fit", "--use_cpu", "--ddp_backend", "gloo")
    early = distribute(2, *several)
    assert early.returncode != 0
    assert "error: each trial is trained by one process: start the command once for each device" in early.stderr
    assert load(tmp_path / "out").trials == []
    assert run_here(SEARCH, config).returncode == 0
    result = distribute(2, *several)
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads((tmp_path / "out" / "final.json").read_text())["seeds"] == [0, 1]
    for seed in (0, 1):
        record = yaml.safe_load((tmp_path / "out" / "final" / f"seed_{seed}" / "run.yaml").read_text())
        assert record["training"]["world_size"] == 2
