"""The parts of a search without training: its section, its space, its queue, the statistics of the final fit."""

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from hfmgc.errors import ConfigError
from hfmgc.settings import read_settings
from hfmgc.training.arguments import RECIPE_GROUPS, RunArguments
from hfmgc.training.base_recipe import BaseRecipe
from hfmgc.training.preparation import SharedData
from hfmgc.training.run_folder import RunRecord
from hfmgc.training.search.arguments import OF_TRIALS, SearchArguments, read_search
from hfmgc.training.search.final_fit import final_fit, mean_and_interval
from hfmgc.training.search.space import fields_of, read_space
from hfmgc.training.search.trial import INDEX, OUTCOME, STOPPED, WORKER, Outcome, trial_sampler
from hfmgc.training.search.worker import TrialQueue, search
from recipes import ROOT, tiny_settings, write_config


AST_SEARCH = ROOT / "recipes" / "configs" / "ast_search.yaml"


def tiny_recipe(tmp_path: Path, **more) -> BaseRecipe:
    return BaseRecipe(tiny_settings("synthetic", tmp_path / "out", adapter="dora", **more), "here")


# The section


def test_the_report_is_searched_as_its_code_has_it():
    recipe, arguments = read_search([str(AST_SEARCH)], AST_SEARCH)
    assert (arguments.trials, arguments.pruner, arguments.grace_period) == (35, "median", 180)
    assert {
        path: given.get("choices") or (given["low"], given["high"]) for path, given in arguments.space.items()
    } == {
        "learning_rate": (5e-6, 5e-4),
        "per_device_train_batch_size": [2, 4, 8, 16],
        "warmup_steps": (0.01, 0.1),
        "weight_decay": (0, 0.15),
        "num_train_epochs": (7, 20),
        "adapter_min_layer": [10, 11],
        "adapter_rank": [1, 2, 3],
        "adapter_alpha": (0.1, 10),
        "model.head_hidden_size": [50, 100, 200],
    }
    assert recipe.groups()[2].reuse_frozen_prefix
    local = BaseRecipe({**recipe.values, "pretrained_backbone": None}, recipe.where)  # AST-base's own sizes
    assert len(read_space(arguments.space, local)) == 9


def test_fields_of_the_section_are_set_on_the_command_line():
    _, arguments = read_search([str(AST_SEARCH), "--search.trials", "3", "--search.final_fit"], AST_SEARCH)
    assert (arguments.trials, arguments.final_fit) == (3, True)


def test_help_lists_recipe_and_section(capsys):
    with pytest.raises(SystemExit) as end:
        read_search(["--help"], AST_SEARCH)
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "--learning_rate" in text
    assert "--search.trials" in text


@pytest.mark.parametrize(
    ("section", "more", "field"),
    [
        (None, {}, "search"),
        ({"space": {}}, {}, "space"),
        ({"trial": 3}, {}, r"'trial' \(did you mean 'trials'"),
        ({"trials": 0}, {}, "trials"),
        ({"retries": -1}, {}, "retries"),
        ({"pruner": "mean"}, {}, "pruner"),
        ({"trial_seeds": "any"}, {}, "trial_seeds"),
        ({"heartbeat_interval": 10, "grace_period": 10}, {}, "grace_period"),
        ({"final_seeds": [0, 0]}, {}, "final_seeds"),
        ({"final_seeds": ["x"]}, {}, "final_seeds"),
        ({}, {"overwrite": True}, "overwrite"),
        ({}, {"eval_strategy": "no"}, "eval_strategy"),
    ],
)
def test_a_wrong_section_is_refused_by_field(tmp_path, section, more, field):
    if section is not None:
        more = {**more, "search": {"space": {"learning_rate": {"low": 0.1, "high": 1}}, **section}}
    more = {"save_strategy": "no", "load_best_model_at_end": False, **more}
    config = write_config(tmp_path / "c.yaml", tiny_settings(tmp_path, tmp_path / "out", **more))
    with pytest.raises(ConfigError, match=field):
        read_search([str(config)], config)


def test_other_recipes_pass_over_the_section_whatever_it_holds(tmp_path):
    settings = tiny_settings(tmp_path, tmp_path / "out", search={"anything": [1]})
    groups = read_settings([str(write_config(tmp_path / "c.yaml", settings))], RECIPE_GROUPS)
    assert groups[2].num_train_epochs == 2


# The space


