"""recipes/search.py with one worker: from the space to the best config and its final fit, refused or resumed."""

import json
import shutil
import sys
from pathlib import Path

import optuna
import pytest
import yaml
from conftest import write_music
from optuna.trial import TrialState
from searches import SECTION, SPACE, before_each_model, load, refusal, search_here, search_settings, table

from hfmgc import training
from hfmgc.training import preparation
from hfmgc.training.search import results as results_module
from hfmgc.training.search import trial as trial_module
from hfmgc.training.search import worker as worker_module
from hfmgc.training.search.study import SearchStorage
from recipes import SEARCH, TRAIN_CLASSIFIER, run_here, tiny_settings, write_config, write_features


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    return write_features(tmp_path_factory.mktemp("data") / "features.parquet")


@pytest.fixture(scope="module")
def finished(features, tmp_path_factory) -> Path:
    """A finished search of four trials."""
    folder = tmp_path_factory.mktemp("finished")
    result = search_here(folder, search_settings(features, folder / "out"))
    assert result.returncode == 0, result.stderr
    return folder / "out"


# Results


def test_a_search_leaves_table_best_config_plots_and_record(finished):
    assert {path.name for path in finished.iterdir() if not path.name.startswith(".")} == {
        *("best.yaml", "trials.csv", "search.json", "study.db", "history.png", "slice.png", "importances.png")
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in finished.glob("*.png"))
    rows = table(finished)
    assert [row["trial"] for row in rows] == list("0123")
    assert {row["outcome"] for row in rows} <= {"complete", "pruned"}
    assert {row["seed"] for row in rows} == {"42"}
    record = json.loads((finished / "search.json").read_text())
    best = max((row for row in rows if row["outcome"] == "complete"), key=lambda row: float(row["value"]))
    assert record["best"]["value"] == pytest.approx(float(best["value"]))
    assert record["search"]["space"] == SPACE
    assert record["trials"]["wanted"] == 4
    assert record["search"]["sampler_seed"] == 0
    assert record["versions"]["optuna"] == optuna.__version__
    assert record["data"]["split"].startswith("sha256:")
    assert set(record["importances"]) == set(SPACE)
    assert str(finished.parent) not in (finished / "search.json").read_text()
    assert not list(finished.glob("checkpoint-*")), "trials keep no checkpoints"


def test_the_table_is_what_the_study_holds_and_all_trials_differ(finished):
    study = load(finished)
    assert study.user_attrs["hfmgc"]["objective"] == {"metric": "accuracy", "of": "best evaluation"}
    drawn = {json.dumps(trial.params, sort_keys=True) for trial in study.trials}
    assert len(drawn) == 4
    for row, trial in zip(table(finished), study.trials, strict=True):
        assert float(row["learning_rate"]) == trial.params["learning_rate"]
        assert float(row["value"]) == trial.value
        assert trial.value == max(trial.intermediate_values.values()) or trial.state == TrialState.PRUNED


def test_the_recipe_takes_the_best_config_as_it_is(finished):
    result = run_here(TRAIN_CLASSIFIER, finished / "best.yaml")
    assert result.returncode == 0, result.stderr
    record = yaml.safe_load((finished / "best" / "run.yaml").read_text())
    chosen = json.loads((finished / "search.json").read_text())["best"]["settings"]
    assert record["settings"]["RunArguments"]["learning_rate"] == chosen["learning_rate"]
    assert record["settings"]["ModelArguments"]["model"]["expert_hidden_size"] == chosen["model.expert_hidden_size"]
    # The same seed and data: the run is what the trial was.
    assert (
        record["training"]["best_validation_accuracy"]
        == json.loads((finished / "search.json").read_text())["best"]["value"]
    )


def test_a_plain_run_ignores_the_section(features, tmp_path):
    config = write_config(tmp_path / "run.yaml", search_settings(features, tmp_path / "out", num_train_epochs=1))
    result = run_here(TRAIN_CLASSIFIER, config)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "results.json").exists()


def test_a_resumed_search_draws_what_an_uninterrupted_one_does(finished, features, tmp_path):
    settings = search_settings(features, tmp_path / "out")
    assert search_here(tmp_path, settings, "--search.trials", "3").returncode == 0
    assert len(load(tmp_path / "out").trials) == 3
    result = search_here(tmp_path, settings)
    assert result.returncode == 0, result.stderr
    assert [(trial.params, trial.value) for trial in load(tmp_path / "out").trials] == [
        (trial.params, trial.value) for trial in load(finished).trials
    ]
    assert search_here(tmp_path, settings).returncode == 0
    assert len(load(tmp_path / "out").trials) == 4, "a finished search trains nothing more"


