"""Windows over whole tracks: where they lie, what fills short ones, and the same numbers as transformers' extractor."""

import warnings

import numpy as np
import pytest
import torch
from conftest import tone
from transformers import ASTFeatureExtractor, AutoFeatureExtractor

from hfmgc.features import feature_extraction_ast
from hfmgc.features.feature_extraction_ast import HfmgcASTFeatureExtractor
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.features.windows import window_starts


RATE = 16000


@pytest.fixture
def transformers_extractor():
    def make(max_length: int) -> ASTFeatureExtractor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ASTFeatureExtractor(max_length=max_length)

    return make


def extract(extractor, waveform) -> np.ndarray:
    return extractor(waveform, sampling_rate=RATE, return_tensors="np")["input_values"]


# Where windows lie


@pytest.mark.parametrize("policy", ["even", "all"])
@pytest.mark.parametrize("samples", [101, 150, 199, 200, 201, 999, 1000, 1001])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.99])
def test_without_a_limit_windows_cover_every_sample(policy, samples, overlap):
    starts = window_starts(samples, 100, policy=policy, overlap=overlap)
    heard = np.zeros(samples, dtype=bool)
    for start in starts:
        assert start >= 0
        heard[start : start + 100] = True
    assert heard.all()
    assert starts[-1] + 100 == samples
    assert (np.diff(starts) > 0).all()


def test_even_takes_as_few_windows_as_cover_the_track():
    assert [len(window_starts(n, 100, policy="even")) for n in (100, 101, 200, 201, 1000)] == [1, 2, 2, 3, 10]


@pytest.mark.parametrize("max_windows", [2, 3, 7])
def test_even_with_fewer_windows_still_goes_from_the_first_sample_to_the_last(max_windows):
    starts = window_starts(5000, 100, policy="even", max_windows=max_windows)
    assert len(starts) == max_windows
    assert starts[0] == 0
    assert starts[-1] == 4900
    assert np.ptp(np.diff(starts)) <= 1


def test_max_windows_is_only_an_upper_limit():
    assert len(window_starts(250, 100, policy="even", max_windows=12)) == 3


def test_a_single_window_lies_in_the_middle():
    assert window_starts(1100, 100, policy="even", max_windows=1).tolist() == [500]


def test_all_steps_by_the_overlap_and_ends_with_the_track():
    assert window_starts(260, 100, policy="all", overlap=0.5).tolist() == [0, 50, 100, 150, 160]
    assert window_starts(300, 100, policy="all", overlap=0.0).tolist() == [0, 100, 200]


def test_random_windows_are_sorted_seeded_and_over_the_whole_track():
    draw = lambda seed: window_starts(  # noqa: E731
        10_000, 100, policy="random", max_windows=300, generator=np.random.default_rng(seed)
    )
    starts = draw(1)
    assert len(starts) == 300
    assert (np.diff(starts) >= 0).all()
    assert starts.min() >= 0
    assert starts.max() <= 9900
    assert starts.min() < 500
    assert starts.max() > 9400
    assert (starts == draw(1)).all()
    assert (starts != draw(2)).any()


def test_random_windows_can_start_at_the_last_position():
    starts = window_starts(101, 100, policy="random", max_windows=100, generator=np.random.default_rng(0))
    assert set(starts.tolist()) == {0, 1}


@pytest.mark.parametrize("policy", ["even", "all", "random"])
@pytest.mark.parametrize("samples", [1, 99, 100])
def test_a_track_no_longer_than_a_window_has_one(policy, samples):
    assert window_starts(samples, 100, policy=policy, max_windows=5).tolist() == [0]


# Extraction


@pytest.mark.parametrize("max_length", [64, 128])
def test_a_window_equals_transformers_own_extraction(transformers_extractor, max_length):
    ours = HfmgcASTFeatureExtractor(max_length=max_length)
    waveform = tone(0, seconds=ours.window_seconds)
    assert len(waveform) == ours.window_samples == 400 + 160 * (max_length - 1)
    features = extract(ours, waveform)
    assert features.shape == (1, 1, max_length, 128)
    assert features.dtype == np.float32
    expected = np.asarray(transformers_extractor(max_length)(waveform, sampling_rate=RATE)["input_values"][0])
    np.testing.assert_array_equal(features[0, 0], expected)


