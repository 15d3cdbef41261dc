"""Settings of a recipe: YAML, overrides on the command line, and errors that name the field."""

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from hfmgc.errors import CheckpointError, ConfigError
from hfmgc.settings import describe_fields, read_settings
from hfmgc.training.arguments import RECIPE_GROUPS, DataArguments, ModelArguments, RunArguments
from hfmgc.training.build import build_config, build_feature_extractor, build_model
from hfmgc.training.show import show_recipe


CONFIGS = sorted((Path(__file__).parents[1] / "recipes" / "configs").glob("*.yaml"))


@dataclass
class Fields:
    rate: float = 0.5
    count: int = 1
    name: str = "x"
    flag: bool = False
    maybe: float | None = None
    names: list[str] = field(default_factory=list)
    sizes: list[int] | tuple[int, ...] = ()
    pairs: list[list[int]] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    path_or_flag: str | bool | None = None


@dataclass
class More:
    seed: int = 0

    def __post_init__(self):
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, it is {self.seed}")


@pytest.fixture
def read(tmp_path):
    def make(text: str = "", *overrides: str):
        (tmp_path / "config.yaml").write_text(text or "{}", encoding="utf-8")
        return read_settings([str(tmp_path / "config.yaml"), *overrides], (Fields, More))

    return make


def test_a_config_fills_all_groups(read):
    fields, more = read("rate: 0.1\nname: Türkü\nnames: [a, b]\nseed: 7\noptions: {a: {b: 1}}\n")
    assert fields == Fields(rate=0.1, name="Türkü", names=["a", "b"], options={"a": {"b": 1}})
    assert more == More(seed=7)


def test_a_config_takes_what_it_does_not_say_from_its_base(tmp_path):
    (tmp_path / "lowest.yaml").write_text("rate: 0.1\nname: low\noptions: {a: 1, b: {c: 1, d: 1}}", encoding="utf-8")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "middle.yaml").write_text("base: ../lowest.yaml\nname: middle\ncount: 5", encoding="utf-8")
    config = tmp_path / "sub" / "config.yaml"
    config.write_text("base: middle.yaml\ncount: 6\noptions: {b: {d: 2}}", encoding="utf-8")
    (fields,) = read_settings([str(config), "--options.e", "9"], (Fields,))
    assert fields == Fields(rate=0.1, name="middle", count=6, options={"a": 1, "b": {"c": 1, "d": 2}, "e": 9})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: none.yaml", "none.yaml: no such"),
        ("base: config.yaml", "based on itself"),
        ("base: 3", "another config"),
    ],
)
def test_a_base_that_is_none_is_refused(read, text, message):
    with pytest.raises(ConfigError, match=message):
        read(text)


def test_the_command_line_wins_over_the_file(read):
    fields, more = read("rate: 0.1\nseed: 7", "--rate", "0.2", "--seed=8", "--flag", "--name=a b", "--names", "[c, d]")
    assert fields == Fields(rate=0.2, flag=True, name="a b", names=["c", "d"])
    assert more.seed == 8


def test_entries_of_mappings_are_set_with_dots_and_the_others_stay(read):
    fields, _ = read("options: {kept: 1, deep: {a: 1, b: 2}}", "--options.deep.b", "3", "--options.new", "x")
    assert fields.options == {"kept": 1, "deep": {"a": 1, "b": 3}, "new": "x"}
    with pytest.raises(ConfigError, match=r"name .* entry 'first'"):
        read("name: x", "--name.first", "y")


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("1.5e-3", 0.0015), ("2", 2.0), ("-3", -3.0), ("1.0e-5", 1e-5)]
)
def test_numbers_are_numbers_however_yaml_reads_them(read, text, value):
    for fields in (read(f"rate: {text}")[0], read("", "--rate", text)[0], read("", f"--maybe={text}")[0]):
        number = fields.rate if fields.rate != 0.5 else fields.maybe
        assert number == value
        assert type(number) is float


def test_null_is_accepted_for_optional_fields(read):
    assert read("maybe: null")[0].maybe is None
    assert read("maybe: 1.0", "--maybe", "null")[0].maybe is None
    with pytest.raises(ConfigError, match="field 'rate' takes float, not None"):
        read("rate: null")


