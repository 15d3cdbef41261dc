"""hfmgc-s3t: the common tests, Swin's sizes, and MoCo's key encoder and queue against cases computed by hand."""

import math

import pytest
import torch
from architecture_tester import ArchitectureTester
from forked import distribute
from huggingface_hub.errors import StrictDataclassError
from pretraining_tester import PretrainingTester, pretrain_here, pretraining_settings
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForAudioClassification, SwinModel

from hfmgc.errors import ConfigError
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models.configuration_s3t import S3TConfig
from hfmgc.models.modeling_s3t import S3TForAudioClassification, S3TForPreTraining, S3TModel
from hfmgc.settings import settings_from
from hfmgc.training.arguments import ModelArguments, RunArguments
from hfmgc.training.build import build_model
from hfmgc.training.pretraining.arguments import PRETRAINING_GROUPS, PRETRAINING_SETTINGS, check_pretraining
from recipes import write_config, write_features


BACKBONE = {"embed_dim": 8, "depths": [1, 2], "num_heads": [2, 4], "window_size": 4, "patch_size": 2}


def tiny(**fields) -> S3TConfig:
    fields.setdefault("id2label", {0: "a", 1: "b", 2: "c"})
    return S3TConfig(**{"backbone_config": dict(BACKBONE), "num_bins": 16, "projection_size": 4, **fields})


def contrast(**fields) -> S3TForPreTraining:
    torch.manual_seed(0)
    return S3TForPreTraining(tiny(**{"queue_length": 8, **fields}))


def pairs(examples: int, seed: int = 0) -> torch.Tensor:
    """Two views of each example [examples, 2, frames, bins]."""
    return torch.randn(examples, 2, 24, 16, generator=torch.Generator().manual_seed(seed))


class TestS3T(ArchitectureTester):
    model_type = "hfmgc-s3t"
    num_hidden_states = 3
    window_shape = (24, 16)
    other_lengths = (3, 15, 40)
    wrong_windows = (((24, 20), "expected 16 bins in the last dimension, got 20"),)

    def shrunken(self):
        return {"backbone_config": BACKBONE}

    def config(self, **fields):
        return tiny(**fields)

    def extractor(self, **fields):
        return SpectrogramFeatureExtractor(**{"num_bins": 16, "window_frames": 24, **fields})

    def test_attentions_are_those_of_every_layer_by_call_and_by_config(self, tmp_path):
        """Of the last block of each stage: six windows of 2 x 3, then of 1 x 2 attention windows of 16 patches."""
        values = self.values(2, 3)
        output = self.model(attn_implementation="eager")(values, output_attentions=True)
        assert [list(attention.shape) for attention in output.attentions] == [[36, 2, 16, 16], [12, 4, 16, 16]]
        for attention in output.attentions:
            self.close(attention.sum(dim=-1), torch.ones(attention.shape[:-1]))
        folder, _ = self.saved(tmp_path)
        for model in (
            self.model(output_attentions=True),
            S3TForAudioClassification.from_pretrained(folder, output_attentions=True),
        ):
            for attention, expected in zip(model(values).attentions, output.attentions, strict=True):
                assert torch.equal(attention, expected)

    @torch.no_grad()
    def test_a_square_window_is_computed_as_swin_computes_an_image(self):
        model = self.model(num_bins=None)
        swin = SwinModel(model.config.backbone_config).eval()
        swin.load_state_dict(model.model.backbone.state_dict())
        values = torch.randn(
            2, 32, 32, generator=torch.Generator().manual_seed(0)
        )  # stages of 16 x 16 and 8 x 8 patches
        expected = swin(values.transpose(1, 2).unsqueeze(1)).pooler_output
        self.close(model.model(values).pooler_output, expected)

    @torch.no_grad()
    def test_short_windows_change_nothing_for_later_ones(self):
        model, values = self.model(), self.values(2)
        before = model(values).logits
        model(values[:, :5])
        assert torch.equal(model(values).logits, before)