# Refusals


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (
            {"space": {**SPACE, "weight_decay": {"low": 0.0, "high": 0.3}}},
            "search > space > weight_decay > high: 0.15",
        ),
        ({"num_train_epochs": 4}, "recipe > num_train_epochs: 3"),
        ({"split_seed": 1}, "data > split"),
        ({"search": {"trial_seeds": "own"}}, 'search > trial_seeds: "same"'),
        ({"search": {"pruner": "none"}}, 'search > pruner: "median"'),
        ({"search": {"sampler_seed": 9}}, "search > sampler_seed: 0"),
        ({"search": {"grace_period": 9}}, "search > grace_period: 3"),
    ],
)
def test_a_study_of_another_search_is_refused_with_the_differences(finished, features, tmp_path, change, difference):
    before = len(load(finished).trials)
    line = refusal(search_here(tmp_path, search_settings(features, finished, **change)))
    assert difference in line
    assert "search.study_name" in line
    assert len(load(finished).trials) == before


def test_a_search_prefers_what_a_run_prefers(features, tmp_path):
    more = {"greater_is_better": False, "search": {"trials": 1, "pruner": "none"}}
    result = search_here(tmp_path, search_settings(features, tmp_path / "out", **more))
    assert result.returncode == 0, result.stderr
    study = load(tmp_path / "out")
    assert study.direction.name == "MINIMIZE"
    assert study.best_value == min(study.best_trial.intermediate_values.values())


def test_another_name_starts_another_study_in_the_same_storage(features, tmp_path):
    settings = search_settings(features, tmp_path / "out", num_train_epochs=1, search={"trials": 1})
    assert search_here(tmp_path, settings).returncode == 0
    more = ("--search.study_name", "other", "--weight_decay", "0.1")
    assert search_here(tmp_path, settings, *more).returncode == 0
    names = optuna.get_all_study_names(f"sqlite:///{tmp_path / 'out' / 'study.db'}")
    assert sorted(names) == ["other", "search"]


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////no/such/folder/study.db",
        "sqlite://",  # in memory, which no other worker could share
        "postgresql://me:secret@localhost:1/none",
        "nonsense",
        "redis://localhost:1",
    ],
)
def test_a_storage_that_cannot_be_shared_or_reached_is_one_line_without_its_password(features, tmp_path, url):
    line = refusal(search_here(tmp_path, search_settings(features, tmp_path / "out", search={"storage": url})))
    assert "search.storage" in line
    assert "secret" not in line


def test_a_file_that_is_no_database_is_refused_and_stays(features, tmp_path):
    content = b"this is no database, and it is long enough to be read" * 20
    (tmp_path / "study.db").write_bytes(content)
    storage = {"storage": f"sqlite:///{tmp_path / 'study.db'}"}
    assert "study.db" in refusal(search_here(tmp_path, search_settings(features, tmp_path / "out", search=storage)))
    assert (tmp_path / "study.db").read_bytes() == content