def test_a_field_of_text_takes_numbers_and_a_switch_takes_either(read):
    assert read("name: 12")[0].name == "12"
    assert read("", "--path_or_flag", "last")[0].path_or_flag == "last"
    assert read("", "--path_or_flag", "true")[0].path_or_flag is True


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("count: 1.5", "field 'count' takes int, not 1.5"),
        ("count: many", "field 'count' takes int, not 'many'"),
        ("count: true", "field 'count' takes int, not True"),
        ("rate: fast", "field 'rate' takes float, not 'fast'"),
        ("rate: true", "field 'rate' takes float, not True"),
        ("flag: maybe", "field 'flag' takes bool, not 'maybe'"),
        ("names: 5", "field 'names' takes list, not 5"),
        ("options: [a]", r"field 'options' takes dict, not \['a'\]"),
        ("maybe: x", "field 'maybe' takes float, not 'x'"),
        ("sizes: [1, 2.5]", r"field 'sizes\[1\]' takes int, not 2.5"),
        ("sizes: many", r"field 'sizes\[0\]' takes int, not 'many'"),
        ("pairs: [1, 2]", r"field 'pairs\[0\]' takes list, not 1"),
        ("pairs: [[1, x]]", r"field 'pairs\[0\]\[1\]' takes int, not 'x'"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_its_field_and_file(read, text, said):
    with pytest.raises(ConfigError, match=rf"config\.yaml: {said}"):
        read(text)


def test_a_number_beyond_all_bounds_and_a_key_given_twice_are_refused_on_the_command_line(read):
    with pytest.raises(ConfigError, match="'rate' takes finite numbers, not inf"):
        read("", "--rate", "1e400")
    with pytest.raises(
        ConfigError, match=r"command line: field 'options': not valid YAML in line 1 .'a' is already set"
    ):
        read("", "--options", "{a: 1, a: 2}")


def test_an_unknown_field_is_refused_with_the_nearest_one(read):
    with pytest.raises(ConfigError, match=r"unknown field 'rat' \(did you mean 'rate'\?\)"):
        read("rat: 1")
    with pytest.raises(ConfigError, match=r"unknown field 'cuont' \(did you mean 'count'\?\)"):
        read("", "--cuont", "1")
    with pytest.raises(ConfigError, match="unknown field 'zzzz'; --help lists all fields"):
        read("zzzz: 1")


def test_what_a_group_refuses_is_said_with_the_file(read):
    with pytest.raises(ConfigError, match=r"config\.yaml: seed must not be negative, it is -1"):
        read("seed: -1")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("- a\n- b", "a config is a mapping"),
        ("a: [1", "not valid YAML in line"),
        ("just words", "a config is a mapping"),
        ("rate: 1\ncount: 2\nrate: 3", r"not valid YAML in line 3 \('rate' is already set in line 1\)"),
        ("rate: 1\nentries: {a: 1,\n  a: 2}", r"not valid YAML in line 3 \('a' is already set in line 2\)"),
        ("[" * 5000, r"not valid YAML \(nested too deeply\)"),
        ("", "a config is a mapping"),
    ],
)
def test_a_file_that_is_no_config_is_named(tmp_path, content, said):
    (tmp_path / "broken.yaml").write_text(content)
    with pytest.raises(ConfigError, match=rf"broken\.yaml: {said}"):
        read_settings([str(tmp_path / "broken.yaml")], (Fields,))


def test_a_missing_file_a_folder_and_bytes_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such config file"):
        read_settings([str(tmp_path / "gone.yaml")], (Fields,))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_settings([str(tmp_path)], (Fields,))
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"bytes\.yaml: (cannot be read|not valid YAML)"):
        read_settings([str(tmp_path / "bytes.yaml")], (Fields,))


def test_words_without_a_field_are_refused(read):
    with pytest.raises(ConfigError, match="expected --field, got 'stray'"):
        read("", "--rate", "1", "stray")


def test_the_default_config_is_read_where_none_is_given(tmp_path):
    (tmp_path / "default.yaml").write_text("count: 5")
    (fields,) = read_settings(["--rate", "2"], (Fields,), default_config=tmp_path / "default.yaml")
    assert (fields.count, fields.rate) == (5, 2.0)


def test_help_lists_every_field_of_a_recipe(capsys):
    with pytest.raises(SystemExit) as stop:
        read_settings(["--help"], RECIPE_GROUPS)
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for group in RECIPE_GROUPS:
        for item in dataclasses.fields(group):
            assert f"--{item.name}" in shown