class TestS3TForPreTraining(PretrainingTester):
    model_type = "hfmgc-s3t"
    window_shape = (24, 16)
    wrong_windows = (((24, 20), "expected 16 bins"),)

    def config(self, **fields):
        return tiny(**{"queue_length": 8, **fields})

    def recipe(self, folder):
        return {"model": {"backbone_config": BACKBONE, "projection_size": 4, "queue_length": 8}}

    def test_a_few_steps_lower_the_loss(self):
        """Of other examples in each step, once the queue is full of keys; chance is a loss of ln 17."""
        generator = torch.Generator().manual_seed(0)
        model = self.model(queue_length=16, momentum=0.9).train()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
        losses = []
        for step in range(60):
            spectra = torch.randn(8, 1, 1, 16, generator=generator)
            loss = model(spectra + 0.3 * torch.randn(8, 2, 24, 16, generator=generator)).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            model.after_optimizer_step(step, 60)
            losses.append(loss.item())
        full = sum(losses[2:7]) / 5
        assert sum(losses[-5:]) / 5 < 0.8 * min(full, math.log(17))


RANK = """
import sys
from safetensors.torch import save_file
from hfmgc.settings import read_settings
from hfmgc.training.pretraining.arguments import PRETRAINING_GROUPS, PRETRAINING_SETTINGS
from hfmgc.training.pretraining.run import pretrain

trainer = pretrain(read_settings(sys.argv[1:], PRETRAINING_GROUPS, defaults=PRETRAINING_SETTINGS))
state = trainer.accelerator.unwrap_model(trainer.model).state_dict()
save_file(state, f"{trainer.args.output_dir}/rank{trainer.args.process_index}.safetensors")
"""


@pytest.mark.launches
def test_two_processes_with_micro_batches_end_as_one_process_with_whole_batches(tmp_path):
    data = write_features(tmp_path / "features.parquet")  # 16 tracks
    model = {"backbone_config": BACKBONE, "projection_size": 4, "queue_length": 16, "momentum": 0.9}
    common = {"model_type": "hfmgc-s3t", "model": model, "optim": "sgd", "max_steps": 3, "save_strategy": "no"}
    whole = pretraining_settings(data, tmp_path / "whole", **common, per_device_train_batch_size=8)
    pretrain_here(tmp_path, whole)
    (tmp_path / "rank.py").write_text(RANK)
    parts = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "ddp_backend": "gloo"}
    settings = pretraining_settings(data, tmp_path / "ddp", **common, **parts)
    result = distribute(2, tmp_path / "rank.py", write_config(tmp_path / "ddp.yaml", settings))
    assert result.returncode == 0, result.stderr[-3000:]
    first, second = (load_file(tmp_path / "ddp" / f"rank{rank}.safetensors") for rank in range(2))
    expected = load_file(tmp_path / "whole" / "model.safetensors")
    assert first["queue_position"] == expected["queue_position"] == 24 % 16
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        if name == "queue":  # processes enqueue one after the other, so that the order is another one
            value, expected[name] = (rows[rows[:, 0].argsort()] for rows in (value, expected[name]))
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=1e-4, msg=name)


def test_swin_t_has_the_published_size():
    with torch.device("meta"):
        model = S3TForAudioClassification(S3TConfig(num_labels=10))
    backbone = model.config.backbone_config
    assert (backbone.embed_dim, list(backbone.depths), model.model.embedding_size) == (96, [2, 2, 6, 2], 768)
    # Swin-T has 28.3 million parameters, 769,000 of them its classifier of 1,000 classes and 3,072 more for three channels.
    assert model.num_parameters() == 28_288_354 - 769_000 - 2 * 16 * 96 + 10 * 769


