"""Deformer: the encoder and its classifier, the denoising objective, and its three stages."""

import json
import re
from pathlib import Path

import pytest
import soundfile
import torch
import yaml
from architecture_tester import ArchitectureTester
from conftest import tone
from huggingface_hub.errors import StrictDataclassError
from pretraining_tester import PretrainingTester, pretraining_settings
from spectrograms import SMALL
from torch.nn import functional as F

from hfmgc.errors import CheckpointError, ConfigError
from hfmgc.evaluation.checkpoints import load_checkpoint
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models.configuration_deformer import DeformerConfig
from hfmgc.models.configuration_prior_autoencoder import PriorAutoencoderConfig
from hfmgc.models.modeling_deformer import DeformerForPreTraining, DeformerModel
from hfmgc.models.modeling_prior_autoencoder import PriorAutoencoder
from hfmgc.models.spectrogram_patches import from_patches, to_patches
from hfmgc.settings import settings_from
from hfmgc.training.arguments import ModelArguments, RunArguments
from hfmgc.training.build import with_checkpoint_type
from hfmgc.training.pretraining.arguments import (
    PRETRAINING_GROUPS,
    PRETRAINING_SETTINGS,
    build_pretraining_model,
    check_pretraining,
)
from recipes import FRONT_END, ROOT, hfmgc_here, run_here, write_config, write_features


BACKBONE = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
PRIOR = {"patch_size": 8, "hidden_sizes": [4, 8]}


def config(**fields) -> DeformerConfig:
    return DeformerConfig(**{"backbone_config": BACKBONE, "prior_config": PRIOR, "num_labels": 3, **fields})


def save_prior(folder, **fields):
    """Save a prior autoencoder, and the front end that a run would save with it."""
    torch.manual_seed(0)
    PriorAutoencoder(PriorAutoencoderConfig(**{**PRIOR, **fields})).save_pretrained(folder)
    SpectrogramFeatureExtractor(**SMALL).save_pretrained(folder)
    return folder


class TestDeformer(ArchitectureTester):
    model_type = "hfmgc-deformer"
    window_shape = (32, 32)
    num_hidden_states = 3
    num_attentions = 2
    wrong_windows = (((32, 30), "expected 32 bins"), ((30, 32), "expected 32 frames"))

    def config(self, **fields) -> DeformerConfig:
        return config(**fields)

    def extractor(self, **fields) -> SpectrogramFeatureExtractor:
        return SpectrogramFeatureExtractor(**{**SMALL, "window_seconds": 31 * 128 / 16000, **fields})

    def graph_model(self):
        return self.model(backbone_config={**BACKBONE, "num_hidden_layers": 1})

    def shrunken(self):
        return {
            "backbone_config": {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 32,
            }
        }


class TestDeformerForPreTraining(PretrainingTester):
    model_type = "hfmgc-deformer"
    window_shape = (32, 32)
    wrong_windows = (((32, 30), "expected 32 bins"), ((30, 32), "expected 32 frames"))

    def config(self, **fields) -> DeformerConfig:
        return config(**fields)

    def recipe(self, folder):
        prior = save_prior(folder / "prior")
        return {"model": {"backbone_config": BACKBONE}, "pretrained_parts": {"prior": str(prior)}}


def test_the_default_is_vit_base_over_196_patches():
    backbone = DeformerConfig().backbone_config
    assert DeformerConfig().noise_ratio == 0.75
    assert (backbone.hidden_size, backbone.num_hidden_layers, backbone.num_attention_heads) == (768, 12, 12)
    assert backbone.intermediate_size == 4 * 768
    with torch.device("meta"):
        model = DeformerForPreTraining(DeformerConfig())
    assert model.model.backbone.embeddings.position_embeddings.shape == (1, 197, 768)
    assert model.model.backbone.config._attn_implementation == "sdpa"
    assert (model.projection.in_features, model.projection.out_features) == (768, 512)


