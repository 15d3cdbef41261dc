"""Hand-made features: the columns of FMA's features.csv, every feature against its formula, blocks of long tracks."""

import os
import warnings
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import pytest
import scipy.fft
import scipy.signal
import scipy.stats
from conftest import needs_real_data, tone

from hfmgc.data.audio import load_audio
from hfmgc.features import handmade_features
from hfmgc.features.handmade_features import (
    FEATURE_SIZES,
    GTZAN_SUMMARY_COLUMNS,
    STATISTICS,
    column_names,
    columns,
    extract_handmade_features,
    extract_summary_features,
    frame_features,
    frame_statistics,
)


RATE = 22050
FREQUENCIES = np.arange(1025) * RATE / 2048


def music(seed: int = 0, *, seconds: float = 1.5, rate: int = RATE) -> np.ndarray:
    """Two notes after each other, with overtones and noise: every feature moves."""
    notes = [tone(seed, seconds=seconds / 2, sampling_rate=rate, frequency=f) for f in (220.0, 330.0)]
    return np.concatenate(notes) * np.linspace(0.3, 1.0, 2 * len(notes[0]), dtype=np.float32)


def as_columns(frames: np.ndarray) -> np.ndarray:
    return frames / np.maximum(np.abs(frames).max(axis=0), 1e-30)


@pytest.fixture(scope="module")
def waveform() -> np.ndarray:
    return music()


@pytest.fixture(scope="module")
def frames(waveform) -> dict[str, np.ndarray]:
    return frame_features(waveform, RATE)


@pytest.fixture(scope="module")
def magnitude(waveform) -> np.ndarray:
    """The magnitude spectrum, from its definition: reflected ends, Hann windows of 2048 at a hop of 512."""
    padded = np.pad(waveform.astype(np.float64), 1024, mode="reflect")
    cut = np.lib.stride_tricks.sliding_window_view(padded, 2048)[::512]
    return np.abs(np.fft.rfft(cut * scipy.signal.get_window("hann", 2048), axis=1)).T


def test_the_columns_are_those_of_features_csv():
    index = pd.MultiIndex.from_tuples(
        [(f, s, f"{n + 1:02d}") for f, size in FEATURE_SIZES.items() for s in STATISTICS for n in range(size)]
    )
    assert columns() == list(index.sort_values())
    names = column_names()
    assert len(set(names)) == len(names) == 518
    literal = {
        0: "chroma_cens-kurtosis-01",
        11: "chroma_cens-kurtosis-12",
        12: "chroma_cens-max-01",
        84: "chroma_cqt-kurtosis-01",
        168: "chroma_stft-kurtosis-01",
        252: "mfcc-kurtosis-01",
        292: "mfcc-mean-01",
        392: "rmse-kurtosis-01",
        399: "spectral_bandwidth-kurtosis-01",
        406: "spectral_centroid-kurtosis-01",
        413: "spectral_contrast-kurtosis-01",
        462: "spectral_rolloff-kurtosis-01",
        469: "tonnetz-kurtosis-01",
        511: "zcr-kurtosis-01",
        513: "zcr-mean-01",
        517: "zcr-std-01",
    }
    assert {position: names[position] for position in literal} == literal


def test_every_value_lies_under_its_column(waveform, frames):
    features = extract_handmade_features(waveform, RATE)
    assert features.dtype == np.float32
    assert features.shape == (518,)
    plain = {"mean": np.mean, "std": np.std, "median": np.median, "min": np.min, "max": np.max}
    plain |= {"skew": scipy.stats.skew, "kurtosis": scipy.stats.kurtosis}
    for value, (feature, statistic, number) in zip(features, columns(), strict=True):
        row = frames[feature][int(number) - 1].astype(np.float64)
        expected = plain[statistic](row)
        if np.ptp(row) > 0:
            assert value == pytest.approx(expected, rel=1e-5, abs=1e-6), (feature, statistic, number)