def test_a_folder_with_a_run_is_refused(features, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.json").write_text("{}")
    assert "output_dir" in refusal(search_here(tmp_path, search_settings(features, tmp_path / "out")))


@pytest.mark.parametrize("damage", ["deleted", "emptied", "of another study"])
def test_results_whose_study_is_lost_are_not_overwritten(finished, features, tmp_path, damage):
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    before = {name: (folder / name).read_bytes() for name in ("trials.csv", "best.yaml", "search.json")}
    (folder / "study.db").write_bytes(b"")
    if damage == "deleted":
        (folder / "study.db").unlink()
    elif damage == "of another study":
        optuna.create_study(study_name="other", storage=f"sqlite:///{folder / 'study.db'}")
    for _ in range(2):  # the first must leave no study that the second would resume
        line = refusal(search_here(tmp_path, search_settings(features, folder)))
        assert f"output_dir {folder}" in line
        assert "'search'" in line
    assert {name: (folder / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(("stage", "content"), [("save_results", b""), ("show_results", b"no database" * 500)])
def test_a_storage_that_is_lost_after_the_trials_is_one_line(
    finished, features, tmp_path, monkeypatch, stage, content
):
    shutil.copytree(finished, tmp_path / "out")
    usual = getattr(results_module, stage)

    def after_the_loss(*arguments):
        (tmp_path / "out" / "study.db").write_bytes(content)
        return usual(*arguments)

    monkeypatch.setattr(results_module, stage, after_the_loss)
    result = search_here(tmp_path, search_settings(features, tmp_path / "out"))
    assert "search.storage" in refusal(result)
    assert "Traceback" not in result.stderr


def test_a_heartbeat_without_its_storage_raises_nothing(tmp_path):
    database = tmp_path / "study.db"
    storage = SearchStorage(f"sqlite:///{database}", heartbeat_interval=1)
    trial = optuna.create_study(storage=storage).ask()
    storage.remove_session()
    database.write_bytes(b"")
    storage.record_heartbeat(trial.number + 1)


def test_a_study_whose_creator_was_killed_before_recording_its_identity_is_used(features, tmp_path):
    (tmp_path / "out").mkdir()
    optuna.create_study(
        study_name="search", storage=f"sqlite:///{tmp_path / 'out' / 'study.db'}", direction="maximize"
    )
    settings = search_settings(features, tmp_path / "out", num_train_epochs=1, search={"trials": 1})
    result = search_here(tmp_path, settings)
    assert result.returncode == 0, result.stderr
    assert load(tmp_path / "out").user_attrs["hfmgc"]["search"]["trial_seeds"] == "same"


def test_a_study_of_another_program_is_refused(features, tmp_path):
    (tmp_path / "out").mkdir()
    optuna.create_study(study_name="search", storage=f"sqlite:///{tmp_path / 'out' / 'study.db'}").ask()
    message = refusal(search_here(tmp_path, search_settings(features, tmp_path / "out")))
    assert "'search' in sqlite" in message and "search.study_name" in message and "null" not in message


def test_ctrl_c_while_the_storage_is_lost_ends_in_one_line(features, tmp_path, monkeypatch):
    def stop():
        (tmp_path / "out" / "study.db").write_bytes(b"no database" * 500)
        raise KeyboardInterrupt

    before_each_model(monkeypatch, stop)
    result = search_here(tmp_path, search_settings(features, tmp_path / "out"))
    assert "search.storage" in refusal(result)
    assert "Traceback" not in result.stderr


def test_a_search_stopped_before_its_first_trial_leaves_no_results_and_resumes(features, tmp_path, monkeypatch):
    def stopped(*arguments):
        raise KeyboardInterrupt

    settings = search_settings(features, tmp_path / "out", num_train_epochs=1, search={"trials": 1})
    with monkeypatch.context() as patched:
        patched.setattr(worker_module.TrialQueue, "add_next", stopped)
        assert search_here(tmp_path, settings).returncode == 130
    assert not (tmp_path / "out" / "trials.csv").exists()
    assert search_here(tmp_path, settings).returncode == 0


def test_a_search_stopped_within_a_trial_draws_what_an_uninterrupted_one_does(
    finished, features, tmp_path, monkeypatch
):
    """However often it is stopped: Ctrl-C is not counted as a retry."""
    settings = search_settings(features, tmp_path / "out", search={"retries": 0})
    stops = []

    def stop_trial_1():
        if len(load(tmp_path / "out").trials) >= 2 and len(stops) < 2:
            stops.append(True)
            raise KeyboardInterrupt

    before_each_model(monkeypatch, stop_trial_1)
    for _ in range(2):
        result = search_here(tmp_path, settings)
        assert result.returncode == 130
        assert result.stderr.strip().splitlines()[-1].startswith("stopped; ")
        assert [row["outcome"] for row in table(tmp_path / "out")][-1] == "interrupted"
    result = search_here(tmp_path, settings)
    assert result.returncode == 0, result.stderr
    ended = [one for one in load(tmp_path / "out").trials if one.state.name != "FAIL"]
    assert [(one.params, one.value) for one in ended] == [(one.params, one.value) for one in load(finished).trials]


def test_a_full_store_stops_the_search_and_costs_no_trial(tmp_path):
    music = write_music(tmp_path / "music", tracks=4, seconds=2.0)
    settings = tiny_settings(
        music,
        tmp_path / "out",
        adapter="dora",
        training_windows="fixed",
        reuse_frozen_prefix=True,
        prefix_store=str(tmp_path / "store"),
        search={**SECTION, "trials": 2, "retries": 0, "space": {"learning_rate": {"low": 1e-3, "high": 1e-1}}},
    )
    assert "prefix_store_gigabytes" in refusal(search_here(tmp_path, settings, "--prefix_store_gigabytes", "0.000001"))
    result = search_here(tmp_path, settings)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "out" / "search.json").read_text())["trials"] == {"wanted": 2, "complete": 2}


# Data and seeds


def test_data_are_prepared_once_for_all_trials_with_equal_data_settings(features, tmp_path, monkeypatch):
    prepare, calls = preparation.prepare_data, []
    fit, example_seeds = trial_module.fit, []

    def counted(arguments, run, extractor):
        calls.append((arguments.time_crop, run.seed))
        return prepare(arguments, run, extractor)

    def fit_with_seed(groups, data, *more, **options):
        example_seeds.append(data.train.seed)
        return fit(groups, data, *more, **options)

    monkeypatch.setattr(preparation, "prepare_data", counted)
    monkeypatch.setattr(trial_module, "fit", fit_with_seed)
    settings = search_settings(features, tmp_path / "out", num_train_epochs=1)
    more = ("--search.trials", "3", "--search.trial_seeds", "own")
    assert search_here(tmp_path, settings, *more).returncode == 0
    assert calls == [(1.0, 42)]
    assert [row["seed"] for row in table(tmp_path / "out")] == ["42", "43", "44"]
    assert example_seeds == [42, 43, 44], "windows are drawn as in a run with the seed of the trial"
    calls.clear()
    space = {**SPACE, "time_crop": {"choices": [0.5, 0.75]}}
    settings = search_settings(features, tmp_path / "cropped", space=space, num_train_epochs=1)
    assert search_here(tmp_path, settings, *more).returncode == 0
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
            search={**SECTION, "trials": 3, "startup_trials": 3, "pruner": "none", "space": space},
        )
        result = search_here(tmp_path, settings)
        assert result.returncode == 0, result.stderr
        found[reuse] = load(tmp_path / f"reuse_{reuse}")
        # Both sides for each of the two values of adapter_min_layer: trials share the stores.
        assert result.stdout.count("frozen layers, ") == 4 * reuse
    assert found[True].direction == optuna.study.StudyDirection.MINIMIZE
    for reused, whole in zip(found[True].trials, found[False].trials, strict=True):
        assert reused.params == whole.params
        assert reused.value == pytest.approx(whole.value, abs=1e-4)
    best = yaml.safe_load((tmp_path / "reuse_True" / "best.yaml").read_text())
    trial = found[True].best_trial
    assert best["adapter_alpha"] == pytest.approx(trial.params["adapter_alpha / adapter_rank"] * best["adapter_rank"])