@pytest.mark.parametrize(
    ("field", "choices"),
    [
        ("adapter", ("dora", "lora", "none")),
        ("augmentation", ("fresh", "offline", "none")),
        ("eval_strategy", ("no", "steps", "epoch")),
        ("lr_scheduler_type", ("linear", "cosine")),
        ("metric_for_best_model", ("auto", "accuracy", "macro_map")),
        ("model_type", ("hfmgc-ast", "hfmgc-lgnet")),
        ("split_policy", ("stratified", "artist_folds")),
    ],
)
def test_help_lists_the_choices_of_a_field(field, choices):
    (line,) = [line for line in describe_fields(RECIPE_GROUPS).splitlines() if line.startswith(f"  --{field} ")]
    assert all(choice in line for choice in choices)


@pytest.mark.parametrize("field", ["adapter", "augmentation", "eval_strategy", "fit_statistics"])
def test_other_values_than_the_choices_are_refused(tmp_path, field):
    with pytest.raises(ConfigError, match=f"{field} must be .* or .*, not 'other'"):
        recipe(tmp_path, **{field: "other"})


def test_a_policy_that_no_dataset_has_is_refused_without_data(tmp_path):
    with pytest.raises(ConfigError, match="split_policy 'random'"):
        recipe(tmp_path, split_policy="random", data="")


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_a_text_field_without_a_value_is_refused(more):
    with pytest.raises(ConfigError, match="'output_dir'"):
        read_settings(["--output_dir", *more], RECIPE_GROUPS)


def test_a_refusal_of_transformers_is_one_line(tmp_path):
    with pytest.raises(ConfigError) as refusal:
        recipe(tmp_path, eval_strategy="no", load_best_model_at_end=True)
    assert len(str(refusal.value).splitlines()) == 1


def test_groups_share_no_field():
    names = [item.name for group in RECIPE_GROUPS for item in dataclasses.fields(group)]
    assert len(names) == len(set(names))


# The fields of a recipe


def recipe(tmp_path, **values):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"output_dir": str(tmp_path / "run"), "data": "synthetic", **values}))
    return read_settings([str(path)], RECIPE_GROUPS)