@pytest.mark.parametrize(
    ("path", "given", "named"),
    [
        ("learning_rte", {"low": 0.1, "high": 1}, "did you mean 'learning_rate'"),
        ("model.head", {"choices": [1]}, "'head'"),
        ("learning_rate.x", {"choices": [1]}, "learning_rate"),
        ("learning_rate", 0.1, "low"),
        ("learning_rate", {"low": 0.1}, "high"),
        ("learning_rate", {"low": "a", "high": 1}, "low"),
        ("learning_rate", {"low": 0.1, "high": float("inf")}, "high"),
        ("learning_rate", {"low": 1.0, "high": 0.1}, "low"),
        ("learning_rate", {"low": 0.0, "high": 0.1, "log": True}, "log"),
        ("learning_rate", {"low": 0.1, "high": 1.0, "log": True, "step": 0.1}, "step"),
        ("learning_rate", {"low": 0.1, "high": 1.0, "lag": True}, r"'lag' \(did you mean 'log'"),
        ("learning_rate", {"low": 0.1, "high": 1.0, "log": "yes"}, "log"),
        ("learning_rate", {"low": -1.0, "high": 1.0}, "value -1.0.*learning_rate"),
        ("num_train_epochs", {"low": 1.5, "high": 3, "int": True}, "int"),
        ("num_train_epochs", {"low": 1, "high": 3, "int": True, "step": 0}, "step"),
        ("adapter_rank", {"low": 1.0, "high": 3.0}, "'adapter_rank'"),
        ("adapter_rank", {"choices": []}, "choices"),
        ("adapter_rank", {"choices": [1, 1]}, "choices"),
        ("weight_decay", {"choices": [0.5, 1, 1.0]}, "choices"),
        ("adapter_rank", {"choices": [1, 0]}, "value 0.*adapter_rank"),
        ("adapter_min_layer", {"choices": [0, 2]}, "value 2.*encoder layers 0 to 1"),
        ("adapter_alpha", {"low": 0.1, "high": 1.0, "times": "adapter_alpha"}, "times"),
        ("adapter_alpha", {"low": 0.1, "high": 1.0, "times": "adapter_rank"}, "times adapter_rank"),
        *((path, {"choices": [1, 2]}, "") for path in ("prefix_dtype", "save_strategy", "seed", "data_options.seed")),
    ],
)
def test_a_wrong_space_is_refused_by_field(tmp_path, path, given, named):
    with pytest.raises(ConfigError, match=rf"search\.space\.{path}.*{named}"):
        read_space({path: given}, tiny_recipe(tmp_path))


def test_fields_that_would_change_nothing_are_refused(tmp_path):
    parts = {"model.head_hidden_size": {"choices": [8]}, "model": {"choices": [{"head_hidden_size": 16}]}}
    with pytest.raises(ConfigError, match=r"model\.head_hidden_size is part of model"):
        read_space(parts, tiny_recipe(tmp_path))
    recipe = BaseRecipe(tiny_settings(tmp_path / "music", tmp_path / "out"), "here")
    with pytest.raises(ConfigError, match=r"search\.space\.adapter_rank"):
        read_space({"adapter_rank": {"choices": [1, 2]}}, recipe)


@pytest.mark.parametrize(
    ("path", "given", "message"),
    [
        ("mixup_alpha", {"choices": [0.0, 0.3]}, "value 0.3: reuse_frozen_prefix cannot be combined with mixup_alpha"),
        ("model.backbone_config.hidden_dropout_prob", {"low": 0.0, "high": 0.1}, "hidden_dropout_prob to 0"),
        ("adapter", {"choices": ["dora", "none"]}, "no layer is frozen"),
    ],
)
def test_what_the_frozen_prefix_does_not_go_with_is_refused_before_the_first_trial(tmp_path, path, given, message):
    with pytest.raises(ConfigError, match=message):
        read_space({path: given}, tiny_recipe(tmp_path, training_windows="fixed", reuse_frozen_prefix=True))
    read_space({path: given}, tiny_recipe(tmp_path))


