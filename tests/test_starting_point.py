"""Going on from a checkpoint of ours: what is taken over, what begins anew, and what is refused."""

import json

import pytest
import torch

from hfmgc.errors import CheckpointError, ConfigError
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models.configuration_lgnet import LGNetConfig
from hfmgc.models.modeling_lgnet import LGNetForAudioClassification
from hfmgc.training import build
from hfmgc.training.arguments import DataArguments, ModelArguments, RunArguments
from hfmgc.training.build import (
    adapt_model,
    build_config,
    build_feature_extractor,
    build_model,
    with_checkpoint_type,
)
from hfmgc.training.check import check_recipe
from hfmgc.training.show import show_recipe
from recipes import write_config


GENRES = ["blues", "metal", "pop"]


@pytest.fixture(autouse=True)
def _nothing_kept():
    build._checkpoint.cache_clear()


@pytest.fixture
def run(tmp_path) -> RunArguments:
    return RunArguments(output_dir=str(tmp_path / "out"), use_cpu=True)


@pytest.fixture
def lgnet(tmp_path) -> str:
    """A checkpoint with batch norm, class weights and a front end with fitted statistics."""
    torch.manual_seed(3)
    backbone = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]}
    fields = {"num_experts": 2, "expert_hidden_size": 6, "gate": "sigmoid", "class_weights": [1.0, 2.0, 3.0]}
    model = LGNetForAudioClassification(
        LGNetConfig(backbone_config=backbone, id2label=dict(enumerate(GENRES)), voting="majority", **fields)
    )
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 2.0)
    model.save_pretrained(tmp_path / "lgnet")
    SpectrogramFeatureExtractor(
        sampling_rate=16000, n_fft=512, num_bins=32, window_frames=32, normalization="statistics", mean=-30.0, std=12.0
    ).save_pretrained(tmp_path / "lgnet")
    return str(tmp_path / "lgnet")


def start_from(checkpoint: str, run: RunArguments, **more) -> ModelArguments:
    return with_checkpoint_type(ModelArguments(model_name_or_path=checkpoint, **more), run)


def same(one: dict, other: dict, prefix: str) -> list[bool]:
    return [torch.equal(one[name], other[name]) for name in one if name.startswith(prefix)]


def test_the_same_genres_keep_every_weight_and_buffer(lgnet, run):
    arguments = start_from(lgnet, run)
    assert arguments.model_type == "hfmgc-lgnet"
    model = build_model(arguments, GENRES, run)
    before = LGNetForAudioClassification.from_pretrained(lgnet)
    assert all(same(before.state_dict(), model.state_dict(), ""))
    assert model.config.gate == "sigmoid"
    assert model.config.voting == "majority"
    assert model.config.class_weights is None  # they were of the other data


@pytest.mark.parametrize("genres", [["jazz", "rock"], ["blues", "metal", "rock"], ["pop", "metal", "blues"]])
def test_other_genres_keep_the_body_and_get_a_new_head(lgnet, run, genres, caplog):
    model = build_model(start_from(lgnet, run), genres, run)
    before = LGNetForAudioClassification.from_pretrained(lgnet).state_dict()
    assert all(same(before, model.state_dict(), "model."))
    assert list(model.config.id2label.values()) == genres
    assert model.config.label2id == {genre: index for index, genre in enumerate(genres)}
    assert model.classifier.output.weight.shape[1] == len(genres)
    assert not torch.equal(model.state_dict()["classifier.dense.weight"], before["classifier.dense.weight"])


def test_a_new_head_depends_on_the_seed_alone(lgnet, run):
    one, again = (build_model(start_from(lgnet, run), ["jazz", "rock"], run).state_dict() for _ in range(2))
    assert all(same(one, again, ""))
    other = build_model(start_from(lgnet, run), ["jazz", "rock"], run.with_values(seed=7)).state_dict()
    assert not torch.equal(one["classifier.dense.weight"], other["classifier.dense.weight"])


def test_fields_that_change_no_size_may_be_changed(lgnet, run):
    arguments = start_from(
        lgnet,
        run,
        model={"dropout": 0.3, "voting": "mean", "router_frozen_after_epochs": None, "class_weights": [1, 1, 2]},
    )
    check_recipe((arguments, DataArguments(), run))
    model = build_model(arguments, GENRES, run)
    assert (model.config.dropout, model.config.voting) == (0.3, "mean")
    assert model.config.router_frozen_after_epochs is None
    assert model.config.class_weights == [1, 1, 2]