def test_scalars_are_read_as_people_mean_them(tmp_path):
    """PyYAML alone takes 8:1:1 for a number of base 60, `no` for false and 1e-4 for text."""
    path = tmp_path / "recipe.yaml"
    path.write_text("output_dir: 2024-01-02\ndata: no\nsplit_ratios: 8:1:1\nmodel: {label_smoothing: 1e-1}\n")
    model, data, run = read_settings([str(path), "--learning_rate", "1e-4"], RECIPE_GROUPS)
    assert (run.output_dir, data.data, data.split_ratios) == ("2024-01-02", "no", "8:1:1")
    assert (model.model, run.learning_rate) == ({"label_smoothing": 0.1}, 1e-4)
    _, data, _ = read_settings([str(path), "--split_ratios", "4:1:5", "--data", "010"], RECIPE_GROUPS)
    assert (data.split_ratios, data.data) == ("4:1:5", "010")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model_type": "hfmgc-asd"}, "did you mean 'hfmgc-ast'"),
        ({"adapter": "qlora"}, "dora, lora or none, not 'qlora'"),
        ({"adapter_targets": ["fc3"]}, "no role 'fc3' .did you mean 'fc"),
        ({"adapter_rank": 0}, "adapter_rank must be at least 1"),
        ({"windows_per_track": 0}, "windows_per_track must be at least 1"),
        ({"augmentation": "heavy"}, "fresh, offline or none, not 'heavy'"),
        ({"augmentation_probability": 1.5}, r"augmentation_probability must lie in \[0, 1\]"),
        ({"split_ratios": "8:0:2"}, "split_ratios: .8:0:2"),
        ({"output_dir": ""}, "output_dir is not set"),
        ({"learning_rat": 1e-3}, "did you mean 'learning_rate'"),
        ({"eval_strategy": "sometimes"}, "sometimes"),
        ({"logging_steps": -5}, "logging_steps must be above 0, not -5"),
        ({"save_steps": 0}, "save_steps must be above 0"),
        ({"dataloader_drop_last": True}, "dataloader_drop_last"),
        ({"learning_rate": float("inf")}, "'learning_rate' takes finite numbers, not inf"),
        ({"model": {"backbone_config": {"layer_norm_eps": float("nan")}}}, "'model' takes finite numbers"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(tmp_path, values, said):
    with pytest.raises(ConfigError, match=said) as error:
        recipe(tmp_path, **values)
    assert "\n" not in str(error.value)


def test_the_toolkits_defaults_are_those_that_whole_tracks_need(tmp_path):
    model, data, run = recipe(tmp_path)
    assert (type(model), type(data), type(run)) == (ModelArguments, DataArguments, RunArguments)
    assert run.remove_unused_columns is False
    assert run.label_names == ["labels"]
    assert run.metric_for_best_model == "auto"
    assert run.load_best_model_at_end
    assert run.eval_strategy.value == run.save_strategy.value == "epoch"


def test_fields_of_model_and_front_end_reach_them_and_unknown_ones_are_refused(tmp_path):
    model, *_ = recipe(tmp_path, model={"head_hidden_size": 5}, front_end={"max_length": 96, "short_tracks": "pad"})
    config = build_config(model, ["blues", "pop"])
    assert (config.head_hidden_size, config.id2label, config.label2id["pop"]) == (5, {0: "blues", 1: "pop"}, 1)
    extractor = build_feature_extractor(model)
    assert (extractor.max_length, extractor.short_tracks) == (96, "pad")
    wrong, *_ = recipe(tmp_path, model={"head_hidden_sise": 5}, front_end={"max_lenght": 96})
    with pytest.raises(ConfigError, match=r"model: HfmgcASTConfig has no field .*did you mean 'head_hidden_size'"):
        build_config(wrong, ["blues"])
    with pytest.raises(ConfigError, match=r"front_end: .*did you mean 'max_length'"):
        build_feature_extractor(wrong)
    bad, *_ = recipe(tmp_path, model={"head_hidden_size": 0}, front_end={"max_windows": 0})
    with pytest.raises(ConfigError, match=r"model: .*head_hidden_size"):
        build_config(bad, ["blues"])
    with pytest.raises(ConfigError, match="front_end: max_windows"):
        build_feature_extractor(bad)


def tiny_fields(**more) -> dict:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return {"model": {"backbone_config": {**sizes, "max_length": 64}, "head_hidden_size": 8}, **more}


def built(tmp_path, **values):
    model, _, run = recipe(tmp_path, **tiny_fields(**values))
    return build_model(model, ["a", "b"], run)


def test_equal_settings_give_equal_weights_and_other_seeds_others(tmp_path):
    weights = [built(tmp_path, seed=seed).classifier.dense.weight for seed in (1, 1, 2)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


def test_a_frozen_backbone_leaves_the_head_to_be_trained(tmp_path):
    model = built(tmp_path, freeze_backbone=True)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(name.startswith("classifier.") for name in trained)


def test_a_pretrained_backbone_starts_a_run_and_is_checked_first(tmp_path, tiny_ast):
    folder = tiny_ast(old_names=True)
    model = built(tmp_path, pretrained_backbone=str(folder), model={})
    assert model.config.id2label == {0: "a", 1: "b"}
    assert model.config.backbone_config.num_hidden_layers == 3
    with pytest.raises(CheckpointError, match=r"gone.*: no such folder"):
        built(tmp_path, pretrained_backbone=str(tmp_path / "gone"), model={})
    incomplete = tiny_ast(drop=r"layers\.0\.mlp\.fc1\.bias", name="incomplete")
    with pytest.raises(CheckpointError, match=r"incomplete.*layers\.0\.mlp\.fc1\.bias"):
        built(tmp_path, pretrained_backbone=str(incomplete), model={})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "vit"}))
    with pytest.raises(CheckpointError, match=r"pretrained_backbone .* 'vit'"):
        built(tmp_path, pretrained_backbone=str(folder), model={})


# The configs that come with the recipes; test_recipe_configs.py builds and trains each


def test_the_report_is_shown_with_its_sizes_and_that_they_are_assumed_offline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (path,) = [path for path in CONFIGS if path.name == "ast_gtzan.yaml"]
    result, text = show_recipe(str(path), [])
    assert result["trainable_parameters"] == 172_706
    assert result["front_end"]["window_seconds"] == pytest.approx(10.255)
    assert result["training"]["batch_size"] == 16
    assert result["training"]["learning_rate"] == pytest.approx(1.3221e-4)
    assert any("pretrained_backbone" in note and "default sizes" in note for note in result["notes"])
    assert re.search(r"trainable\s+172,706 \(adapter: dora\)", text)


def test_show_takes_overrides_as_the_recipe_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (path,) = [path for path in CONFIGS if path.name == "demo.yaml"]
    more, _ = show_recipe(str(path), ["--model.backbone_config.num_hidden_layers", "4"])
    fewer, _ = show_recipe(str(path), [])
    assert more["parameters"] > fewer["parameters"]
    frozen, _ = show_recipe(str(path), ["--freeze_backbone"])
    assert frozen["trainable_parameters"] < fewer["trainable_parameters"]
