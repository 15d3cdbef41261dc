"""hfmgc-calm: the common tests on a tiny codec and language model, and MusicGen's own hidden states."""

import pytest
import torch
from architecture_tester import ArchitectureTester
from encoders import MUSICGEN, fill_codebooks, write_musicgen
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from transformers import MusicgenForConditionalGeneration

from hfmgc.features.feature_extraction_calm import CALMFeatureExtractor
from hfmgc.models.configuration_calm import CALMConfig
from hfmgc.models.modeling_calm import CALMForAudioClassification, CALMModel


class TestCALM(ArchitectureTester):
    model_type = "hfmgc-calm"
    num_hidden_states = 3
    num_attentions = 2
    window_shape = (800, 1)
    other_lengths = (400, 1600)
    most_frames = 1600
    cannot_be_adapted = ("codec",)  # no gradient passes its tokens
    one_graph = False  # the codec is not compiled
    wrong_windows = (
        ((800, 2), "expected 1 bins in the last dimension, got 2"),
        ((20, 1), "expected at least 21 frames, got 20"),
    )

    def config(self, **fields):
        fields.setdefault("id2label", {0: "a", 1: "b", 2: "c"})
        return CALMConfig(**{"backbone_config": MUSICGEN, "hidden_layer": 2, **fields})

    def extractor(self, **fields):
        own = {"feature_extractor_type": "EncodecFeatureExtractor", "sampling_rate": 8000}
        return CALMFeatureExtractor(
            **{"encoder_extractor": own, "window_seconds": 0.1, "window_policy": "even", **fields}
        )

    def model(self, **fields):
        model = super().model(**fields)
        fill_codebooks(model.model.codec)
        return model

    def test_an_exported_model_answers_as_itself_for_any_number_of_tracks_and_windows(self):
        """It cannot be exported: the padding of transformers' EnCodec depends on the values of tensors."""
        model = self.model()
        with pytest.raises(GuardOnDataDependentSymNode):
            torch.export.export(model, (), self.batch(3, 2, masked=False))

    def graph_model(self):
        codec = {**MUSICGEN["audio_encoder"], "upsampling_ratios": [20]}
        decoder = {**MUSICGEN["decoder"], "num_hidden_layers": 1}
        return self.model(backbone_config={**MUSICGEN, "audio_encoder": codec, "decoder": decoder}, hidden_layer=1)

    def shrunken(self):
        return {"backbone_config": MUSICGEN, "hidden_layer": 2}


@torch.no_grad()
def test_a_layer_is_that_of_musicgen_without_a_text(tmp_path):
    folder = write_musicgen(tmp_path / "musicgen")
    own = MusicgenForConditionalGeneration.from_pretrained(folder).eval()
    values = TestCALM().values(2)
    codes = own.audio_encoder.encode(values.transpose(1, 2)).audio_codes[0]
    assert len(codes.unique()) > 10
    # As it generates: every codebook one position later than the one before it, and an empty text.
    frames, start = codes.shape[-1], own.config.decoder.vocab_size
    tokens = torch.full((2, 2, frames + 1), start)
    tokens[:, 0, 1:] = codes[:, 0]
    tokens[:, 1, 2:] = codes[:, 1, :-1]
    states = own.decoder.model.decoder(
        tokens.flatten(0, 1),
        encoder_hidden_states=torch.zeros(2, 1, own.config.decoder.hidden_size),
        output_hidden_states=True,
    ).hidden_states
    means = [state[:, 2:].mean(dim=1) for state in states[1:]]
    for layer, expected in ((1, means[0]), (2, means[1]), ("all", torch.cat(means, dim=-1))):
        model = CALMForAudioClassification.from_pretrained_backbone(
            folder, TestCALM().config(hidden_layer=layer)
        ).eval()
        output = model.model(values)
        torch.testing.assert_close(output.pooler_output, expected, atol=1e-5, rtol=1e-5)
        assert output.hidden_states is None, "not asked for"
        assert model.model(values, output_hidden_states=True).hidden_states is not None


@torch.no_grad()
def test_a_layer_can_be_selected_afterwards(tmp_path):
    folder, values = write_musicgen(tmp_path / "musicgen"), TestCALM().values(2)
    every, first = (
        CALMForAudioClassification.from_pretrained_backbone(folder, TestCALM().config(hidden_layer=layer)).eval()
        for layer in ("all", 1)
    )
    every.model.select_layer(1)
    assert every.model.state_dict().keys() == first.model.state_dict().keys()
    assert torch.equal(every.model(values).pooler_output, first.model(values).pooler_output)


def test_by_default_the_first_25_seconds_are_used():
    extractor = CALMFeatureExtractor()
    assert (extractor.sampling_rate, extractor.window_shape) == (32000, (800000, 1))
    waveform = torch.randn(32000 * 30).numpy()
    windows = extractor.track_windows(waveform)
    assert (windows[..., 0] == waveform[None, :800000]).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_layer": 3}, "hidden_layer"),
        ({"hidden_layer": 0}, "hidden_layer"),
        ({"backbone_config": {**MUSICGEN, "decoder": {**MUSICGEN["decoder"], "num_codebooks": 3}}}, "num_codebooks"),
        ({"backbone_config": {**MUSICGEN, "decoder": {**MUSICGEN["decoder"], "vocab_size": 32}}}, "vocab_size"),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        CALMModel(TestCALM().config(**fields))