def test_constant_dimensions_have_the_statistics_of_the_authors_scipy():
    statistics = frame_statistics(np.array([[0.1] * 50, [0.0] * 50], dtype=np.float32))
    np.testing.assert_array_equal(statistics["skew"], 0.0)
    np.testing.assert_array_equal(statistics["kurtosis"], -3.0)
    np.testing.assert_allclose(statistics["std"], 0.0, atol=1e-12)


def test_level_and_crossings(waveform, frames, magnitude):
    np.testing.assert_allclose(frames["rmse"][0], np.sqrt((magnitude**2).mean(axis=0)), rtol=1e-4)
    cut = np.lib.stride_tricks.sliding_window_view(np.pad(waveform, 1024, mode="edge"), 2048)[::512]
    crossings = (np.diff(np.signbit(cut), axis=1) != 0).sum(axis=1) / 2048
    np.testing.assert_allclose(frames["zcr"][0], crossings, atol=1e-9)


def test_shape_of_the_spectrum(frames, magnitude):
    share = magnitude / magnitude.sum(axis=0)
    centroid = (FREQUENCIES[:, None] * share).sum(axis=0)
    np.testing.assert_allclose(frames["spectral_centroid"][0], centroid, rtol=1e-4)
    bandwidth = np.sqrt((share * (FREQUENCIES[:, None] - centroid) ** 2).sum(axis=0))
    np.testing.assert_allclose(frames["spectral_bandwidth"][0], bandwidth, rtol=1e-4)
    rolloff = FREQUENCIES[(share.cumsum(axis=0) < 0.85).sum(axis=0)]
    np.testing.assert_allclose(frames["spectral_rolloff"][0], rolloff, atol=FREQUENCIES[1] * 1.01)


def test_contrast_is_peak_over_valley_of_octave_bands(frames, magnitude):
    # The third band, 400 to 800 Hz: with the bin before it and without its last, as librosa cuts; 2 % on either side.
    inside = np.flatnonzero((FREQUENCIES >= 400) & (FREQUENCIES <= 800))
    band = np.sort(magnitude[inside[0] - 1 : inside[-1]], axis=0)
    count = max(1, round(0.02 * (len(inside) + 1)))
    decibels = 10 * np.log10(band[-count:].mean(axis=0)) - 10 * np.log10(band[:count].mean(axis=0))
    assert frames["spectral_contrast"].shape[0] == 7
    np.testing.assert_allclose(frames["spectral_contrast"][2], decibels, rtol=1e-3)


def test_cepstrum(frames, magnitude):
    mel = librosa.filters.mel(sr=RATE, n_fft=2048, n_mels=128) @ magnitude**2
    decibels = 10 * np.log10(np.maximum(mel, 1e-10))
    decibels = np.maximum(decibels, decibels.max() - 80)
    expected = scipy.fft.dct(decibels, axis=0, norm="ortho")[:20]
    np.testing.assert_allclose(frames["mfcc"], expected, rtol=1e-3, atol=1e-2)


def test_chroma_of_the_short_time_spectrum(frames, magnitude):
    tuning = librosa.estimate_tuning(S=magnitude**2, sr=RATE, bins_per_octave=12)
    expected = as_columns(librosa.filters.chroma(sr=RATE, n_fft=2048, tuning=tuning) @ magnitude**2)
    np.testing.assert_allclose(frames["chroma_stft"], expected, atol=1e-4)


