"""Pre-training: its data, its Trainer, its run folder, and what it refuses."""

import json
import shutil

import datasets
import numpy as np
import pytest
import soundfile
import torch
import yaml
from conftest import tone
from forked import distribute
from pretraining_tester import pretrain_here, pretraining_settings
from recipe_parameters import FILES, PRETRAINING_CONFIGS
from safetensors.torch import load_file
from torch.utils.data import default_collate
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForPreTraining

from hfmgc.data.features import TrackWindows
from hfmgc.data.sources import open_source
from hfmgc.errors import CheckpointError, ConfigError, DataError, TrainingError
from hfmgc.evaluation.checkpoints import load_checkpoint
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models.modeling_pretraining import PreTrainingModel, draw_per_example
from hfmgc.models.modeling_prior_autoencoder import PriorAutoencoder
from hfmgc.registry import PRETRAINING_MODELS
from hfmgc.settings import read_settings, settings_from
from hfmgc.training.pretraining.arguments import PRETRAINING_GROUPS, PRETRAINING_SETTINGS, check_pretraining
from hfmgc.training.pretraining.data import PretrainingExamples, prepare_pretraining_data
from hfmgc.training.pretraining.fit import fit_pretraining
from hfmgc.training.spectrogram_augmentation import SpecAugment, WindowAugmentation
from recipes import FRONT_END, PRETRAIN, hfmgc_here, write_config, write_features


TINY = {"patch_size": 8, "hidden_sizes": [4, 8], "patches_per_window": 2}
# The prior autoencoder, the default, takes values in [0, 1] alone.
M2D = {"model_type": "hfmgc-m2d", "model": {"num_bins": 32}}


def groups(data, output_dir, /, **more):
    settings = pretraining_settings(data, output_dir, **{"model": TINY, **more})
    return settings_from({**PRETRAINING_SETTINGS, **settings}, PRETRAINING_GROUPS, where="test")


def prepared(data, output_dir, /, **more):
    settings = groups(data, output_dir, **more)
    extractor = check_pretraining(settings)
    return prepare_pretraining_data(settings[1], settings[2], extractor), extractor, settings


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return write_features(tmp_path_factory.mktemp("data") / "features.parquet")  # 16 tracks


# Data


def test_examples_depend_on_seed_epoch_and_track_alone(features, tmp_path):
    data, _, _ = prepared(features, tmp_path)
    examples = data.train

    def epoch(number: int) -> list:
        examples.set_epoch(number)
        return sorted((examples[i]["seeds"], examples[i]["input_values"].sum()) for i in range(len(examples)))

    first, second = epoch(0), epoch(1)
    assert first == epoch(0) != second
    assert len({seed for seed, _ in first + second}) == 32
    other, _, _ = prepared(features, tmp_path, seed=7)
    assert sorted(other.train[i]["seeds"] for i in range(16)) != [seed for seed, _ in first]
    batch = default_collate([examples[0], examples[1]])
    assert batch["input_values"].shape == (2, 32, 32) and batch["seeds"].dtype == torch.int64


def test_an_epoch_has_full_batches_and_leaves_out_other_tracks_each_time(features, tmp_path):
    data, _, _ = prepared(features, tmp_path, per_device_train_batch_size=3, gradient_accumulation_steps=2)
    examples = data.train
    assert len(examples) == 12
    orders = []
    for epoch in range(2):
        order = examples._order(epoch)
        assert sorted(order) == list(range(16))
        orders.append(set(order[:12]))
    assert orders[0] != orders[1]
    with pytest.raises(DataError, match="per_device_train_batch_size"):
        prepared(features, tmp_path, per_device_train_batch_size=17)


def test_views_are_augmentations_of_one_window(features, tmp_path):
    extractor = SpectrogramFeatureExtractor(**FRONT_END)
    tracks = TrackWindows(open_source(str(features)).tracks(), extractor)
    options = {"seed": 0, "views": 2}
    plain = PretrainingExamples([tracks], [(0, 0)], **options)[0]["input_values"]
    assert plain.shape == (2, 32, 32) and np.array_equal(plain[0], plain[1])
    masks = SpecAugment(frequency_masks=1, frequency_mask_bins=20)
    options["window_augmentation"] = WindowAugmentation(masks=masks)
    masked = PretrainingExamples([tracks], [(0, 0)], **options)[0]["input_values"]
    assert not np.array_equal(masked[0], masked[1])
    for view in masked:
        same = np.isclose(view, plain[0]).all(axis=0)
        assert 12 <= same.sum() <= 32