def test_window_samples_give_exactly_the_frames_of_a_window(transformers_extractor):
    ours = HfmgcASTFeatureExtractor(max_length=64)
    waveform = tone(0, seconds=1)
    padded = transformers_extractor(65)
    silent = np.asarray(padded(waveform[: ours.window_samples], sampling_rate=RATE)["input_values"][0])
    one_more = np.asarray(padded(waveform[: ours.window_samples + 160], sampling_rate=RATE)["input_values"][0])
    assert np.ptp(silent[64]) == 0
    assert np.ptp(silent[63]) > 0
    assert np.ptp(one_more[64]) > 0


def test_a_padded_short_track_equals_transformers_own_extraction(transformers_extractor):
    waveform = tone(1, seconds=0.3)
    features = extract(HfmgcASTFeatureExtractor(max_length=64, short_tracks="pad"), waveform)
    expected = np.asarray(transformers_extractor(64)(waveform, sampling_rate=RATE)["input_values"][0])
    np.testing.assert_array_equal(features[0, 0], expected)


def test_the_frames_of_a_looped_short_track_are_repeated_from_its_start():
    ours = HfmgcASTFeatureExtractor(max_length=64)
    waveform = tone(1, seconds=0.3)
    window = extract(ours, waveform)[0, 0]
    frames = ours.count_frames(len(waveform))
    assert frames == 28
    alone = extract(HfmgcASTFeatureExtractor(max_length=frames), waveform)[0, 0]
    np.testing.assert_array_equal(window, np.concatenate([alone] * 3)[:64])


@pytest.mark.parametrize("short_tracks", ["loop", "pad"])
@pytest.mark.parametrize("samples", [1, 2, 399, 400, 401])
def test_the_shortest_clips_give_one_finite_window(short_tracks, samples):
    features = extract(
        HfmgcASTFeatureExtractor(max_length=64, short_tracks=short_tracks), tone(2, seconds=1)[:samples]
    )
    assert features.shape == (1, 1, 64, 128)
    assert np.isfinite(features).all()


@pytest.mark.parametrize("policy", ["even", "all"])
def test_each_window_equals_the_audio_at_its_position(policy):
    ours = HfmgcASTFeatureExtractor(max_length=64, window_policy=policy)
    waveform = tone(3, seconds=2.2)
    features = extract(ours, waveform)[0]
    starts = 160 * window_starts(ours.count_frames(len(waveform)), 64, policy=policy, max_windows=12, overlap=0.5)
    assert len(features) == len(starts)
    for window, start in zip(features, starts, strict=True):
        np.testing.assert_array_equal(window, extract(ours, waveform[start : start + ours.window_samples])[0, 0])


@pytest.mark.parametrize("fields", [{}, {"window_policy": "all"}, {"max_windows": None}, {"max_windows": 2}])
def test_audio_after_the_first_ten_seconds_is_used(fields):
    ours = HfmgcASTFeatureExtractor(**fields)
    waveform = tone(4, seconds=30)
    changed = waveform.copy()
    changed[-RATE:] = tone(5, seconds=1, frequency=1760.0)
    before, after = extract(ours, waveform)[0], extract(ours, changed)[0]
    assert len(before) == (2 if fields.get("max_windows") == 2 else 5 if "window_policy" in fields else 3)
    np.testing.assert_array_equal(before[0], after[0])
    assert np.abs(before[-1] - after[-1]).max() > 0.1


def test_random_windows_repeat_for_a_track_and_differ_between_tracks_and_seeds():
    waveform, other = tone(6, seconds=5), tone(7, seconds=5)
    make = lambda seed: HfmgcASTFeatureExtractor(  # noqa: E731
        max_length=64, window_policy="random", max_windows=3, window_seed=seed
    )
    frames_of = lambda track: make(0).normalize(make(0).track_features(track))  # noqa: E731

    def starts(extractor, track):
        frames = frames_of(track)
        return [int(np.flatnonzero((frames == window[0]).all(axis=1))[0]) for window in extract(extractor, track)[0]]

    assert extract(make(0), waveform).shape == (1, 3, 64, 128)
    np.testing.assert_array_equal(extract(make(0), waveform), extract(make(0), waveform))
    assert starts(make(0), waveform) != starts(make(0), other)
    assert starts(make(0), waveform) != starts(make(1), waveform)


@pytest.mark.parametrize(("place", "start"), [(0.0, 0), (0.24, 0), (0.25, 1), (0.5, 2), (0.999, 3)])
def test_a_training_window_starts_at_its_position(place, start):
    ours = HfmgcASTFeatureExtractor(max_length=64)
    waveform = tone(10, seconds=1)[: ours.window_samples + 3 * 160]
    expected = ours.normalize(ours.track_features(waveform))[start : start + 64]
    np.testing.assert_array_equal(ours.audio_window(waveform, place), expected)
    np.testing.assert_array_equal(ours.feature_window(ours.track_features(waveform), place), expected)


