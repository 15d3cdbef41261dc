"""hfmgc-audio-encoder: the common tests on a tiny Wav2Vec2, and encoders of other kinds against transformers' own classes."""

import numpy as np
import pytest
import torch
from architecture_tester import ArchitectureTester
from conftest import tone
from encoders import CLAP, MUSICGEN, WAV2VEC2, write_encoder
from transformers import (
    ASTModel,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    ClapModel,
    WhisperModel,
    pipeline,
)

from hfmgc.errors import CheckpointError, ConfigError
from hfmgc.features.feature_extraction_audio_encoder import AudioEncoderFeatureExtractor
from hfmgc.models.configuration_audio_encoder import AudioEncoderConfig
from hfmgc.models.modeling_audio_encoder import AudioEncoderForAudioClassification, AudioEncoderModel
from hfmgc.training.arguments import RECIPE_GROUPS, ModelArguments, RunArguments
from hfmgc.training.build import build_feature_extractor, build_model
from hfmgc.training.check import check_recipe


SPECTROGRAM_KINDS = ("whisper", "clap", "audio-spectrogram-transformer")
ONE_LAYER = {**WAV2VEC2, "num_hidden_layers": 1}  # compiling and exporting take most of the time
KINDS = ("wav2vec2", "hubert", "wavlm", *SPECTROGRAM_KINDS)


class TestAudioEncoder(ArchitectureTester):
    model_type = "hfmgc-audio-encoder"
    num_hidden_states = 2
    num_attentions = 1
    window_shape = (800, 1)
    other_lengths = (400, 1600)
    most_frames = 1600
    cannot_be_adapted = ("pos_conv_embed",)  # convolutions in groups, with a weight norm
    wrong_windows = (
        ((800, 2), "expected 1 bins in the last dimension, got 2"),
        ((65, 1), "expected at least 66 frames, got 65"),
    )

    def config(self, **fields):
        fields.setdefault("id2label", {0: "a", 1: "b", 2: "c"})
        return AudioEncoderConfig(**{"backbone_config": ONE_LAYER, **fields})

    def extractor(self, **fields):
        return AudioEncoderFeatureExtractor(**{"window_seconds": 0.05, **fields})

    def shrunken(self):
        return {"backbone_config": ONE_LAYER}


@pytest.fixture(scope="module", params=KINDS)
def encoder(request, tmp_path_factory):
    """The kind and the folder of a tiny encoder in transformers' format."""
    return request.param, write_encoder(tmp_path_factory.mktemp(request.param) / "encoder", request.param)


def arguments_of(kind: str, folder, **model) -> ModelArguments:
    front_end = {} if kind in SPECTROGRAM_KINDS else {"window_seconds": 0.5}
    return ModelArguments(
        model_type="hfmgc-audio-encoder", pretrained_backbone=str(folder), model=model, front_end=front_end
    )


def built(arguments: ModelArguments, tmp_path):
    run = RunArguments(output_dir=str(tmp_path / "run"), use_cpu=True)
    check_recipe((arguments, RECIPE_GROUPS[1](), run))
    return build_model(arguments, ["blues", "pop"], run).eval(), build_feature_extractor(arguments)


@torch.no_grad()
def own_states(kind: str, folder, window: np.ndarray):
    """The pooled output, or the mean over time of the last hidden state, and the hidden states, by transformers alone."""
    values = AutoFeatureExtractor.from_pretrained(folder)(window, sampling_rate=16000, return_tensors="pt")
    if kind == "clap":
        output = ClapModel.from_pretrained(folder).eval().audio_model(**values)
        return output.pooler_output, None
    auto = {"whisper": WhisperModel, "audio-spectrogram-transformer": ASTModel}.get(kind, AutoModel)
    model = auto.from_pretrained(folder).eval()
    output = (model.encoder if kind == "whisper" else model)(**values, output_hidden_states=True)
    pooled = output.pooler_output if "pooler_output" in output else output.last_hidden_state.mean(dim=1)
    return pooled, output.hidden_states


