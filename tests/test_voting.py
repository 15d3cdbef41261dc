"""From windows to a track: the vote, against the same written out with plain probabilities."""

import math

import pytest
import torch

from hfmgc.models.voting import vote


def random_logits(*shape: int, scale: float = 2.0, seed: int = 0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def logits_of(probabilities: list) -> torch.Tensor:
    return torch.tensor(probabilities).log()


def test_mean_is_the_log_of_the_mean_of_the_softmax():
    logits = random_logits(4, 5, 3)
    expected = logits.softmax(dim=-1).mean(dim=1)
    torch.testing.assert_close(vote(logits), expected.log())
    torch.testing.assert_close(vote(logits).softmax(dim=-1), expected)


def test_mean_is_not_the_softmax_of_the_mean_logit():
    logits = torch.tensor([[[8.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
    probability = vote(logits).softmax(dim=-1)[0, 0].item()
    assert probability == pytest.approx((1 / (1 + math.exp(-8)) + 2 / (1 + math.e)) / 3, abs=1e-6)


@pytest.mark.parametrize("rule", ["mean", "majority"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_masked_windows_do_not_vote(rule, multi_label):
    logits = random_logits(3, 6, 4)
    counts = [6, 2, 3]
    mask = torch.zeros(3, 6, dtype=torch.bool)
    for track, count in enumerate(counts):
        mask[track, :count] = True
    voted = vote(logits.masked_fill(~mask.unsqueeze(-1), 1e4), mask, rule=rule, multi_label=multi_label)
    for track, count in enumerate(counts):
        alone = vote(logits[track : track + 1, :count], rule=rule, multi_label=multi_label)
        torch.testing.assert_close(voted[track], alone[0])


def test_an_integer_mask_with_gaps_works():
    logits = random_logits(1, 4, 3)
    expected = logits[:, [0, 3]].softmax(dim=-1).mean(dim=1)
    torch.testing.assert_close(vote(logits, torch.tensor([[1, 0, 0, 1]])).softmax(dim=-1), expected)


def test_majority_returns_the_most_frequent_genre_with_the_mean_confidence_of_its_windows():
    # Two windows lean slightly to genre 0, one is sure of genre 1: the mean says 1, the majority 0.
    probabilities = [[0.5, 0.4, 0.1], [0.6, 0.3, 0.1], [0.0005, 0.999, 0.0005]]
    assert vote(logits_of([probabilities])).argmax().item() == 1
    voted = vote(logits_of([probabilities]), rule="majority").softmax(dim=-1)[0]
    torch.testing.assert_close(voted, torch.tensor([0.55, 0.35, 0.1]))


def test_majority_equals_the_report_written_out():
    logits = random_logits(40, 7, 4, scale=1.5, seed=3)
    voted = vote(logits, rule="majority").softmax(dim=-1)
    for track, windows in enumerate(logits.softmax(dim=-1)):
        answers = windows.argmax(dim=-1).tolist()
        most = max(answers.count(label) for label in range(4))
        tied = [label for label in range(4) if answers.count(label) == most]
        winner = max(tied, key=lambda label: windows[:, label].mean().item())
        confidence = sum(windows[i, winner].item() for i in range(7) if answers[i] == winner) / most
        assert voted[track].argmax().item() == winner
        assert voted[track, winner].item() == pytest.approx(confidence, abs=1e-6)


def test_a_tie_goes_to_the_higher_mean_probability_in_any_order():
    windows = [[0.6, 0.4], [0.2, 0.8]]
    for order in (windows, windows[::-1]):
        voted = vote(logits_of([order]), rule="majority").softmax(dim=-1)[0]
        torch.testing.assert_close(voted, torch.tensor([0.2, 0.8]))


def test_one_more_vote_beats_any_confidence():
    windows = [[0.34, 0.33, 0.33]] * 3 + [[0.0, 1.0, 0.0]] * 2
    assert vote(logits_of([windows]), rule="majority").argmax().item() == 0


def test_multi_label_mean_is_the_logit_of_the_mean_of_the_sigmoid():
    logits = random_logits(4, 5, 3)
    torch.testing.assert_close(vote(logits, multi_label=True), logits.sigmoid().mean(dim=1).logit())


def test_multi_label_majority_decides_each_label_on_its_own():
    # Label 0: two of three say yes; label 1: two of three say no, the third is sure of yes.
    logits = torch.tensor([[[0.9, 0.4], [0.6, 0.3], [0.01, 0.999]]]).logit()
    voted = vote(logits, rule="majority", multi_label=True).sigmoid()[0]
    torch.testing.assert_close(voted, torch.tensor([0.75, 0.35]))


def test_a_multi_label_tie_goes_to_the_mean():
    logits = torch.tensor([[[0.9, 0.1], [0.4, 0.6]]]).logit()
    voted = vote(logits, rule="majority", multi_label=True).sigmoid()[0]
    torch.testing.assert_close(voted, torch.tensor([0.9, 0.1]))


@pytest.mark.parametrize("rule", ["mean", "majority"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_extreme_logits_stay_finite_forward_and_backward(rule, multi_label):
    logits = torch.tensor([[[1e4, -1e4, 0.0], [1e4, 0.0, -1e4]], [[-1e4, 1e4, 0.0], [-1e4, -1e4, 1e4]]])
    logits.requires_grad_()
    voted = vote(logits, torch.tensor([[True, True], [True, False]]), rule=rule, multi_label=multi_label)
    voted.sum().backward()
    assert torch.isfinite(voted).all()
    assert torch.isfinite(logits.grad).all()
    assert voted.argmax(dim=-1).tolist() == [0, 1]


@pytest.mark.parametrize("rule", ["mean", "majority"])
def test_one_window_votes_for_itself(rule):
    logits = random_logits(5, 1, 4)
    torch.testing.assert_close(vote(logits, rule=rule).softmax(dim=-1), logits[:, 0].softmax(dim=-1))
    torch.testing.assert_close(vote(logits, rule=rule, multi_label=True), logits[:, 0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_voted_on_in_float32(dtype):
    logits = random_logits(3, 9, 5).to(dtype)
    voted = vote(logits)
    assert voted.dtype == torch.float32
    torch.testing.assert_close(voted, logits.float().softmax(dim=-1).mean(dim=1).log())