def test_a_long_track_is_computed_in_blocks_and_windows_with_gaps_alone(monkeypatch):
    ours = HfmgcASTFeatureExtractor(max_length=64, max_windows=2)
    waveform = tone(11, seconds=4)
    windows, whole = ours.track_windows(waveform), ours.track_features(waveform)
    np.testing.assert_array_equal(windows, ours.cut_features(whole))
    monkeypatch.setattr(feature_extraction_ast, "BLOCK_FRAMES", 50)
    np.testing.assert_array_equal(ours.track_features(waveform), whole)
    with monkeypatch.context() as patch:
        patch.setattr(HfmgcASTFeatureExtractor, "track_features", None)  # 128 of 398 frames
        np.testing.assert_array_equal(ours.track_windows(waveform), windows)


# Batches


def test_padding_windows_of_a_batch_are_masked():
    ours = HfmgcASTFeatureExtractor(max_length=64)
    tracks = [tone(seed, seconds=seconds) for seed, seconds in enumerate((0.5, 2.2, 0.7))]
    batch = ours(tracks, sampling_rate=RATE, return_tensors="pt")
    assert batch["window_mask"].tolist() == [[True, False, False, False], [True] * 4, [True, True, False, False]]
    assert batch["window_mask"].dtype == torch.bool
    assert batch["input_values"].dtype == torch.float32
    for row, track in enumerate(tracks):
        alone = extract(ours, track)[0]
        np.testing.assert_array_equal(batch["input_values"][row, : len(alone)].numpy(), alone)
        assert (batch["input_values"][row, len(alone) :] == 0).all()


@pytest.mark.parametrize("kind", [list, np.float64, np.float32, torch.tensor, lambda x: [x], lambda x: x[None]])
def test_waveforms_are_taken_in_any_usual_form(kind):
    ours = HfmgcASTFeatureExtractor(max_length=64)
    waveform = tone(8, seconds=0.8)
    np.testing.assert_array_equal(extract(ours, kind(waveform)), extract(ours, waveform))


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ([], "no waveform|empty"),
        (np.zeros(0, dtype=np.float32), "empty"),
        ([np.zeros(100, dtype=np.float32), np.zeros(0, dtype=np.float32)], "empty"),
        ([np.zeros((2, 100), dtype=np.float32)], r"mono \[samples\], not \[2, 100\]"),
        (np.zeros((1, 2, 100), dtype=np.float32), "mono"),
        (np.float32(1.0), "mono"),
        (np.array([0.0, np.nan], dtype=np.float32), "NaN or infinite"),
        (np.array([0.0, np.inf], dtype=np.float32), "NaN or infinite"),
    ],
)
def test_invalid_waveforms_are_refused(audio, message):
    with pytest.raises(ValueError, match=message):
        HfmgcASTFeatureExtractor(max_length=64)(audio, sampling_rate=RATE)


def test_another_rate_is_refused_and_both_are_named():
    with pytest.raises(ValueError, match=r"16000 Hz.* 22050 Hz"):
        HfmgcASTFeatureExtractor()(tone(0, seconds=1), sampling_rate=22050)


@pytest.mark.parametrize("argument", ["max_length", "truncation", "padding"])
def test_settings_in_the_call_are_refused_instead_of_ignored(argument):
    with pytest.raises(ValueError, match=f"does not take {argument} "):
        HfmgcASTFeatureExtractor()(tone(0, seconds=1), sampling_rate=RATE, **{argument: 512})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"window_policy": "middle"}, "window_policy"),
        ({"max_windows": 0}, "max_windows"),
        ({"max_windows": None, "window_policy": "random"}, "max_windows"),
        ({"window_overlap": 1.0}, "window_overlap"),
        ({"short_tracks": "repeat"}, "short_tracks"),
        ({"max_length": 0}, "max_length"),
        ({"sampling_rate": 22050}, "sampling_rate"),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        HfmgcASTFeatureExtractor(**fields)


def test_a_saved_extractor_loads_unchanged(tmp_path):
    fields = {
        "max_length": 96,
        "window_policy": "all",
        "max_windows": 5,
        "window_overlap": 0.25,
        "window_seed": 9,
        "short_tracks": "pad",
        "mean": -3.5,
        "std": 4.0,
    }
    HfmgcASTFeatureExtractor(**fields).save_pretrained(tmp_path)
    loaded = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert type(loaded) is HfmgcASTFeatureExtractor
    assert {name: getattr(loaded, name) for name in fields} == fields
    waveform = tone(9, seconds=2.5)
    np.testing.assert_array_equal(extract(loaded, waveform), extract(HfmgcASTFeatureExtractor(**fields), waveform))