def test_held_out_tracks_are_not_trained_on(features, tmp_path):
    data, _, _ = prepared(features, tmp_path, validation_share=0.25)
    assert len(data.validation) == 4
    assert not set(data.train.tracks) & set(data.validation.tracks)
    assert data.record["sources"][0]["tracks"] == 16 and data.record["sources"][0]["held_out"] == 4


def test_mean_and_deviation_are_estimated_once_for_all_sources(features, tmp_path):
    other = write_features(tmp_path / "other.parquet", ("jazz",), tracks=6)
    front_end = {**FRONT_END, "normalization": "none", "scale": "none"}
    data, extractor, _ = prepared(
        features, tmp_path, data=[str(features), str(other)], front_end=front_end, fit_statistics="overall", **M2D
    )
    found = data.record["statistics"]
    assert found["windows"] == len(data.train) == 20
    assert (extractor.mean, extractor.std, extractor.normalization) == (found["mean"], found["std"], "statistics")
    windows = np.stack([data.train[i]["input_values"] for i in range(20)])
    assert abs(windows.mean()) < 1e-5 and abs(windows.std() - 1) < 1e-5


def test_a_source_can_have_another_frame_rate(features, tmp_path):
    front_end = {**FRONT_END, "normalization": "min_max", "resize": [16, 16]}
    half = {"data": str(features), "front_end": {"frames_per_second": 31.25}}
    data, _, _ = prepared(features, tmp_path, data=[str(features), half], front_end=front_end)
    assert [source.extractor.cut_frames for source in data.train.sources] == [32, 16]
    assert {data.train[i]["input_values"].shape for i in range(len(data.train))} == {(16, 16)}
    with pytest.raises(ConfigError, match=r"front_end of .*resize"):
        prepared(features, tmp_path, data=[half])


def test_a_folder_of_audio_needs_no_genres(tmp_path):
    for number, name in enumerate(("a.wav", "deep/er/b.wav", "deep/short.wav")):
        path = tmp_path / "music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(number, seconds=0.2 if "short" in name else 1.5), 16000)
    (tmp_path / "music" / "broken.wav").write_bytes(b"no audio")
    more = {"per_device_train_batch_size": 1, "shortest_seconds": 0.0}
    data, _, _ = prepared(tmp_path / "music", tmp_path / "run", **more)
    (source,) = data.record["sources"]
    assert sorted(data.train.sources[0]["track_id"]) == ["a.wav", "deep/er/b.wav", "deep/short.wav"]
    assert (source["tracks"], source["too_short"], len(source["skipped"])) == (2, 1, 1)
    padded, _, _ = prepared(tmp_path / "music", tmp_path / "run", pad_short_tracks=True, **more)
    assert len(padded.train) == 3
    with pytest.raises(DataError, match=r"front_end\.window_seconds"):
        prepared(
            tmp_path / "music",
            tmp_path / "run",
            front_end={**FRONT_END, "window_frames": 200, "normalization": "min_max"},
            **more,
        )


def test_audio_and_its_stored_features_give_the_same_examples(tmp_path):
    music, stored = tmp_path / "music", tmp_path / "stored"
    for number in range(4):
        path = music / f"genre {number % 2}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(number, seconds=3.0), 16000)
    front_end = {**FRONT_END, "normalization": "none"}
    extracted = hfmgc_here(
        "extract", music, stored, "--model_type", "hfmgc-deformer", "--front_end", json.dumps(front_end)
    )
    assert extracted.returncode == 0, extracted.stderr
    more = {"front_end": front_end, "fit_statistics": "overall", "validation_share": 0.25, **M2D}
    from_audio, from_store = (
        prepared(data, tmp_path / "run", per_device_train_batch_size=1, **more)[0] for data in (music, stored)
    )
    assert from_audio.record["statistics"] == pytest.approx(from_store.record["statistics"])
    assert from_audio.record["digest"] == from_store.record["digest"]
    for side in ("train", "validation"):
        for one, other in zip(getattr(from_audio, side), getattr(from_store, side), strict=True):
            assert one["seeds"] == other["seeds"]
            np.testing.assert_allclose(one["input_values"], other["input_values"], atol=1e-5)


