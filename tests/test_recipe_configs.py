"""The configs of the recipes: each is what its paper says, can be built at full size, and a shrunken copy of it trains."""

import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from architecture_tester import ArchitectureTester
from recipe_parameters import CONFIGS, COUNTS, FILES, PRETRAINING_CONFIGS

from hfmgc.features.windows import window_starts
from hfmgc.models.modeling_crnn import DivideAndConquerCRNNForAudioClassification
from hfmgc.registry import ARCHITECTURES
from hfmgc.settings import read_config, read_settings
from hfmgc.training.arguments import RECIPE_GROUPS
from hfmgc.training.build import adapt_model, build_config, build_feature_extractor, build_model
from hfmgc.training.probe import ProbeArguments
from hfmgc.training.show import show_recipe


ROOT = Path(__file__).parents[1]
PARAMETERS = json.loads(COUNTS.read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No test needs the checkout as its working folder, and none writes."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.iterdir()), "reading and building write nothing"


def settings(name: str):
    return read_settings([str(FILES[name])], (*RECIPE_GROUPS, ProbeArguments))[:3]


@pytest.mark.parametrize("name", CONFIGS)
def test_it_can_be_built_at_full_size_and_its_windows_fit(name):
    result, text = show_recipe(str(FILES[name]), [])
    assert name in PARAMETERS, "a new config: run `python tests/recipe_parameters.py`"
    assert result["parameters"] == PARAMETERS[name]
    assert 0 < result["trainable_parameters"] <= result["parameters"]
    assert f"{result['trainable_parameters']:,}" in text


@pytest.fixture(scope="module")
def trained_structures() -> set[str]:
    """The networks that have been trained: same layers and same settings, whatever the sizes."""
    return set()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_shrunken_copy_answers_and_trains(name, trained_structures):
    model_arguments, data, run = settings(name)
    tests = architecture_tests(model_arguments.model_type)
    small = shrunken(model_arguments.model, tests.shrunken())
    model_arguments = replace(model_arguments, pretrained_backbone=None, model=small)
    genres = ["blues", "pop", "rock"]
    model = adapt_model(build_model(model_arguments, genres, run), model_arguments).train()

    frames, bins = build_feature_extractor(model_arguments).window_shape
    frames = min(round(frames * data.time_crop), tests.most_frames or frames)
    generator = torch.Generator().manual_seed(0)
    batch = {
        "input_values": torch.rand(3, frames, bins, generator=generator),
        "labels": torch.arange(3) % len(genres),
    }
    # Two training steps for each network, and a forward pass for each file: files often differ in sizes alone.
    if (found := structure(model)) in trained_structures:
        with torch.no_grad():
            assert torch.isfinite(model(**batch).loss)
        return
    trained_structures.add(found)

    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    before = {name: parameter.detach().clone() for name, parameter in trained.items()}
    optimizer = torch.optim.AdamW(
        trained.values(),
        lr=run.learning_rate,
        betas=(run.adam_beta1, run.adam_beta2),
        eps=run.adam_epsilon,
        weight_decay=run.weight_decay,
    )
    for _ in range(2):
        loss = model(**batch).loss
        assert torch.isfinite(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    moved = [name for name, parameter in trained.items() if not parameter.equal(before[name])]
    assert all(parameter.isfinite().all() for parameter in trained.values())
    assert any("classifier" in name for name in moved)
    assert any("classifier" not in name for name in moved) != model_arguments.freeze_backbone


def architecture_tests(model_type: str) -> ArchitectureTester:
    """Return the tests of an architecture, which say how to make its recipes small."""
    module = importlib.import_module(f"test_model_{ARCHITECTURES[model_type].name.replace('-', '_')}")
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    return next(cls for cls in classes if issubclass(cls, ArchitectureTester) and cls is not ArchitectureTester)()


def structure(model: torch.nn.Module) -> str:
    """Return what a network is but for its sizes: its parameters' names, those that train, and its config's other values."""
    config = {name: value for name, value in model.config.to_dict().items() if isinstance(value, str | bool)}
    parameters = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    return json.dumps([config, parameters], sort_keys=True)


def shrunken(fields: Mapping, small: Mapping) -> dict:
    """Return a config's fields with those of `ArchitectureTester.shrunken` in their place."""
    result = dict(fields)
    for name, value in small.items():
        if isinstance(value, Mapping):
            result[name] = {**(fields.get(name) or {}), **value}
        elif isinstance(value, int) and isinstance(fields.get(name), list):
            result[name] = [value] * len(fields[name])
        else:
            result[name] = value
    return result


def test_each_says_what_it_is_and_has_a_run_folder_of_its_own():
    assert all(path.read_text(encoding="utf-8").startswith("# ") for path in FILES.values())
    folders = [read_config(FILES[name])["output_dir"] for name in (*CONFIGS, *PRETRAINING_CONFIGS)]
    assert len(folders) == len(set(folders))


def test_what_is_shared_is_used():
    texts = [path.read_text(encoding="utf-8") for path in FILES.values()]
    bases = {name for text in texts for name in re.findall(r"^base: (\S+)$", text, flags=re.MULTILINE)}
    assert {path.name for path in FILES.values() if path.name.startswith("_")} <= bases


def test_every_architecture_has_the_recipe_that_the_registry_names():
    for model_type, architecture in ARCHITECTURES.items():
        assert read_config(ROOT / architecture.recipe)["model_type"] == model_type


# What the papers say


def test_every_cell_of_lgnets_tables_has_a_config():
    rows = ["lstm", "bi_lstm", "fcn", "fcn_lstm", "resnet", "lgnet_2", "lgnet_4", "lgnet_8", "lgnet_16"]
    rows += ["lgnet_4_linear", "lgnet_4_sigmoid"]
    expected = {f"lgnet/{front_end}_{row}.yaml" for front_end in ("stft", "mel", "cqt") for row in rows}
    assert {name for name in CONFIGS if name.startswith("lgnet/")} == expected
    for name in expected:
        _, data, run = settings(name)
        assert (data.split_policy, run.num_train_epochs, run.per_device_train_batch_size) == (
            "fault_filtered",
            300,
            64,
        )
        assert (run.optim.value, run.learning_rate, run.weight_decay) == ("adamw_torch", 5e-4, 1e-5)


# Of the authors' code: channels, [time, mel] of the pools by seconds, GRUs.
FOUR_CONVOLUTIONS = (
    [16, 32, 64, 128],
    {
        30: [[2, 2], [3, 3], [3, 3], [4, 4]],
        10: [[2, 2], [3, 3], [3, 3], [2, 4]],
        3: [[2, 2], [2, 2], [2, 2], [2, 12]],
    },
)
THREE_CONVOLUTIONS = (
    [16, 32, 64],
    {30: [[2, 2], [3, 3], [10, 10]], 10: [[2, 2], [3, 3], [3, 10]], 3: [[2, 2], [2, 2], [2, 16]]},
)
TWO_CONVOLUTIONS = ([16, 32], {30: [[2, 2], [24, 32]], 10: [[2, 2], [8, 32]], 3: [[2, 2], [4, 32]]})


@pytest.mark.parametrize("seconds", [30, 10, 3])
@pytest.mark.parametrize(
    ("network", "convolutions", "grus", "count"),
    [
        ("base", FOUR_CONVOLUTIONS, [256, 256], 806_320),
        ("l2reg", FOUR_CONVOLUTIONS, [256], 411_568),
        ("lrs", FOUR_CONVOLUTIONS, [256], 411_568),
        ("3conv", THREE_CONVOLUTIONS, [128], 107_312),
        ("2conv", TWO_CONVOLUTIONS, [64], 28_912),
        ("optim", FOUR_CONVOLUTIONS, [256], 411_568),
    ],
)
def test_the_networks_of_divide_and_conquer_are_the_papers(network, convolutions, grus, count, seconds):
    if (network, seconds) == ("2conv", 3):
        count = 26_320  # with a dense layer of 32
    if (network, seconds) == ("optim", 10):  # the convolutions that Table I finds best for the length
        convolutions, grus, count = THREE_CONVOLUTIONS, [128], 107_312
    model, data, run = settings(f"divide_and_conquer/crnn_{seconds}s_{network}.yaml")
    config = build_config(model, [f"genre {index}" for index in range(16)])
    assert (config.channels, config.pools, config.gru_hidden_sizes) == (
        convolutions[0],
        convolutions[1][seconds],
        grus,
    )
    assert config.l2 == (0.001 if network in ("l2reg", "optim") else 0.0)
    with torch.device("meta"):
        built = DivideAndConquerCRNNForAudioClassification(config)
        assert built.num_parameters(only_trainable=True) == count
        assert built.model.grus[0].input_size == config.channels[-1]  # one mel is left
        window = build_feature_extractor(model).window_shape
        assert window == ({30: 1292, 10: 431, 3: 130}[seconds], 128) == (config.num_frames, config.num_bins)
    if (network, seconds) == ("base", 30):
        assert config.to_dict() == type(config)(id2label=config.id2label).to_dict()
    assert run.decay_from_epoch == (None if network in ("base", "l2reg") else 8)
    assert (data.split_policy, run.learning_rate, run.weight_decay) == ("official", 1e-4, 0)


@pytest.mark.parametrize(
    ("name", "windows"),
    [
        *((f"ts_resformer/slice_{seconds}s.yaml", count) for seconds, count in
          (("03", 19), ("05", 11), ("06", 9), ("10", 5), ("15", 3))),
        ("ts_resformer/ts_resformer.yaml", 4),
        *((f"divide_and_conquer/crnn_{seconds}s_base.yaml", 30 // seconds) for seconds in (30, 10, 3)),
        ("lgnet/cqt_lgnet_4.yaml", 1),
        ("deformer/resnet_bigru.yaml", 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("track_seconds", [29.98, 30.0, 30.02])
def test_a_track_has_as_many_slices_as_in_the_paper(name, windows, track_seconds):
    extractor = build_feature_extractor(settings(name)[0])
    starts = window_starts(
        round(track_seconds * extractor.sampling_rate),
        extractor.window_samples,
        policy=extractor.window_policy,
        max_windows=extractor.max_windows,
        overlap=extractor.window_overlap,
    )
    assert len(starts) == windows


def test_ts_resformers_rows_differ_from_it_in_what_they_name_alone():
    whole = read_config(FILES["ts_resformer/ts_resformer.yaml"])
    rows = [name for name in CONFIGS if name.startswith("ts_resformer/") and not name.endswith("ts_resformer.yaml")]
    assert len(rows) == 4 + 4 + 8 + 14 + 14 + 5
    for name in rows:
        row = read_config(FILES[name])
        changed = {field for field in row if row[field] != whole.get(field)}
        assert changed == {"output_dir", "front_end" if "slice" in name else "model"}
