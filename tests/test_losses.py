"""The training loss against torch's own functions."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.nn import functional as F

from hfmgc.models.configuration_windowed import WindowedConfig
from hfmgc.models.losses import classification_loss


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_indices_give_cross_entropy_with_label_smoothing(logits, smoothing):
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    loss = classification_loss(logits, labels, label_smoothing=smoothing)
    assert loss.shape == ()
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, label_smoothing=smoothing))


def test_label_smoothing_changes_the_loss_as_written_out(logits):
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    target = 0.8 * F.one_hot(labels, 4) + 0.2 / 4
    expected = -(target * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
    torch.testing.assert_close(classification_loss(logits, labels, label_smoothing=0.2), expected)


def test_soft_targets_weigh_the_log_probabilities(logits):
    targets = torch.rand(6, 4, generator=torch.Generator().manual_seed(1))
    targets = targets / targets.sum(dim=-1, keepdim=True)
    expected = -(targets * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
    torch.testing.assert_close(classification_loss(logits, targets), expected)
    torch.testing.assert_close(classification_loss(logits, targets.double()), expected)


def test_one_hot_targets_equal_indices(logits):
    labels = torch.tensor([3, 3, 2, 1, 0, 0])
    soft = classification_loss(logits, F.one_hot(labels, 4).float())
    torch.testing.assert_close(soft, classification_loss(logits, labels))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_multi_label_targets_give_binary_cross_entropy(logits, dtype):
    targets = torch.tensor([[1, 0, 1, 0]] * 6).to(dtype)
    expected = -(targets.float() * logits.sigmoid().log() + (1 - targets.float()) * (-logits).sigmoid().log()).mean()
    torch.testing.assert_close(classification_loss(logits, targets, multi_label=True), expected)


def test_log_probabilities_lose_nothing(logits):
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    torch.testing.assert_close(
        classification_loss(logits.log_softmax(dim=-1), labels), classification_loss(logits, labels)
    )


@pytest.mark.parametrize("shape", [(5,), (6, 3), (6, 1), (6, 4, 1)])
def test_labels_of_another_shape_are_refused(logits, shape):
    with pytest.raises(ValueError, match=r"class indices \[6\] or targets \[6, 4\]"):
        classification_loss(logits, torch.zeros(shape, dtype=torch.int64))


def test_multi_label_refuses_class_indices(logits):
    with pytest.raises(ValueError, match=r"multi-label targets must be .*\[6, 4\], not \[6\]"):
        classification_loss(logits, torch.zeros(6, dtype=torch.int64), multi_label=True)


# Class weights


def test_class_weights_count_each_track_by_its_genre(logits):
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    weights = [0.5, 1.0, 2.0, 4.0]
    single = -logits.log_softmax(dim=-1)[torch.arange(6), labels]
    expected = (single * torch.tensor([0.5, 1.0, 2.0, 4.0, 0.5, 1.0])).sum() / 6
    torch.testing.assert_close(classification_loss(logits, labels, class_weights=weights), expected)
    assert not torch.isclose(expected, classification_loss(logits, labels))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_weights_give_hard_and_soft_labels_the_same_loss(logits, smoothing):
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    options = {"class_weights": [0.5, 1.0, 2.0, 4.0], "label_smoothing": smoothing}
    hard = classification_loss(logits, labels, **options)
    torch.testing.assert_close(classification_loss(logits, F.one_hot(labels, 4).float(), **options), hard)


def test_class_weights_of_one_change_nothing(logits):
    labels = torch.tensor([3, 1, 2, 3, 0, 1])
    weighed = classification_loss(logits, labels, class_weights=[1.0] * 4, label_smoothing=0.1)
    torch.testing.assert_close(weighed, classification_loss(logits, labels, label_smoothing=0.1))


def test_class_weights_count_the_genres_of_multi_label_targets(logits):
    targets = torch.tensor([[1.0, 0, 1, 0]] * 6)
    single = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    expected = (single * torch.tensor([0.5, 1.0, 2.0, 4.0])).mean()
    loss = classification_loss(logits, targets, multi_label=True, class_weights=[0.5, 1.0, 2.0, 4.0])
    torch.testing.assert_close(loss, expected)


def test_class_weights_follow_the_precision_of_the_logits(logits):
    loss = classification_loss(logits.double(), torch.tensor([0] * 6), class_weights=[1.0, 2, 3, 4])
    assert loss.dtype == torch.float64


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0, 1.0], [1.0, 0.0, 1.0], [1.0, float("nan"), 1.0]])
def test_configs_refuse_class_weights_that_do_not_fit(weights):
    with pytest.raises(StrictDataclassError, match="class_weights"):
        WindowedConfig(num_labels=3, class_weights=weights)
    assert WindowedConfig(num_labels=3, class_weights=[1, 2.0, 0.5]).class_weights == [1, 2.0, 0.5]


# Ignored labels


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 4.0]])
def test_tracks_labelled_minus_100_are_ignored(logits, smoothing, weights):
    options = {"class_weights": weights, "label_smoothing": smoothing}
    labels = torch.tensor([0, -100, 2, 3, -100, 1])
    counted = labels != -100
    logits.requires_grad_()
    loss = classification_loss(logits, labels, **options)
    torch.testing.assert_close(loss, classification_loss(logits[counted], labels[counted], **options))
    if weights is None:
        torch.testing.assert_close(loss, F.cross_entropy(logits, labels, label_smoothing=smoothing))
    loss.backward()
    assert logits.grad[counted].all()
    assert not logits.grad[~counted].any()


def test_a_batch_without_labelled_tracks_changes_no_weight(logits):
    logits.requires_grad_()
    loss = classification_loss(logits, torch.full((6,), -100), label_smoothing=0.1, class_weights=[1.0, 2, 3, 4])
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()