@pytest.mark.parametrize(
    "fields",
    [
        {"backbone_config": {"hidden_sizes": [4, 16]}},
        {"backbone_config": {"depths": [2, 1]}},  # layers that the checkpoint lacks would stay random
        {"backbone_config": {"hidden_sizes": [8, 8]}},
    ],
)
def test_changed_sizes_are_one_clear_error_before_the_data_are_read(lgnet, run, fields):
    arguments = start_from(lgnet, run, model=fields)
    with pytest.raises(CheckpointError, match=r"lgnet does not fit the recipe's model \(.*: leave out the fields"):
        check_recipe((arguments, DataArguments(), run))
    with pytest.raises(CheckpointError, match="does not fit"):
        build_model(arguments, ["jazz", "rock"], run)


def test_a_head_of_another_size_is_refused_for_the_same_genres_alone(lgnet, run):
    arguments = start_from(lgnet, run, model={"expert_hidden_size": 12})
    with pytest.raises(CheckpointError, match=r"classifier\.dense\.bias: \[2, 6\] .*\[2, 12\]"):
        build_model(arguments, GENRES, run)
    assert build_model(arguments, ["jazz", "rock"], run).config.expert_hidden_size == 12


def test_unknown_fields_name_the_nearest(lgnet, run):
    with pytest.raises(ConfigError, match=r"no field 'dropuot' \(did you mean 'dropout'"):
        build_config(start_from(lgnet, run, model={"dropuot": 0.1}), GENRES)


def test_the_front_end_is_the_checkpoints_with_the_recipes_fields_in_place(lgnet, run):
    same_one = build_feature_extractor(start_from(lgnet, run))
    saved = SpectrogramFeatureExtractor.from_pretrained(lgnet)
    assert same_one.to_dict() == {name: value for name, value in saved.to_dict().items() if name != "auto_map"}
    changed = build_feature_extractor(start_from(lgnet, run, front_end={"window_frames": 64, "max_windows": 3}))
    assert changed.window_shape == (64, 32)
    assert (changed.max_windows, changed.mean, changed.std) == (3, -30.0, 12.0)
    with pytest.raises(ConfigError, match=r"front_end\.preset: .*lgnet"):
        build_feature_extractor(start_from(lgnet, run, front_end={"preset": "deformer"}))
    with pytest.raises(ConfigError, match="max_window"):
        build_feature_extractor(start_from(lgnet, run, front_end={"max_window": 3}))


def test_a_window_that_does_not_fit_the_checkpoint_is_refused(lgnet, run):
    arguments = start_from(lgnet, run, front_end={"window_frames": 6})
    with pytest.raises(ConfigError, match=r"model and front_end do not fit: expected at least 8 frames.*got 6"):
        check_recipe((arguments, DataArguments(), run))


def test_an_ast_goes_on_with_an_adapter(tiny_checkpoint, run):
    checkpoint = str(tiny_checkpoint())
    arguments = start_from(checkpoint, run, adapter="dora")
    assert arguments.model_type == "hfmgc-ast"
    model = adapt_model(build_model(arguments, ["jazz", "rock"], run), arguments)
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert all("lora" in name or "classifier" in name for name in trained)
    frozen = build_model(start_from(checkpoint, run, freeze_backbone=True), ["blues", "metal", "pop"], run)
    assert {name.split(".")[0] for name, value in frozen.named_parameters() if value.requires_grad} == {"classifier"}


@pytest.mark.parametrize("spoil", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_a_checkpoint_that_lacks_a_file_is_one_line_that_names_it(lgnet, run, spoil, tmp_path):
    (tmp_path / "lgnet" / spoil).unlink()
    with pytest.raises(CheckpointError, match=f"lgnet' has no {spoil}") as caught:
        start_from(lgnet, run)
    assert "\n" not in str(caught.value)


def test_what_is_no_checkpoint_is_one_line(lgnet, run, tmp_path):
    for name, problem in (
        (str(tmp_path / "nowhere"), "nowhere': no such folder: .*finished run"),
        ("nobody/nowhere", "no such folder, and it could not be loaded from the Hub"),
    ):
        with pytest.raises(CheckpointError, match=problem) as caught:
            start_from(name, run)
        assert "\n" not in str(caught.value)
    config = tmp_path / "lgnet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "bert"}))
    with pytest.raises(CheckpointError, match="architecture 'bert'"):
        start_from(lgnet, run)


def test_a_model_has_one_beginning():
    with pytest.raises(ValueError, match="model_name_or_path and pretrained_backbone exclude each other"):
        ModelArguments(model_name_or_path="a", pretrained_backbone="b")


def test_show_tells_what_a_recipe_goes_on_from(lgnet, tmp_path):
    settings = {"model_name_or_path": lgnet, "output_dir": str(tmp_path / "out")}
    result, text = show_recipe(str(write_config(tmp_path / "run.yaml", settings)), [])
    assert result["model_type"] == "hfmgc-lgnet"
    assert result["front_end"]["num_bins"] == 32
    assert f"hfmgc-lgnet from {lgnet}" in text