def test_the_loss_is_taken_over_the_noised_patches_alone():
    """Computed by hand for one window of 16 patches, 12 of them with noise."""
    model, values, seed = TestDeformerForPreTraining().model(), TestDeformerForPreTraining().values(1), 4
    patches = to_patches(values, 8)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(16, generator=generator)[:12]
    noise = torch.zeros(16, 64)
    noise[chosen] = torch.randn(12, 64, generator=generator)
    noised = from_patches(patches + noise.view(1, 16, 8, 8), 32, 32)
    states = model.model.backbone(noised.transpose(1, 2)[:, None]).last_hidden_state[:, 1:]
    restored = model.prior.decode(model.projection(states))
    expected = F.mse_loss(restored[0, chosen], patches[0, chosen])
    torch.testing.assert_close(model(values, seeds=torch.tensor([seed])).loss, expected)
    with_noise, cleaned = model.restore(values, seeds=torch.tensor([seed]))
    torch.testing.assert_close(with_noise, noised)
    clean = sorted(set(range(16)) - set(chosen.tolist()))
    torch.testing.assert_close(to_patches(cleaned, 8)[0, clean], patches[0, clean])
    torch.testing.assert_close(to_patches(cleaned, 8)[0, chosen], restored[0, chosen])


@pytest.mark.parametrize(("ratio", "count"), [(0.75, 12), (1.0, 16), (0.01, 1)])
def test_as_many_patches_get_noise_as_the_ratio_says(ratio, count):
    model, values = TestDeformerForPreTraining().model(noise_ratio=ratio), TestDeformerForPreTraining().values(2)
    with_noise, _ = model.restore(values, seeds=torch.tensor([1, 2]))
    changed = to_patches(with_noise - values, 8).abs().amax(dim=(2, 3)) > 0
    assert changed.sum(dim=1).tolist() == [count, count]
    if ratio == 0.75:
        noise = to_patches(with_noise - values, 8)[changed]
        assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1
        assert not torch.equal(changed[0], changed[1])


def test_the_prior_is_frozen_also_after_loading(tmp_path):
    model = TestDeformerForPreTraining().model()
    model.save_pretrained(tmp_path)
    for one in (model, DeformerForPreTraining.from_pretrained(tmp_path).train()):
        assert not any(parameter.requires_grad for parameter in one.prior.parameters())
        assert all(parameter.requires_grad for parameter in one.model.parameters())


def test_the_classifier_reads_the_cls_token():
    model, values = TestDeformer().model(), TestDeformer().values(2)
    state = model.model.backbone(values.transpose(1, 2)[:, None]).last_hidden_state[:, 0]
    torch.testing.assert_close(model(values).window_logits[:, 0], model.classifier(state))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"noise_ratio": -0.1}, "noise_ratio"),
        ({"noise_ratio": 1.1}, "noise_ratio"),
        ({"backbone_config": {**BACKBONE, "patch_size": 12}}, "patch_size 12 does not divide image_size 32"),
        ({"backbone_config": {**BACKBONE, "patch_size": 16}}, r"prior_config\.patch_size is 8"),
        ({"backbone_config": {**BACKBONE, "num_channels": 3}}, "num_channels"),
        ({"backbone_config": {**BACKBONE, "num_attention_heads": 3}}, "num_attention_heads"),
    ],
)
def test_impossible_fields_are_refused_by_name(fields, message):
    with pytest.raises(StrictDataclassError) as caught:
        config(**fields)
    assert re.search(message, f"{caught.value} {caught.value.__cause__}")


# The prior of a pre-training


def groups(tmp_path, **more):
    data = write_features(tmp_path / "features.parquet")
    settings = pretraining_settings(
        data, tmp_path / "run", **{"model_type": "hfmgc-deformer", "model": {"backbone_config": BACKBONE}, **more}
    )
    return settings_from({**PRETRAINING_SETTINGS, **settings}, PRETRAINING_GROUPS, where="test")