def test_what_is_drawn_becomes_fields_of_the_recipe(tmp_path):
    recipe = tiny_recipe(tmp_path)
    space = {
        "adapter_alpha": {"low": 0.1, "high": 10.0, "log": True, "times": "adapter_rank"},
        "adapter_rank": {"choices": [1, 2, 3]},
        "adapter_targets": {"choices": [["fc2"], ["fc1", "fc2"]]},
        "num_train_epochs": {"low": 2, "high": 8, "int": True, "step": 3},
        "model.head_hidden_size": {"choices": [8, 16]},
    }
    parameters = read_space(space, recipe)
    study = optuna.create_study(sampler=sampler(0, 0))
    seen = set()
    for _ in range(12):
        trial = study.ask()
        drawn = {parameter.name: parameter.draw(trial) for parameter in parameters}
        fields = fields_of(parameters, drawn, recipe)
        model, _, run = recipe.groups({**fields, **OF_TRIALS})
        assert model.adapter_alpha / model.adapter_rank == pytest.approx(trial.params["adapter_alpha / adapter_rank"])
        assert model.adapter_targets in (["fc2"], ["fc1", "fc2"])
        assert model.model["head_hidden_size"] == trial.params["model.head_hidden_size"]
        assert model.model["backbone_config"]["hidden_size"] == 32
        assert run.save_strategy == "no"
        seen.add((run.num_train_epochs, model.adapter_rank))
        study.tell(trial, 0.0)
    assert {epochs for epochs, _ in seen} == {2, 5, 8}
    assert "adapter_rank" not in recipe.values, "the recipe itself stays as it was"


def sampler(seed: int, index: int) -> optuna.samplers.TPESampler:
    return trial_sampler(SearchArguments(space={"x": {}}, sampler_seed=seed), index)


def draw(seed: int, index: int) -> float:
    return optuna.create_study(sampler=sampler(seed, index)).ask().suggest_float("x", 0, 1)


def test_a_draw_follows_from_seed_and_index():
    assert draw(1, 2) == draw(1, 2)
    assert len({draw(seed, index) for seed in (0, 1) for index in range(4)}) == 8


# The queue


@pytest.fixture
def study():
    return optuna.create_study()


def add(study, state, index=None, *, minutes_ago=0, **noted):
    """Add an attempt at the trial with an index."""
    noted = noted if index is None else {**noted, INDEX: index}
    trial = create_trial(state=state, value=0.5 if state == TrialState.COMPLETE else None, user_attrs=noted)
    moment = datetime.now() - timedelta(minutes=minutes_ago)
    trial.datetime_start = None if state == TrialState.WAITING else moment
    trial.datetime_complete = moment if state.is_finished() else None
    study.add_trial(trial)


def queue(study, wanted, retries=3):
    return TrialQueue(study, SearchArguments(space={"x": {}}, trials=wanted, retries=retries, grace_period=61))


def test_the_lowest_trial_without_a_result_is_queued_next(study):
    add(study, TrialState.COMPLETE, 0)
    add(study, TrialState.FAIL, 1)  # its worker was killed
    add(study, TrialState.FAIL, 2, **{OUTCOME: Outcome.FAILED})
    add(study, TrialState.FAIL, 1, **{OUTCOME: Outcome.DUPLICATE})
    assert queue(study, 3).outcomes() == ["complete", "needed", "failed"]
    assert queue(study, 3).add_next()
    assert (study.trials[-1].state, study.trials[-1].user_attrs) == (TrialState.WAITING, {INDEX: 1})
    assert queue(study, 3).add_next(), "a waiting trial comes first"
    assert len(study.trials) == 5
    study.tell(study.ask(), state=TrialState.PRUNED)
    assert queue(study, 3).outcomes() == ["complete", "pruned", "failed"]
    assert not queue(study, 3).add_next()
    assert queue(study, 4).outcomes()[3] == "needed"


def test_a_repeated_trial_has_the_parameters_of_all_its_attempts(study):
    assert queue(study, 1).add_next()
    first = study.ask()
    drawn = first.suggest_float("x", 0, 1)
    study.tell(first, state=TrialState.FAIL)
    for _ in range(2):  # the second attempt was killed before it drew anything
        assert queue(study, 1).add_next()
        repeated = study.ask()
        study.tell(repeated, state=TrialState.FAIL)
    assert queue(study, 1).add_next()
    assert study.ask().suggest_float("x", 0, 1) == drawn


def test_a_trial_whose_workers_are_killed_repeatedly_is_given_up(study):
    for outcome in ("needed", "needed", "interrupted"):
        add(study, TrialState.FAIL, 0, **{STOPPED: True})  # Ctrl-C is not counted
        add(study, TrialState.FAIL, 0)
        assert queue(study, 1, retries=2).outcomes() == [outcome]
    assert not queue(study, 1, retries=2).add_next()


