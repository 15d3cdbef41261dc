"""Several workers on one study, one killed and one stopped; several processes of one run."""

import json
import signal
from pathlib import Path

import pytest
import yaml
from forked import distribute
from optuna.trial import TrialState
from searches import load, search_settings, table

from hfmgc.training.search.trial import INDEX, Outcome
from recipes import SEARCH, Hold, run_here, write_config, write_features


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    return write_features(tmp_path_factory.mktemp("data") / "features.parquet")


def held_trial(folder: Path, process):
    """The trial that a worker is held in."""
    (trial,) = [
        trial
        for trial in load(folder).get_trials(states=(TrialState.RUNNING,))
        if trial.user_attrs["worker"].endswith(f":{process.pid}")
    ]
    return trial


@pytest.mark.launches
def test_workers_share_a_study_and_one_repeats_the_trials_of_a_killed_and_of_a_stopped_one(features, tmp_path):
    settings = search_settings(features, tmp_path / "out", num_train_epochs=1, search={"trials": 3, "pruner": "none"})
    config = write_config(tmp_path / "search.yaml", settings)
    hold = Hold(tmp_path, "on_evaluate")
    workers = killed, stopped, other = [hold.start(SEARCH, config) for _ in range(3)]
    for worker in workers:
        hold.wait_for(worker)
    held = [held_trial(tmp_path / "out", worker) for worker in workers]
    assert len({json.dumps(trial.params, sort_keys=True) for trial in held}) == 3
    killed.kill()
    stopped.send_signal(signal.SIGINT)
    killed.communicate()
    _, errors = stopped.communicate()
    assert stopped.returncode == 130
    assert errors.strip().splitlines()[-1].startswith("stopped; ")
    hold.release()
    _, errors = other.communicate()
    assert other.returncode == 0, errors

    trials = load(tmp_path / "out").trials
    rows = {row["trial"]: row for row in table(tmp_path / "out")}
    for trial in held[:2]:
        assert (trials[trial.number].state, Outcome.of(trials[trial.number])) == (TrialState.FAIL, "interrupted")
        (repeated,) = [
            one
            for one in trials
            if one.user_attrs.get(INDEX) == trial.user_attrs[INDEX] and one.state == TrialState.COMPLETE
        ]
        assert repeated.params == trial.params
        assert rows[str(trial.number)]["outcome"] == "interrupted"
        assert rows[str(repeated.number)]["attempt_of"] == str(trial.number)
    whole = [one.user_attrs[INDEX] for one in trials if one.state == TrialState.COMPLETE]
    assert sorted(whole) == [0, 1, 2]


@pytest.mark.launches
def test_several_processes_make_the_final_fit_of_a_finished_search(features, tmp_path):
    settings = search_settings(features, tmp_path / "out", num_train_epochs=1, search={"trials": 1})
    config = write_config(tmp_path / "search.yaml", settings)
    assert run_here(SEARCH, config).returncode == 0
    result = distribute(2, SEARCH, config, "--search.final_fit", "--use_cpu", "--ddp_backend", "gloo")
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads((tmp_path / "out" / "final.json").read_text())["seeds"] == [0, 1]
    for seed in (0, 1):
        record = yaml.safe_load((tmp_path / "out" / "final" / f"seed_{seed}" / "run.yaml").read_text())
        assert record["training"]["world_size"] == 2
