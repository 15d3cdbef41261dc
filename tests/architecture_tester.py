"""What every architecture must be able to do. Adding one means adding a class such as

    class TestHfmgcAST(ArchitectureTester):
        model_type = "hfmgc-ast"
        window_shape = (64, 128)
        num_hidden_states = 4
        wrong_windows = (((64, 100), "expected 128 bins"),)

        def config(self, **fields):
            return HfmgcASTConfig(**{"num_labels": 3, "head_hidden_size": 16, **fields})

        def extractor(self, **fields):
            return HfmgcASTFeatureExtractor(**{"max_length": 64, **fields})

and the tests that are its own. Configs refuse a field with `huggingface_hub.errors.StrictDataclassError`.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapter_tester import AdapterTester
from conftest import scatter_parameters, tone
from embedding_tester import EmbeddingTester
from export_tester import ExportTester
from huggingface_hub.errors import StrictDataclassError
from library_tester import LibraryTester
from recording_tester import RecordingTester
from reuse_tester import ReuseTester
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    PreTrainedConfig,
    PreTrainedModel,
    pipeline,
)

from hfmgc.features.feature_extraction_windowed import WindowedFeatureExtractor
from hfmgc.models.modeling_windowed import TrackClassifierOutput
from hfmgc.registry import ARCHITECTURES


class ArchitectureTester(AdapterTester, EmbeddingTester, ExportTester, LibraryTester, RecordingTester, ReuseTester):
    """The common tests. An architecture's own class sets the required fields; the others where it differs."""

    # Required, with `num_hidden_states` (in `recording_tester.py`), `config` and `extractor`.
    model_type: str
    window_shape: tuple[int, int]  # frames and bins of a window
    # Shapes that the model refuses, and what its error must name: at least one.
    wrong_windows: tuple[tuple[tuple[int, int], str], ...] = ()
    # Other lengths of a window, in frames, that the same model takes; none where its layers fix the length and it refuses
    # all others.
    other_lengths: tuple[int, ...] = ()
    # Parts of the names of parameters that need not get a gradient from every batch (experts that no track goes to).
    may_lack_gradient: tuple[str, ...] = ()
    # Whether the front end makes one window of a whole track, whatever its length.
    windows_cover_track = False
    tolerance = 1e-5
    # How many frames of a window `test_recipe_configs.py` trains on, where whole windows take long.
    most_frames: int | None = None

    def config(self, **fields) -> PreTrainedConfig:
        """A tiny config of three labels."""
        raise NotImplementedError

    def extractor(self, **fields) -> WindowedFeatureExtractor:
        """A front end whose windows fit the tiny config."""
        raise NotImplementedError

    def shrunken(self) -> dict[str, Any]:
        """Fields that make a large model of a recipe small; a number stands for a list as long as the recipe's."""
        return {}

    def model(self, **fields) -> PreTrainedModel:
        config = self.config(**fields)
        assert config.num_labels == 3, "`config` must return a config of three labels"
        torch.manual_seed(0)
        model = ARCHITECTURES[self.model_type].load("model")(config)
        scatter_parameters(model)
        return model.eval()

    def values(self, *leading: int, seed: int = 0) -> torch.Tensor:
        """Noise, its spectrum another one in each window."""
        generator = torch.Generator().manual_seed(seed)
        frames, bins = self.window_shape
        return torch.randn(*leading, frames, bins, generator=generator) + 2 * torch.randn(
            *leading, 1, bins, generator=generator
        )

    def waveform(self, windows: float, seed: int = 0) -> np.ndarray:
        """A track as long as so many windows."""
        extractor = self.extractor()
        waveform = tone(seed, seconds=windows * extractor.window_seconds, sampling_rate=extractor.sampling_rate)
        # Its middle sounds unlike its ends, so that what is heard of it matters.
        waveform[len(waveform) // 3 : len(waveform) // 2] *= 0.01
        return waveform

    def close(self, actual, expected) -> None:
        torch.testing.assert_close(actual, expected, atol=self.tolerance, rtol=self.tolerance)

    def saved(self, folder: Path, **fields) -> tuple[Path, PreTrainedModel]:
        labels = ("blues", "metal", "pop")
        model = self.model(
            id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)}, **fields
        )
        model.save_pretrained(folder / "checkpoint")
        self.extractor().save_pretrained(folder / "checkpoint")
        return folder / "checkpoint", model

    def test_the_registry_knows_the_architecture_by_its_model_type(self):
        assert self.config().model_type == self.model_type
        assert type(self.config()) is ARCHITECTURES[self.model_type].load("config")
        assert type(self.extractor()) is ARCHITECTURES[self.model_type].load("feature_extractor")

    def test_single_windows_give_one_answer_for_each_track(self):
        output = self.model()(self.values(4))
        assert isinstance(output, TrackClassifierOutput)
        assert output.loss is None
        assert output.logits.shape == (4, 3)
        assert output.window_logits.shape == (4, 1, 3)

    def test_stacks_give_one_answer_for_each_track_and_the_windows_own(self):
        output = self.model()(self.values(2, 5))
        assert output.logits.shape == (2, 3)
        assert output.window_logits.shape == (2, 5, 3)
        self.close(output.logits.exp(), output.window_logits.softmax(dim=-1).mean(dim=1))

    def test_a_single_window_equals_a_stack_of_one(self):
        model, values = self.model(), self.values(3)
        alone, stack = model(values), model(values.unsqueeze(1))
        self.close(alone.logits, stack.logits)
        self.close(alone.window_logits, stack.window_logits)

    def test_a_window_is_heard_the_same_in_any_stack(self):
        model, values = self.model(), self.values(2, 3)
        stacks = model(values).window_logits
        self.close(stacks.flatten(0, 1), model(values.flatten(0, 1)).window_logits.flatten(0, 1))
        assert not torch.allclose(stacks[0, 0], stacks[1, 2], atol=1e-4), "the model does not hear its input"

    def test_masked_stacks_equal_tracks_alone(self):
        model, values = self.model(), self.values(3, 4)
        counts = (4, 1, 2)
        mask = torch.tensor([[window < count for window in range(4)] for count in counts])
        output = model(values.masked_fill(~mask[:, :, None, None], 1e6), window_mask=mask)
        for track, count in enumerate(counts):
            alone = model(values[track : track + 1, :count])
            self.close(output.logits[track], alone.logits[0])
            self.close(output.window_logits[track, :count], alone.window_logits[0])
            assert (output.window_logits[track, count:] == 0).all()

    def test_a_batch_of_one_is_a_batch(self):
        model, values = self.model(), self.values(3, 2)
        self.close(model(values[1:2]).logits[0], model(values).logits[1])

    def test_the_majority_rule_is_taken_from_the_config(self):
        probabilities = torch.tensor([[0.5, 0.4, 0.1], [0.6, 0.3, 0.1], [0.0005, 0.999, 0.0005]])
        answers = {}
        for voting in ("mean", "majority"):
            model = self.model(voting=voting)
            model.classify_windows = lambda embeddings: (probabilities.log(), None)
            answers[voting] = model(self.values(1, 3)).logits.softmax(dim=-1)[0]
        self.close(answers["mean"], probabilities.mean(dim=0))
        self.close(answers["majority"], torch.tensor([0.55, 0.35, 0.1]))

    def test_windows_of_other_lengths_are_heard_whole_or_refused(self):
        model, (length, bins) = self.model(), self.window_shape
        if not self.other_lengths:
            with pytest.raises(ValueError, match=f"expected {length} frame"):
                model(self.values(2, 2).flatten(1, 2)[:, : length + 1])
        for frames in self.other_lengths:
            values = self.values(2, max(1, -(-frames // length))).flatten(1, 2)[:, :frames]
            logits = model(values).logits
            assert logits.shape == (2, 3)
            values[:, -frames // 4 :] += torch.randn(bins, generator=torch.Generator().manual_seed(1))
            assert not torch.allclose(model(values).logits, logits, atol=1e-4), "its end is not heard"

    def test_evaluation_is_deterministic(self):
        model, values = self.model(), self.values(2, 2)
        assert torch.equal(model(values).logits, model(values).logits)

    def test_the_loss_reaches_every_parameter(self):
        model = self.model().train()
        output = model(self.values(6, 2), labels=torch.tensor([0, 1, 2, 0, 1, 2]))
        assert output.loss.shape == ()
        output.loss.backward()
        lacking = [
            name
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
            and (parameter.grad is None or not parameter.grad.any())
            and not any(part in name for part in self.may_lack_gradient)
        ]
        assert not lacking
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)

    def test_a_few_steps_lower_the_loss(self):
        model, values, labels = self.model().train(), self.values(6), torch.tensor([0, 1, 2, 0, 1, 2])
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        losses = []
        for _ in range(12):
            loss = model(values, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert min(losses[-3:]) < 0.7 * losses[0]

    def test_label_smoothing_of_the_config_enters_the_loss(self):
        labels = torch.tensor([2, 0])
        output = self.model(label_smoothing=0.2)(self.values(2, 3), labels=labels)
        self.close(output.loss, F.cross_entropy(output.logits, labels, label_smoothing=0.2))
        assert abs(output.loss - F.cross_entropy(output.logits, labels)) > 1e-6

    def test_multi_label_models_vote_and_learn_label_by_label(self):
        targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
        model = self.model(problem_type="multi_label_classification")
        output = model(self.values(2, 3), labels=targets)
        self.close(output.logits.sigmoid(), output.window_logits.sigmoid().mean(dim=1))
        self.close(output.loss, F.binary_cross_entropy_with_logits(output.logits, targets))

    def test_a_tuple_has_what_the_output_object_has(self):
        model, values, labels = self.model(), self.values(2, 2), torch.tensor([0, 1])
        named = model(values, labels=labels)
        loss, logits, window_logits = model(values, labels=labels, return_dict=False)[:3]
        for got, expected in ((loss, named.loss), (logits, named.logits), (window_logits, named.window_logits)):
            assert torch.equal(got, expected)
        assert torch.equal(model(values, return_dict=False)[0], named.logits)

    @pytest.mark.parametrize("leading", [(), (1, 1, 1)])
    def test_input_of_other_dimensions_is_refused(self, leading):
        with pytest.raises(ValueError, match=r"\[tracks, frames, bins\] or \[tracks, windows, frames, bins\]"):
            self.model()(self.values(*leading))

    def test_windows_of_another_size_are_refused_and_the_right_one_named(self):
        assert self.wrong_windows, "name at least one"
        for shape, message in self.wrong_windows:
            for leading in ((2,), (2, 3)):
                with pytest.raises(ValueError, match=message):
                    self.model()(torch.zeros(*leading, *shape))

    def test_a_mask_of_another_shape_or_without_windows_is_refused(self):
        model, values = self.model(), self.values(2, 3)
        with pytest.raises(ValueError, match=r"\[tracks, windows\] = \[2, 3\], not \[3, 2\]"):
            model(values, window_mask=torch.ones(3, 2))
        with pytest.raises(ValueError, match="without any window"):
            model(values, window_mask=torch.tensor([[1, 1, 0], [0, 0, 0]]))

    def test_the_config_survives_json(self, tmp_path):
        config = self.config(voting="majority", label_smoothing=0.1, id2label={0: "jazz", 1: "Türkü", 2: "pop"})
        again = type(config).from_dict(json.loads(config.to_json_string(use_diff=False)))
        assert again.to_dict() == config.to_dict()
        config.save_pretrained(tmp_path)
        loaded = AutoConfig.from_pretrained(tmp_path)
        assert type(loaded) is type(config)
        assert (loaded.voting, loaded.label_smoothing) == ("majority", 0.1)
        assert loaded.id2label == {0: "jazz", 1: "Türkü", 2: "pop"}
        ignored = ("_name_or_path", "auto_map", "transformers_version")
        saved, before = ({k: v for k, v in c.to_dict().items() if k not in ignored} for c in (loaded, config))
        assert saved == before

    def test_every_field_of_the_config_is_checked(self):
        config = self.config()
        unchecked = {field.name for field in dataclasses.fields(config)} - set(config.__validators__)
        assert not unchecked, f"decorate {type(config).__name__} with @strict"

    def test_unknown_voting_and_smoothing_are_refused(self):
        with pytest.raises(StrictDataclassError, match="voting"):
            self.config(voting="median")
        with pytest.raises(StrictDataclassError, match="label_smoothing"):
            self.config(label_smoothing=1.0)

    def test_overrides_of_a_saved_model_are_refused_as_fields_are(self, tmp_path):
        folder, model = self.saved(tmp_path)
        with pytest.raises(StrictDataclassError, match="voting"):
            type(model).from_pretrained(folder, voting="median")

    def test_a_saved_model_answers_the_same_in_this_process(self, tmp_path, capfd):
        folder, model = self.saved(tmp_path)
        values = self.values(2, 3)
        loaded, report = AutoModelForAudioClassification.from_pretrained(folder, output_loading_info=True)
        assert type(loaded) is type(model)
        assert not report["missing_keys"] and not report["unexpected_keys"]
        assert not loaded.training
        assert torch.equal(loaded(values).logits, model(values).logits)
        extractor = AutoFeatureExtractor.from_pretrained(folder)
        assert type(extractor) is type(self.extractor())
        assert "trust_remote_code" not in capfd.readouterr().err

    def test_a_saved_model_answers_the_same_where_hfmgc_is_not_installed(self, tmp_path, elsewhere):
        folder, model = self.saved(tmp_path)
        folder = folder.rename(tmp_path / type(self).__name__)  # its code's package, which no other checkpoint fills
        values, waveform = self.values(2, 3), self.waveform(3.5)
        np.savez(tmp_path / "inputs.npz", values=values.numpy(), waveform=waveform)
        answers = elsewhere.ask(folder, tmp_path / "inputs.npz")
        assert "error" not in answers, answers["error"]
        assert all(module.startswith("transformers_modules.") for module in answers["modules"])
        assert answers["config"]["id2label"] == {"0": "blues", "1": "metal", "2": "pop"}
        self.close(torch.tensor(answers["logits"]), model(values).logits)
        self.close(torch.tensor(answers["embeddings"]), model.model(values).pooler_output)
        features = self.extractor()(waveform, sampling_rate=self.extractor().sampling_rate, return_tensors="pt")
        self.close(torch.tensor(answers["features"]), features["input_values"])
        expected = model(**features).logits.softmax(dim=-1)[0]
        for answer in answers["scores"]:
            assert answer["score"] == pytest.approx(expected[model.config.label2id[answer["label"]]].item(), abs=1e-5)

    def test_the_plain_pipeline_gives_the_voted_probabilities_of_a_whole_track(self, tmp_path):
        folder, model = self.saved(tmp_path)
        waveform = self.waveform(3.5)
        answers = pipeline("audio-classification", model=str(folder))(waveform, top_k=None)
        scores = {answer["label"]: answer["score"] for answer in answers}
        assert [answer["score"] for answer in answers] == sorted(scores.values(), reverse=True)
        assert sum(scores.values()) == pytest.approx(1, abs=1e-5)
        extractor = self.extractor()
        batch = extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        assert batch["input_values"].shape == (1, 1 if self.windows_cover_track else 4, *self.window_shape)
        with torch.no_grad():
            windows = model(batch["input_values"]).window_logits[0].softmax(dim=-1)
        for label, probability in zip(("blues", "metal", "pop"), windows.mean(dim=0).tolist(), strict=True):
            assert scores[label] == pytest.approx(probability, abs=1e-5)

    def test_the_pipeline_answers_for_batches_of_unequal_tracks_as_for_each_alone(self, tmp_path):
        folder, _ = self.saved(tmp_path)
        classify = pipeline("audio-classification", model=str(folder))
        tracks = [self.waveform(length, seed) for seed, length in enumerate((0.4, 3.5, 1.0, 2.2))]
        together = classify(tracks, top_k=None, batch_size=2)
        for batched, track in zip(together, tracks, strict=True):
            alone = {answer["label"]: answer["score"] for answer in classify(track, top_k=None)}
            assert {answer["label"]: answer["score"] for answer in batched} == pytest.approx(alone, abs=1e-5)

    def test_the_multi_label_pipeline_gives_the_mean_of_the_sigmoids(self, tmp_path):
        folder, model = self.saved(tmp_path, problem_type="multi_label_classification")
        waveform, extractor = self.waveform(2.5), self.extractor()
        answers = pipeline("audio-classification", model=str(folder))(waveform, top_k=None)
        batch = extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        expected = model(**batch).window_logits[0].sigmoid().mean(dim=0)
        for answer in answers:
            assert answer["score"] == pytest.approx(expected[model.config.label2id[answer["label"]]].item(), abs=1e-5)

    def test_bfloat16_is_finite_and_near_float32(self):
        model, values = self.model(), self.values(2, 3)
        expected = model(values).logits.exp()
        logits = model.to(torch.bfloat16)(values.to(torch.bfloat16)).logits
        assert torch.isfinite(logits).all()
        torch.testing.assert_close(logits.float().exp(), expected, atol=0.1, rtol=0)

    def test_autocast_trains(self):
        model = self.model().train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(self.values(3, 2), labels=torch.tensor([0, 1, 2])).loss
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)

    def test_gradient_checkpointing_changes_no_gradient(self):
        model = self.model()
        if not model.supports_gradient_checkpointing:
            pytest.skip("the architecture does not support gradient checkpointing")
        values, labels = self.values(2, 2), torch.tensor([0, 2])
        for module in model.modules():  # in train mode, or nothing is checkpointed; without dropout, to compare
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.train()
        losses, gradients = [], []
        for enable in (False, True):
            if enable:
                model.gradient_checkpointing_enable()
                assert model.is_gradient_checkpointing
            model.zero_grad()
            loss = model(values, labels=labels).loss
            loss.backward()
            losses.append(loss.detach())
            gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        self.close(losses[0], losses[1])
        self.close(gradients[0], gradients[1])

    def test_it_can_be_built_on_the_meta_device(self):
        with torch.device("meta"):
            model = ARCHITECTURES[self.model_type].load("model")(self.config())
        assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in self.model().parameters())

    def test_equal_seeds_give_equal_weights(self):
        first, second = self.model(), self.model()
        for (name, one), other in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
            assert torch.equal(one, other), name
