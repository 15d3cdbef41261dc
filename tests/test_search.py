"""recipes/search_ast.py: from the space to the best config, on one worker and on several, stopped, killed and gone on with."""

import contextlib
import csv
import io
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import optuna
import pytest
import torch
import yaml
from conftest import write_music
from optuna.trial import TrialState
from test_train_classifier import settings_for, write_features

from hfmgc.training.search import trial as trial_module
from hfmgc.training.search.slots import SURPLUS, origin, outcome
from recipes import ROOT, python, tiny_settings, torchrun, unsteady_launches, write_config


SEARCH_AST = ROOT / "recipes" / "search_ast.py"
TRAIN_CLASSIFIER = ROOT / "recipes" / "train_classifier.py"
SPACE = {
    "learning_rate": {"low": 1e-4, "high": 0.1, "log": True},
    "per_device_train_batch_size": {"choices": [2, 4]},
    "weight_decay": {"low": 0.0, "high": 0.15},
    "model.expert_hidden_size": {"choices": [4, 8]},
}
SECTION = {
    "trials": 6,
    "startup_trials": 3,
    "pruner_startup_trials": 1,
    "pruner_warmup": 0,
    "heartbeat_interval": 1,
    "grace_period": 3,
    "final_seeds": [0, 1],
}


def search_settings(data: Path, output_dir: Path, *, space: dict | None = None, **more) -> dict:
    """A search over a tiny LGNet; `search` among the rest changes entries of the section."""
    section = {**SECTION, **more.pop("search", {}), "space": space or SPACE}
    return settings_for(data, output_dir, search=section, **more)


def run_here(script: Path, config: Path, *overrides: str | Path) -> subprocess.CompletedProcess:
    """Run a recipe within this process."""
    argv = [str(script), str(config), *map(str, overrides)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", argv),
        mock.patch.object(sys, "path", [str(script.parent), *sys.path]),
    ):
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as exit_:
            code = exit_.code or 0
            if isinstance(code, str):
                print(code, file=err)
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


def search_here(tmp_path: Path, settings: dict, *overrides: str | Path) -> subprocess.CompletedProcess:
    return run_here(SEARCH_AST, write_config(tmp_path / "search.yaml", settings), *overrides)


def refusal(result: subprocess.CompletedProcess) -> str:
    """The one line of a refused command."""
    assert result.returncode == 1, result.stdout
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line


def load(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="search", storage=f"sqlite:///{folder / 'study.db'}")


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    return write_features(tmp_path_factory.mktemp("data") / "features.parquet")


@pytest.fixture(scope="module")
def finished(features, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """A finished search of six trials."""
    place = tmp_path_factory.mktemp("finished")
    result = search_here(place, search_settings(features, place / "out"))
    assert result.returncode == 0, result.stderr
    return place / "out", result


# Results


def test_a_search_leaves_table_best_config_plots_and_record(finished):
    folder, result = finished
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {
        *("best.yaml", "trials.csv", "search.json", "study.db", "history.png", "slice.png", "importances.png")
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.glob("*.png"))
    rows = table(folder)
    assert [row["trial"] for row in rows] == list("012345")
    assert {row["outcome"] for row in rows} <= {"complete", "pruned"}
    assert {row["seed"] for row in rows} == {"42"}
    record = json.loads((folder / "search.json").read_text())
    best = max((row for row in rows if row["outcome"] == "complete"), key=lambda row: float(row["value"]))
    assert record["best"]["value"] == pytest.approx(float(best["value"]))
    assert record["space"] == {path: {**given} for path, given in SPACE.items()}
    assert record["trials"]["wanted"] == 6
    assert record["sampler"]["seed"] == 0
    assert record["versions"]["optuna"] == optuna.__version__
    assert record["data"]["split"].startswith("sha256:")
    assert set(record["importances"]) == set(SPACE)
    assert str(folder.parent) not in (folder / "search.json").read_text()
    assert "6 trials: " in result.stdout
    assert not list(folder.glob("checkpoint-*")), "trials keep no checkpoints"


def test_the_table_is_what_the_study_holds_and_all_trials_differ(finished):
    folder, _ = finished
    study = load(folder)
    assert study.user_attrs["hfmgc"]["objective"] == {"metric": "accuracy", "of": "best evaluation"}
    drawn = {json.dumps(trial.params, sort_keys=True) for trial in study.trials}
    assert len(drawn) == 6
    for row, trial in zip(table(folder), study.trials, strict=True):
        assert float(row["learning_rate"]) == trial.params["learning_rate"]
        assert float(row["value"]) == trial.value
        assert trial.value == max(trial.intermediate_values.values()) or trial.state == TrialState.PRUNED


def test_the_recipe_takes_the_best_config_as_it_is(finished):
    folder, _ = finished
    result = run_here(TRAIN_CLASSIFIER, folder / "best.yaml")
    assert result.returncode == 0, result.stderr
    record = yaml.safe_load((folder / "best" / "run.yaml").read_text())
    chosen = json.loads((folder / "search.json").read_text())["best"]["settings"]
    assert record["settings"]["RunArguments"]["learning_rate"] == chosen["learning_rate"]
    assert record["settings"]["ModelArguments"]["model"]["expert_hidden_size"] == chosen["model.expert_hidden_size"]
    # The same seed and data: the run is what the trial was.
    assert (
        record["training"]["best_validation_accuracy"]
        == json.loads((folder / "search.json").read_text())["best"]["value"]
    )


def test_a_plain_run_passes_over_the_section(features, tmp_path):
    config = write_config(tmp_path / "run.yaml", search_settings(features, tmp_path / "out", num_train_epochs=1))
    result = run_here(TRAIN_CLASSIFIER, config)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "results.json").exists()


