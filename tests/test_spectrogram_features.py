"""Spectrograms equal librosa's; cut, decimated, cropped, resized, and normalised over windows or tracks."""

import json
import weakref

import librosa
import numpy as np
import pytest
from conftest import tone
from spectrograms import RATE, changing, extract, make

from hfmgc.features import spectrogram_operations
from hfmgc.features.spectrogram_operations import running_statistics
from hfmgc.features.windows import window_starts


# Slicing


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 11025])
@pytest.mark.parametrize(("seconds", "slices"), [(3, 19), (5, 11), (6, 9), (10, 5), (12, 4), (15, 3)])
def test_half_overlapping_slices_of_30_seconds_are_as_many_as_the_paper_says(rate, seconds, slices):
    starts = window_starts(30 * rate, seconds * rate, policy="all", overlap=0.5)
    # 3 s at 11,025 Hz are an odd number of samples: half of it is no sample
    assert starts.tolist() == [round(index * seconds * rate / 2) for index in range(slices)]


@pytest.mark.parametrize(("seconds", "slices"), [(3, 19), (5, 11), (6, 9), (10, 5), (12, 4), (15, 3)])
@pytest.mark.parametrize("samples", [661794, 661504, 660000, 661100])
def test_clips_of_gtzans_real_lengths_have_as_many_slices(samples, seconds, slices):
    starts = window_starts(samples, seconds * 22050, policy="all", overlap=0.5)
    assert len(starts) == slices
    assert starts[0] == 0
    assert starts[-1] == samples - seconds * 22050


@pytest.mark.parametrize("parts", [2, 3, 7, 9, 11, 13])
@pytest.mark.parametrize("policy", ["all", "even"])
def test_rounding_adds_no_window_to_a_track_that_divides_evenly(parts, policy):
    window = round(30 * RATE / parts)
    assert len(window_starts(30 * RATE, window, policy=policy, overlap=0.0)) == parts


@pytest.mark.parametrize("policy", ["all", "even"])
def test_a_remainder_of_milliseconds_gets_no_window(policy):
    assert window_starts(661794, 661500, policy=policy).tolist() == [147]
    assert len(window_starts(668115, 661500, policy=policy)) == 2  # a hundredth more


@pytest.mark.parametrize("samples", [2010, 2100, 2250, 2300, 2490])
def test_a_remainder_gets_another_window_at_the_end(samples):
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
    every = extract(make(db_reference=1.0, top_db=None), waveform)[0]
    third = extract(make(db_reference=1.0, top_db=None, frames_per_second=125 / 3), waveform)[0]
    assert third.shape == (42, 32)  # of 126
    np.testing.assert_array_equal(third, every[1::3])


def test_crop_keeps_the_first_frames_and_the_lowest_bins():
    waveform = changing(3, 1.0)
    np.testing.assert_array_equal(extract(make(crop=[20, 100]), waveform)[0], extract(make(), waveform)[0, :100, :20])


def test_resize_has_the_requested_shape_and_uses_every_frame():
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


def test_statistics_without_spectrograms_or_with_unequal_bins_are_refused():
    with pytest.raises(ValueError, match="at least one spectrogram"):
        make().fit_statistics([])
    with pytest.raises(ValueError, match="shapes"):
        running_statistics([np.zeros((3, 4)), np.zeros((3, 5))], per_bin=True)


# Windows


@pytest.mark.parametrize("over", ["window", "track"])
def test_the_default_policy_covers_the_track_and_a_batch_is_masked(over):
    extractor = make(normalize_over=over, normalization="min_max")
    batch = extractor([changing(7, 2.5), changing(8, 0.4)], sampling_rate=RATE, return_tensors="pt")
    assert batch["input_values"].shape == (2, 3, 126, 32)
    assert batch["window_mask"].tolist() == [[True] * 3, [True, False, False]]


@pytest.mark.parametrize("over", ["window", "track"])
@pytest.mark.parametrize(
    "fields", [{}, {"pad_mode": "reflect"}, {"n_fft": 511}, {"n_fft": 2048}, {"representation": "stft"}]
)
def test_a_window_of_audio_is_the_window_of_the_tracks_features(over, fields):
    fields = {"num_bins": None, **fields} if "representation" in fields else fields
    extractor = make(normalize_over=over, normalization="min_max", **fields)
    waveform = changing(9, 3.0)
    features = extractor.track_features(waveform)
    for place in (0.0, 0.01, 0.3, 0.77, 0.999):
        window = extractor.audio_window(waveform, place)
        assert window.shape == extractor.window_shape
        np.testing.assert_allclose(window, extractor.feature_window(features, place), atol=1e-5)


@pytest.mark.parametrize("over", ["window", "track"])
@pytest.mark.parametrize(
    "fields", [{}, {"n_fft": 511}, {"frames_per_second": 40.0}, {"representation": "cqt", "fmin": 220.0}]
)
def test_windows_with_gaps_are_those_of_the_whole_tracks_features(over, fields):
    extractor = make(normalize_over=over, normalization="z_score", max_windows=2, **fields)
    waveform = changing(16, 5.0)
    of_features = extractor.cut_features(extractor.track_features(waveform))
    np.testing.assert_allclose(extractor.track_windows(waveform), of_features, atol=1e-4)


@pytest.mark.parametrize("over", ["window", "track"])
def test_random_windows_repeat_for_a_track_and_differ_between_seeds(over):
    fields = {"normalize_over": over, "window_policy": "random", "max_windows": 3}
    waveform = changing(10, 4.0)
    first = extract(make(**fields), waveform)
    assert first.shape == (3, 126, 32)
    np.testing.assert_array_equal(first, extract(make(**fields), waveform))
    assert np.abs(first - extract(make(window_seed=1, **fields), waveform)).max() > 0


@pytest.mark.parametrize("over", ["window", "track"])
def test_frames_of_short_tracks_are_looped_or_followed_by_silence(over):
    waveform = changing(11, 0.3)
    fields = {"normalize_over": over, "db_reference": 1.0, "top_db": None}
    frames = librosa.power_to_db(mel_of(waveform), top_db=None).T
    assert len(frames) == 38
    looped = extract(make(short_tracks="loop", **fields), waveform)[0]
    np.testing.assert_allclose(looped, np.concatenate([frames] * 4)[:126], atol=1e-3)
    padded = extract(make(short_tracks="pad", **fields), waveform)[0]
    np.testing.assert_allclose(padded[:38], frames, atol=1e-3)
    silence = extract(make(**fields), np.zeros(RATE, dtype=np.float32))[0]
    np.testing.assert_allclose(padded[38:], silence[38:], atol=1e-4)
    normalized = extract(make(short_tracks="pad", normalize_over=over, normalization="min_max"), waveform)[0]
    assert (normalized.min(), normalized.max()) == (0, 1)
    assert (normalized[38:] == 0).all()


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
