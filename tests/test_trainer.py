"""What our Trainer adds: averaged weights, a decay by epochs, a collator of its own for training."""

import math
from types import SimpleNamespace
from unittest import mock

import datasets
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import Trainer, TrainerCallback

from hfmgc.data.collation import TrackCollator
from hfmgc.data.features import TrackWindows
from hfmgc.data.split_manifest import SplitManifest
from hfmgc.errors import CheckpointError, ConfigError
from hfmgc.evaluation.predictions import predict_tracks
from hfmgc.models.configuration_lenet import LeNetConfig
from hfmgc.models.configuration_lgnet import LGNetConfig
from hfmgc.models.modeling_lenet import LeNetForAudioClassification
from hfmgc.models.modeling_lgnet import LGNetForAudioClassification
from hfmgc.training.arguments import RunArguments
from hfmgc.training.build import adapt_model
from hfmgc.training.fit import build_trainer
from hfmgc.training.stages import announce
from hfmgc.training.trainer import AVERAGED_WEIGHTS, TrackTrainer, epoch_decay


GENRES = ["blues", "pop"]


class Windows(torch.utils.data.Dataset):
    """Ten training windows of two genres; what epochs it was told of is kept."""

    def __init__(self, count: int = 10):
        self.values = np.random.default_rng(0).standard_normal((count, 32, 32)).astype(np.float32)
        self.epochs: list[int] = []
        self.tracks = datasets.Dataset.from_dict({"genre": [GENRES[row % 2] for row in range(count)]})

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> dict:
        return {"input_values": self.values[index], "genre": GENRES[index % 2], "mixing_key": index}


@pytest.fixture
def validation() -> datasets.Dataset:
    stacks = np.random.default_rng(1).standard_normal((4, 2, 32, 32)).astype(np.float32)
    rows = {"input_values": stacks.tolist(), "genre": GENRES * 2}
    return datasets.Dataset.from_dict(rows).with_format("numpy", columns=["input_values"], output_all_columns=True)


def lgnet(**fields) -> LGNetForAudioClassification:
    """A small net with batch norm, which has running statistics to be averaged."""
    torch.manual_seed(0)
    backbone = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]}
    return LGNetForAudioClassification(
        LGNetConfig(
            **{
                "backbone_config": backbone,
                "num_experts": 2,
                "expert_hidden_size": 4,
                "id2label": dict(enumerate(GENRES)),
                **fields,
            }
        )
    )


def arguments(folder, **more) -> RunArguments:
    return RunArguments(
        **{
            "output_dir": str(folder),
            "num_train_epochs": 2,
            "per_device_train_batch_size": 4,
            "learning_rate": 0.05,
            "lr_scheduler_type": "constant",
            "use_cpu": True,
            "disable_tqdm": True,
            "logging_steps": 1,
            "load_best_model_at_end": False,
            **more,
        }
    )


def trainer_of(model: nn.Module, run: RunArguments, validation, **more) -> TrackTrainer:
    return build_trainer(model, run, GENRES, train=more.pop("train", Windows()), validation=validation, **more)


class KeepSteps(TrainerCallback):
    """Keeps the raw weights after each step."""

    def __init__(self):
        self.steps: list[dict[str, torch.Tensor]] = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.steps.append({name: value.clone() for name, value in model.state_dict().items()})


# Averaged weights


def by_hand(steps: list[dict[str, torch.Tensor]], decay: float) -> dict[str, torch.Tensor]:
    mean = dict(steps[0])
    for count, step in enumerate(steps[1:], start=1):
        share = min(decay, (1 + count) / (10 + count))
        for name, value in step.items():
            mean[name] = share * mean[name] + (1 - share) * value if value.is_floating_point() else value
    return mean


@pytest.mark.parametrize("decay", [0.15, 0.9])
def test_training_ends_with_the_average_of_all_steps(tmp_path, validation, decay):
    model, keep = lgnet(), KeepSteps()
    trainer = trainer_of(model, arguments(tmp_path, weight_averaging=decay), validation)
    trainer.add_callback(keep)
    trainer.train()
    assert len(keep.steps) == 6
    ended, raw = model.state_dict(), keep.steps[-1]
    for name, value in by_hand(keep.steps, decay).items():
        torch.testing.assert_close(ended[name], value, rtol=1e-4, atol=1e-6)
    moved = [name for name in raw if not torch.equal(raw[name], ended[name])]
    assert any(name.endswith("running_var") for name in moved)
    assert any(name.endswith("weight") for name in moved)
    assert trainer.averaged is None