def test_a_search_that_goes_on_draws_what_an_undisturbed_one_does(finished, features, tmp_path):
    whole, _ = finished
    settings = search_settings(features, tmp_path / "out")
    assert search_here(tmp_path, settings, "--search.trials", "4").returncode == 0
    first = [trial.params for trial in load(tmp_path / "out").trials]
    assert len(first) == 4
    result = search_here(tmp_path, settings)
    assert result.returncode == 0, result.stderr
    trials = load(tmp_path / "out").trials
    assert [trial.params for trial in trials[:4]] == first, "finished trials are not repeated"
    assert [(trial.params, trial.value) for trial in trials] == [
        (trial.params, trial.value) for trial in load(whole).trials
    ]
    again = search_here(tmp_path, settings)
    assert again.returncode == 0
    assert len(load(tmp_path / "out").trials) == 6, "a finished search trains nothing more"


# Refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"search": {"study_name": "search"}, "space": {**SPACE, "weight_decay": {"low": 0.0, "high": 0.3}}}, "high"),
        ({"space": {name: SPACE[name] for name in list(SPACE)[:3]}}, "space > model.expert_hidden_size"),
        ({"num_train_epochs": 4}, "recipe > num_train_epochs: 3 there, 4 here"),
        ({"split_seed": 1}, "data > split"),
        ({"search": {"trial_seeds": "own"}}, 'trial seeds: "same" there, "own" here'),
    ],
)
def test_a_study_of_another_search_is_refused_with_what_differs(finished, features, tmp_path, change, message):
    folder, _ = finished
    before = len(load(folder).trials)
    line = refusal(search_here(tmp_path, search_settings(features, folder, **change)))
    assert "is of another search" in line
    assert message in line
    assert "search.study_name" in line
    assert len(load(folder).trials) == before


def test_another_name_begins_another_study_in_the_same_storage(features, tmp_path):
    settings = search_settings(features, tmp_path / "out", num_train_epochs=1)
    assert search_here(tmp_path, settings, "--search.trials", "1").returncode == 0
    more = ("--search.trials", "1", "--search.study_name", "other", "--weight_decay", "0.1")
    assert search_here(tmp_path, settings, *more).returncode == 0
    names = optuna.get_all_study_names(f"sqlite:///{tmp_path / 'out' / 'study.db'}")
    assert sorted(names) == ["other", "search"]


@pytest.mark.parametrize(
    "url",
    ["sqlite:////no/such/folder/study.db", "postgresql://me:secret@localhost:1/none", "nonsense"],
)
def test_a_storage_that_cannot_be_reached_is_one_line_without_its_password(features, tmp_path, url):
    line = refusal(search_here(tmp_path, search_settings(features, tmp_path / "out", search={"storage": url})))
    assert "search.storage" in line
    assert "cannot be reached" in line
    assert "secret" not in line


