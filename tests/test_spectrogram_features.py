"""Spectrograms equal librosa's; normalised over windows or tracks; cut from waveforms or from stored features."""

import json
import os
import subprocess
import sys
import warnings
import weakref

import librosa
import numpy as np
import pytest
from conftest import tone

from hfmgc.features import spectrogram_operations
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.features.spectrogram_operations import running_statistics
from hfmgc.features.windows import window_starts


RATE = 16000
SMALL = {"sampling_rate": RATE, "n_fft": 512, "hop_length": 128, "num_bins": 32, "window_seconds": 1.0}


def make(**fields) -> SpectrogramFeatureExtractor:
    return SpectrogramFeatureExtractor(**{**SMALL, **fields})


def extract(extractor, waveform) -> np.ndarray:
    return extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="np")["input_values"][0]


def changing(seed: int, seconds: float) -> np.ndarray:
    """A tone that grows from quiet to loud, so that windows and track have different extremes."""
    waveform = tone(seed, seconds=seconds)
    return waveform * np.geomspace(0.01, 1, len(waveform), dtype=np.float32)


# Slicing


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 11025])
@pytest.mark.parametrize(("seconds", "slices"), [(3, 19), (5, 11), (6, 9), (10, 5), (12, 4), (15, 3)])
def test_half_overlapping_slices_of_30_seconds_are_as_many_as_the_paper_says(rate, seconds, slices):
    starts = window_starts(30 * rate, seconds * rate, policy="all", overlap=0.5)
    # 3 s at 11,025 Hz are an odd number of samples: half of it is no sample
    assert starts.tolist() == [round(index * seconds * rate / 2) for index in range(slices)]


@pytest.mark.parametrize(("seconds", "slices"), [(3, 19), (5, 11), (6, 9), (10, 5), (12, 4), (15, 3)])
@pytest.mark.parametrize("samples", [661794, 661504, 660000, 661100])
def test_so_are_those_of_gtzans_real_lengths(samples, seconds, slices):
    starts = window_starts(samples, seconds * 22050, policy="all", overlap=0.5)
    assert len(starts) == slices
    assert starts[0] == 0
    assert starts[-1] == samples - seconds * 22050


@pytest.mark.parametrize("parts", [2, 3, 7, 9, 11, 13])
@pytest.mark.parametrize("policy", ["all", "even"])
def test_a_track_that_divides_evenly_has_no_window_more_through_rounding(parts, policy):
    window = round(30 * RATE / parts)
    assert len(window_starts(30 * RATE, window, policy=policy, overlap=0.0)) == parts


@pytest.mark.parametrize("policy", ["all", "even"])
def test_milliseconds_more_than_a_window_give_no_second_one(policy):
    assert window_starts(661794, 661500, policy=policy).tolist() == [147]
    assert len(window_starts(668115, 661500, policy=policy)) == 2  # a hundredth more


@pytest.mark.parametrize("samples", [2010, 2100, 2250, 2300, 2490])
def test_what_is_left_over_gets_a_window_of_its_own_at_the_end(samples):
    assert window_starts(samples, 1000, policy="all", overlap=0.5).tolist() == [0, 500, 1000, samples - 1000]


@pytest.mark.parametrize("overlap", [0.1, 0.3, 0.7, 0.8, 0.9, 0.99])
def test_any_overlap_steps_evenly_from_the_first_sample_to_the_last(overlap):
    hop = round(1000 * (1 - overlap))
    starts = window_starts(1000 + 20 * hop, 1000, policy="all", overlap=overlap)
    assert starts.tolist() == [index * hop for index in range(21)]


# Equal to librosa


def mel_of(waveform, **fields):
    return librosa.feature.melspectrogram(
        y=waveform, sr=RATE, **{"n_fft": 512, "hop_length": 128, "n_mels": 32, **fields}
    )


