"""The training loss of all classifiers."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


# Marks tracks without a label, as in PyTorch and transformers.
IGNORED_LABEL = -100


def classification_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    multi_label: bool = False,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
) -> Tensor:
    """Return the mean cross-entropy over the labelled tracks of a batch.

    Args:
        logits: Logits or log-probabilities [tracks, labels].
        labels: Label indices [tracks], -100 for unlabelled tracks; or targets [tracks, labels], either multi-label or
            the soft targets of mixup.
        multi_label: Whether to use binary cross-entropy for each label.
        label_smoothing: Share of the target that is spread evenly over all labels (single-label only).
        class_weights: Weight of each label [labels], by default 1. The sum is divided by the number of tracks, not by
            the sum of their weights, so indices and equivalent soft targets give the same loss.

    Returns:
        A scalar. It is 0 for a batch without labelled tracks, for which PyTorch's mean is NaN.

    Raises:
        ValueError: If `labels` has neither shape.
    """
    weights = None if class_weights is None else logits.new_tensor(class_weights)
    if multi_label:
        if labels.shape != logits.shape:
            raise ValueError(
                f"multi-label targets must be [tracks, labels] = {list(logits.shape)}, not {list(labels.shape)}"
            )
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), weight=weights)
    if labels.shape not in (logits.shape, logits.shape[:1]):
        raise ValueError(
            f"labels must be class indices [{logits.shape[0]}] or targets {list(logits.shape)}, not {list(labels.shape)}"
        )
    options = {"weight": weights, "label_smoothing": label_smoothing}
    if labels.ndim == 2:
        return F.cross_entropy(logits, labels.to(logits.dtype), **options)
    losses = F.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORED_LABEL, **options)
    return losses.sum() / (labels != IGNORED_LABEL).sum().clamp(min=1)
