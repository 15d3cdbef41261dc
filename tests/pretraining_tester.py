"""What every model that is pre-trained without genres must be able to do. Adding one means adding a class such as

    class TestDeformerForPreTraining(PretrainingTester):
        model_type = "hfmgc-deformer"
        window_shape = (32, 32)
        wrong_windows = (((32, 30), "patch_size"),)

        def config(self, **fields):
            return DeformerConfig(**{"backbone_config": {...}, **fields})

        def recipe(self, folder):
            return {"model": {...}}

and the tests of its own objective, with a loss computed by hand.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import scatter_parameters
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForAudioClassification, AutoModelForPreTraining, PreTrainedConfig

from hfmgc.models.modeling_pretraining import PreTrainingModel
from hfmgc.registry import PRETRAINING_MODELS
from recipes import FRONT_END, PRETRAIN, run_here, write_config, write_features


def pretraining_settings(data: Path, output_dir: Path, /, **more: Any) -> dict[str, Any]:
    """Return the settings of a pre-training on stored features that takes a blink."""
    return {
        "front_end": {**FRONT_END, "normalization": "min_max"},  # 32 frames and 32 bins
        "data": [str(data)],
        "output_dir": str(output_dir),
        "max_steps": 4,
        "save_strategy": "steps",
        "save_steps": 2,
        "save_total_limit": 2,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 4,
        "use_cpu": True,
        "disable_tqdm": True,
        **more,
    }


def pretrain_here(folder: Path, settings: dict[str, Any], *arguments: Any, succeeds: bool = True):
    """Run recipes/pretrain.py within this process."""
    result = run_here(PRETRAIN, write_config(folder / "pretrain.yaml", settings), *arguments)
    assert not succeeds or result.returncode == 0, result.stderr
    return result


class PretrainingTester:
    """The common tests. A model's own class sets the required fields; the others where it differs."""

    # Required, with `config` and `recipe`.
    model_type: str
    window_shape: tuple[int, int]  # frames and bins of a window
    # Shapes that the model refuses, and what its error must name: at least one.
    wrong_windows: tuple[tuple[tuple[int, int], str], ...] = ()
    # Whether the loss of a batch is the mean of those of its examples alone.
    mean_over_examples = True
    # Parts of the names of parameters that are not trained, or not by every batch.
    may_lack_gradient: tuple[str, ...] = ()
    learning_rate = 3e-3
    tolerance = 1e-5

    # Abstract: the methods that raise NotImplementedError are those that every architecture's test defines.

    def config(self, **fields) -> PreTrainedConfig:
        """A tiny config."""
        raise NotImplementedError

    def recipe(self, folder: Path) -> dict[str, Any]:
        """The fields of `pretraining_settings` that make a tiny model of 32 frames and 32 bins; parts go to `folder`."""
        raise NotImplementedError

    def model(self, **fields) -> PreTrainingModel:
        torch.manual_seed(0)
        model = PRETRAINING_MODELS[self.model_type].load("pretraining_model")(self.config(**fields))
        scatter_parameters(model)
        return model.eval()

    def values(self, examples: int) -> torch.Tensor:
        """Windows with values in [0, 1], and their views if the model needs several."""
        model_class = PRETRAINING_MODELS[self.model_type].load("pretraining_model")
        views = (model_class.views,) if model_class.views > 1 else ()
        generator = torch.Generator().manual_seed(0)
        return torch.rand(examples, *views, *self.window_shape, generator=generator)

    def close(self, actual, expected) -> None:
        torch.testing.assert_close(actual, expected, atol=self.tolerance, rtol=self.tolerance)

    def test_it_is_a_pretraining_model_that_the_auto_class_builds(self):
        assert self.config().model_type == self.model_type
        assert isinstance(self.model(), PreTrainingModel)
        assert type(AutoModelForPreTraining.from_config(self.config())) is type(self.model())

    def test_the_loss_is_a_finite_number_drawn_from_the_seeds(self):
        model, values = self.model().train(), self.values(3)
        seeds = torch.tensor([5, 6, 7])
        without_dropout(model)
        first = model(values, seeds=seeds).loss
        assert first.shape == () and torch.isfinite(first)
        torch.manual_seed(1)
        assert torch.equal(model(values, seeds=seeds).loss, first), "the global generator plays no part"
        if self.mean_over_examples:
            alone = [model(values[i : i + 1], seeds=seeds[i : i + 1]).loss for i in range(3)]
            self.close(torch.stack(alone).mean(), first)

    def test_without_seeds_the_draws_come_from_torchs_generator(self):
        model, values = self.model().train(), self.values(3)
        torch.manual_seed(3)
        first = model(values).loss
        torch.manual_seed(3)
        assert torch.equal(model(values).loss, first)

    def test_a_tuple_has_the_loss_first(self):
        model, values, seeds = self.model(), self.values(2), torch.tensor([1, 2])
        assert torch.equal(model(values, seeds=seeds, return_dict=False)[0], model(values, seeds=seeds).loss)

    def test_the_loss_reaches_every_trained_parameter(self):
        model = self.model().train()
        model(self.values(6), seeds=torch.arange(6)).loss.backward()
        lacking = [
            name
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
            and (parameter.grad is None or not parameter.grad.any())
            and not any(part in name for part in self.may_lack_gradient)
        ]
        assert not lacking

    def test_a_few_steps_lower_the_loss(self):
        model, values, seeds = self.model().train(), self.values(4), torch.arange(4)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=self.learning_rate)
        losses = []
        for step in range(15):
            loss = model(values, seeds=seeds).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            model.after_optimizer_step(step, 15)
            losses.append(loss.item())
        assert min(losses[-3:]) < 0.95 * losses[0]

    def test_autocast_trains(self):
        model = self.model().train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(self.values(3), seeds=torch.arange(3)).loss
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)

    def test_windows_of_another_size_are_refused_and_the_right_one_named(self):
        assert self.wrong_windows, "name at least one"
        for (frames, bins), message in self.wrong_windows:
            with pytest.raises(ValueError, match=message):
                self.model().check_window(frames, bins)

    def test_it_can_be_built_on_the_meta_device(self):
        with torch.device("meta"):
            model = PRETRAINING_MODELS[self.model_type].load("pretraining_model")(self.config())
        assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in self.model().parameters())

    def test_a_saved_model_is_the_same_in_this_process_and_its_encoder_loads_alone(self, tmp_path):
        model, values, seeds = self.model(), self.values(2), torch.tensor([3, 4])
        model.save_pretrained(tmp_path)
        loaded, report = AutoModelForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"]
        assert torch.equal(loaded(values, seeds=seeds).loss, model(values, seeds=seeds).loss)
        trained, still = ({n: p.requires_grad for n, p in one.named_parameters()} for one in (model, loaded.train()))
        assert trained == still
        for (name, one), other in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
            assert torch.equal(one, other), name
        encoder, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
        assert type(encoder) is PRETRAINING_MODELS[self.model_type].load("base_model")
        assert not report["missing_keys"] and not report["unexpected_keys"]
        own = model if type(encoder) is type(model) else model.model
        for (name, one), other in zip(own.state_dict().items(), encoder.state_dict().values(), strict=True):
            assert torch.equal(one, other), name

    @torch.no_grad()
    def test_every_class_gives_the_same_embeddings_of_a_pretrained_checkpoint(self, tmp_path):
        classes = PRETRAINING_MODELS[self.model_type].classes
        if "model" not in classes:
            return  # a part of another model has no embeddings
        model, values = self.model(), self.values(2)
        values = values[:, 0] if model.views > 1 else values
        model.save_pretrained(tmp_path)
        expected = model.model(values).pooler_output
        classifier, report = AutoModelForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
        assert not report["unexpected_keys"]
        assert all(name.startswith("classifier.") for name in report["missing_keys"])
        assert torch.equal(AutoModel.from_pretrained(tmp_path)(values).pooler_output, expected)
        assert torch.equal(classifier.model(values).pooler_output, expected)

    def test_a_saved_model_is_the_same_where_hfmgc_is_not_installed(self, tmp_path, elsewhere):
        model, values = self.model(), self.values(2)
        folder = tmp_path / type(self).__name__  # its code's package, which no other checkpoint fills
        model.save_pretrained(folder)
        PRETRAINING_MODELS[self.model_type].load("feature_extractor")(**FRONT_END).save_pretrained(folder)
        np.savez(tmp_path / "inputs.npz", values=values.numpy(), waveform=np.zeros(16000, np.float32))
        answers = elsewhere.ask(folder, tmp_path / "inputs.npz")
        assert "error" not in answers, answers["error"]
        assert all(module.startswith("transformers_modules.") for module in answers["modules"])
        assert answers["loss"] == pytest.approx(model(values, seeds=torch.arange(2)).loss.item(), abs=1e-5)

    def test_a_resumed_run_equals_an_uninterrupted_one(self, tmp_path):
        data = write_features(tmp_path / "features.parquet")
        run = tmp_path / "run"
        settings = pretraining_settings(data, run, model_type=self.model_type, **self.recipe(tmp_path))
        pretrain_here(tmp_path, settings)
        shutil.copytree(run, tmp_path / "whole")
        shutil.rmtree(run / "checkpoint-4")
        (run / "model.safetensors").unlink()
        pretrain_here(tmp_path, settings, "--resume_from_checkpoint", "last")
        whole, resumed = (load_file(folder / "model.safetensors") for folder in (tmp_path / "whole", run))
        before = load_file(run / "checkpoint-2" / "model.safetensors")
        assert any(not torch.equal(before[name], whole[name]) for name in whole)
        for name in whole:
            assert torch.equal(whole[name], resumed[name]), name


def without_dropout(model: torch.nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
