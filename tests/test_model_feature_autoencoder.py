"""hfmgc-feature-autoencoder: the common tests, the published widths, and the loss of two terms."""

import pytest
import soundfile
import torch
from architecture_tester import ArchitectureTester
from conftest import tone
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from torch.nn import functional as F

from hfmgc.errors import CheckpointError
from hfmgc.features.feature_extraction_handmade import HandmadeFeatureExtractor
from hfmgc.inference.songs import SongPredictor
from hfmgc.models.configuration_feature_autoencoder import FeatureAutoencoderConfig
from hfmgc.models.modeling_feature_autoencoder import FeatureAutoencoderForAudioClassification


class TestFeatureAutoencoder(ArchitectureTester):
    model_type = "hfmgc-feature-autoencoder"
    num_hidden_states = 3
    window_shape = (1, 57)
    windows_cover_track = True
    wrong_windows = (
        ((1, 58), "expected 57 bins in the last dimension, got 58"),
        ((2, 57), "expected 1 frame .* got 2"),
    )

    def config(self, **fields):
        fields.setdefault("id2label", {0: "a", 1: "b", 2: "c"})
        tiny = {"num_features": 57, "latent_size": 6, "encoder_sizes": [12, 6], "classifier_sizes": [5]}
        # A short training of noise, which cannot be reconstructed, must show in the loss.
        tiny |= {"reconstruction_weight": 0.05, "classification_weight": 0.95}
        return FeatureAutoencoderConfig(**(tiny | fields))

    def extractor(self, **fields):
        return HandmadeFeatureExtractor(**{"layout": "gtzan_57", **fields})


# The published encoders and classifiers (papers' code), by latent size: widths of all layers.
PUBLISHED = {
    10: ([518, 400, 200, 100, 50, 10], [10, 10, 16]),
    50: ([518, 400, 200, 100, 50], [50, 30, 20, 16]),
    100: ([518, 400, 200, 100], [100, 70, 50, 20, 16]),
    200: ([518, 400, 200], [200, 130, 60, 30, 16]),
    400: ([518, 400], [400, 250, 150, 50, 20, 16]),
    None: ([518], [518, 300, 180, 80, 40, 16]),
}


def widths(network: nn.Module) -> list[int]:
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return [*(module.in_features for module in linear[:1]), *(module.out_features for module in linear)]


@pytest.mark.parametrize("latent_size", PUBLISHED)
def test_the_widths_are_the_published_ones(latent_size):
    encoder, classifier = PUBLISHED[latent_size]
    model = FeatureAutoencoderForAudioClassification(FeatureAutoencoderConfig(latent_size=latent_size, num_labels=16))
    assert widths(model.model.encoder) == (encoder if latent_size else [])
    assert widths(model.model.decoder) == (encoder[::-1] if latent_size else [])
    assert widths(model.classifier) == classifier
    for network in (model.model.encoder, model.model.decoder, model.classifier):
        count = len(widths(network)) - 1
        kinds = [type(module) for module in network.modules() if not isinstance(module, nn.Sequential)]
        layers = [kind for kind in kinds if issubclass(kind, nn.Linear | nn.BatchNorm1d | nn.ReLU)]
        assert len(layers) == max(0, 3 * count - 2)
        assert not layers or layers[-1] is nn.Linear


def test_other_widths_of_input_keep_the_published_layers():
    config = FeatureAutoencoderConfig(num_features=57, latent_size=100)
    assert widths(FeatureAutoencoderForAudioClassification(config).model.encoder) == [57, 400, 200, 100]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"num_features": 0}, "num_features"),
        ({"latent_size": 30, "encoder_sizes": None}, "encoder_sizes"),
        ({"latent_size": 30, "encoder_sizes": [40, 20]}, "encoder_sizes"),
        ({"encoder_sizes": [0, 6]}, "encoder_sizes"),
        ({"classifier_sizes": [5, 0]}, "classifier_sizes"),
        ({"reconstruction_weight": -1}, "reconstruction_weight"),
        ({"reconstruction_weight": 0, "classification_weight": 0}, "classification_weight"),
    ],
)
def test_impossible_fields_are_refused_by_name(fields, named):
    with pytest.raises(StrictDataclassError, match=named):
        TestFeatureAutoencoder().config(**fields)


def test_the_training_loss_weighs_reconstruction_and_classification():
    tests = TestFeatureAutoencoder()
    values, labels = tests.values(6), torch.tensor([0, 1, 2, 0, 1, 2])
    losses = {}
    for weights in ((0.5, 0.5), (0.0, 1.0), (1.0, 0.0)):
        model = tests.model(reconstruction_weight=weights[0], classification_weight=weights[1]).train()
        losses[weights] = model(values, labels=labels).loss
    tests.close(losses[0.5, 0.5], (losses[0.0, 1.0] + losses[1.0, 0.0]) / 2)
    output = model(values, labels=labels)
    features = values[:, 0]
    tests.close(output.loss, F.mse_loss(model.model.decoder(model.model.encoder(features)), features))
    model.eval()
    output = model(values, labels=labels)
    tests.close(output.loss, F.cross_entropy(output.logits, labels))


def test_a_training_batch_of_one_track_is_possible():
    model = TestFeatureAutoencoder().model().train()
    loss = model(TestFeatureAutoencoder().values(1), labels=torch.tensor([1])).loss
    loss.backward()
    assert torch.isfinite(loss)


def test_without_a_bottleneck_the_features_are_classified(tmp_path):
    tests = TestFeatureAutoencoder()
    folder, model = tests.saved(tmp_path, latent_size=None, encoder_sizes=None)
    values = tests.values(3)
    tests.close(model.model(values).pooler_output, values[:, 0])
    loss = model.train()(values, labels=torch.tensor([0, 1, 2])).loss
    loss.backward()
    assert torch.isfinite(loss)
    tests.assert_embeds_as(tests.load_encoder(folder), model.eval())


def test_predict_takes_a_whole_song_as_one_window(tmp_path):
    tests = TestFeatureAutoencoder()
    folder, model = tests.saved(tmp_path)
    waveform = tone(0, seconds=1.5, sampling_rate=22050)
    soundfile.write(tmp_path / "song.wav", waveform, 22050, subtype="FLOAT")
    (prediction,) = SongPredictor([str(folder)]).predict([str(tmp_path / "song.wav")])
    row = prediction.row
    assert (row["windows"], row["heard_seconds"], row["note"]) == (1, 1.5, "")
    batch = tests.extractor()(waveform, sampling_rate=22050, return_tensors="pt")
    scores = model(**batch).logits[0].softmax(dim=-1)
    for answer in row["genres"]:
        assert answer["score"] == pytest.approx(scores[model.config.label2id[answer["label"]]].item(), abs=1e-4)


def test_predict_refuses_a_network_of_a_table(tmp_path):
    tests = TestFeatureAutoencoder()
    folder, _ = tests.saved(tmp_path)
    HandmadeFeatureExtractor(layout="table", num_features=57).save_pretrained(folder)
    with pytest.raises(CheckpointError, match="audio"):
        SongPredictor([str(folder)])