CASES = {
    "mel": ({}, lambda y: librosa.power_to_db(mel_of(y), ref=np.max)),
    "mel without floor": ({"top_db": None}, lambda y: librosa.power_to_db(mel_of(y), ref=np.max, top_db=None)),
    "mel against 1": ({"db_reference": 1.0, "top_db": 60}, lambda y: librosa.power_to_db(mel_of(y), top_db=60)),
    "mel of amplitudes": ({"power": 1.0}, lambda y: librosa.amplitude_to_db(mel_of(y, power=1.0), ref=np.max)),
    "mel, htk": (
        {"mel_htk": True, "mel_norm": None, "fmin": 60, "fmax": 7000},
        lambda y: librosa.power_to_db(mel_of(y, htk=True, norm=None, fmin=60, fmax=7000), ref=np.max),
    ),
    "mel, other frames": (
        {"win_length": 400, "window_function": "hamming", "pad_mode": "reflect"},
        lambda y: librosa.power_to_db(mel_of(y, win_length=400, window="hamming", pad_mode="reflect"), ref=np.max),
    ),
    "mel, log": ({"scale": "log", "log_offset": 1e-5}, lambda y: np.log(mel_of(y) + 1e-5)),
    "mel, bare": ({"scale": "none", "power": 1.5}, lambda y: mel_of(y, power=1.5)),
    "stft": (
        {"representation": "stft", "num_bins": None, "power": 1.0},
        lambda y: librosa.amplitude_to_db(np.abs(librosa.stft(y, n_fft=512, hop_length=128)), ref=np.max),
    ),
    "cqt": (
        {"representation": "cqt", "num_bins": 72, "bins_per_octave": 24, "fmin": 220.0, "power": 1.0},
        lambda y: librosa.amplitude_to_db(
            np.abs(librosa.cqt(y, sr=RATE, hop_length=128, fmin=220.0, n_bins=72, bins_per_octave=24)), ref=np.max
        ),
    ),
    "mfcc": (
        {"representation": "mfcc", "num_bins": 20, "num_mels": 40, "db_reference": 1.0},
        lambda y: librosa.feature.mfcc(y=y, sr=RATE, n_mfcc=20, n_fft=512, hop_length=128, n_mels=40),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_features_are_those_of_librosa(case):
    fields, by_librosa = CASES[case]
    waveform = changing(0, 1.0)
    features = extract(make(**fields), waveform)
    expected = by_librosa(waveform)
    assert features.dtype == np.float32
    assert features.shape == (1, *expected.T.shape)
    np.testing.assert_allclose(features[0], expected.T, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("representation", "bins"), [("mel", 128), ("stft", 257), ("cqt", 84), ("mfcc", 20)])
def test_numbers_of_bins_are_librosas_where_none_is_given(representation, bins):
    assert make(representation=representation, num_bins=None).num_bins == bins


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("representation", ["mel", "stft"])
def test_long_tracks_are_computed_in_blocks_and_are_the_same(monkeypatch, representation, pad_mode):
    fields = {"normalize_over": "track", "representation": representation, "num_bins": None, "pad_mode": pad_mode}
    waveform = changing(1, 3.0)
    whole = make(**fields).track_features(waveform)
    monkeypatch.setattr(spectrogram_operations, "BLOCK_FRAMES", 50)
    np.testing.assert_allclose(make(**fields).track_features(waveform), whole, atol=1e-4)


# After the spectrogram


def test_decimation_picks_the_middle_frame_of_each_step():
    waveform = changing(2, 1.0)
    every = extract(make(), waveform)[0]
    third = extract(make(frames_per_second=125 / 3), waveform)[0]
    assert third.shape == (42, 32)  # of 126
    np.testing.assert_array_equal(third, every[1::3])


def test_crop_keeps_the_first_frames_and_the_lowest_bins():
    waveform = changing(3, 1.0)
    np.testing.assert_array_equal(extract(make(crop=[20, 100]), waveform)[0], extract(make(), waveform)[0, :100, :20])


def test_resize_has_the_shape_asked_for_and_hears_every_frame():
    extractor = make(resize=[48, 20], scale="none")
    assert extractor.window_shape == (20, 48)
    silent = np.zeros(RATE, dtype=np.float32)
    loud_frames = []
    for frame in range(4, 120, 7):
        click = silent.copy()
        click[frame * 128] = 1.0
        resized = extract(extractor, click)[0]
        loud_frames.append(int(resized.sum(axis=1).argmax()))
        assert resized.max() > 0
    assert loud_frames == sorted(loud_frames)
    assert len(set(loud_frames)) > 10


def test_resize_of_a_slope_is_a_slope():
    slope = np.arange(64, dtype=np.float32)[:, None] * np.ones((1, 8), dtype=np.float32)
    resized = spectrogram_operations.resize(slope, [4, 16])
    assert resized.shape == (16, 4)
    np.testing.assert_allclose(resized[1:-1, 0], np.arange(16)[1:-1] * 4 + 1.5, atol=1e-4)
    np.testing.assert_allclose(resized, resized[:, :1] * np.ones((1, 4)), atol=1e-5)


def test_the_waveform_is_standardised_over_the_track():
    waveform = changing(4, 3.0)
    fields = {"db_reference": 1.0, "top_db": None, "window_policy": "all", "window_overlap": 0.0}
    standard = (waveform - waveform.mean()) / waveform.std()
    ours = extract(make(waveform_normalization="z_score", **fields), waveform)
    np.testing.assert_allclose(ours, extract(make(**fields), standard), atol=1e-2)
    louder = extract(make(waveform_normalization="z_score", **fields), 0.5 * waveform)
    np.testing.assert_allclose(ours, louder, atol=1e-2)


# Normalisation


@pytest.mark.parametrize(
    ("fields", "formula"),
    [
        ({"normalization": "min_max"}, lambda x: (x - x.min()) / (x.max() - x.min())),
        ({"normalization": "z_score"}, lambda x: (x - x.mean()) / x.std()),
        ({"normalization": "affine", "affine_offset": 40, "affine_scale": 20}, lambda x: (x + 40) / 20),
        ({"normalization": "statistics", "mean": -30.0, "std": 12.0}, lambda x: (x + 30) / 12),
        (
            {"normalization": "statistics", "mean": list(range(32)), "std": [2.0] * 32},
            lambda x: (x - np.arange(32)) / 2,
        ),
    ],
)
@pytest.mark.parametrize("over", ["window", "track"])
def test_normalisation_is_its_formula_over_window_or_track(fields, formula, over):
    waveform = changing(5, 2.5)
    extractor = make(normalize_over=over, **fields)
    features = extract(extractor, waveform)
    assert features.shape == (3, 126, 32)
    if over == "window":
        expected = [formula(window) for window in extract(make(), waveform)]
    else:
        whole = formula(librosa.power_to_db(mel_of(waveform), ref=np.max).T)
        expected = [whole[start : start + 126] for start in window_starts(len(whole), 126, policy="even")]
    np.testing.assert_allclose(features, np.stack(expected), atol=1e-4)


def test_over_the_track_quiet_windows_stay_quiet():
    waveform = changing(6, 4.0)
    over_windows = extract(make(normalization="min_max"), waveform)
    over_track = extract(make(normalization="min_max", normalize_over="track"), waveform)
    assert [window.max() for window in over_windows] == [1.0] * 4
    assert over_track[0].max() < 0.7
    assert over_track[-1].max() == 1.0


@pytest.mark.parametrize("over", ["window", "track"])
@pytest.mark.parametrize("per_bin", [False, True])
def test_statistics_of_the_training_split_standardise_it_and_nothing_else(over, per_bin):
    train = [changing(seed, 1.0) for seed in range(5)]
    extractor = make(normalize_over=over).fit_statistics(iter(train), per_bin=per_bin)
    assert extractor.normalization == "statistics"
    assert np.size(extractor.mean) == np.size(extractor.std) == (32 if per_bin else 1)
    features = np.concatenate([extract(extractor, waveform)[0] for waveform in train])
    axis = 0 if per_bin else None
    np.testing.assert_allclose(features.mean(axis=axis), 0, atol=1e-4)
    np.testing.assert_allclose(features.std(axis=axis), 1, atol=1e-4)
    assert abs(extract(extractor, 0.01 * tone(9, seconds=1.0, frequency=3000.0)).mean()) > 0.05
    json.dumps(extractor.to_dict())


def test_statistics_stay_exact_far_from_zero_and_hold_one_spectrogram_at_a_time():
    generator = np.random.default_rng(0)
    spectrograms = [1e6 + generator.standard_normal((frames, 4)) * [1, 2, 3, 4] for frames in (1, 50, 7, 300)]
    given = []

    def one_by_one():
        for spectrogram in spectrograms:
            copy = spectrogram.copy()
            assert not any(reference() is not None for reference in given[:-1])
            given.append(weakref.ref(copy))
            yield copy

    mean, std = running_statistics(one_by_one(), per_bin=True)
    together = np.concatenate(spectrograms)
    np.testing.assert_allclose(mean, together.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, together.std(axis=0), rtol=1e-8)
    assert running_statistics(spectrograms)[1] == pytest.approx(together.std(), rel=1e-8)
    assert len(given) == 4


def test_statistics_refuse_nothing_and_unequal_bins():
    with pytest.raises(ValueError, match="at least one spectrogram"):
        make().fit_statistics([])
    with pytest.raises(ValueError, match="equal bins: 4 and 5"):
        running_statistics([np.zeros((3, 4)), np.zeros((3, 5))], per_bin=True)


# Windows


@pytest.mark.parametrize("over", ["window", "track"])
def test_the_default_policy_covers_the_track_and_a_batch_is_masked(over):
    extractor = make(normalize_over=over, normalization="min_max")
    batch = extractor([changing(7, 2.5), changing(8, 0.4)], sampling_rate=RATE, return_tensors="pt")
    assert batch["input_values"].shape == (2, 3, 126, 32)
    assert batch["window_mask"].tolist() == [[True] * 3, [True, False, False]]


@pytest.mark.parametrize("over", ["window", "track"])
def test_training_windows_come_from_the_generator_and_from_anywhere(over):
    extractor = make(normalize_over=over, normalization="min_max")
    waveform = changing(9, 3.0)
    draw = lambda seed: extractor.training_window(waveform, np.random.default_rng(seed))  # noqa: E731
    assert draw(0).shape == (126, 32)
    np.testing.assert_array_equal(draw(0), draw(0))
    assert len({float(draw(seed).sum()) for seed in range(8)}) > 5


@pytest.mark.parametrize("over", ["window", "track"])
def test_random_windows_repeat_for_a_track_and_differ_between_seeds(over):
    fields = {"normalize_over": over, "window_policy": "random", "max_windows": 3}
    waveform = changing(10, 4.0)
    first = extract(make(**fields), waveform)
    assert first.shape == (3, 126, 32)
    np.testing.assert_array_equal(first, extract(make(**fields), waveform))
    assert np.abs(first - extract(make(window_seed=1, **fields), waveform)).max() > 0


@pytest.mark.parametrize("over", ["window", "track"])
def test_short_tracks_are_looped_or_padded_before_the_spectrogram(over):
    waveform = changing(11, 0.3)
    loop, pad = (make(normalize_over=over, normalization="min_max", short_tracks=how) for how in ("loop", "pad"))
    np.testing.assert_array_equal(extract(loop, waveform), extract(loop, np.resize(waveform, RATE)))
    np.testing.assert_array_equal(extract(pad, waveform), extract(pad, np.pad(waveform, (0, RATE - len(waveform)))))


@pytest.mark.parametrize("over", ["window", "track"])
@pytest.mark.parametrize("normalization", ["min_max", "z_score", "none"])
@pytest.mark.parametrize(
    "waveform", [np.ones(1), np.zeros(1), np.zeros(3 * RATE), np.full(2 * RATE, 0.3), tone(0, seconds=0.05)]
)
def test_the_emptiest_inputs_give_finite_features(over, normalization, waveform):
    for fields in ({}, {"short_tracks": "pad", "pad_mode": "reflect"}, {"scale": "log"}, {"resize": [8, 8]}):
        extractor = make(normalize_over=over, normalization=normalization, waveform_normalization="z_score", **fields)
        features = extract(extractor, waveform.astype(np.float32))
        assert np.isfinite(features).all()
        assert features.shape[1:] == extractor.window_shape


@pytest.mark.parametrize("representation", ["cqt", "mfcc"])
def test_silence_is_finite_in_the_other_representations(representation):
    fields = {"representation": representation, "num_bins": 20, "fmin": 200.0, "normalization": "z_score"}
    assert np.isfinite(extract(make(**fields), np.zeros(10, dtype=np.float32))).all()


# Stored features


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


# Fields


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"representation": "wavelet"}, "representation must be one of mel, stft, cqt, mfcc, not 'wavelet'"),
        ({"scale": "decibel"}, "scale must be one of"),
        ({"normalization": "minmax"}, "normalization must be one of"),
        ({"normalize_over": "corpus"}, "normalize_over must be one of"),
        ({"waveform_normalization": "peak"}, "waveform_normalization must be one of"),
        ({"mel_norm": 1}, "mel_norm must be one of slaney, null"),
        ({"n_fft": 0}, "n_fft must be a whole number"),
        ({"hop_length": 1.5}, "hop_length must be a whole number"),
        ({"num_bins": 0}, "num_bins must be"),
        ({"win_length": 513}, "win_length 513 is longer than n_fft 512"),
        ({"fmin": 9000}, "fmin 9000"),
        ({"fmax": 9000}, "fmax 9000"),
        ({"representation": "stft", "num_bins": 100}, "num_bins of stft is n_fft // 2 .* 257, not 100"),
        ({"representation": "mfcc", "num_bins": 129}, "cannot exceed num_mels"),
        ({"representation": "mfcc", "scale": "none"}, "scale of mfcc"),
        ({"representation": "cqt", "num_bins": 120}, "num_bins 120 of cqt reach"),
        ({"power": 1.5}, "power must be 1 or 2"),
        ({"db_reference": "min"}, "db_reference"),
        ({"top_db": -1}, "top_db must be a positive"),
        ({"affine_scale": 0}, "affine_scale must be a positive"),
        ({"window_seconds": 0.01}, "window_seconds 0.01 is shorter"),
        ({"window_seconds": float("nan")}, "window_seconds must be a positive"),
        ({"window_frames": 100}, "window_seconds or window_frames, not both"),
        ({"window_seconds": None, "window_frames": 1.5}, "window_frames must be a whole"),
        ({"frames_per_second": 126}, "frames_per_second 126 is more"),
        ({"crop": [33, 100]}, r"crop \[33, 100\] is larger than a window of \[32, 126\]"),
        ({"crop": 5}, r"crop must be \[bins, frames\]"),
        ({"resize": [1, 2, 3]}, r"resize must be \[bins, frames\]"),
        ({"resize": [0, 2]}, "resize must be a whole number"),
        ({"mean": [0.0, 1.0]}, "mean must be a finite number or one for each of 32 bins, not 2"),
        ({"std": 0.0}, "std must be positive"),
        ({"std": [[1.0]]}, "std must be a finite number"),
        ({"normalisation": "min_max"}, "no field 'normalisation'; did you mean 'normalization'"),
        ({"max_window": 3}, "no field 'max_window'; did you mean 'max_windows'"),
        ({"window_overlap": 1.0}, "window_overlap must lie in"),
    ],
)
def test_impossible_fields_are_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=message):
        make(**fields)


