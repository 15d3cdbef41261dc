"""Mixup: weighted sums of tracks and of their genres, drawn from the examples alone."""

import numpy as np
import pytest
import torch

from hfmgc.data.collation import TrackCollator
from hfmgc.models.losses import classification_loss
from hfmgc.randomness import example_generator
from hfmgc.training.arguments import DataArguments
from hfmgc.training.mixup import MixupCollator


LABELS = {"blues": 0, "metal": 1, "pop": 2}


def example(number: int, **more) -> dict:
    """A window that is the number everywhere, so that a mixture of two says of which and how."""
    values = np.full((4, 3), 10.0**number, dtype=np.float32)
    return {"input_values": values, "genre": list(LABELS)[number % 3], "mixing_key": 1000 + number, **more}


def mix(examples: list[dict], alpha: float = 0.4) -> dict[str, torch.Tensor]:
    return MixupCollator(TrackCollator(LABELS), alpha, 3)(examples)


def test_tracks_and_genres_are_mixed_with_the_same_weight_and_partner():
    examples = [example(number) for number in range(3)]
    batch = mix(examples)
    generator = example_generator("mixup", 1000, 1001, 1002)
    weight, partners = generator.beta(0.4, 0.4), generator.permutation(3)
    for row in range(3):
        partner = int(partners[row])
        expected = weight * 10.0**row + (1 - weight) * 10.0**partner
        torch.testing.assert_close(batch["input_values"][row], torch.full((4, 3), expected))
        labels = torch.zeros(3)
        labels[row] += weight
        labels[partner] += 1 - weight
        torch.testing.assert_close(batch["labels"][row], labels)
    assert batch["labels"].dtype == torch.float32


def test_the_mixture_is_drawn_from_the_keys_of_the_batch_alone():
    torch.manual_seed(0)
    first = mix([example(number) for number in range(3)])
    torch.manual_seed(1)
    again = mix([example(number) for number in range(3)])
    assert torch.equal(first["input_values"], again["input_values"])
    other = mix([example(number, mixing_key=number) for number in range(3)])
    assert not torch.equal(first["labels"], other["labels"])


def test_over_many_batches_weights_and_partners_differ():
    weights, partners = [], set()
    for key in range(300):
        labels = mix([example(number, mixing_key=3 * key + number) for number in range(3)])["labels"]
        assert torch.allclose(labels.sum(dim=1), torch.ones(3))
        weights.append(float(labels[0, 0]))
        partners |= {int(index) for index in labels[0].nonzero()}
    assert partners == {0, 1, 2}
    assert min(weights) < 0.1
    assert np.std(weights) > 0.2


def test_a_batch_of_one_stays_as_it_is():
    batch = mix([example(1)])
    assert torch.equal(batch["input_values"], torch.full((1, 4, 3), 10.0))
    assert batch["labels"].tolist() == [[0, 1, 0]]


def test_several_genres_are_mixed_too():
    collator = MixupCollator(TrackCollator(LABELS, multi_label=True), 0.4, 3)
    examples = [example(0, genres=["blues", "pop"]), example(1, genres=[])]
    labels = collator(examples)["labels"]
    generator = example_generator("mixup", 1000, 1001)
    weight, partners = generator.beta(0.4, 0.4), generator.permutation(2)
    whole = torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    torch.testing.assert_close(labels, weight * whole + (1 - weight) * whole[partners])


def test_the_loss_of_a_mixture_is_the_mixture_of_the_losses():
    logits = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))
    mixed = classification_loss(logits, torch.tensor([[0.3, 0.7, 0.0]]))
    one, other = (classification_loss(logits, torch.tensor([label])) for label in (0, 1))
    torch.testing.assert_close(mixed, 0.3 * one + 0.7 * other)


@pytest.mark.parametrize("alpha", [-0.1, float("inf"), float("nan")])
def test_an_alpha_that_is_none_is_refused(alpha):
    with pytest.raises(ValueError, match="mixup_alpha must be at least 0"):
        DataArguments(mixup_alpha=alpha)