def test_no_batch_norm_reveals_which_key_belongs_to_a_query():
    assert not [module for module in contrast().modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def test_the_key_encoder_starts_as_a_copy_that_is_not_trained():
    model, values = contrast(), pairs(4)
    model(values).loss.backward()
    keys, queries = model._parameter_pairs()
    assert len(keys) == len(queries) > 20
    for key, query in zip(keys, queries, strict=True):
        assert torch.equal(key, query) and key is not query
        assert key.grad is None and not key.requires_grad
        assert query.grad is not None and query.grad.any()
    torch.testing.assert_close(model.queue.norm(dim=-1), torch.ones(8))


def test_the_loss_is_that_computed_by_hand():
    model, vectors = contrast(queue_length=2, projection_size=2, temperature=0.5), {}
    # Queries (1, 0) and (0, 1), keys (0.6, 0.8) for both, negatives (1, 0) and (-1, 0).
    vectors["query"] = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    vectors["key"] = torch.tensor([[6.0, 8.0], [0.6, 0.8]])
    model.projection.register_forward_hook(lambda *_: vectors["query"])
    model.key_projection.register_forward_hook(lambda *_: vectors["key"])
    model.queue.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    first = -math.log(math.exp(1.2) / (math.exp(1.2) + math.exp(2) + math.exp(-2)))
    second = -math.log(math.exp(1.6) / (math.exp(1.6) + 1 + 1))
    assert model(pairs(2)).loss.item() == pytest.approx((first + second) / 2, abs=1e-6)
    assert model.monitored() == {"contrast_accuracy": 0.5}, "the first query is nearer to a negative than to its key"


def test_the_key_encoder_and_the_queue_after_three_steps_are_those_computed_by_hand():
    model = contrast(momentum=0.9, queue_length=5)
    rows, expected = list(model.queue.clone()), [key.clone() for key in model._parameter_pairs()[0]]
    # Two keys a step fill the five rows and wrap around.
    for step, places in enumerate(((0, 1), (2, 3), (4, 0))):
        values = pairs(2, seed=step)
        keys = F.normalize(model.key_projection(model.key_model(values[:, 1]).pooler_output), dim=-1)
        model(values)
        with torch.no_grad():
            for query in model._parameter_pairs()[1]:
                query += 1.0
        model.after_optimizer_step(step, 3)
        for place, key in zip(places, keys, strict=True):
            rows[place] = key
        expected = [0.9 * key + 0.1 * query for key, query in zip(expected, model._parameter_pairs()[1], strict=True)]
        torch.testing.assert_close(model.queue, torch.stack(rows))
        for key, other in zip(model._parameter_pairs()[0], expected, strict=True):
            torch.testing.assert_close(key, other)
    assert model.queue_position == 1


def test_micro_batches_change_key_encoder_and_queue_as_one_batch_does():
    values, models = pairs(4), []
    for parts in ([values], values.split(2)):
        model = contrast()
        for part in parts:
            queue = model.queue.clone()
            (model(part).loss / len(parts)).backward()
            assert torch.equal(model.queue, queue), "micro-batches of a step must see the same negatives"
        model.after_optimizer_step(0, 1)
        models.append(model)
    whole, split = models
    torch.testing.assert_close(split.queue, whole.queue)
    assert split.queue_position == whole.queue_position == 4
    for one, other in zip(whole.parameters(), split.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4)
        assert torch.equal(one, other)


def test_evaluation_leaves_the_queue_alone():
    model, values = contrast(), pairs(4)
    model.eval()(values)
    assert not model._new_keys
    loss = model.train()(values).loss
    model.after_optimizer_step(0, 1)
    model.eval()(pairs(4, seed=1))
    assert model.queue_position == 4 and not model._new_keys and torch.isfinite(loss)


def test_a_collapse_shows_in_the_deviation_of_the_keys():
    model = contrast(projection_size=64)
    spread, same = torch.randn(512, 64, generator=torch.Generator().manual_seed(0)), torch.ones(512, 64)
    for keys, deviation in ((spread, 1.0), (same, 0.0)):
        model._new_keys = [F.normalize(keys, dim=-1)]
        model.after_optimizer_step(0, 1)
        assert model.monitored()["key_deviation"] == pytest.approx(deviation, abs=0.02)


def test_bfloat16_trains_and_compares_in_float32():
    model, values = contrast(), pairs(4)
    expected = model(values).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(values).loss
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, atol=0.1, rtol=0)
    loss.backward()
    model.after_optimizer_step(0, 1)
    assert model.queue.dtype == torch.float32
    assert all(torch.isfinite(query.grad).all() for query in model._parameter_pairs()[1])