def test_a_window_can_be_given_in_frames():
    extractor = make(window_seconds=None, window_frames=77)
    assert extractor.window_shape == (77, 32)
    assert extract(extractor, tone(0, seconds=1.0)).shape[1:] == (77, 32)


def test_a_saved_extractor_is_the_same_again(tmp_path):
    fields = {
        "preset": "m2d",
        "n_fft": 512,
        "crop": (40, 30),
        "resize": (20, 16),
        "mean": [0.5] * 20,
        "std": [2.0] * 20,
        "window_frames": 37,
        "window_policy": "all",
        "window_overlap": 0.25,
        "short_tracks": "pad",
        "frames_per_second": 90.0,
    }
    extractor = SpectrogramFeatureExtractor(**fields)
    extractor.save_pretrained(tmp_path)
    loaded = SpectrogramFeatureExtractor.from_pretrained(tmp_path)
    assert loaded.to_dict() == extractor.to_dict()
    assert (loaded.preset, loaded.crop, loaded.resize) == ("m2d", [40, 30], [20, 16])
    np.testing.assert_array_equal(extract(loaded, tone(0, seconds=2.0)), extract(extractor, tone(0, seconds=2.0)))
    assert SpectrogramFeatureExtractor.from_pretrained(tmp_path, window_policy="even").window_policy == "even"


def test_it_loads_where_hfmgc_is_not_installed(tmp_path):
    folder = tmp_path / "checkpoint"
    extractor = make(preset="gtzan_decimated", window_seconds=2.0)
    extractor.save_pretrained(folder)
    waveform = tone(1, seconds=5.0)
    np.save(tmp_path / "waveform.npy", waveform)
    script = """
import sys
sys.modules["hfmgc"] = None  # importing it fails from here on
import numpy as np
from transformers import AutoFeatureExtractor
extractor = AutoFeatureExtractor.from_pretrained(sys.argv[1] + "/checkpoint", trust_remote_code=True)
features = extractor(np.load(sys.argv[1] + "/waveform.npy"), sampling_rate=16000, return_tensors="np")["input_values"]
np.save(sys.argv[1] + "/features.npy", features[0])
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["HF_HOME"] = str(tmp_path / "home")
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), extract(extractor, waveform))


def test_making_one_and_extracting_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for preset in ("divide_and_conquer_3s", "m2d"):
            extractor = SpectrogramFeatureExtractor(preset=preset)
            extract(extractor, tone(0, seconds=1.0, sampling_rate=extractor.sampling_rate))