def test_a_trial_without_a_heartbeat_fails_after_a_while(study):
    add(study, TrialState.RUNNING, 0, minutes_ago=5)
    add(study, TrialState.RUNNING, 1, minutes_ago=5, **{WORKER: "here:1"})  # has one
    add(study, TrialState.RUNNING, 2)
    queue(study, 3).fail_killed()
    assert [trial.state.name for trial in study.trials] == ["FAIL", "RUNNING", "RUNNING"]


def test_trials_that_are_not_wanted_are_duplicates(study):
    for index in (0, 1, None, 2):
        add(study, TrialState.RUNNING, index)
    assert [queue(study, 2).is_duplicate(trial) for trial in study.trials] == [False, False, True, True]


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.WAITING, TrialState.COMPLETE])
def test_of_two_attempts_at_a_trial_the_later_is_a_duplicate(study, state):
    add(study, TrialState.FAIL, 0)
    add(study, state, 0)
    add(study, TrialState.RUNNING, 0)
    assert not queue(study, 1).is_duplicate(study.trials[1])
    assert queue(study, 1).is_duplicate(study.trials[2])


def test_the_recorded_command_has_neither_password_nor_folder_of_the_storage(tmp_path, monkeypatch):
    groups = tiny_recipe(tmp_path).groups()
    for url, shown in (
        ("postgresql://me:secr=t@host/db", "postgresql://me:***@host/db"),
        ("sqlite:////home/me/study.db", "sqlite:///study.db"),
    ):
        for words in (["--search.storage", url], [f"--search.storage={url}"]):
            monkeypatch.setattr(sys, "argv", ["recipes/search.py", *words])
            command = RunRecord.from_settings(groups, groups[2]).command
            assert command.replace("'", "").endswith(shown), command
            assert command.startswith("python recipes/search.py ")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert RunRecord.from_settings(groups, groups[2]).command.startswith("accelerate launch recipes/search.py ")


def test_several_processes_of_one_run_train_no_trials(tmp_path, study, monkeypatch):
    monkeypatch.setattr(RunArguments, "world_size", 2)
    with pytest.raises(ConfigError, match="one process"):
        search(study, tiny_recipe(tmp_path), SearchArguments(space={"x": {}}), (), SharedData(0))


# Figures of the final fit


def test_the_interval_is_students():
    figures = mean_and_interval([0.50, 0.52, 0.54])
    assert figures["mean"] == pytest.approx(0.52)
    assert figures["standard_deviation"] == pytest.approx(0.02)
    half = 4.302652729911275 * 0.02 / np.sqrt(3)  # t of 0.975 with two degrees of freedom, from a table
    assert figures["interval"] == pytest.approx([0.52 - half, 0.52 + half])
    assert mean_and_interval([0.0, 1.0])["interval"] == [0.0, 1.0]
    assert mean_and_interval([0.5])["interval"] is None


def test_a_final_fit_resumes_unfinished_runs_and_repeats_those_with_other_settings(tmp_path):
    recipe, seen = tiny_recipe(tmp_path), []
    (tmp_path / "out").mkdir()

    def fit(groups):
        run = groups[2]
        seen.append((run.seed, run.learning_rate, run.overwrite, run.resume_from_checkpoint))
        folder = Path(run.output_dir)
        RunRecord.from_settings(groups, run).save(folder)
        if run.seed == 1 and len(seen) == 2:
            raise KeyboardInterrupt
        metrics = {"accuracy": 0.5, "accuracy_interval": [0.4, 0.6]}
        report = {"metrics": metrics, "side": "test", "tracks": 3, "split": {}, "notes": []}
        (folder / "results.json").write_text(json.dumps(report))
        (folder / "README.md").write_text("card")

    with pytest.raises(KeyboardInterrupt):
        final_fit(recipe, {"learning_rate": 0.1}, [0, 1], fit)
    assert final_fit(recipe, {"learning_rate": 0.1}, [0, 1], fit)["metrics"]["accuracy"]["mean"] == 0.5
    (tmp_path / "out" / "final" / "seed_1" / "results.json").write_text("{")
    final_fit(recipe, {"learning_rate": 0.1}, [1], fit)
    final_fit(recipe, {"learning_rate": 0.2}, [0], fit)
    assert seen == [
        (0, 0.1, False, None),
        (1, 0.1, False, None),
        (1, 0.1, False, "last"),
        (1, 0.1, True, None),
        (0, 0.2, True, None),
    ]