def test_overrides_of_a_saved_extractor_apply_or_are_refused(tmp_path):
    HfmgcASTFeatureExtractor(max_length=96).save_pretrained(tmp_path / "ast")
    assert AutoFeatureExtractor.from_pretrained(tmp_path / "ast", max_length=64).window_shape == (64, 128)
    with pytest.raises(ValueError, match=r"do_normalise: .*'do_normalize'"):
        AutoFeatureExtractor.from_pretrained(tmp_path / "ast", do_normalise=False)
    with pytest.raises(ValueError, match="max_length"):
        AutoFeatureExtractor.from_pretrained(tmp_path / "ast", max_length=0)
    SpectrogramFeatureExtractor(preset="m2d").save_pretrained(tmp_path / "m2d")
    assert AutoFeatureExtractor.from_pretrained(tmp_path / "m2d", preset="m2d").hop_length == 160
    with pytest.raises(ValueError, match="preset: "):
        AutoFeatureExtractor.from_pretrained(tmp_path / "m2d", preset="lgnet_mel")
    with pytest.raises(ValueError, match="normalisation: "):
        AutoFeatureExtractor.from_pretrained(tmp_path / "m2d", normalisation="z_score")


def test_a_front_end_with_fixed_statistics_refuses_to_fit_them():
    with pytest.raises(ValueError, match="fit_statistics: HfmgcASTFeatureExtractor"):
        HfmgcASTFeatureExtractor().fit_statistics([tone(0, seconds=1)])


def test_normalisation_is_that_of_the_fields():
    waveform = tone(9, seconds=0.7)
    raw = extract(HfmgcASTFeatureExtractor(max_length=64, do_normalize=False), waveform)
    scaled = extract(HfmgcASTFeatureExtractor(max_length=64, mean=-3.0, std=2.0), waveform)
    np.testing.assert_allclose(scaled, (raw + 3.0) / 4.0, atol=1e-5)


def test_making_one_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        HfmgcASTFeatureExtractor()


# Batches of tracks


def test_pad_fills_tracks_up_to_the_longest_and_masks_what_it_added():
    extractor = HfmgcASTFeatureExtractor(max_length=64, padding_value=-1.5)
    tracks = [tone(seed, seconds=seconds) for seed, seconds in enumerate((0.5, 2.1, 1.0))]
    alone = [extractor(track, sampling_rate=RATE, return_tensors="np") for track in tracks]
    # As rows of a dataset come: lists, with the tracks' labels among them.
    rows = [{key: value[0].tolist() for key, value in batch.items()} | {"label": 2} for batch in alone]
    padded, together = extractor.pad(rows, return_tensors="pt"), extractor(tracks, sampling_rate=RATE)
    assert padded["input_values"].dtype == torch.float32
    assert padded["label"].tolist() == [2, 2, 2]
    np.testing.assert_array_equal(padded["input_values"], together["input_values"])
    np.testing.assert_array_equal(padded["window_mask"], together["window_mask"])
    counts = [batch["input_values"].shape[1] for batch in alone]
    assert counts == [1, 4, 2]
    assert padded["window_mask"].sum(dim=1).tolist() == counts
    assert (padded["input_values"][~padded["window_mask"]] == -1.5).all()
    again = extractor.pad(dict(padded), return_tensors="pt")  # what is masked already stays masked
    assert torch.equal(again["window_mask"], padded["window_mask"])


def test_pad_takes_a_number_of_windows_and_leaves_single_windows_alone():
    extractor = HfmgcASTFeatureExtractor(max_length=64)
    stack = {"input_values": np.ones((3, 64, 128), dtype=np.float32)}
    for options, windows in (
        ({"padding": "max_length", "max_length": 5}, 5),
        ({"pad_to_multiple_of": 4}, 4),
        ({"padding": "max_length", "max_length": 2, "truncation": True}, 2),
    ):
        padded = extractor.pad([stack], **options)
        assert padded["input_values"].shape == (1, windows, 64, 128)
        assert padded["window_mask"].tolist() == [[index < 3 for index in range(windows)]]
    single = extractor.pad([{"input_values": np.ones((64, 128))}] * 2, return_tensors="pt")
    assert single["input_values"].shape == (2, 64, 128)
    assert set(single) == {"input_values"}