def test_a_pretrained_checkpoint_starts_a_classifier_in_transformers_and_in_the_recipes(tmp_path):
    pretrained = contrast()
    pretrained.save_pretrained(tmp_path)
    SpectrogramFeatureExtractor(num_bins=16, window_frames=24).save_pretrained(tmp_path)
    loaded, report = AutoModelForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert report["missing_keys"] == {"classifier.weight", "classifier.bias"} and not report["unexpected_keys"]
    arguments = ModelArguments("hfmgc-s3t", str(tmp_path), model={"backbone_config": {"drop_path_rate": 0.2}})
    built = build_model(arguments, ["a", "b"], RunArguments(output_dir=str(tmp_path / "run"), use_cpu=True))
    assert (built.config.backbone_config.drop_path_rate, built.config.backbone_config.embed_dim) == (0.2, 8)
    for name, expected in pretrained.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], expected), name
        assert torch.equal(built.model.state_dict()[name], expected), name


def test_an_encoder_starts_a_contrast_with_an_equal_key_encoder_and_a_random_queue(tmp_path):
    contrast().model.save_pretrained(tmp_path)
    torch.manual_seed(1)
    model = S3TForPreTraining.from_pretrained(tmp_path)
    for name, expected in S3TModel.from_pretrained(tmp_path).state_dict().items():
        assert torch.equal(model.model.state_dict()[name], expected)
    for key, query in zip(*model._parameter_pairs(), strict=True):
        assert torch.equal(key, query)
    torch.testing.assert_close(model.queue.norm(dim=-1), torch.ones(len(model.queue)))
    assert model.queue_position == 0


def test_a_queue_that_does_not_fit_the_data_or_the_batch_is_refused():
    model = contrast(queue_length=12)
    model.check_data(num_examples=12, global_batch=4)
    with pytest.raises(ValueError, match=r"queue_length 12 .* 11 examples"):
        model.check_data(num_examples=11, global_batch=4)
    with pytest.raises(ValueError, match=r"queue_length 12 .* multiple .* 8"):
        model.check_data(num_examples=100, global_batch=8)


def test_a_queue_that_does_not_fit_the_batch_is_refused_before_the_data_are_read(tmp_path):
    data = write_features(tmp_path / "features.parquet")
    more = {"model_type": "hfmgc-s3t", "model": {"queue_length": 8}, "gradient_accumulation_steps": 3}
    settings = {**PRETRAINING_SETTINGS, **pretraining_settings(data, tmp_path / "run", **more)}
    with pytest.raises(ConfigError, match=r"queue_length 8 .* global batch of 12"):
        check_pretraining(settings_from(settings, PRETRAINING_GROUPS, where="test"))


@pytest.mark.parametrize("shape", [(4, 24, 16), (4, 3, 24, 16)])
def test_other_numbers_of_views_are_refused(shape):
    with pytest.raises(ValueError, match=r"\[examples, 2, frames, bins\]"):
        contrast()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"momentum": 1.1}, "momentum"),
        ({"temperature": 0.0}, "temperature"),
        ({"queue_length": 0}, "queue_length"),
        ({"projection_size": 0}, "projection_size"),
        ({"num_bins": 0}, "num_bins"),
        ({"backbone_config": {"num_channels": 3}}, "backbone_config.num_channels must be 1"),
        ({"backbone_config": {"use_absolute_embeddings": True}}, "backbone_config.use_absolute_embeddings"),
        ({"backbone_config": {"num_heads": [3, 6]}}, "backbone_config.num_heads must have 4 entries"),
        ({"backbone_config": {"num_heads": [3, 6, 12, 7]}}, "backbone_config.num_heads: 7 "),
        ({"backbone_config": {"window_size": 0}}, "backbone_config.window_size"),
        ({"backbone_config": {"hidden_act": "swosh"}}, "backbone_config.hidden_act: .* 'swosh'"),
    ],
)
def test_impossible_configs_are_refused(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        S3TConfig(**fields)