def test_chroma_of_the_constant_q_transform_and_features_derived_from_it(waveform, frames):
    # librosa 0.5's Q, 1 / (2^(1/12) - 1), as a share of today's.
    scale = (1 / (2 ** (1 / 12) - 1)) / ((2 ** (1 / 6) + 1) / (2 ** (1 / 6) - 1))
    constant_q = np.abs(librosa.cqt(waveform, sr=RATE, tuning=None, filter_scale=scale, pad_mode="reflect"))
    assert constant_q.shape[0] == 84
    folded = constant_q.reshape(7, 12, -1).sum(axis=0)
    np.testing.assert_allclose(frames["chroma_cqt"], as_columns(folded), atol=1e-5)

    share = folded / folded.sum(axis=0)
    quantised = sum(0.25 * (share > step) for step in (0.4, 0.2, 0.1, 0.05))
    window = scipy.signal.get_window("hann", 43, fftbins=False)
    middle = slice(21, 21 + share.shape[1])
    smooth = np.array([np.convolve(row, window / window.sum(), mode="full")[middle] for row in quantised])
    cens = smooth / np.linalg.norm(smooth, axis=0)
    np.testing.assert_allclose(frames["chroma_cens"], cens, atol=1e-5)

    pitch = np.arange(12) * np.pi
    circles = [(1, 7 / 6), (1, 3 / 2), (0.5, 2 / 3)]
    planes = [radius * wave(turn * pitch) for radius, turn in circles for wave in (np.sin, np.cos)]
    np.testing.assert_allclose(frames["tonnetz"], np.array(planes) @ (cens / cens.sum(axis=0)), atol=1e-5)


def test_chroma_finds_the_played_note(frames):
    middle = frames["chroma_cqt"].shape[1] // 4
    for name in ("chroma_cqt", "chroma_stft", "chroma_cens"):
        assert frames[name][:, middle].argmax() == 9, name  # A, counted from C


def test_five_features_assume_22050_hz_at_every_rate():
    waveform = music(rate=44100)
    frames, magnitude = frame_features(waveform, 44100), np.abs(librosa.stft(waveform, pad_mode="reflect"))
    for name in ("spectral_centroid", "spectral_bandwidth", "spectral_rolloff"):
        true = getattr(librosa.feature, name)(S=magnitude, sr=44100)
        np.testing.assert_allclose(frames[name], true / 2, rtol=1e-4, err_msg=name)
    for name in ("spectral_contrast", "chroma_stft"):
        spectrum = magnitude**2 if name == "chroma_stft" else magnitude
        assumed = getattr(librosa.feature, name)(S=spectrum, sr=22050)
        np.testing.assert_allclose(frames[name], assumed, atol=1e-3, err_msg=name)
    mel = librosa.feature.melspectrogram(S=magnitude**2, sr=44100)
    np.testing.assert_allclose(frames["mfcc"], librosa.feature.mfcc(S=librosa.power_to_db(mel)), atol=1e-3)


@pytest.mark.parametrize("rate", [22050, 44100])
def test_a_track_in_blocks_has_the_features_of_the_whole(monkeypatch, rate):
    waveform = music(seconds=4, rate=rate)
    for extract in (extract_handmade_features, extract_summary_features):
        monkeypatch.setattr(handmade_features, "BLOCK_FRAMES", 4096)
        whole = extract(waveform, rate)
        monkeypatch.setattr(handmade_features, "BLOCK_FRAMES", 64)
        np.testing.assert_allclose(extract(waveform, rate), whole, rtol=1e-4, atol=1e-5)