def test_evaluation_in_training_hears_the_average_and_training_goes_on_from_the_raw_weights(tmp_path, validation):
    seen = []

    class Look(TrainerCallback):
        def on_prediction_step(self, args, state, control, model=None, **kwargs):
            seen.append({name: value.clone() for name, value in model.state_dict().items()})

    keep = KeepSteps()
    averaged = trainer_of(lgnet(), arguments(tmp_path / "a", weight_averaging=0.9), validation)
    for callback in (keep, Look()):
        averaged.add_callback(callback)
    averaged.train()
    for value, expected in zip(seen[0].values(), by_hand(keep.steps[:3], 0.9).values(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
    plain_steps = KeepSteps()
    plain = trainer_of(lgnet(), arguments(tmp_path / "b"), validation)
    plain.add_callback(plain_steps)
    plain.train()
    for one, other in zip(keep.steps, plain_steps.steps, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_best_checkpoint_brings_its_own_average_back(tmp_path, validation):
    run = arguments(
        tmp_path, weight_averaging=0.9, load_best_model_at_end=True, num_train_epochs=3, metric_for_best_model="loss"
    )
    keep, model = KeepSteps(), lgnet()
    trainer = trainer_of(model, run, validation)
    trainer.add_callback(keep)
    trainer.train()
    best = trainer.state.best_model_checkpoint
    steps = int(best.rpartition("-")[2])
    for name, value in by_hand(keep.steps[:steps], 0.9).items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    kept = load_file(f"{best}/{AVERAGED_WEIGHTS}")
    assert all(torch.equal(kept[f"module.{name}"], value) for name, value in model.state_dict().items())
    raw = load_file(f"{best}/model.safetensors")
    assert all(torch.equal(raw[name], value) for name, value in keep.steps[steps - 1].items())
    logged = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(min(logged), rel=1e-5)


@pytest.mark.parametrize("precision", [{"bf16": True}, {"channels_last": True}])
def test_averaging_works_in_half_precision_and_with_channels_last(tmp_path, validation, precision):
    model = lgnet()
    trainer = trainer_of(model, arguments(tmp_path, weight_averaging=0.9, **precision), validation)
    trainer.train()
    assert all(value.isfinite().all() for value in model.state_dict().values())
    model.save_pretrained(tmp_path / "saved")
    loaded = type(model).from_pretrained(tmp_path / "saved").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())


def test_a_checkpoint_without_an_average_cannot_be_gone_on_from_with_one(tmp_path, validation):
    trainer_of(lgnet(), arguments(tmp_path, num_train_epochs=1), validation).train()
    again = trainer_of(lgnet(), arguments(tmp_path, weight_averaging=0.9), validation)
    with pytest.raises(CheckpointError, match=f"checkpoint-3 has no {AVERAGED_WEIGHTS}.*weight_averaging"):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight_averaging": 1.0}, r"weight_averaging must lie in \[0, 1\), not 1.0"),
        ({"weight_averaging": -0.1}, "weight_averaging must lie"),
        (
            {"weight_averaging": 0.9, "deepspeed": {"zero_optimization": {"stage": 2}}},
            "weight_averaging .*deepspeed",
        ),
        ({"weight_averaging": 0.9, "fsdp": "full_shard"}, "weight_averaging .*fsdp"),
        ({"decay_from_epoch": -1}, "decay_from_epoch must be at least 0, not -1"),
        ({"decay_from_epoch": 3, "epoch_decay": -1.0}, "epoch_decay must be at least 0, not -1.0"),
        ({"decay_from_epoch": 3, "warmup_steps": 10}, "decay_from_epoch .* leave out warmup_steps"),
        ({"label_smoothing_factor": 0.1}, r"label_smoothing_factor .*model\.label_smoothing"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_their_field(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **fields)


@pytest.mark.parametrize("divided", ["is_fsdp_enabled", "is_deepspeed_enabled"])
def test_averaging_is_refused_where_the_launcher_divides_the_weights(tmp_path, validation, monkeypatch, divided):
    made = TrackTrainer.create_accelerator_and_postprocess

    def divide(self):
        made(self)
        setattr(self, divided, True)

    monkeypatch.setattr(TrackTrainer, "create_accelerator_and_postprocess", divide)
    with pytest.raises(ConfigError, match="weight_averaging does not work"):
        TrackTrainer(
            model=lgnet(),
            args=arguments(tmp_path, weight_averaging=0.9),
            eval_dataset=validation,
            data_collator=TrackCollator({"blues": 0, "pop": 1}),
        )


# Decay by epochs


def test_the_decay_is_that_of_the_paper():
    rates = [epoch_decay(10 * epoch, steps_per_epoch=10, first_epoch=8, decay=0.1) for epoch in range(12)]
    assert rates == pytest.approx([1.0] * 8 + [math.exp(-0.1 * times) for times in (1, 2, 3, 4)])
    inside = [epoch_decay(step, steps_per_epoch=10, first_epoch=8, decay=0.1) for step in range(80, 90)]
    assert len(set(inside)) == 1


@pytest.mark.parametrize(
    ("more", "epochs"),
    [({"num_train_epochs": 4}, 4), ({"num_train_epochs": 2.5}, 2.5), ({"max_steps": 8}, 8 / 3)],
)
def test_training_follows_the_decay_whatever_its_length(tmp_path, validation, more, epochs):
    """Three steps an epoch."""
    run = arguments(tmp_path, decay_from_epoch=1, epoch_decay=0.5, **more)
    trainer = trainer_of(lgnet(), run, validation)
    trainer.train()
    rates = [row["learning_rate"] for row in trainer.state.log_history if "learning_rate" in row]
    assert len(rates) == math.ceil(3 * epochs)
    factors = [1, 1, 1, *(math.exp(-0.5 * times) for times in (1, 2, 3) for _ in range(3))]
    assert rates == pytest.approx([0.05 * factor for factor in factors[: len(rates)]])


def test_a_resumed_training_goes_on_with_the_decay(tmp_path, validation):
    fields = {"num_train_epochs": 3, "decay_from_epoch": 1, "epoch_decay": 0.5}
    trainer_of(lgnet(), arguments(tmp_path / "whole", save_total_limit=None, **fields), validation).train()
    resumed = trainer_of(lgnet(), arguments(tmp_path / "resumed", **fields), validation)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    rates = [row["learning_rate"] for row in resumed.state.log_history if "learning_rate" in row]
    assert rates == pytest.approx([0.05] * 3 + [0.05 * math.exp(-0.5)] * 3 + [0.05 * math.exp(-1)] * 3)


# Epochs


def test_lgnets_router_freezes_after_its_epochs_and_stays_frozen_after_a_resume(tmp_path, validation):
    fields = {"num_train_epochs": 3, "save_total_limit": None, "weight_decay": 0.1}
    keep, train = KeepSteps(), Windows()
    whole = lgnet(router_frozen_after_epochs=1)
    trainer = trainer_of(whole, arguments(tmp_path, **fields), validation, train=train)
    trainer.add_callback(keep)
    trainer.train()
    assert list(dict.fromkeys(train.epochs)) == [0, 1, 2]
    router = [step["classifier.router.weight"] for step in keep.steps]
    assert not torch.equal(router[0], router[2])
    assert all(torch.equal(router[2], later) for later in router[3:])
    others = [step["classifier.dense.weight"] for step in keep.steps]
    assert not torch.equal(others[2], others[-1])

    resumed, train = lgnet(router_frozen_after_epochs=1), Windows()
    trainer = trainer_of(resumed, arguments(tmp_path / "resumed", **fields), validation, train=train)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert set(train.epochs) == {2}
    assert resumed.router_is_frozen
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


def test_the_model_is_told_the_epoch_through_an_adapter_too(tmp_path, validation, monkeypatch):
    from hfmgc.models.configuration_ast import HfmgcASTConfig
    from hfmgc.models.modeling_ast import HfmgcASTForAudioClassification
    from hfmgc.training.arguments import ModelArguments

    told = []
    monkeypatch.setattr(HfmgcASTForAudioClassification, "begin_epoch", lambda self, epoch: told.append(epoch))
    backbone = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
    backbone |= {"max_length": 32, "num_mel_bins": 32, "frequency_stride": 16, "time_stride": 16}
    model = HfmgcASTForAudioClassification(HfmgcASTConfig(backbone_config=backbone, id2label=dict(enumerate(GENRES))))
    model = adapt_model(model, ModelArguments(adapter="lora"))
    run = arguments(tmp_path, weight_averaging=0.9, load_best_model_at_end=True)
    trainer = trainer_of(model, run, validation)
    trainer.train()
    assert told == [0, 1]
    best = load_file(f"{trainer.state.best_model_checkpoint}/{AVERAGED_WEIGHTS}")
    assert all(torch.equal(best[f"module.{name}"], value) for name, value in model.state_dict().items())


# Batches and layouts


def test_only_training_is_mixed(tmp_path, validation):
    trainer = trainer_of(lgnet(), arguments(tmp_path), validation, mixup_alpha=0.4)
    mixed = next(iter(trainer.get_train_dataloader()))["labels"]
    assert mixed.is_floating_point()
    assert mixed.shape == (4, 2)
    judged = next(iter(trainer.get_eval_dataloader()))["labels"]
    assert judged.dtype == torch.int64


def test_mixing_trains_to_the_end_with_a_last_batch_of_one(tmp_path, validation):
    model = LeNetForAudioClassification(LeNetConfig(num_bins=32, id2label=dict(enumerate(GENRES))))
    trainer = trainer_of(model, arguments(tmp_path), validation, train=Windows(9), mixup_alpha=0.4)
    trainer.train()
    assert trainer.state.global_step == 6
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_channels_last_lays_convolutions_out_and_changes_no_answer(tmp_path, validation):
    model = lgnet()
    inputs = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(0))
    before = model.eval()(inputs).logits
    trainer = trainer_of(model, arguments(tmp_path, channels_last=True), validation)
    laid = trainer.model
    assert any(
        value.is_contiguous(memory_format=torch.channels_last) and not value.is_contiguous()
        for value in laid.parameters()
        if value.ndim == 4
    )
    torch.testing.assert_close(laid.eval()(inputs).logits, before)


def test_channels_last_is_harmless_where_there_are_no_convolutions(tmp_path, validation):
    from hfmgc.models.configuration_recurrent import RecurrentConfig
    from hfmgc.models.modeling_recurrent import RecurrentForAudioClassification

    config = RecurrentConfig(num_bins=32, hidden_size=4, id2label=dict(enumerate(GENRES)))
    trained = []
    for channels_last in (False, True):
        torch.manual_seed(0)
        model = RecurrentForAudioClassification(config)
        run = arguments(tmp_path / str(channels_last), channels_last=channels_last, num_train_epochs=1)
        trainer_of(model, run, validation).train()
        trained.append(model.state_dict())
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


def test_the_share_of_each_expert_is_logged_also_of_those_that_get_nothing(tmp_path, validation):
    model = lgnet()
    with torch.no_grad():
        model.classifier.router.bias[1] += 1e6
    figures = trainer_of(model, arguments(tmp_path), validation).evaluate()
    assert (figures["eval_expert_0"], figures["eval_expert_1"]) == (0.0, 1.0)


def test_a_report_has_windows_and_experts_from_a_plain_trainer_too(tmp_path, validation):
    ours = trainer_of(lgnet(), arguments(tmp_path), validation)
    plain = Trainer(ours.model, ours.args, data_collator=ours.data_collator, eval_dataset=validation)
    slices = validation.rename_column("input_values", "features").add_column("track_id", list("abcd"))
    tracks = TrackWindows(slices, SimpleNamespace(window_shape=(32, 32)))
    expected, found = predict_tracks(ours, tracks), predict_tracks(plain, tracks)
    assert found.expert_usage.sum() == sum(map(len, found.window_logits)) == 8
    np.testing.assert_array_equal(found.expert_usage, expected.expert_usage)
    np.testing.assert_array_equal(found.window_logits, expected.window_logits)


@pytest.mark.parametrize(
    ("policy", "ratios", "said"),
    [
        ("official", [], "split: official: 1 train"),
        ("stratified", [8, 1, 1], "split: stratified 8:1:1, seed 3: 1 train"),
    ],
)
def test_ratios_and_seed_are_announced_of_drawn_splits_alone(policy, ratios, said, tmp_path, capsys):
    sides = {"train": ["a"], "validation": ["b"], "test": ["c"]}
    manifest = SplitManifest("features", None, policy, ratios, 3 if ratios else 0, sides)
    announce(arguments(tmp_path), mock.Mock(**{"manifest": manifest, "corpus.notes.return_value": []}))
    assert said in capsys.readouterr().out