# Final fit


def test_the_best_config_is_trained_with_each_seed_and_judged_together(finished, features, tmp_path):
    config = write_config(tmp_path / "search.yaml", search_settings(features, finished))
    result = run_here(SEARCH, config, "--search.final_fit")
    assert result.returncode == 0, result.stderr
    final = json.loads((finished / "final.json").read_text())
    runs = [json.loads((finished / "final" / f"seed_{seed}" / "results.json").read_text()) for seed in (0, 1)]
    accuracies = [run["metrics"]["accuracy"] for run in runs]
    assert final["metrics"]["accuracy"]["mean"] == pytest.approx(sum(accuracies) / 2)
    assert [run["metrics"]["accuracy_interval"] for run in final["runs"]] == [
        run["metrics"]["accuracy_interval"] for run in runs
    ]
    assert {run["split"]["digest"] for run in runs} == {final["split"]["digest"]}
    chosen = json.loads((finished / "search.json").read_text())["best"]["settings"]
    for seed in (0, 1):
        record = yaml.safe_load((finished / "final" / f"seed_{seed}" / "run.yaml").read_text())
        assert record["seed"] == seed
        assert record["settings"]["RunArguments"]["learning_rate"] == chosen["learning_rate"]
        assert (finished / "final" / f"seed_{seed}" / "model.safetensors").exists()

    weights = [finished / "final" / f"seed_{seed}" / "model.safetensors" for seed in (0, 1)]
    written = [path.stat().st_mtime_ns for path in weights]
    assert run_here(SEARCH, config, "--search.final_fit").returncode == 0
    assert [path.stat().st_mtime_ns for path in weights] == written, "finished runs are not repeated"
    assert json.loads((finished / "final.json").read_text()) == final


def test_the_former_name_of_the_command_works_and_names_the_new_one():
    result = run_here(SEARCH.with_name("search_ast.py"), "--help")
    assert result.returncode == 0
    assert "--search.trials" in result.stdout
    assert "search.py" in result.stderr


def test_without_optuna_the_command_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(training, "search", training.search)  # imported again by the command
    for name in [name for name in sys.modules if name.startswith(training.search.__name__)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    result = run_here(SEARCH)
    assert result.returncode == 1
    assert "pip install" in result.stderr.strip().splitlines()[-1]
