"""hfmgc-resnet-bigru: the common tests, the baseline's sizes, and that order in time is heard."""

import pytest
import torch
from architecture_tester import ArchitectureTester
from huggingface_hub.errors import StrictDataclassError
from transformers import ResNetModel

from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models.configuration_resnet_bigru import ResNetBiGRUConfig
from hfmgc.models.modeling_resnet_bigru import ResNetBiGRUForAudioClassification


BACKBONE = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}


def tiny(**fields) -> ResNetBiGRUConfig:
    fields.setdefault("id2label", {0: "a", 1: "b", 2: "c"})
    return ResNetBiGRUConfig(**{"backbone_config": dict(BACKBONE), "gru_hidden_size": 6, "num_bins": 24, **fields})


class TestResNetBiGRU(ArchitectureTester):
    model_type = "hfmgc-resnet-bigru"
    num_hidden_states = 4
    window_shape = (48, 24)
    other_lengths = (20, 75)
    wrong_windows = (
        ((48, 40), "expected 24 bins in the last dimension, got 40"),
        ((7, 24), r"expected at least 8 frames, got 7"),
    )

    graph_frames = 8

    def graph_model(self):
        return self.model(backbone_config={"embedding_size": 8, "hidden_sizes": [8], "depths": [1]})

    def shrunken(self):
        backbone = {"embedding_size": 8, "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
        return {"backbone_config": backbone, "gru_hidden_size": 8}

    def config(self, **fields):
        return tiny(**fields)

    def extractor(self, **fields):
        return SpectrogramFeatureExtractor(**{"num_bins": 24, "window_frames": 48, **fields})

    def test_the_gru_reads_the_resnets_time_steps_and_its_states_are_averaged(self):
        model, values = self.model(), self.values(2)
        plain = ResNetModel(model.config.backbone_config).eval()
        plain.load_state_dict(model.model.backbone.state_dict())
        seen = []
        model.model.gru.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output[0])))
        logits = model(values).window_logits[:, 0]
        grid = plain(values.transpose(1, 2).unsqueeze(1)).last_hidden_state  # [windows, hidden, bins, steps]
        ((sequence, states),) = seen
        assert grid.shape == (2, 16, 3, 6)
        assert sequence.shape == (2, 6, 16) and states.shape == (2, 6, 12)
        for step in range(6):
            self.close(sequence[:, step], grid[:, :, :, step].mean(dim=-1))
        self.close(logits, states.mean(dim=1) @ model.classifier.weight.T + model.classifier.bias)

    def test_both_directions_of_the_gru_are_used(self):
        model, sequence = self.model(), torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(0))
        states, _ = model.model.gru(sequence)
        for changed, direction in ((5, slice(6)), (0, slice(6, 12))):
            other = sequence.clone()
            other[:, changed] += 1
            moved = (model.model.gru(other)[0] - states)[..., direction].abs().amax(dim=(0, 2)) > 1e-6
            # What lies behind the changed step, as this direction reads, is heard; what lies before it is not.
            assert moved.sum() == 1 and moved[changed]

    def test_dropout_acts_before_the_classifier(self):
        model, seen = self.model(dropout=0.5), []
        model.classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        model.train()(self.values(8))
        model.eval()(self.values(8))
        zeros = [(hidden == 0).float().mean() for hidden in seen]
        assert zeros[0] > 0.25 and zeros[1] == 0

    def test_several_layers_learn_and_survive_saving(self, tmp_path):
        folder, model = self.saved(tmp_path, num_gru_layers=2)
        values = self.values(2)
        assert torch.equal(type(model).from_pretrained(folder)(values).logits, model(values).logits)
        assert model.model.gru.num_layers == 2

    def test_without_num_bins_any_number_of_bins_is_accepted(self):
        model = self.model(num_bins=None)
        for bins in (8, 50):
            assert model(torch.randn(2, 48, bins, generator=torch.Generator().manual_seed(0))).logits.shape == (2, 3)
        with pytest.raises(ValueError, match=r"at least 8 bins .* got 7"):
            model(torch.zeros(2, 48, 7))


def test_the_papers_size_has_these_parameters():
    with torch.device("meta"):
        model = ResNetBiGRUForAudioClassification(ResNetBiGRUConfig(num_labels=10))
    # ResNet-18 with one channel, the GRU (two directions of three gates with two biases), the linear layer.
    assert sum(parameter.numel() for parameter in model.parameters()) == (
        11_170_240 + 2 * 3 * 128 * (512 + 128 + 2) + 10 * (256 + 1)
    )


def test_30_seconds_of_387_frames_are_13_steps():
    with torch.device("meta"):
        model = ResNetBiGRUForAudioClassification(ResNetBiGRUConfig(num_labels=10))
        assert model.model.backbone(torch.zeros(1, 1, 128, 387)).last_hidden_state.shape == (1, 512, 4, 13)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gru_hidden_size": 0}, "gru_hidden_size"),
        ({"num_gru_layers": 0}, "num_gru_layers"),
        ({"dropout": -0.1}, "dropout"),
        ({"num_bins": 7}, "num_bins must be at least 8"),
        ({"backbone_config": {"hidden_act": "swosh"}}, "backbone_config.hidden_act: .* 'swosh'"),
        ({"backbone_config": {"num_channels": 3}}, "backbone_config.num_channels must be 1"),
    ],
)
def test_impossible_configs_are_refused(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        tiny(**fields)
