"""Effects on spectrograms: tempo, pitch and equalisation, each on its own axis and repeatable."""

import numpy as np
import pytest

from hfmgc.errors import ConfigError
from hfmgc.settings import settings_from
from hfmgc.training.arguments import RECIPE_GROUPS
from hfmgc.training.spectrogram_augmentation import SpectrogramEffects


FRAMES, BINS = 200, 32


def window() -> np.ndarray:
    """A tone that rises by a bin every ten frames: its frame says its bin, so that tempo and pitch can be read off."""
    made = np.zeros((FRAMES, BINS), dtype=np.float32)
    made[np.arange(FRAMES), np.arange(FRAMES) // 10 + 5] = 1.0
    return made


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_without_effects_it_is_a_crop_of_whole_frames():
    effects, whole = SpectrogramEffects(), window()
    np.testing.assert_array_equal(effects(whole, 1.0, rng()), whole)
    crop = effects(whole, 0.25, rng(3))
    assert crop.shape == (50, BINS)
    starts = [start for start in range(151) if np.array_equal(whole[start : start + 50], crop)]
    assert len(starts) == 1


def test_equal_generators_give_equal_windows_and_others_others():
    effects = SpectrogramEffects(tempo=1.3, pitch_bins=3, equalizer_bands=4, equalizer_strength=0.5)
    first = effects(window(), 0.5, rng(1))
    np.testing.assert_array_equal(first, effects(window(), 0.5, rng(1)))
    assert not np.array_equal(first, effects(window(), 0.5, rng(2)))
    assert first.dtype == np.float32
    assert first.shape == (100, BINS)


def rise(spectrogram: np.ndarray) -> float:
    """Return how many bins the tone rises in a frame."""
    centre = (spectrogram * np.arange(BINS)).sum(axis=1) / spectrogram.sum(axis=1)
    return float(np.polyfit(np.arange(len(centre)), centre, 1)[0])


def test_tempo_stretches_time_alone_both_ways_and_within_its_limit():
    rises = [rise(SpectrogramEffects(tempo=1.25)(window(), 0.5, rng(seed))) / 0.1 for seed in range(60)]
    assert min(rises) < 0.9
    assert max(rises) > 1.1
    assert min(rises) > 0.75
    assert max(rises) < 1.3


def test_a_whole_window_cannot_be_played_faster_than_it_lasts():
    for seed in range(20):
        made = SpectrogramEffects(tempo=2.0)(window(), 1.0, rng(seed))
        assert made.shape == (FRAMES, BINS)
        assert rise(made) < 0.105


def test_pitch_moves_bins_by_at_most_so_many_and_keeps_time():
    whole = window()
    shifts = []
    for seed in range(60):
        made = SpectrogramEffects(pitch_bins=4)(whole, 1.0, rng(seed))
        shifts.append(((made - whole) * np.arange(BINS)).sum() / FRAMES)
        assert rise(made) == pytest.approx(rise(whole), abs=1e-3)
    assert -4.01 < min(shifts) < -2
    assert 2 < max(shifts) < 4.01


def test_an_equaliser_adds_one_curve_to_all_frames_within_its_strength():
    noise = rng(9).normal(size=(FRAMES, BINS)).astype(np.float32)
    for seed in range(10):
        added = SpectrogramEffects(equalizer_bands=4, equalizer_strength=0.5)(noise, 1.0, rng(seed)) - noise
        np.testing.assert_allclose(added, np.broadcast_to(added[0], added.shape), atol=1e-5)
        assert np.abs(added).max() <= 0.5 * noise.std() + 1e-5
        assert added[0].std() > 0


def test_what_was_given_is_not_changed():
    whole = window()
    SpectrogramEffects(tempo=1.2, pitch_bins=2, equalizer_bands=3, equalizer_strength=1.0)(whole, 1.0, rng())
    np.testing.assert_array_equal(whole, window())


@pytest.mark.parametrize("frames", [1, 2])
def test_windows_of_a_frame_or_two_stay_what_they_are(frames):
    assert SpectrogramEffects(tempo=1.5, pitch_bins=1)(window()[:frames], 1.0, rng()).shape == (frames, BINS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tempo": 0.8}, "tempo must be at least 1"),
        ({"pitch_bins": -1}, "pitch_bins must be at least 0"),
        ({"equalizer_bands": 4}, "spectrogram_effects: equalizer_bands and equalizer_strength"),
        ({"equalizer_strength": 0.5}, "equalizer_bands and equalizer_strength"),
        ({"temp": 1.2}, "spectrogram_effects: .*'temp'.*did you mean 'tempo'"),
        ({"tempo": "fast"}, "tempo.*takes float"),
    ],
)
def test_impossible_effects_are_refused_by_name(fields, message):
    with pytest.raises(ConfigError, match=message):
        settings_from({"spectrogram_effects": fields}, RECIPE_GROUPS[1:2], where="test")