def test_the_prior_of_an_earlier_run_is_used(tmp_path):
    prior = save_prior(tmp_path / "prior")
    settings = groups(tmp_path, pretrained_parts={"prior": str(prior)})
    model = build_pretraining_model(settings[0], settings[2])
    for name, value in PriorAutoencoder.from_pretrained(prior).state_dict().items():
        assert torch.equal(model.prior.state_dict()[name], value)
    assert model.projection.out_features == 32


def test_a_missing_or_unfit_prior_is_refused_by_field(tmp_path):
    with pytest.raises(ConfigError, match=r"pretrained_parts\.prior is not set"):
        check_pretraining(groups(tmp_path))
    prior = save_prior(tmp_path / "prior")
    model = {"backbone_config": BACKBONE, "prior_config": {"hidden_sizes": [2, 4]}}
    with pytest.raises(ConfigError, match=r"model\.prior_config"):
        check_pretraining(groups(tmp_path, pretrained_parts={"prior": str(prior)}, model=model))
    other = save_prior(tmp_path / "other", patch_size=16)
    with pytest.raises(ConfigError, match=r"prior_config\.patch_size is 16"):
        check_pretraining(groups(tmp_path, pretrained_parts={"prior": str(other)}))
    foreign = tmp_path / "foreign"
    TestDeformerForPreTraining().model().save_pretrained(foreign)
    SpectrogramFeatureExtractor(**SMALL).save_pretrained(foreign)
    with pytest.raises(CheckpointError, match=r"pretrained_parts\.prior .*'hfmgc-deformer'"):
        check_pretraining(groups(tmp_path, pretrained_parts={"prior": str(foreign)}))
    with pytest.raises(CheckpointError, match="no such folder"):
        check_pretraining(groups(tmp_path, pretrained_parts={"prior": str(tmp_path / "nowhere")}))


# The three stages


def stage_arguments(features, folder) -> list[str]:
    """Return the options with which all stages of the small recipe take seconds."""
    front_end = {"preset": "null", **FRONT_END, "normalization": "min_max", "resize": "null"}
    words = ["--small", "--output_dir", str(folder), "--data", f"[{features}]", "--finetune.data", str(features)]
    for stage in ("prior", "pretrain", "finetune"):
        for name, value in {**front_end, "normalize_over": "window", "frames_per_second": "null"}.items():
            if stage != "finetune" or name != "preset":
                words += [f"--{stage}.front_end.{name}", str(value)]
        words += [f"--{stage}.max_steps", "4", f"--{stage}.eval_steps", "2", f"--{stage}.save_steps", "2"]
        words += [f"--{stage}.use_cpu", "true", f"--{stage}.disable_tqdm", "true"]
        words += [f"--{stage}.per_device_train_batch_size", "4"]
    words += ["--prior.model.patch_size", "8", "--prior.model.hidden_sizes", "[4, 8]"]
    words += [
        "--pretrain.model.backbone_config",
        yaml.safe_dump(BACKBONE, default_flow_style=True, width=1000).strip(),
    ]
    words += [
        "--finetune.model.backbone_config",
        yaml.safe_dump(BACKBONE, default_flow_style=True, width=1000).strip(),
    ]
    words += ["--scratch.model.prior_config", "{patch_size: 8}"]
    words += ["--finetune.front_end.window_seconds", "null", "--finetune.split_policy", "stratified"]
    words += ["--finetune.spec_augment", "{}", "--finetune.learning_rate", "0.01", "--finetune.split_ratios", "2:1:1"]
    return words


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deformer")
    features = write_features(folder / "features.parquet")
    words = [*stage_arguments(features, folder / "runs"), "--stages", "prior,pretrain,finetune,scratch"]
    result = run_here(ROOT / "recipes" / "pretrain_deformer.py", *words)
    assert result.returncode == 0, result.stderr
    return folder / "runs", result.stdout


