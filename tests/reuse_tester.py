"""Training a head on a frozen backbone: the common tests of `reuse_frozen_prefix`."""

import datasets
import torch

from hfmgc.data.features import TrackWindows
from hfmgc.training.arguments import RunArguments
from hfmgc.training.examples import FixedExamples
from hfmgc.training.fit import build_trainer
from hfmgc.training.prefix_reuse import StoredExamples, reuse_prefix
from hfmgc.training.preparation import PreparedData


GENRES = ["blues", "metal", "pop"]
COLUMNS = datasets.Features(
    {
        "track_id": datasets.Value("string"),
        "genre": datasets.Value("string"),
        "features": datasets.LargeList(datasets.List(datasets.List(datasets.Value("float32")))),
    }
)


class ReuseTester:
    """Part of `ArchitectureTester`, which states the model."""

    def trained_head(self, folder, *, reuse: bool) -> dict[str, torch.Tensor]:
        """Return the weights after a short training of the head alone."""
        columns = {"track_id": list("uvwxyz"), "genre": GENRES * 2, "features": self.values(6, 2).numpy()}
        tracks = TrackWindows(datasets.Dataset.from_dict(columns, features=COLUMNS), self.extractor())
        run = RunArguments(
            output_dir=str(folder / "run"), num_train_epochs=2, per_device_train_batch_size=4, learning_rate=0.05,
            eval_strategy="epoch", save_strategy="no", load_best_model_at_end=False, metric_for_best_model="loss",
            use_cpu=True, disable_tqdm=True, report_to="none", seed=3, data_seed=3,
            reuse_frozen_prefix=reuse, prefix_store=str(folder / "store"),
        )  # fmt: skip
        model = self.model().requires_grad_(False)
        model.classifier.requires_grad_(True)
        train = FixedExamples(tracks, seed=0)
        data = PreparedData(corpus=None, manifest=None, train=train, validation=tracks, test=tracks)
        data = reuse_prefix(model, data, run)
        assert isinstance(data.train, StoredExamples) == reuse
        trainer = build_trainer(model, run, GENRES, train=data.train, validation=data.validation)
        trainer.train()
        losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
        return {**model.state_dict(), "losses": torch.tensor(losses)}

    def test_a_head_learns_the_same_from_windows_and_from_stored_embeddings(self, tmp_path):
        start = self.model().state_dict()
        plain, reused = (self.trained_head(tmp_path, reuse=reuse) for reuse in (False, True))
        assert reused.keys() == plain.keys()
        for name, expected in plain.items():
            torch.testing.assert_close(reused[name], expected, atol=1e-4, rtol=1e-4, msg=name)
        frozen = [name for name in start if name.startswith("model.")]
        for name in frozen:  # running statistics of batch norm among them
            assert torch.equal(plain[name], start[name]), name
        assert any(not torch.equal(plain[name], start[name]) for name in start.keys() - set(frozen))

    def test_a_frozen_backbone_stays_in_evaluation_mode(self):
        model = self.model().requires_grad_(False)
        model.classifier.requires_grad_(True)
        assert model.train().training and not any(module.training for module in model.model.modules())
        model.model.requires_grad_(True)
        assert all(module.training for module in model.train().modules())
