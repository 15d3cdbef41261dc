"""hfmgc-lgnet: the common tests, the paper's sizes, one expert for each window, gates, and the router that freezes."""

import pytest
import torch
from architecture_tester import ArchitectureTester
from huggingface_hub.errors import StrictDataclassError
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import ResNetConfig, ResNetModel

from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models.configuration_lgnet import LGNetConfig
from hfmgc.models.modeling_lgnet import LGNetClassifier, LGNetForAudioClassification


BACKBONE = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}


def tiny(**fields) -> LGNetConfig:
    fields.setdefault("id2label", {0: "a", 1: "b", 2: "c"})
    return LGNetConfig(
        **{"backbone_config": dict(BACKBONE), "num_experts": 3, "expert_hidden_size": 12, "num_bins": 24, **fields}
    )


def head(**fields) -> LGNetClassifier:
    """The classifier of a tiny model, with some first weights."""
    torch.manual_seed(0)
    return LGNetForAudioClassification(tiny(**fields)).classifier


def representations(windows: int = 40) -> torch.Tensor:
    return 3 * torch.randn(windows, 16, generator=torch.Generator().manual_seed(0))


class TestLGNet(ArchitectureTester):
    model_type = "hfmgc-lgnet"
    num_hidden_states = 3
    window_shape = (32, 24)
    other_lengths = (20, 75)
    wrong_windows = (
        ((32, 40), "expected 24 bins in the last dimension, got 40"),
        ((7, 24), r"expected at least 8 frames, got 7"),
    )
    most_frames = 512

    def shrunken(self):
        backbone = {"embedding_size": 8, "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
        return {"backbone_config": backbone, "expert_hidden_size": 8}

    def config(self, **fields):
        return tiny(**fields)

    def extractor(self, **fields):
        return SpectrogramFeatureExtractor(**{"num_bins": 24, "window_frames": 32, **fields})

    def model(self, **fields):
        """The base's model, its router so biased that windows go to different experts (untrained, all go to one)."""
        model = super().model(**fields)
        if model.config.num_experts:
            seen = []
            with torch.no_grad(), model.classifier.router.register_forward_hook(lambda *call: seen.append(call[2])):
                model(self.values(16))
                model.classifier.router.bias -= seen[0].mean(dim=0)
        return model

    def test_routing_is_the_expert_of_each_window_and_minus_one_for_padding(self):
        model, values = self.model(), self.values(4, 5)
        routing = model(values).routing
        assert routing.shape == (4, 5)
        assert len(routing.unique()) > 1, "all windows went to one expert: the test sees nothing"
        mask = torch.tensor([[window < count for window in range(5)] for count in (5, 1, 2, 4)])
        assert torch.equal(model(values, window_mask=mask).routing, routing.masked_fill(~mask, -1))

    def test_without_experts_it_is_the_plain_resnet_with_a_linear_classifier(self):
        model, values = self.model(num_experts=0), self.values(3)
        plain = ResNetModel(model.config.backbone_config).eval()
        plain.load_state_dict(model.model.backbone.state_dict())
        assert type(model.classifier) is torch.nn.Linear
        pooled = plain(values.transpose(1, 2).unsqueeze(1)).pooler_output.flatten(1)
        output = model(values)
        self.close(output.logits, F.linear(pooled, model.classifier.weight, model.classifier.bias).log_softmax(dim=-1))
        assert output.routing is None
        model.begin_epoch(100)  # there is no router
        assert all(parameter.requires_grad for parameter in model.parameters())

    def test_without_experts_it_survives_saving(self, tmp_path):
        folder, model = self.saved(tmp_path, num_experts=0)
        values = self.values(2)
        assert torch.equal(type(model).from_pretrained(folder)(values).logits, model(values).logits)

    def test_without_num_bins_any_number_of_bins_is_accepted(self):
        model = super().model(num_bins=None)
        for bins in (8, 50):
            assert model(torch.randn(2, 32, bins, generator=torch.Generator().manual_seed(0))).logits.shape == (2, 3)
        with pytest.raises(ValueError, match=r"at least 8 bins .* got 7"):
            model(torch.zeros(2, 32, 7))

    def test_dropout_acts_before_the_classifier(self):
        model = self.model(dropout=0.5)
        seen = []
        model.classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        model.train()(self.values(8))
        model.eval()(self.values(8))
        zeros = [(hidden == 0).float().mean() for hidden in seen]
        assert zeros[0] - zeros[1] > 0.25

    def test_the_router_is_trained_until_its_epoch(self):
        model = self.model(router_frozen_after_epochs=2).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
        moved = []
        for epoch in range(4):
            model.begin_epoch(epoch)
            before = {name: parameter.detach().clone() for name, parameter in model.classifier.named_parameters()}
            model(self.values(6), labels=torch.tensor([0, 1, 2, 0, 1, 2])).loss.backward()
            optimizer.step()  # with momentum and gradients of earlier epochs, which must not move it either
            moved.append([not torch.equal(before[name], p) for name, p in model.classifier.named_parameters()])
        names = [name.startswith("router") for name, _ in model.classifier.named_parameters()]
        assert moved[0] == moved[1] == [True] * 6
        assert moved[2] == moved[3] == [not router for router in names]

    def test_a_router_that_freezes_is_announced_to_distributed_training(self):
        assert not self.model().uses_all_parameters
        assert self.model(router_frozen_after_epochs=None).uses_all_parameters
        assert self.model(num_experts=0).uses_all_parameters

    def test_a_resumed_run_finds_the_router_frozen(self):
        model = self.model()
        model.begin_epoch(57)
        frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
        assert frozen == ["classifier.router.weight", "classifier.router.bias"]
        model.begin_epoch(0)  # a new training of the same object
        assert all(parameter.requires_grad for parameter in model.parameters())

    def test_the_router_is_not_frozen_without_an_epoch_or_against_the_user(self):
        model = self.model(router_frozen_after_epochs=None)
        model.begin_epoch(10**6)
        assert model.classifier.router.weight.requires_grad
        model.classifier.router.requires_grad_(False)
        model.begin_epoch(0)
        assert not model.classifier.router.weight.requires_grad


@pytest.mark.parametrize("gate", ["softmax", "sigmoid", "linear"])
def test_the_logits_are_the_best_experts_times_the_gates_value(gate):
    classifier, rows = head(gate=gate), representations()
    logits, expert = classifier(rows)
    scores = rows @ classifier.router.weight.T + classifier.router.bias
    probabilities = {"softmax": scores.softmax(dim=1), "sigmoid": scores.sigmoid(), "linear": scores}[gate]
    assert expert.unique().tolist() == [0, 1, 2]
    assert torch.equal(expert, scores.argmax(dim=1))
    for row, gates, answer in zip(rows, probabilities, logits, strict=True):
        best = gates.argmax()
        hidden = (classifier.dense.weight[best] @ row + classifier.dense.bias[best]).relu()
        alone = classifier.output.weight[best] @ hidden + classifier.output.bias[best]
        torch.testing.assert_close(answer, gates[best] * alone)


def test_gates_choose_the_same_expert_and_scale_its_output_differently():
    answers = {gate: head(gate=gate)(representations()) for gate in ("softmax", "sigmoid", "linear")}
    for gate in ("sigmoid", "linear"):
        assert torch.equal(answers[gate][1], answers["softmax"][1])
        assert not torch.allclose(answers[gate][0], answers["softmax"][0], atol=1e-2)


def test_an_expert_gets_and_learns_from_its_own_windows_only():
    classifier, rows = head(), representations()
    with torch.no_grad():
        expected, expert = classifier(rows)
        left_out = int(expert[0])
        # Whoever multiplied by these weights, even to throw the product away, would not get a number back.
        for layer in (classifier.dense, classifier.output):
            layer.weight[left_out], layer.bias[left_out] = float("nan"), float("nan")
    others = rows[expert != left_out].requires_grad_()
    logits, _ = classifier(others)
    torch.testing.assert_close(logits, expected[expert != left_out])
    logits.square().sum().backward()
    assert torch.isfinite(others.grad).all()
    for layer in (classifier.dense, classifier.output):
        used = [bool(gradient.any()) for gradient in layer.weight.grad]
        assert used == [index != left_out for index in range(3)]
        # Zero rather than missing: DistributedDataParallel waits for every gradient.
        assert torch.isfinite(layer.weight.grad).all()


def test_the_number_of_experts_costs_nothing_but_the_routers_scores():
    def operations(num_experts: int) -> int:
        classifier, rows = head(num_experts=num_experts), representations().requires_grad_()
        with FlopCounterMode(display=False) as counter:
            classifier(rows)[0].sum().backward()
        scores = 3 * 2 * 40 * 16 * num_experts  # forward, and backward to the input and to the weights
        return counter.get_total_flops() - scores

    assert operations(2) == operations(16) == 3 * 2 * 40 * (16 * 12 + 12 * 3)


def test_a_compiled_classifier_runs_all_experts_and_learns_the_same():
    gradients, answers = [], []
    for compiled in (False, True):
        classifier, rows = head(), representations().requires_grad_()
        call = torch.compile(classifier, backend="aot_eager", fullgraph=True) if compiled else classifier
        logits, expert = call(rows)
        F.cross_entropy(logits, torch.arange(40) % 3).backward()
        answers.append((logits, expert))
        gradients.append([rows.grad] + [parameter.grad for parameter in classifier.parameters()])
    assert expert.unique().tolist() == [0, 1, 2]
    torch.testing.assert_close(answers[1], answers[0])
    torch.testing.assert_close(gradients[1], gradients[0])
    torch.compiler.reset()


@pytest.mark.parametrize("gate", ["softmax", "sigmoid", "linear"])
def test_the_router_learns_through_the_gates_value(gate):
    classifier = head(gate=gate)
    logits, _ = classifier(representations())
    F.cross_entropy(logits, torch.arange(40) % 3).backward()
    assert classifier.router.weight.grad.abs().max() > 1e-4


def test_experts_start_as_different_linear_layers():
    classifier = head(num_experts=4, expert_hidden_size=64)
    for layer, inputs in ((classifier.dense, 16), (classifier.output, 64)):
        bound = inputs**-0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert not layer.bias.any()
        assert not torch.equal(layer.weight[0], layer.weight[1])


@pytest.mark.parametrize(
    ("num_experts", "parameters"),
    # 11,170,240 of ResNet-18 with one channel; a linear classifier, or 513 for each score and 267,786 for each expert.
    [(0, 11_175_370), (2, 11_706_838), (4, 12_243_436), (8, 13_316_632), (16, 15_463_024)],
)
def test_the_papers_sizes_have_these_parameters(num_experts, parameters):
    with torch.device("meta"):
        model = LGNetForAudioClassification(LGNetConfig(num_experts=num_experts, num_labels=10))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_the_default_is_the_papers_best_model():
    config = LGNetConfig()
    assert (config.num_experts, config.gate, config.dropout) == (4, "softmax", 0.0)
    assert config.backbone_config.depths == [2, 2, 2, 2]


def test_a_dict_states_only_what_differs_from_resnet_18():
    config = LGNetConfig(backbone_config={"depths": [3, 4, 6, 3]})
    assert config.backbone_config.hidden_sizes == [64, 128, 256, 512]
    assert (config.backbone_config.layer_type, config.backbone_config.num_channels) == ("basic", 1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_experts": 1}, "num_experts"),
        ({"num_experts": -2}, "num_experts"),
        ({"expert_hidden_size": 0}, "expert_hidden_size"),
        ({"gate": "relu"}, "gate"),
        ({"router_frozen_after_epochs": -1}, "router_frozen_after_epochs"),
        ({"dropout": 1.0}, "dropout"),
        ({"num_bins": 7}, "num_bins must be at least 8"),
        ({"backbone_config": {"num_channels": 3}}, "backbone_config.num_channels must be 1"),
        ({"backbone_config": ResNetConfig()}, "backbone_config.num_channels must be 1"),
        ({"backbone_config": {"depths": [1]}}, "one entry for each stage, not 4 and 1"),
        (
            {"backbone_config": {**BACKBONE, "depths": [1, 0]}},
            "backbone_config.depths",
        ),
        ({"backbone_config": {**BACKBONE, "hidden_sizes": [0, 8]}}, "backbone_config.hidden_sizes"),
        ({"backbone_config": {**BACKBONE, "embedding_size": 0}}, "backbone_config.embedding_size"),
    ],
)
def test_impossible_configs_are_refused(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        tiny(**fields)
