"""Embeddings of tracks: the common tests of `XModel`, alone and within its classifier."""

from pathlib import Path

import torch
from transformers import AutoModel, AutoModelForAudioClassification, PreTrainedModel

from hfmgc.models.modeling_windowed import TrackModelOutput
from hfmgc.registry import ARCHITECTURES


class EmbeddingTester:
    """Part of `ArchitectureTester`, which states the classifier."""

    def assert_embeds_as(self, encoder: PreTrainedModel, model: PreTrainedModel) -> None:
        """Both are given stacks of different numbers of windows."""
        batch = self.batch(3, 2, masked=True)
        assert type(encoder) is ARCHITECTURES[self.model_type].load("base_model")
        expected = model.model(**batch)
        assert expected.pooler_output.std() > 0
        for name, embeddings in encoder(**batch).items():
            self.close(embeddings, expected[name])

    def load_encoder(self, folder: Path) -> PreTrainedModel:
        """Every weight must come from the checkpoint, and no other may be complained of."""
        encoder, report = AutoModel.from_pretrained(folder, output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"] and not encoder.training
        return encoder

    @torch.no_grad()
    def test_windows_and_tracks_are_embedded(self):
        encoder = self.model().model
        for leading in ((4,), (4, 1), (4, 5)):
            output = encoder(self.values(*leading))
            assert isinstance(output, TrackModelOutput)
            assert output.window_embeddings.shape == (4, *(leading[1:] or (1,)), encoder.embedding_size)
            self.close(output.pooler_output, output.window_embeddings.mean(dim=1))
        assert not torch.allclose(output.pooler_output[0], output.pooler_output[1], atol=1e-4)
        named = encoder(self.values(4, 5), return_dict=False)
        assert torch.equal(named[0], output.window_embeddings) and torch.equal(named[1], output.pooler_output)

    @torch.no_grad()
    def test_a_track_is_the_mean_of_the_windows_that_exist(self):
        encoder, batch = self.model().model, self.batch(3, 4, masked=True)
        output = encoder(**batch)
        for track, count in enumerate(batch["window_mask"].sum(dim=1).tolist()):
            alone = encoder(batch["input_values"][track : track + 1, :count])
            self.close(output.window_embeddings[track, :count], alone.window_embeddings[0])
            self.close(output.pooler_output[track], alone.window_embeddings[0].mean(dim=0))
            assert (output.window_embeddings[track, count:] == 0).all()

    @torch.no_grad()
    def test_the_head_reads_the_embeddings(self):
        model, values, read = self.model(), self.values(2, 3), []
        model.classifier.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
        model(values)
        self.close(read[0].unflatten(0, (2, 3)), model.model(values).window_embeddings)

    @torch.no_grad()
    def test_a_classifiers_checkpoint_gives_its_embeddings(self, tmp_path, capfd):
        folder, model = self.saved(tmp_path)
        self.assert_embeds_as(self.load_encoder(folder), model)
        assert "classifier" not in capfd.readouterr().err

    @torch.no_grad()
    def test_a_saved_encoder_embeds_the_same_and_starts_a_classifier(self, tmp_path):
        model = self.model()
        model.model.save_pretrained(tmp_path)
        self.assert_embeds_as(self.load_encoder(tmp_path), model)
        other, report = AutoModelForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
        assert report["missing_keys"] and all(name.startswith("classifier.") for name in report["missing_keys"])
        self.assert_embeds_as(other.model, model)

    def test_a_checkpoint_names_the_encoder_and_the_classifier(self, tmp_path):
        _, model = self.saved(tmp_path)
        module = type(model).__module__.rpartition(".")[2]
        expected = {"AutoModel": type(model.model), "AutoModelForAudioClassification": type(model)}
        for part in (model, model.model):
            part.config.auto_map = None
            part.save_pretrained(tmp_path / "again")
            auto_map = type(model.config).from_pretrained(tmp_path / "again").auto_map
            assert {name: auto_map.get(name) for name in expected} == {
                name: f"{module}.{cls.__name__}" for name, cls in expected.items()
            }, f"{module}.py must end with `register_auto_classes`"
