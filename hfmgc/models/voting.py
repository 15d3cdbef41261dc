"""Voting: the logits of a track from the logits of its windows.

The softmax of the track's logits (multi-label: the sigmoid) equals the voted probabilities exactly, so
`pipeline("audio-classification")` of transformers returns those probabilities.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .configuration_windowed import VotingRule


def vote(
    window_logits: Tensor, window_mask: Tensor | None = None, *, rule: VotingRule = "mean", multi_label: bool = False
) -> Tensor:
    """Combine the logits of each track's windows.

    Args:
        window_logits: Logits [tracks, windows, labels].
        window_mask: True where a window exists, False for padding [tracks, windows]. By default all windows exist.
        rule: `mean` averages the windows' probabilities (the Divide and Conquer paper's voting). `majority` takes the
            most frequent prediction, with the mean probability over the windows that predicted it (AST report, section
            4.4). A tie goes to the label with the higher mean probability (ours).
        multi_label: Whether labels are independent (sigmoid) rather than exclusive (softmax).

    Returns:
        Float32 [tracks, labels]: log-probabilities; multi-label: the logits of the voted probabilities.
    """
    if window_mask is None:
        window_mask = torch.ones(window_logits.shape[:2], dtype=torch.bool, device=window_logits.device)
    # Rounding to half precision would change the probabilities.
    window_logits = window_logits.float()
    window_mask = window_mask.bool().unsqueeze(-1)  # [tracks, windows, 1]
    if multi_label:
        return _vote_multi_label(window_logits, window_mask, rule)
    log_probabilities = F.log_softmax(window_logits, dim=-1)
    if rule == "majority":
        window_mask = window_mask & _voted_for_winner(log_probabilities, window_mask)
    return _log_mean_exp(log_probabilities, window_mask)


def _voted_for_winner(log_probabilities: Tensor, window_mask: Tensor) -> Tensor:
    """Return True for windows that predicted the track's most frequent label, [tracks, windows, 1]."""
    predicted = F.one_hot(log_probabilities.argmax(dim=-1), log_probabilities.shape[-1]) * window_mask
    counts = predicted.sum(dim=1)  # [tracks, labels]
    # At most 0.5, so it decides only between equal counts.
    tie_break = _log_mean_exp(log_probabilities, window_mask).exp() / 2
    winner = (counts + tie_break).argmax(dim=-1)  # [tracks]
    return predicted.gather(-1, winner[:, None, None].expand(-1, predicted.shape[1], 1)).bool()


def _vote_multi_label(window_logits: Tensor, window_mask: Tensor, rule: VotingRule) -> Tensor:
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
    """Return log(mean(exp(values))) over the windows in the mask, [tracks, labels]."""
    count = window_mask.sum(dim=1)  # [tracks, 1 or labels]
    return values.masked_fill(~window_mask, -math.inf).logsumexp(dim=1) - count.log()
