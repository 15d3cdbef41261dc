"""Stored spectrograms, levels and floats, become the features that the windows are cut from."""

import numpy as np
import pytest
from spectrograms import changing, extract, make


def stored_track(waveform) -> np.ndarray:
    """A track's min-max-normalised log-mel as other programs store it: uint8 [bins, frames]."""
    features = make(normalization="min_max", normalize_over="track")
    return np.round(255 * features.normalize_track(features.track_features(waveform)).T).astype(np.uint8)


@pytest.mark.parametrize("normalization", ["none", "min_max", "z_score", "affine", "statistics"])
def test_windows_of_stored_levels_are_those_of_the_audio_to_a_level(normalization):
    fields = {"normalization": normalization, "normalize_over": "track", "mean": -30.0, "std": 80.0}
    extractor = make(window_policy="all", **fields)
    # Silence, so that the floor of 80 dB is reached: levels say nothing of the range that they were mapped from.
    waveform = np.concatenate([changing(12, 3.3), np.zeros(4000, dtype=np.float32)])
    stored = stored_track(waveform)
    assert stored.shape[0] == 32
    features = extractor.as_features(stored)
    assert features.dtype == np.float32
    windows, direct = extractor.cut_features(features), extract(extractor, waveform)
    assert windows.shape == direct.shape
    assert np.abs(windows - direct).max() <= {"none": 80, "z_score": 80 / direct.std()}.get(normalization, 1) * 2 / 255
    # Floats are taken as track_features returns them.
    np.testing.assert_array_equal(extractor.as_features(features), features)


@pytest.mark.parametrize("fields", [{"scale": "log"}, {"scale": "none"}, {"top_db": None}])
def test_levels_of_an_unknown_range_are_refused(fields):
    with pytest.raises(ValueError, match="need scale 'db' and a top_db"):
        make(num_bins=2, **fields).as_features(np.array([[0, 51], [255, 102]], dtype=np.uint8))


@pytest.mark.parametrize(
    "fields", [{"window_policy": "all"}, {"max_windows": 2}, {"resize": [16, 16]}, {"crop": [30, 90]}]
)
def test_cutting_track_features_is_what_the_call_does(fields):
    extractor = make(normalize_over="track", normalization="z_score", **fields)
    waveform = changing(13, 3.3)
    np.testing.assert_array_equal(
        extractor.cut_features(extractor.track_features(waveform)), extract(extractor, waveform)
    )


def test_short_stored_features_are_looped_or_followed_by_silence():
    features = np.arange(1, 51, dtype=np.float32)[:, None] * np.ones((1, 32), dtype=np.float32)
    fields = {"db_reference": 1.0, "top_db": None}
    looped = make(short_tracks="loop", **fields).cut_features(features)[0]
    np.testing.assert_array_equal(looped[:, 0], [1 + index % 50 for index in range(126)])
    padded = make(short_tracks="pad", **fields).cut_features(features)[0]
    np.testing.assert_array_equal(padded[:, 0], [*range(1, 51), *[-100] * 76])


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (np.zeros((31, 50), np.uint8), r"must be \[32, frames\], not \[31, 50\]"),
        (np.zeros((50, 32), np.uint8), r"must be \[32, frames\], not \[50, 32\]"),
        (np.zeros((32, 0), np.uint8), r"must be \[32, frames\], not \[32, 0\]"),
        (np.zeros(32, np.uint8), r"must be \[32, frames\], not \[32\]"),
        (np.zeros((32, 50)), r"must be .*\[frames, 32\], not .*\[32, 50\]"),
        (np.full((5, 32), np.nan), "NaN or infinite"),
        (np.full((32, 5), 256), r"0\.\.255"),
        (np.full((32, 5), -1), r"0\.\.255"),
    ],
)
def test_invalid_stored_spectrograms_are_refused(stored, message):
    with pytest.raises(ValueError, match=message):
        make().as_features(stored)
