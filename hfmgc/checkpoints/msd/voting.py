"""The vote: from the logits of a track's windows to the logits of the track.

The softmax of the voted logits (for multi-label models, their sigmoid) is exactly the voted probabilities, so that
`pipeline("audio-classification")` of transformers returns these.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .configuration_windowed import VOTING_RULES


def vote(
    window_logits: Tensor, window_mask: Tensor | None = None, *, rule: str = "mean", multi_label: bool = False
) -> Tensor:
    """Return the track's logits [tracks, labels] from `window_logits` [tracks, windows, labels].

    Args:
        window_logits: Logits of each window [tracks, windows, labels].
        window_mask: True where a window exists [tracks, windows]; all of them when not given.
        rule: `mean`: the mean of the windows' probabilities (what the divide-and-conquer paper calls voting).
            `majority`: the most frequent prediction; its probability is the mean over the windows that predicted it
            (the confidence rule of the AST report, section 4.4). The higher mean probability breaks ties (ours).
        multi_label: Whether labels are independent (sigmoid) rather than exclusive (softmax).

    Returns:
        Single-label: log-probabilities [tracks, labels]. Multi-label: logits of the voted probabilities.
    """
    if rule not in VOTING_RULES:
        raise ValueError(f"voting must be one of {', '.join(VOTING_RULES)}, not {rule!r}")
    if window_mask is None:
        window_mask = torch.ones(window_logits.shape[:2], dtype=torch.bool, device=window_logits.device)
    # In half precision the logarithm of a mean would not be exact enough for calibration.
    window_logits = window_logits.float()
    window_mask = window_mask.bool().unsqueeze(-1)  # [tracks, windows, 1]
    if multi_label:
        return _vote_multi_label(window_logits, window_mask, rule)
    log_probabilities = F.log_softmax(window_logits, dim=-1)
    if rule == "majority":
        window_mask = window_mask & _voted_for_winner(log_probabilities, window_mask)
    return _log_mean_exp(log_probabilities, window_mask)


def _voted_for_winner(log_probabilities: Tensor, window_mask: Tensor) -> Tensor:
    """Return which windows predicted the track's most frequent label, [tracks, windows, 1]."""
    predicted = F.one_hot(log_probabilities.argmax(dim=-1), log_probabilities.shape[-1]) * window_mask
    counts = predicted.sum(dim=1)  # [tracks, labels]
    # Counts are whole numbers, and half a probability is below one, so that it only breaks ties.
    tie_break = _log_mean_exp(log_probabilities, window_mask).exp() / 2
    winner = (counts + tie_break).argmax(dim=-1)  # [tracks]
    return predicted.gather(-1, winner[:, None, None].expand(-1, predicted.shape[1], 1)).bool()


def _vote_multi_label(window_logits: Tensor, window_mask: Tensor, rule: str) -> Tensor:
    """Vote on each label separately: logit(p) = log mean sigmoid(x) - log mean sigmoid(-x), which cannot overflow."""
    window_mask = window_mask.expand_as(window_logits)
    if rule == "majority":
        positive = (window_logits > 0) & window_mask
        balance = 2 * positive.sum(dim=1) - window_mask.sum(dim=1)  # [tracks, labels]
        mean_logit = _vote_multi_label(window_logits, window_mask, "mean")
        winner = (balance > 0) | ((balance == 0) & (mean_logit > 0))
        window_mask = window_mask & (positive == winner.unsqueeze(1))
    return _log_mean_exp(F.logsigmoid(window_logits), window_mask) - _log_mean_exp(
        F.logsigmoid(-window_logits), window_mask
    )


def _log_mean_exp(values: Tensor, window_mask: Tensor) -> Tensor:
    """Return log(mean(exp(values))) over the windows of the mask, [tracks, labels]."""
    count = window_mask.sum(dim=1)  # [tracks, 1 or labels]
    return values.masked_fill(~window_mask, -math.inf).logsumexp(dim=1) - count.log()