def test_all_stages_run_each_on_the_result_of_the_one_before(stages):
    runs, output = stages
    for stage in ("prior", "pretrain", "finetune", "scratch"):
        assert f"== {stage} ==" in output
    prior = PriorAutoencoder.from_pretrained(runs / "small_prior").state_dict()
    pretrained = DeformerForPreTraining.from_pretrained(runs / "small_pretrain")
    assert all(torch.equal(pretrained.prior.state_dict()[name], value) for name, value in prior.items())
    for stage, backbone in (("finetune", "small_pretrain"), ("scratch", None)):
        assert json.loads((runs / f"small_{stage}" / "results.json").read_text())["metrics"]["accuracy"] >= 0
        record = yaml.safe_load((runs / f"small_{stage}" / "run.yaml").read_text())["model"]
        assert record["backbone"] is None if backbone is None else Path(record["backbone"]).name == backbone
    for path in runs.glob("*/*"):
        if path.suffix in (".json", ".yaml", ".md"):
            assert str(runs) not in path.read_text(), f"{path} publishes a path of the machine"
    assert (runs / "small_finetuning_losses.png").stat().st_size > 1000
    for stage in ("prior", "pretrain"):
        assert (runs / f"small_{stage}" / "restored.png").stat().st_size > 1000
        assert "restored.png" in (runs / f"small_{stage}" / "README.md").read_text()


def test_a_pretrained_encoder_can_be_probed(stages, tmp_path):
    runs, _ = stages
    settings = {"model_name_or_path": str(runs / "small_pretrain"), "data": str(runs.parent / "features.parquet")}
    settings |= {"output_dir": str(tmp_path / "out"), "prefix_store": str(tmp_path / "store"), "split_ratios": "2:1:1"}
    settings |= {"shortest_seconds": 0.0, "use_cpu": True, "disable_tqdm": True}
    result = run_here(ROOT / "recipes" / "probe.py", write_config(tmp_path / "probe.yaml", settings))
    assert result.returncode == 0, result.stderr
    before = DeformerModel.from_pretrained(runs / "small_pretrain").state_dict()
    after = DeformerModel.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_pretrained_checkpoint_of_another_family_is_refused(stages, tmp_path):
    runs, _ = stages
    for folder, model_type, message in (
        ("small_pretrain", "hfmgc-lgnet", "model_name_or_path .*'hfmgc-deformer'"),
        ("small_prior", "hfmgc-deformer", "'hfmgc-prior-autoencoder'"),
    ):
        arguments = ModelArguments(model_type=model_type, model_name_or_path=str(runs / folder))
        with pytest.raises(CheckpointError, match=message):
            with_checkpoint_type(arguments, RunArguments(output_dir=str(tmp_path), use_cpu=True))
    with pytest.raises(CheckpointError, match="has no head"):
        load_checkpoint(str(runs / "small_pretrain"))


def test_restore_draws_a_song(stages, tmp_path):
    runs, _ = stages
    soundfile.write(tmp_path / "song.wav", tone(0, seconds=3.0), 16000)
    picture = tmp_path / "picture.png"
    for stage, better in (("small_prior", False), ("small_pretrain", True)):
        done = hfmgc_here("restore", runs / stage, tmp_path / "song.wav", "--output", picture, "--json")
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert (result["input_error"] > 0) == better and result["restored_error"] > 0
        picture.unlink()
    done = hfmgc_here("restore", runs / "small_finetune", tmp_path / "song.wav")
    assert done.returncode == 1 and "small_finetune" in done.stderr


def test_the_recipe_refuses_unknown_stages_and_options():
    for words, message in (
        (["--stages", "prior,probe"], "no stage 'probe'"),
        (["--rate", "1"], "unknown option '--rate'"),
    ):
        result = run_here(ROOT / "recipes" / "pretrain_deformer.py", *words)
        assert result.returncode == 1 and message in result.stderr
