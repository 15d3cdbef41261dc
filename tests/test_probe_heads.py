"""Heads trained on arrays: what they learn, when they stop, and that standardisation is folded into them."""

import numpy as np
import pytest
import torch

from hfmgc.errors import ConfigError
from hfmgc.models.configuration_windowed import WindowedConfig
from hfmgc.models.losses import classification_loss
from hfmgc.training import probe_heads
from hfmgc.training.probe import ProbeArguments
from hfmgc.training.probe_heads import HeadGrid, HeadSettings, HeadTrainer, Representations, TrainedHead


def tracks_of(genres: np.ndarray, seed: int, *, distance: float = 1.0) -> Representations:
    """Tracks with one to three windows whose values depend on the genre and are far from standardised."""
    generator = np.random.default_rng(seed)
    stacks = [
        ((generator.standard_normal((1 + row % 3, 4)) + distance * genre) * [1, 10, 0.1, 1] + 5).astype(np.float32)
        for row, genre in enumerate(genres)
    ]
    return Representations(stacks, genres)


def voted(head: probe_heads.Head, tracks: Representations) -> torch.Tensor:
    """Return the logits of tracks by a head."""
    return probe_heads.vote_by_track(probe_heads.window_logits(head, tracks), multi_label=tracks.targets.ndim == 2)


def trainer_of(training: Representations, validation: Representations, **fields) -> HeadTrainer:
    config = fields.pop("config", None) or WindowedConfig(num_labels=3)
    return HeadTrainer(training, validation, config, **{"max_steps": 200, "patience": 5, "seed": 0, **fields})


def settings_of(**fields) -> HeadSettings:
    fields = {
        "standardize": True,
        "hidden_size": 0,
        "batch_size": 16,
        "learning_rate": 0.01,
        "dropout": 0.25,
        **fields,
    }
    return HeadSettings(**{"l2": 0.0, **fields})


def fitted(trainer: HeadTrainer, settings: HeadSettings) -> TrainedHead:
    """Train one head alone."""
    ((head,),) = trainer.fit([settings])
    return head


GENRES = np.tile(np.arange(3), 12)


def test_the_default_grid_is_the_papers():
    points = HeadGrid().points()
    assert len(points) == len(set(points)) == 216
    assert (
        len(ProbeArguments(probe_head="torch", probe_grid={"hidden_size": [0], "l2": [0.0]}).grid.points()) == 216 // 6
    )


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("hidden_size", [0, 8])
def test_a_head_learns_and_reads_windows_as_they_are(standardize, hidden_size):
    training, validation = tracks_of(GENRES, 0), tracks_of(GENRES, 1)
    settings = settings_of(standardize=standardize, hidden_size=hidden_size, learning_rate=0.03, dropout=0.0)
    trained = fitted(trainer_of(training, validation), settings)
    answers = voted(trained.head, validation)
    assert (answers.argmax(-1).numpy() == GENRES).mean() > (0.7 if standardize else 0.5)
    # Its lowest loss, which it had on standardised windows.
    loss = classification_loss(answers, torch.from_numpy(GENRES))
    assert loss.item() == pytest.approx(trained.loss, abs=1e-4)


def test_a_hidden_layer_separates_what_a_line_cannot():
    generator = np.random.default_rng(0)
    windows = generator.choice([-1.0, 1.0], (80, 1, 2)) + 0.1 * generator.standard_normal((80, 1, 2))
    genres = (windows.prod(axis=-1)[:, 0] > 0).astype(np.int64)
    sides = [
        Representations(list(windows[part].astype(np.float32)), genres[part]) for part in (slice(40), slice(40, 80))
    ]
    accuracy = {}
    for hidden_size in (0, 16):
        trainer = trainer_of(*sides, config=WindowedConfig(num_labels=2), max_steps=400)
        trained = fitted(trainer, settings_of(hidden_size=hidden_size, learning_rate=0.03, dropout=0.0))
        accuracy[hidden_size] = (voted(trained.head, sides[1]).argmax(-1).numpy() == sides[1].targets).mean()
    assert accuracy[16] > 0.95 > 0.8 > accuracy[0]


