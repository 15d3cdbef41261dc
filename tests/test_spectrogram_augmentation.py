"""SpecAugment and the random crop in time: what is hidden, what is kept, and what is refused."""

import numpy as np
import pytest

from hfmgc.errors import ConfigError
from hfmgc.training.arguments import DataArguments
from hfmgc.training.spectrogram_augmentation import SpecAugment, cropped_frames, random_time_crop


@pytest.fixture
def window() -> np.ndarray:
    """Frames and bins of which no two values are alike, float32 [40, 24]."""
    return np.random.default_rng(0).permutation(40 * 24).reshape(40, 24).astype(np.float32)


def masked_frames(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.flatnonzero((before != after).all(axis=1))


def test_time_masks_cover_whole_blocks_of_frames_and_nothing_else(window):
    masks = SpecAugment(time_masks=1, time_mask_frames=7)
    sizes, reached = set(), set()
    for seed in range(300):
        masked = masks(window, np.random.default_rng(seed))
        hidden = masked_frames(window, masked)
        sizes.add(len(hidden))
        if len(hidden):
            reached |= set(hidden.tolist())
            assert list(hidden) == list(range(hidden[0], hidden[-1] + 1))
        rest = np.setdiff1d(np.arange(40), hidden)
        np.testing.assert_array_equal(masked[rest], window[rest])
    assert sizes == set(range(8))
    assert reached == set(range(40))


def test_frequency_masks_cover_blocks_of_bins(window):
    masks = SpecAugment(frequency_masks=2, frequency_mask_bins=5)
    counts = set()
    for seed in range(300):
        masked = masks(window, np.random.default_rng(seed))
        hidden = masked_frames(window.T, masked.T)
        rest = np.setdiff1d(np.arange(24), hidden)
        np.testing.assert_array_equal(masked[:, rest], window[:, rest])
        counts.add(len(hidden))
    assert min(counts) == 0
    assert 5 < max(counts) <= 10  # two masks of at most five


def test_what_is_hidden_becomes_the_mean_of_the_window_before_all_masks(window):
    masks = SpecAugment(time_masks=3, time_mask_frames=10, frequency_masks=3, frequency_mask_bins=8)
    masked = masks(window, np.random.default_rng(1))
    changed = masked != window
    assert changed.any()
    assert masked.dtype == np.float32
    np.testing.assert_array_equal(masked[changed], np.full(changed.sum(), window.mean(), dtype=np.float32))


def test_the_window_itself_is_left_alone(window):
    before = window.copy()
    window.setflags(write=False)  # as what comes from a memory-mapped file is
    masks = SpecAugment(time_masks=2, time_mask_frames=20)
    assert not np.array_equal(masks(window, np.random.default_rng(0)), before)
    np.testing.assert_array_equal(window, before)


def test_equal_generators_give_equal_masks_and_others_others(window):
    masks = SpecAugment(time_masks=2, time_mask_frames=20, frequency_masks=1, frequency_mask_bins=8)
    one, again, other = (masks(window, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_mask_is_no_longer_than_a_short_window():
    window = np.arange(6, dtype=np.float32).reshape(3, 2)
    for seed in range(20):
        assert SpecAugment(time_masks=1, time_mask_frames=99)(window, np.random.default_rng(seed)).shape == (3, 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"time_masks": -1}, r"spec_augment\.time_masks must be at least 0, not -1"),
        ({"frequency_mask_bins": -2}, r"spec_augment\.frequency_mask_bins must be at least 0"),
        ({"time_masks": 2}, "spec_augment: time_masks and time_mask_frames"),
        ({"frequency_mask_bins": 2}, "spec_augment: frequency_masks and frequency_mask_bins"),
    ],
)
def test_masks_that_cannot_be_are_refused_with_their_field(fields, message):
    with pytest.raises(ValueError, match=message):
        SpecAugment(**fields)
    with pytest.raises(ValueError, match=message):
        DataArguments(spec_augment=fields)


def test_a_mask_as_large_as_the_window_is_refused():
    masks = SpecAugment(time_masks=1, time_mask_frames=40, frequency_masks=1, frequency_mask_bins=8)
    masks.check(41, 9)
    with pytest.raises(ValueError, match=r"spec_augment\.time_mask_frames must be below 40.* not 40"):
        masks.check(40, 9)
    with pytest.raises(ValueError, match=r"spec_augment\.frequency_mask_bins must be below 8"):
        masks.check(41, 8)


def test_the_recipe_makes_masks_of_its_settings():
    fields = {"time_masks": 2, "time_mask_frames": 20}
    assert DataArguments(spec_augment=fields).window_augmentation.masks == SpecAugment(
        time_masks=2, time_mask_frames=20
    )
    assert DataArguments().window_augmentation.masks is None
    with pytest.raises(ConfigError, match=r"spec_augment: .*'time_mask' .*did you mean 'time_masks'"):
        DataArguments(spec_augment={"time_mask": 2})
    with pytest.raises(Exception, match="spec_augment: field 'time_masks' takes int, not 'two'"):
        DataArguments(spec_augment={"time_masks": "two", "time_mask_frames": 2})


@pytest.mark.parametrize(("share", "frames"), [(1.0, 40), (0.5, 20), (0.8, 32), (0.001, 1)])
def test_a_crop_keeps_its_share_of_the_frames_in_their_order(window, share, frames):
    assert cropped_frames(40, share) == frames
    starts = set()
    for seed in range(300):
        cropped = random_time_crop(window, share, np.random.default_rng(seed))
        start = int(np.flatnonzero((window == cropped[0]).all(axis=1))[0])
        np.testing.assert_array_equal(cropped, window[start : start + frames])
        assert cropped.shape == (frames, 24)
        starts.add(start)
    assert starts == set(range(40 - frames + 1))


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=r"time_crop must lie in \(0, 1\]"):
        DataArguments(time_crop=share)