def test_stored_features_need_no_genres_and_a_side_can_be_chosen(tmp_path):
    generator = np.random.default_rng(0)
    rows = {
        "track_id": [f"track {number}" for number in range(8)],
        "genre": [""] * 8,
        "split": ["train"] * 6 + ["test"] * 2,
        "features": [generator.standard_normal((40, 32)).astype(np.float32).tolist() for _ in range(8)],
    }
    path = tmp_path / "features.parquet"
    datasets.Dataset.from_dict(rows).to_parquet(str(path))
    data, _, _ = prepared(path, tmp_path / "run")
    assert len(data.train.tracks) == 8
    bare = tmp_path / "bare.parquet"
    datasets.Dataset.from_dict({name: rows[name] for name in ("track_id", "features")}).to_parquet(str(bare))
    data, _, _ = prepared(bare, tmp_path / "run")
    assert len(data.train.tracks) == 8
    with pytest.raises(DataError, match="no column for the genre"):
        open_source(str(bare)).tracks()
    data, _, _ = prepared(path, tmp_path / "run", data=[{"data": str(path), "side": "train"}])
    assert [row for _, row in data.train.tracks] == list(range(6))
    with pytest.raises(DataError, match="side 'validation'"):
        prepared(path, tmp_path / "run", data=[{"data": str(path), "side": "validation"}])


# Trainer


class Recorder(PriorAutoencoder):
    """Records what the Trainer calls."""

    steps: list

    def after_optimizer_step(self, step: int, total_steps: int) -> None:
        self.steps.append((step, total_steps))

    def monitored(self) -> dict[str, float]:
        return {"deviation": 0.5}

    def check_data(self, num_examples: int, global_batch: int) -> None:
        self.steps = [(num_examples, global_batch)]


def test_the_model_is_called_once_after_each_optimizer_step_and_monitored(features, tmp_path, monkeypatch):
    monkeypatch.setattr("hfmgc.models.modeling_prior_autoencoder.PriorAutoencoder", Recorder)
    data, _, settings = prepared(features, tmp_path, gradient_accumulation_steps=2, max_steps=3)
    trainer = fit_pretraining(settings, data)
    assert trainer.model.steps == [(16, 8), (0, 3), (1, 3), (2, 3)]
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 3 and all(entry["deviation"] == 0.5 for entry in logged)


def test_a_loss_that_is_not_finite_ends_the_training(features, tmp_path, monkeypatch):
    class Broken(PriorAutoencoder):
        def forward(self, input_values, seeds=None, **kwargs):
            output = super().forward(input_values, seeds, **kwargs)
            self.calls = getattr(self, "calls", 0) + 1
            output.loss = output.loss * (float("nan") if self.calls > 2 else 1)
            return output

    monkeypatch.setattr("hfmgc.models.modeling_prior_autoencoder.PriorAutoencoder", Broken)
    data, _, settings = prepared(features, tmp_path, learning_rate=0.5, lr_scheduler_type="constant")
    with pytest.raises(TrainingError, match=r"nan in step 3, at a learning rate of 0\.5"):
        fit_pretraining(settings, data)


def test_data_that_do_not_fit_the_model_are_refused_by_field(features, tmp_path, monkeypatch):
    class Refusing(PriorAutoencoder):
        def check_data(self, num_examples, global_batch):
            if num_examples is not None:
                raise ValueError(f"queue_size must be at most {num_examples}")

    monkeypatch.setattr("hfmgc.models.modeling_prior_autoencoder.PriorAutoencoder", Refusing)
    data, _, settings = prepared(features, tmp_path)
    with pytest.raises(ConfigError, match="queue_size must be at most 16"):
        fit_pretraining(settings, data)


def test_draws_are_the_same_for_each_seed_in_any_batch():
    def draw(generator):
        return torch.rand(2, generator=generator)

    together = draw_per_example(draw, 3, torch.tensor([1, 2, 2**62]))
    assert torch.equal(together[1:], draw_per_example(draw, 2, torch.tensor([2, 2**62])))
    assert not torch.equal(together[0], together[1])
    assert draw_per_example(draw, 4, None).shape == (4, 2)


def test_the_base_does_nothing_by_default():
    assert PreTrainingModel.views == 1
    model = PriorAutoencoder(PRETRAINING_MODELS["hfmgc-prior-autoencoder"].load("config")(**TINY))
    assert model.monitored() == {}
    assert model.after_optimizer_step(0, 1) is None
    assert model.check_data(1, 1) is None


# Run folder


