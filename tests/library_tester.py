"""What a user of transformers does with any model: the common tests of Trainer, loading options and precision."""

import datasets
import numpy as np
import torch
from transformers import Trainer, TrainingArguments


class LibraryTester:
    """Part of `ArchitectureTester`, which states the model and its front end."""

    def test_a_plain_trainer_as_the_audio_course_writes_it_takes_tracks_of_unequal_length(self, tmp_path):
        model, extractor = self.model(), self.extractor()
        rate, windows = extractor.sampling_rate, (1, 3, 1, 3)
        audio = [{"array": self.waveform(n, seed), "sampling_rate": rate} for seed, n in enumerate(windows)]
        encoded = datasets.Dataset.from_dict({"audio": audio, "label": [0, 1, 2, 0]}).map(
            lambda batch: extractor([track["array"] for track in batch["audio"]], sampling_rate=rate),
            remove_columns="audio",
            batched=True,
            batch_size=1,
        )
        assert [len(mask) for mask in encoded["window_mask"]] == list(windows)
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