def test_a_database_of_something_else_is_refused(features, tmp_path):
    (tmp_path / "study.db").write_bytes(b"this is no database, and it is long enough to be looked at" * 20)
    storage = {"storage": f"sqlite:///{tmp_path / 'study.db'}"}
    line = refusal(search_here(tmp_path, search_settings(features, tmp_path / "out", search=storage)))
    assert "not a database" in line


def test_a_folder_with_a_run_is_refused(features, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.json").write_text("{}")
    assert "holds a run" in refusal(search_here(tmp_path, search_settings(features, tmp_path / "out")))


# Trials that come to a bad end


def test_a_trial_that_diverges_is_pruned_and_the_search_goes_on(features, tmp_path):
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


def test_a_recipe_that_fails_in_every_trial_stops_with_the_reason_and_then_goes_on(features, tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("the weights are elsewhere")

    settings = search_settings(features, tmp_path / "out", num_train_epochs=1)
    with monkeypatch.context() as patched:
        patched.setattr(trial_module, "build_model", broken)
        line = refusal(search_here(tmp_path, settings))
        assert "the last 3 trials failed" in line
        assert "the weights are elsewhere" in line
        assert len(load(tmp_path / "out").trials) == 3
    assert search_here(tmp_path, settings).returncode == 0
    assert [row["outcome"] for row in table(tmp_path / "out")].count("failed") == 3


def test_where_no_trial_comes_to_its_end_the_table_says_why(features, tmp_path):
    space = {"learning_rate": {"low": 1e30, "high": 1e31, "log": True}}
    line = refusal(search_here(tmp_path, search_settings(features, tmp_path / "out", space=space)))
    assert "no trial came to its end" in line
    assert {row["outcome"] for row in table(tmp_path / "out")} == {"diverged"}
    assert not (tmp_path / "out" / "best.yaml").exists()


def test_hopeless_trials_are_pruned(features, tmp_path):
    space = {"learning_rate": {"choices": [0.02, 1e-7]}, "weight_decay": {"low": 0.0, "high": 0.1}}
    settings = search_settings(features, tmp_path / "out", space=space, num_train_epochs=8, search={"trials": 8})
    result = search_here(tmp_path, settings)
    assert result.returncode == 0, result.stderr
    pruned = [trial for trial in load(tmp_path / "out").trials if trial.state == TrialState.PRUNED]
    assert pruned
    assert all(len(trial.intermediate_values) < 8 for trial in pruned)
    without = search_here(tmp_path, settings, "--output_dir", tmp_path / "whole", "--search.pruner", "none")
    assert without.returncode == 0
    assert {trial.state for trial in load(tmp_path / "whole").trials} == {TrialState.COMPLETE}


def test_a_trial_that_was_given_away_meanwhile_is_dropped_and_found_again(features, tmp_path, monkeypatch):
    """As after a laptop's sleep: other workers took this one for dead, and the trial for theirs."""
    build, taken = trial_module.build_model, []

    def build_while_others_look(*arguments):
        if not taken:
            taken.append(load(tmp_path / "out").tell(0, state=TrialState.FAIL))
        return build(*arguments)

    monkeypatch.setattr(trial_module, "build_model", build_while_others_look)
    settings = search_settings(features, tmp_path / "out", num_train_epochs=1, search={"trials": 2})
    result = search_here(tmp_path, settings)
    assert result.returncode == 0, result.stderr
    assert "trial 0: no sign of life" in result.stdout
    trials = load(tmp_path / "out").trials
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    (again,) = [trial for trial in trials[1:] if origin(trial) == 0]
    assert again.params == trials[0].params


# Data and seeds


def test_data_are_prepared_once_for_all_trials_unless_a_trial_wants_others(features, tmp_path, monkeypatch):
    prepare, calls = trial_module.prepare_data, []

    def counted(arguments, run, extractor):
        calls.append((arguments.time_crop, run.seed))
        return prepare(arguments, run, extractor)

    monkeypatch.setattr(trial_module, "prepare_data", counted)
    settings = search_settings(features, tmp_path / "out", num_train_epochs=1, search={"trial_seeds": "own"})
    assert search_here(tmp_path, settings).returncode == 0
    assert calls == [(1.0, 42)]
    assert [row["seed"] for row in table(tmp_path / "out")] == ["42", "43", "44", "45", "46", "47"]
    calls.clear()
    space = {**SPACE, "time_crop": {"choices": [0.5, 0.75]}}
    settings = search_settings(features, tmp_path / "cropped", space=space, num_train_epochs=1)
    assert search_here(tmp_path, settings).returncode == 0
    assert {crop for crop, _ in calls} >= {0.5, 0.75}
    assert {seed for _, seed in calls} == {42}


def test_trials_on_the_frozen_prefix_find_what_whole_ones_find(tmp_path):
    music = write_music(tmp_path / "music", tracks=4, seconds=2.0)
    space = {
        "learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
        "adapter_min_layer": {"choices": [0, 1]},
        "adapter_rank": {"choices": [1, 2]},
        "adapter_alpha": {"low": 0.1, "high": 10.0, "log": True, "times": "adapter_rank"},
        "model.head_hidden_size": {"choices": [8, 16]},
    }
    found = {}
    for reuse in (True, False):
        settings = tiny_settings(
            music,
            tmp_path / f"reuse_{reuse}",
            adapter="dora",
            training_windows="fixed",
            reuse_frozen_prefix=reuse,
            prefix_store=str(tmp_path / "store"),
            metric_for_best_model="loss",
            search={**SECTION, "trials": 4, "pruner": "none", "space": space},
        )
        result = search_here(tmp_path, settings)
        assert result.returncode == 0, result.stderr
        found[reuse] = load(tmp_path / f"reuse_{reuse}")
    assert found[True].direction == optuna.study.StudyDirection.MINIMIZE
    for reused, whole in zip(found[True].trials[:3], found[False].trials[:3], strict=True):  # drawn at random
        assert reused.params == whole.params
        assert reused.value == pytest.approx(whole.value, abs=1e-4)
    best = yaml.safe_load((tmp_path / "reuse_True" / "best.yaml").read_text())
    trial = found[True].best_trial
    assert best["adapter_alpha"] == pytest.approx(trial.params["adapter_alpha / adapter_rank"] * best["adapter_rank"])


# Several workers


def start(config: Path, *overrides: str | Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, SEARCH_AST, config, *map(str, overrides)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_a_trial(folder: Path, process: subprocess.Popen) -> optuna.trial.FrozenTrial:
    """Wait until a worker is in the middle of a trial, and return the trial."""
    while process.poll() is None:
        with contextlib.suppress(Exception):  # not there yet
            for trial in load(folder).get_trials(states=(TrialState.RUNNING,)):
                if trial.user_attrs.get("worker", "").endswith(f":{process.pid}") and trial.intermediate_values:
                    return trial
        time.sleep(0.05)
    raise AssertionError(process.communicate())


@unsteady_launches
@pytest.mark.launches
def test_two_workers_started_at_once_finish_the_trials_between_them(features, tmp_path):
    # Nobody is killed here: a worker that a busy machine lets wait must not be taken for dead.
    section = {"trials": 12, "grace_period": 600}
    settings = search_settings(features, tmp_path / "out", num_train_epochs=10, search=section)
    config = write_config(tmp_path / "search.yaml", settings)
    workers = [start(config), start(config)]
    for worker in workers:
        _, errors = worker.communicate()
        assert worker.returncode == 0, errors
    trials = [trial for trial in load(tmp_path / "out").trials if outcome(trial) != SURPLUS]
    assert len(trials) == 12
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert len({json.dumps(trial.params, sort_keys=True) for trial in trials}) == 12
    assert len({trial.user_attrs["worker"] for trial in trials}) == 2
    assert len(table(tmp_path / "out")) == 12


@unsteady_launches
@pytest.mark.launches
def test_a_killed_workers_trial_is_failed_and_begun_again_by_the_other(features, tmp_path):
    settings = search_settings(
        features, tmp_path / "out", num_train_epochs=40, search={"trials": 4, "pruner": "none", "grace_period": 8}
    )
    config = write_config(tmp_path / "search.yaml", settings)
    killed, other = start(config), start(config)
    trial = wait_for_a_trial(tmp_path / "out", killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    _, errors = other.communicate()
    assert other.returncode == 0, errors
    trials = load(tmp_path / "out").trials
    assert outcome(trials[trial.number]) == "interrupted"
    assert trials[trial.number].state == TrialState.FAIL
    (again,) = [one for one in trials if origin(one) == trial.number and one.number != trial.number]
    assert (again.state, again.params) == (TrialState.COMPLETE, trial.params)
    whole = [one for one in trials if one.state == TrialState.COMPLETE]
    assert len(whole) == 4
    assert len({origin(one) for one in whole}) == 4
    rows = {row["trial"]: row for row in table(tmp_path / "out")}
    assert rows[str(trial.number)]["outcome"] == "interrupted"
    assert rows[str(again.number)]["attempt_of"] == str(trial.number)


@unsteady_launches
@pytest.mark.launches
def test_a_worker_that_is_stopped_by_hand_leaves_its_trial_in_the_queue(features, tmp_path):
    settings = search_settings(
        features,
        tmp_path / "out",
        num_train_epochs=40,
        search={"trials": 2, "heartbeat_interval": 60, "grace_period": 600},
    )
    config = write_config(tmp_path / "search.yaml", settings)
    worker = start(config)
    trial = wait_for_a_trial(tmp_path / "out", worker)
    worker.send_signal(signal.SIGINT)
    _, errors = worker.communicate()
    assert errors.strip().splitlines()[-1] == "stopped; the same command goes on"
    (stopped, queued) = load(tmp_path / "out").trials[trial.number :]
    assert (outcome(stopped), queued.state) == ("interrupted", TrialState.WAITING)
    result = run_here(SEARCH_AST, config)  # without waiting for the grace period
    assert result.returncode == 0, result.stderr
    trials = load(tmp_path / "out").trials
    assert trials[queued.number].params == trial.params
    assert len([one for one in trials if one.state in (TrialState.COMPLETE, TrialState.PRUNED)]) == 2


# Final fit


def test_the_best_config_is_trained_with_each_seed_and_judged_together(finished, features, tmp_path):
    folder, _ = finished
    config = write_config(tmp_path / "search.yaml", search_settings(features, folder))
    result = run_here(SEARCH_AST, config, "--search.final_fit")
    assert result.returncode == 0, result.stderr
    final = json.loads((folder / "final.json").read_text())
    runs = [json.loads((folder / "final" / f"seed_{seed}" / "results.json").read_text()) for seed in (0, 1)]
    accuracies = [run["metrics"]["accuracy"] for run in runs]
    assert final["metrics"]["accuracy"]["mean"] == pytest.approx(sum(accuracies) / 2)
    assert [run["metrics"]["accuracy_interval"] for run in final["runs"]] == [
        run["metrics"]["accuracy_interval"] for run in runs
    ]
    assert {run["split"]["digest"] for run in runs} == {final["split"]["digest"]}
    chosen = json.loads((folder / "search.json").read_text())["best"]["settings"]
    for seed in (0, 1):
        record = yaml.safe_load((folder / "final" / f"seed_{seed}" / "run.yaml").read_text())
        assert record["seed"] == seed
        assert record["settings"]["RunArguments"]["learning_rate"] == chosen["learning_rate"]
        assert (folder / "final" / f"seed_{seed}" / "model.safetensors").exists()
    assert "interval over seeds" in result.stdout

    again = run_here(SEARCH_AST, config, "--search.final_fit")
    assert again.stdout.count("finished earlier") == 2
    assert json.loads((folder / "final.json").read_text()) == final


@unsteady_launches
@pytest.mark.launches
def test_several_processes_make_the_final_fit_of_a_finished_search(features, tmp_path):
    settings = search_settings(features, tmp_path / "out", num_train_epochs=1, search={"trials": 1})
    config = write_config(tmp_path / "search.yaml", settings)
    assert run_here(SEARCH_AST, config).returncode == 0
    result = torchrun(2, SEARCH_AST, config, "--search.final_fit", "--use_cpu", "--ddp_backend", "gloo")
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads((tmp_path / "out" / "final.json").read_text())["seeds"] == [0, 1]
    for seed in (0, 1):
        record = yaml.safe_load((tmp_path / "out" / "final" / f"seed_{seed}" / "run.yaml").read_text())
        assert record["training"]["world_size"] == 2


def test_without_optuna_the_command_says_how_to_get_it(tmp_path):
    code = "import runpy, sys; sys.modules['optuna'] = None; sys.argv[1:] = []; runpy.run_path(sys.argv[0])"
    result = python(
        "-c", f"import sys; sys.argv[0] = {str(SEARCH_AST)!r}; sys.path.insert(0, {str(SEARCH_AST.parent)!r}); {code}"
    )
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1] == 'error: a search needs Optuna: pip install -e ".[search]"'