def test_a_head_stops_early_at_its_lowest_loss():
    training, validation = tracks_of(GENRES, 0, distance=0.2), tracks_of(GENRES, 1, distance=0.2)
    settings = settings_of(hidden_size=32, learning_rate=0.1, dropout=0.0)
    early, late = (
        fitted(trainer_of(training, validation, patience=one, max_steps=160), settings) for one in (1, None)
    )
    assert early.steps <= late.steps < 160
    assert late.loss <= early.loss < 2.0


def test_heads_that_are_trained_together_are_as_each_alone():
    trainer = trainer_of(tracks_of(GENRES, 0), tracks_of(GENRES, 1), max_steps=80, patience=2)
    points = [
        settings_of(hidden_size=hidden_size, learning_rate=rate, l2=l2)
        for hidden_size in (0, 6)
        for rate in (0.001, 0.1)
        for l2 in (0.0, 0.01)
    ]
    together = {one.settings: one for heads in trainer.fit(points) for one in heads}
    assert together.keys() == set(points)
    assert len({one.steps for one in together.values()}) > 1, "they stop at different steps"
    for point in points:
        alone = fitted(trainer, point)
        assert (alone.steps, alone.loss) == (together[point].steps, together[point].loss)
        for name, tensor in alone.head.state_dict().items():
            assert torch.equal(together[point].head.state_dict()[name], tensor)


def test_batches_larger_than_the_training_side_are_equal():
    trainer = trainer_of(tracks_of(GENRES, 0), tracks_of(GENRES, 1), max_steps=10)
    points = [settings_of(batch_size=size) for size in (64, 256, 16)]
    heads = {one.settings.batch_size: one.head for group in trainer.fit(points) for one in group}
    assert heads[64] is heads[256]
    assert not torch.equal(heads[64].weight, heads[16].weight)


def test_a_step_is_one_of_adam_with_weight_decay():
    """One step without dropout and standardisation, by hand: each weight moves by the learning rate."""
    training = tracks_of(GENRES[:4], 0)
    trainer = trainer_of(training, training, max_steps=1, patience=None)
    point = settings_of(standardize=False, learning_rate=1e-4, dropout=0.0, batch_size=4)
    torch.manual_seed(0)
    start = torch.nn.Linear(4, 3).weight.detach()
    moved = (fitted(trainer, point).head.weight - start).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 1e-4), atol=2e-6, rtol=0)


def test_equal_seeds_give_equal_heads_and_the_state_of_the_generator_stays():
    trainer = trainer_of(tracks_of(GENRES, 0), tracks_of(GENRES, 1), max_steps=20)
    state = torch.random.get_rng_state()
    first, second = (fitted(trainer, settings_of(hidden_size=4)).head.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_several_genres_per_track():
    targets = np.stack([GENRES != 0, GENRES == 2], axis=1).astype(np.float32)
    sides = [Representations(tracks_of(GENRES, seed).windows, targets) for seed in (0, 1)]
    config = WindowedConfig(num_labels=2, problem_type="multi_label_classification")
    trained = fitted(trainer_of(*sides, config=config), settings_of(learning_rate=0.03, dropout=0.0))
    assert ((voted(trained.head, sides[1]).sigmoid().numpy() > 0.5) == targets).mean() > 0.7


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"probe_grid": {"hidden": [0]}}, "hidden_size"),
        ({"probe_grid": {"dropout": [1.0]}}, "dropout"),
        ({"probe_grid": {"batch_size": [0]}}, "batch_size"),
        ({"probe_grid": {"learning_rate": []}}, "learning_rate"),
        ({"probe_grid": {"l2": ["much"]}}, "l2"),
        ({"probe_head": "torch", "probe_choice": "cross_validation"}, "probe_choice"),
    ],
)
def test_impossible_settings_are_refused(fields, message):
    with pytest.raises((ValueError, ConfigError), match=message):
        ProbeArguments(**fields)
