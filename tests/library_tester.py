"""What a user of transformers does with any model: the common tests of Trainer, loading options and precision."""

import datasets
import numpy as np
import pytest
import torch
from accelerate import disk_offload
from transformers import AutoModelForAudioClassification, Trainer, TrainingArguments


class LibraryTester:
    """Part of `ArchitectureTester`, which states the model and its front end."""

    def test_a_plain_trainer_as_the_audio_course_writes_it_takes_tracks_of_unequal_length(self, tmp_path):
        model, extractor = self.model(), self.extractor()
        rate = extractor.sampling_rate
        audio = [{"array": self.waveform(n, seed), "sampling_rate": rate} for seed, n in enumerate((1, 3, 1, 3))]
        encoded = datasets.Dataset.from_dict({"audio": audio, "label": [0, 1, 2, 0]}).map(
            lambda batch: extractor([track["array"] for track in batch["audio"]], sampling_rate=rate),
            remove_columns="audio",
            batched=True,
            batch_size=1,
        )
        windows = [len(mask) for mask in encoded["window_mask"]]
        assert windows[::2] == [1, 1] and (self.windows_cover_track or min(windows[1::2]) >= 3)
        seen = []

        def compute_metrics(eval_pred):
            seen.append(eval_pred.predictions)
            return {"accuracy": float((np.argmax(eval_pred.predictions, axis=1) == eval_pred.label_ids).mean())}

        trainer = Trainer(
            model,
            TrainingArguments(
                output_dir=tmp_path,
                num_train_epochs=1,
                per_device_train_batch_size=2,
                per_device_eval_batch_size=2,
                eval_strategy="epoch",
                save_strategy="no",
                report_to="none",
                use_cpu=True,
                disable_tqdm=True,
            ),
            train_dataset=encoded,
            eval_dataset=encoded,
            processing_class=extractor,
            compute_metrics=compute_metrics,
        )
        trainer.train()
        (logged,) = (entry for entry in trainer.state.log_history if "eval_accuracy" in entry)
        assert 0 <= logged["eval_accuracy"] <= 1
        model.eval()
        for track, logits in zip(audio, seen[0], strict=True):
            with torch.no_grad():
                alone = model(**extractor(track["array"], sampling_rate=rate, return_tensors="pt")).logits[0]
            self.close(torch.tensor(logits), alone)

    def test_parts_may_wait_on_the_disk(self, tmp_path):
        folder, model = self.saved(tmp_path)
        values = self.values(2, 3)
        first, *others = (name for name, part in model.named_children() if list(part.parameters()))
        offloaded = AutoModelForAudioClassification.from_pretrained(
            folder, device_map={first: "cpu", **dict.fromkeys(others, "disk")}, offload_folder=tmp_path / "offloaded"
        )
        assert {parameter.device.type for parameter in offloaded.parameters()} == {"cpu", "meta"}
        with torch.no_grad():
            self.close(offloaded(values).logits, model(values).logits)

    def test_all_of_it_may_wait_on_the_disk(self, tmp_path):
        model, values = self.model(), self.values(2, 3)
        with torch.no_grad():
            expected = model(values).logits
            disk_offload(model, tmp_path / "offloaded", execution_device=torch.device("cpu"))
            assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
            self.close(model(values).logits, expected)

    def test_a_checkpoint_starts_a_model_of_other_genres(self, tmp_path):
        folder, model = self.saved(tmp_path)
        with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
            AutoModelForAudioClassification.from_pretrained(folder, num_labels=5)
        other, report = AutoModelForAudioClassification.from_pretrained(
            folder, num_labels=5, ignore_mismatched_sizes=True, output_loading_info=True
        )
        assert not report["missing_keys"] and not report["unexpected_keys"]
        new = {key for key, *_ in report["mismatched_keys"]}
        assert new and all(key.startswith("classifier") for key in new)
        weights = other.state_dict()
        for name, expected in model.state_dict().items():
            assert torch.isfinite(weights[name]).all()
            assert name in new or torch.equal(weights[name], expected)
        output = other(self.values(2, 3), labels=torch.tensor([4, 0]))
        assert output.logits.shape == (2, 5)
        assert torch.isfinite(output.loss)

    def test_half_precision_answers_nearly_the_same_and_survives_saving(self, tmp_path):
        folder, model = self.saved(tmp_path)
        values = self.values(2, 3)
        half = AutoModelForAudioClassification.from_pretrained(folder, dtype=torch.float16)
        with torch.no_grad():
            answers = half(values.half()).logits
            torch.testing.assert_close(answers.exp(), model(values).logits.exp(), atol=0.02, rtol=0)
        half.save_pretrained(tmp_path / "half")
        again = AutoModelForAudioClassification.from_pretrained(tmp_path / "half")
        for name, weight in half.state_dict().items():
            assert again.state_dict()[name].dtype == weight.dtype
            assert not weight.is_floating_point() or weight.dtype == torch.float16
            assert torch.equal(again.state_dict()[name], weight)

    def test_a_checkpoint_of_several_files_is_the_same_model(self, tmp_path):
        model, values = self.model(), self.values(2, 3)
        size = sum(tensor.nbytes for tensor in model.state_dict().values())
        model.save_pretrained(tmp_path, max_shard_size=size // 3)
        assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 1
        assert not (tmp_path / "model.safetensors").exists()
        loaded = AutoModelForAudioClassification.from_pretrained(tmp_path)
        assert torch.equal(loaded(values).logits, model(values).logits)
