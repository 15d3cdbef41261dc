"""Spectrograms kept from before: levels and floats become the features that the windows are cut from."""

import numpy as np
import pytest
from spectrograms import changing, extract, make

from hfmgc.features.windows import window_starts


def stored_track(waveform) -> np.ndarray:
    """A track's min-max-normalised log-mel as it is stored: uint8 [bins, frames]."""
    features = make(normalization="min_max", normalize_over="track").track_features(waveform)
    return np.round(255 * features.T).astype(np.uint8)


def test_stored_levels_are_the_tracks_features_to_a_level():
    extractor = make(normalization="min_max", normalize_over="track", window_policy="all")
    waveform = changing(12, 3.3)
    stored = stored_track(waveform)
    assert stored.shape[0] == 32
    features = extractor.as_features(stored)
    assert features.dtype == np.float32
    assert np.abs(features - extractor.track_features(waveform)).max() <= 1 / 255
    windows, direct = extractor.cut_features(features), extract(extractor, waveform)
    assert windows.shape == direct.shape
    assert np.abs(windows - direct).max() <= 1 / 255
    np.testing.assert_array_equal(extractor.as_features(stored.T, bins_first=False), features)
    # Floats are taken as track_features made them, or as librosa would have.
    np.testing.assert_array_equal(extractor.as_features(features), features)
    np.testing.assert_array_equal(extractor.as_features(features.T, bins_first=True), features)


@pytest.mark.parametrize(
    "fields", [{"window_policy": "all"}, {"max_windows": 2}, {"resize": [16, 16]}, {"crop": [30, 90]}]
)
def test_cutting_track_features_is_what_the_call_does(fields):
    extractor = make(normalize_over="track", normalization="z_score", **fields)
    waveform = changing(13, 3.3)
    np.testing.assert_array_equal(
        extractor.cut_features(extractor.track_features(waveform)), extract(extractor, waveform)
    )


@pytest.mark.parametrize("over", ["window", "track"])
@pytest.mark.parametrize("normalization", ["min_max", "z_score", "statistics"])
def test_levels_are_normalised_as_the_fields_say(normalization, over):
    extractor = make(normalization=normalization, normalize_over=over, mean=0.5, std=0.25)
    stored = stored_track(changing(14, 2.0))
    windows = extractor.cut_features(extractor.as_features(stored))
    levels = stored.T.astype(np.float64) / 255
    starts = window_starts(len(levels), 126, policy="even")
    formula = {
        "min_max": lambda x: (x - x.min()) / (x.max() - x.min()),
        "z_score": lambda x: (x - x.mean()) / x.std(),
        "statistics": lambda x: (x - 0.5) / 0.25,
    }[normalization]
    cut = lambda x: [x[start : start + 126] for start in starts]  # noqa: E731
    expected = cut(formula(levels)) if over == "track" else [formula(window) for window in cut(levels)]
    np.testing.assert_allclose(windows, np.stack(expected), atol=1e-4)


@pytest.mark.parametrize("over", ["window", "track"])
def test_levels_count_as_mapped_by_the_affine_already(over):
    extractor = make(normalization="affine", normalize_over=over)
    stored = stored_track(changing(15, 1.0))
    np.testing.assert_allclose(
        extractor.cut_features(extractor.as_features(stored))[0], stored.T[:126] / 255, atol=1e-6
    )


def test_random_feature_windows_reach_both_ends():
    extractor = make()
    features = np.arange(130, dtype=np.float32)[:, None] * np.ones((1, 32), dtype=np.float32)
    firsts = {int(extractor.random_feature_window(features, np.random.default_rng(seed))[0, 0]) for seed in range(80)}
    assert firsts == {0, 1, 2, 3, 4}


def test_short_stored_features_are_looped_or_padded_with_the_quietest():
    features = np.arange(1, 51, dtype=np.float32)[:, None] * np.ones((1, 32), dtype=np.float32)
    looped = make(short_tracks="loop").cut_features(features)[0]
    np.testing.assert_array_equal(looped[:, 0], [1 + index % 50 for index in range(126)])
    padded = make(short_tracks="pad").cut_features(features)[0]
    np.testing.assert_array_equal(padded[:, 0], [*range(1, 51), *[1] * 76])


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (np.zeros((31, 50), np.uint8), r"must be \[32, frames\], not \[31, 50\]"),
        (np.zeros((50, 32), np.uint8), r"must be \[32, frames\], not \[50, 32\]"),
        (np.zeros((32, 0), np.uint8), r"must be \[32, frames\], not \[32, 0\]"),
        (np.zeros(32, np.uint8), r"must be \[32, frames\], not \[32\]"),
        (np.zeros((32, 50)), r"must be \[frames, 32\], not \[32, 50\]"),
        (np.full((5, 32), np.nan), "NaN or infinite"),
        (np.full((32, 5), 256), r"0\.\.255"),
        (np.full((32, 5), -1), r"0\.\.255"),
    ],
)
def test_what_is_no_stored_spectrogram_is_refused(stored, message):
    with pytest.raises(ValueError, match=message):
        make().as_features(stored)