@pytest.fixture(scope="module")
def finished(features, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    settings = pretraining_settings(
        features, folder / "run", model=TINY, validation_share=0.25, eval_strategy="steps", eval_steps=2
    )
    return pretrain_here(folder, settings, "--license", "apache-2.0"), folder


def test_a_finished_run_has_model_front_end_losses_picture_record_and_card(finished):
    result, folder = finished
    run = folder / "run"
    assert "16 tracks from features (features.parquet), 4 of them held out" in result.stdout
    assert "validation loss" in result.stdout
    record = yaml.safe_load((run / "run.yaml").read_text())["pretraining"]
    assert record["steps"] == 4 and record["train_loss"] > 0 and record["validation_loss"] > 0
    assert (run / "training_curve.png").stat().st_size > 1000
    card = (run / "README.md").read_text()
    for text in (
        "`PriorAutoencoder`",
        "features.parquet",
        "license: apache-2.0",
        "training_curve.png",
        "Validation loss",
    ):
        assert text in card
    assert str(folder) not in card + (run / "run.yaml").read_text()
    assert AutoModelForPreTraining.from_pretrained(run).config.patch_size == 8
    assert isinstance(AutoModel.from_pretrained(run), PriorAutoencoder)
    assert AutoFeatureExtractor.from_pretrained(run).window_shape == (32, 32)
    assert len({oct((run / name).stat().st_mode) for name in ("config.json", "model.safetensors")}) == 1


def test_a_finished_run_is_not_overwritten_and_other_data_cannot_resume_it(finished, features, tmp_path):
    _, folder = finished
    settings = pretraining_settings(features, folder / "run", model=TINY, validation_share=0.25)
    result = pretrain_here(folder, settings, succeeds=False)
    assert result.returncode == 1 and "--overwrite" in result.stderr
    bare = shutil.copytree(folder / "run", tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint-*"))
    result = pretrain_here(tmp_path, {**settings, "output_dir": str(bare)}, succeeds=False)
    assert result.returncode == 1 and "--overwrite" in result.stderr
    result = pretrain_here(
        folder, settings, "--resume_from_checkpoint", "last", "--validation_share", "0.5", succeeds=False
    )
    assert result.returncode == 1 and "validation_share" in result.stderr


def test_it_is_no_classifier(finished):
    with pytest.raises(CheckpointError, match="prior-autoencoder"):
        load_checkpoint(str(finished[1] / "run"))


def test_two_processes_with_half_the_batch_end_as_one(features, tmp_path):
    whole, halves = (
        pretraining_settings(
            features,
            tmp_path / name,
            model=TINY,
            gradient_accumulation_steps=2,
            per_device_train_batch_size=batch,
            optim="sgd",
            logging_steps=2,
        )
        for name, batch in (("one", 4), ("two", 2))
    )
    pretrain_here(tmp_path, whole)
    done = distribute(2, PRETRAIN, write_config(tmp_path / "two.yaml", halves))
    assert done.returncode == 0, done.stderr
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], atol=1e-6, rtol=1e-5)


# Bad input


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"data": []}, "data is empty"),
        ({"data": [{"data": "x", "sides": "train"}]}, "sides"),
        ({"data": [{"data": "x", "side": "left"}]}, "side"),
        ({"model_type": "hfmgc-lenet"}, "model_type 'hfmgc-lenet' has no pre-training"),
        ({"model": {**TINY, "patch_size": 20}}, "patch_size 20 does not divide a window of 32 frames and 32 bins"),
        ({"model": {**TINY, "patch_size": 6}}, "patch_size must be a multiple of 4"),
        ({"pretrained_parts": {"prior": "x"}}, "pretrained_parts: hfmgc-prior-autoencoder has no part 'prior'"),
        ({"eval_strategy": "steps", "eval_steps": 2}, "validation_share"),
        ({"validation_share": 1.0}, "validation_share"),
        ({"metric_for_best_model": "accuracy"}, "metric_for_best_model accuracy"),
        ({"time_crop": 0.3}, "time_crop"),
        ({"fit_statistics": "overall"}, r"front_end\.normalization must be min_max"),
        ({"front_end": FRONT_END}, r"front_end\.normalization must be min_max"),
        ({"spec_augment": {"time_masks": 1, "time_mask_frames": 32}}, "time_mask_frames"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_field(more, message, features, tmp_path):
    with pytest.raises(ConfigError, match=message):
        check_pretraining(groups(features, tmp_path, **more))


def test_stored_features_of_another_front_end_are_refused(features, tmp_path):
    with pytest.raises(DataError, match="stored features"):
        prepared(features, tmp_path, front_end={**FRONT_END, "num_bins": 64, "normalization": "min_max"})


# Recipes


@pytest.mark.parametrize("name", PRETRAINING_CONFIGS)
def test_a_recipe_can_be_built_at_full_size_and_its_windows_fit(name):
    arguments, data, _ = read_settings([str(FILES[name])], PRETRAINING_GROUPS, defaults=PRETRAINING_SETTINGS)
    architecture = PRETRAINING_MODELS[arguments.model_type]
    extractor = architecture.load("feature_extractor")(**arguments.front_end)
    with torch.device("meta"):
        model = architecture.load("pretraining_model")(architecture.load("config")(**arguments.model))
    frames, bins = extractor.window_shape
    model.check_window(round(frames * data.time_crop), bins)
    assert set(arguments.pretrained_parts) == set(model.pretrained_parts)