@torch.no_grad()
def test_an_encoder_embeds_as_in_transformers_and_survives_saving(encoder, tmp_path):
    kind, folder = encoder
    model, extractor = built(arguments_of(kind, folder), tmp_path)
    waveform = tone(0, seconds=extractor.window_seconds)
    batch = extractor(waveform, sampling_rate=16000, return_tensors="pt")
    pooled, states = own_states(kind, folder, waveform)
    torch.testing.assert_close(model.model(**batch).pooler_output, pooled, atol=1e-5, rtol=1e-5)
    if states is not None:
        means = [state.mean(dim=1) for state in states[1:]]
        for layer, expected in ((1, means[0]), (2, means[1]), ("all", torch.cat(means, dim=-1))):
            chosen, _ = built(arguments_of(kind, folder, hidden_layer=layer), tmp_path)
            output = chosen.model(**batch)
            torch.testing.assert_close(output.pooler_output, expected, atol=1e-5, rtol=1e-5)
            assert output.hidden_states is None, "not asked for"
            asked = chosen.model(**batch, output_hidden_states=True)
            assert len(asked.hidden_states) == len(states) and torch.equal(asked.pooler_output, output.pooler_output)
    model.save_pretrained(tmp_path / "checkpoint")
    extractor.save_pretrained(tmp_path / "checkpoint")
    loaded = AutoModelForAudioClassification.from_pretrained(tmp_path / "checkpoint")
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    answers = pipeline("audio-classification", model=str(tmp_path / "checkpoint"))(waveform)
    expected = model(**batch).logits.softmax(dim=-1)[0]
    for answer in answers:
        assert answer["score"] == pytest.approx(expected[model.config.label2id[answer["label"]]].item(), abs=1e-5)


def test_windows_of_audio_and_of_stored_features_are_the_same(encoder, tmp_path):
    extractor = build_feature_extractor(arguments_of(*encoder))
    waveform = tone(1, seconds=2.3)
    windows = extractor.track_windows(waveform)
    assert windows.shape[1:] == extractor.window_shape
    np.testing.assert_array_equal(extractor.cut_features(extractor.track_features(waveform)), windows)
    extractor.save_pretrained(tmp_path)
    loaded = AutoFeatureExtractor.from_pretrained(tmp_path)
    np.testing.assert_array_equal(loaded.track_windows(waveform), windows)


def test_a_window_longer_than_the_encoder_keeps_is_refused(encoder):
    kind, folder = encoder
    if kind not in SPECTROGRAM_KINDS:
        return  # any length
    arguments = arguments_of(kind, folder)
    arguments.front_end["window_seconds"] = 1.5
    with pytest.raises(ConfigError, match="window_seconds"):
        build_feature_extractor(arguments)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_layer": 2}, "hidden_layer"),
        ({"hidden_layer": 0}, "hidden_layer"),
        ({"hidden_layer": 1, "backbone_config": {"model_type": "clap", **CLAP}}, "hidden_layer"),
        ({"backbone_config": {"model_type": "encodec"}}, "backbone_config.model_type 'encodec'"),
        ({"backbone_config": {"model_type": "musicgen", **MUSICGEN}}, "backbone_config.model_type 'musicgen'"),
        ({"backbone_config": {"model_type": "wav2vec9"}}, "wav2vec9"),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        AudioEncoderModel(TestAudioEncoder().config(**fields))


def test_an_encoder_without_a_usable_output_is_refused_before_the_data_are_read(tmp_path):
    """A text encoder, whose pooled output audio never reaches."""
    from transformers import BertConfig, BertModel, Wav2Vec2FeatureExtractor

    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "vocab_size": 20,
    }
    BertModel(BertConfig(**sizes)).save_pretrained(tmp_path / "bert")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match="'bert'"):
        built(arguments_of("bert", tmp_path / "bert"), tmp_path)


def test_an_output_of_another_size_is_refused(monkeypatch):
    model = TestAudioEncoder().model().model
    monkeypatch.setattr(model.backbone, "forward", lambda **inputs: {"logits": torch.zeros(1, 3)})
    with pytest.raises(ValueError, match="pooled output"):
        model(TestAudioEncoder().values(1))


def test_a_folder_without_a_feature_extractor_or_with_missing_weights_is_refused(tmp_path):
    folder = write_encoder(tmp_path / "encoder", "wav2vec2")
    model = AutoModel.from_pretrained(folder)
    weights = {name: value for name, value in model.state_dict().items() if "layers.1" not in name}
    model.save_pretrained(folder, state_dict=weights)
    with pytest.raises(ValueError, match=r"lacks .*layers\.1"):
        AudioEncoderForAudioClassification.from_pretrained_backbone(folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match="preprocessor_config"):
        build_feature_extractor(arguments_of("wav2vec2", folder))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoder_extractor": {"feature_extractor_type": "os"}}, "feature_extractor_type"),
        ({"sampling_rate": 8000}, "sampling_rate"),
        ({"window_seconds": 0.0}, "window_seconds"),
    ],
)
def test_impossible_fields_of_the_front_end_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        AudioEncoderFeatureExtractor(**fields)