def test_what_depends_on_the_whole_track_is_librosas():
    waveform = music(seconds=3)
    spectrum = librosa.stft(waveform, pad_mode="reflect")
    magnitude = np.abs(spectrum)
    frames = frame_features(waveform, RATE)
    expected = {
        "chroma_stft": librosa.feature.chroma_stft(S=magnitude**2, sr=RATE),
        "spectral_contrast": librosa.feature.spectral_contrast(S=magnitude, sr=RATE),
        "mfcc": librosa.feature.mfcc(S=librosa.power_to_db(librosa.feature.melspectrogram(S=magnitude**2, sr=RATE))),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(frames[name], values, atol=1e-3, err_msg=name)
    summary = dict(zip(GTZAN_SUMMARY_COLUMNS, extract_summary_features(waveform, RATE), strict=True))
    harmonic, percussive = (librosa.istft(part, length=len(waveform)) for part in librosa.decompose.hpss(spectrum))
    assert summary["harmony_var"] == pytest.approx(harmonic.var(), rel=1e-4)
    assert summary["perceptr_var"] == pytest.approx(percussive.var(), rel=1e-3)
    onsets = librosa.onset.onset_strength(
        S=librosa.power_to_db(librosa.feature.melspectrogram(S=magnitude**2, sr=RATE)), sr=RATE
    )
    assert summary["tempo"] == pytest.approx(librosa.beat.beat_track(onset_envelope=onsets, sr=RATE)[0].item())


@pytest.mark.parametrize("rate", [16000, 22050, 44100])
@pytest.mark.parametrize(
    "clip", [np.zeros(30000), np.zeros(2048), music(seconds=1)[:2048], np.ones(4096), np.eye(1, 4096, 2000)[0]]
)
def test_short_and_silent_clips_have_finite_features_without_warnings(clip, rate):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        assert np.isfinite(extract_handmade_features(clip, rate)).all()
        assert np.isfinite(extract_summary_features(clip, rate)).all()


def test_summary_of_a_clip(waveform, frames):
    assert len(set(GTZAN_SUMMARY_COLUMNS)) == len(GTZAN_SUMMARY_COLUMNS) == 57
    features = extract_summary_features(waveform, RATE)
    assert features.dtype == np.float32
    summary = dict(zip(GTZAN_SUMMARY_COLUMNS, features, strict=True))
    named = {"chroma_stft": "chroma_stft", "spectral_centroid": "spectral_centroid", "rolloff": "spectral_rolloff"}
    named |= {"spectral_bandwidth": "spectral_bandwidth", "zero_crossing_rate": "zcr"}
    expected = {name: frames[feature] for name, feature in named.items()}
    expected |= {f"mfcc{number + 1}": frames["mfcc"][number] for number in range(20)}
    for name, values in expected.items():
        assert summary[f"{name}_mean"] == pytest.approx(values.mean(), rel=1e-4, abs=1e-4), name
        assert summary[f"{name}_var"] == pytest.approx(values.var(), rel=1e-3, abs=1e-6), name
    cut = np.lib.stride_tricks.sliding_window_view(np.pad(waveform, 1024, mode="reflect"), 2048)[::512]
    assert summary["rms_mean"] == pytest.approx(np.sqrt((cut**2).mean(axis=1)).mean(), rel=1e-4)


def test_the_summary_separates_clicks_from_tones_and_finds_the_tempo():
    clicks = np.zeros(8 * RATE, np.float32)
    clicks[:: RATE // 2] = 0.9  # 120 a minute
    tempo, harmony, percussion = (GTZAN_SUMMARY_COLUMNS.index(n) for n in ("tempo", "harmony_var", "perceptr_var"))
    clicked = extract_summary_features(clicks, RATE)
    assert clicked[tempo] == pytest.approx(120, rel=0.04)
    assert clicked[percussion] > 10 * clicked[harmony]
    toned = extract_summary_features(tone(0, seconds=2, sampling_rate=RATE), RATE)
    assert toned[harmony] > 10 * toned[percussion]


@needs_real_data
def test_summary_agrees_with_the_published_table_on_real_clips():
    folder = Path(os.environ["HFMGC_REAL_DATA"])
    table = pd.read_csv(folder / "features" / "gtzan_features_30s.csv").set_index("filename")
    assert list(table.columns[1:-1]) == list(GTZAN_SUMMARY_COLUMNS)
    paths = [path for path in sorted(folder.glob("gtzan_audio/*/*.00000.wav")) if path.name in table.index]
    published = table.loc[[path.name for path in paths]].iloc[:, 1:-1].to_numpy(np.float64)
    ours = np.array([extract_summary_features(load_audio(path, RATE), RATE) for path in paths])
    # The clips here are 15 to 20 s of those 30 s, so each number differs somewhat; a wrong scale or order would not
    # stay within half of the spread between tracks, and two different tracks lie 0.6 of it apart.
    error = np.median(np.abs(ours - published) / table.iloc[:, 1:-1].std().to_numpy(), axis=0)
    assert error.max() < 0.5, GTZAN_SUMMARY_COLUMNS[error.argmax()]
    assert np.median(error) < 0.15
