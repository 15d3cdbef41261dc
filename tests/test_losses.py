"""The training loss against torch's own functions."""

import pytest
import torch
from torch.nn import functional as F

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
