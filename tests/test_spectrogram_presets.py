"""The papers' front ends: the shapes they must have, their numbers by librosa, and GTZAN's stored spectrograms."""

import os
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from conftest import tone

from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.features.spectrogram_operations import resize
from hfmgc.features.spectrogram_presets import PRESETS


SHAPES = {  # frames, bins
    "deformer": (224, 224),
    "ts_resformer": (512, 128),
    "divide_and_conquer_30s": (1292, 128),
    "divide_and_conquer_10s": (431, 128),
    "divide_and_conquer_3s": (130, 128),
    "lgnet_mel": (1999, 128),
    "lgnet_stft": (1999, 513),
    "lgnet_cqt": (1993, 288),
    "m2d": (608, 80),
    "gtzan_decimated": (387, 128),
    "musicnn": (187, 96),
}


def one_window(extractor: SpectrogramFeatureExtractor) -> np.ndarray:
    return tone(0, seconds=extractor.window_seconds, sampling_rate=extractor.sampling_rate)


def extract(extractor: SpectrogramFeatureExtractor, waveform: np.ndarray) -> np.ndarray:
    return extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="np")["input_values"][0]


def log_mel(waveform: np.ndarray, top_db: float | None = 80, **fields) -> np.ndarray:
    fields = {"sr": 22050, "n_fft": 2048, "hop_length": 512, "n_mels": 128, **fields}
    return librosa.power_to_db(librosa.feature.melspectrogram(y=waveform, **fields), ref=np.max, top_db=top_db)


def test_every_preset_has_a_shape_here_and_names_its_source():
    assert set(PRESETS) == set(SHAPES)
    assert all(preset.source for preset in PRESETS.values())


@pytest.mark.parametrize("name", SHAPES)
def test_a_slice_of_the_presets_length_has_exactly_its_shape(name):
    extractor = SpectrogramFeatureExtractor(preset=name)
    features = extract(extractor, one_window(extractor))
    assert features.shape == (1, *SHAPES[name])
    assert features.shape[1:] == extractor.window_shape
    assert extractor.feature_size == SHAPES[name][1]
    assert np.isfinite(features).all()
    assert features.std() > 0


def test_divide_and_conquer_is_the_authors_code():
    extractor = SpectrogramFeatureExtractor(preset="divide_and_conquer_3s")
    waveform = one_window(extractor)
    np.testing.assert_allclose(extract(extractor, waveform)[0], (log_mel(waveform).T + 80) / 80, atol=1e-5)


def test_divide_and_conquer_fills_short_tracks_from_their_start():
    extractor = SpectrogramFeatureExtractor(preset="divide_and_conquer_30s")
    waveform = tone(1, seconds=28, sampling_rate=22050)
    frames = log_mel(waveform).T
    looped = np.concatenate([frames, frames])[:1292]
    np.testing.assert_allclose(extract(extractor, waveform)[0], (looped + 80) / 80, atol=1e-5)


def test_deformer_is_resized_then_min_max_normalised():
    extractor = SpectrogramFeatureExtractor(preset="deformer", window_seconds=6.0)
    waveform = one_window(extractor)
    resized = resize(log_mel(waveform).T, [224, 224])
    expected = (resized - resized.min()) / (resized.max() - resized.min())
    features = extract(extractor, waveform)[0]
    np.testing.assert_allclose(features, expected, atol=1e-5)
    assert features.min() == 0
    assert features.max() == 1


def test_ts_resformer_standardises_the_track_and_crops_517_frames_to_512():
    extractor = SpectrogramFeatureExtractor(preset="ts_resformer")
    waveform = tone(2, seconds=18, sampling_rate=44100) * np.linspace(0.1, 1, 18 * 44100, dtype=np.float32)
    features = extract(extractor, waveform)
    assert len(features) == 2
    standard = (waveform - waveform.mean(dtype=np.float64)) / waveform.std(dtype=np.float64)
    mel = librosa.feature.melspectrogram(
        y=standard.astype(np.float32), sr=44100, n_fft=4096, hop_length=1024, n_mels=128
    )
    assert extractor.cut_frames == 517
    np.testing.assert_allclose(features[1], librosa.power_to_db(mel[:, -517:])[:, :512].T, atol=1e-2)


def test_ts_resformer_cuts_30_seconds_into_four():
    extractor = SpectrogramFeatureExtractor(preset="ts_resformer")
    assert extractor.track_windows(np.zeros(30 * 44100, dtype=np.float32)).shape == (4, 512, 128)


def test_m2d_takes_the_natural_logarithm_over_reflected_ends():
    extractor = SpectrogramFeatureExtractor(preset="m2d")
    waveform = one_window(extractor)
    mel = librosa.feature.melspectrogram(
        y=waveform, sr=16000, n_fft=400, hop_length=160, n_mels=80, fmin=50, fmax=8000, pad_mode="reflect"
    )
    expected = (np.log(mel + np.finfo(np.float32).eps) + 7.1) / 4.2
    np.testing.assert_allclose(extract(extractor, waveform)[0], expected.T, atol=1e-4)


def test_gtzan_decimated_picks_single_frames_and_takes_their_min_max():
    extractor = SpectrogramFeatureExtractor(preset="gtzan_decimated")
    waveform = tone(3, seconds=30.013, sampling_rate=22050)  # as nearly all of GTZAN: 661,794 samples, 1293 frames
    full = log_mel(waveform, top_db=None)
    assert full.shape[1] == 1293
    picked = full.T[np.floor((np.arange(387) + 0.5) * 1293 / 387.5).astype(int)]
    picked = np.maximum(picked, picked.max() - 80)
    picked = (picked - picked.min()) / (picked.max() - picked.min())
    features = extract(extractor, waveform)
    assert features.shape == (1, 387, 128)
    np.testing.assert_allclose(features[0], picked, atol=1e-5)


def test_fields_override_a_preset_and_its_name_is_kept():
    extractor = SpectrogramFeatureExtractor(preset="lgnet_mel", max_windows=3, window_seconds=2.0)
    assert (extractor.preset, extractor.max_windows, extractor.window_seconds) == ("lgnet_mel", 3, 2.0)
    assert extractor.hop_length == 331
    assert SpectrogramFeatureExtractor(preset="m2d", window_seconds=2.0).window_samples == 32000


def test_an_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"preset 'lgnet_mell'.* 'lgnet_mel'"):
        SpectrogramFeatureExtractor(preset="lgnet_mell")


def test_a_changed_extractor_leaves_the_preset_as_it_was():
    SpectrogramFeatureExtractor(preset="deformer").resize[0] = 1
    assert PRESETS["deformer"].fields["resize"] == [224, 224]


# Real data


def agreement(features: np.ndarray, stored: np.ndarray) -> float:
    """Mean absolute error in levels of `features` [frames, bins] against `stored` [bins, frames].

    The stored min-max is that of 30 s, of which the audio is a part: so up to scale and offset, fitted where the stored
    level is not at an end.
    """
    levels = stored[:, : len(features)].T.astype(np.float64)
    inside = (levels > 0) & (levels < 255)
    scale, offset = np.polyfit(features[inside], levels[inside], 1)
    return float(np.abs(np.clip(scale * features + offset, 0, 255) - levels).mean())


def test_gtzan_decimated_agrees_with_the_stored_spectrograms():
    data = Path(os.environ.get("HFMGC_REAL_DATA", ""))
    if not os.environ.get("HFMGC_REAL_DATA") or not (data / "gtzan_logmel").is_dir():
        pytest.skip("HFMGC_REAL_DATA is not set to a folder with gtzan_logmel and gtzan_audio")
    import pyarrow.parquet as parquet

    stored = {}
    for part in sorted((data / "gtzan_logmel").glob("*.parquet")):
        for row in parquet.read_table(part, columns=["track_id", "log_mel"]).to_pylist():
            stored[row["track_id"]] = np.array(row["log_mel"], dtype=np.uint8)
    errors, lengths = {}, {}
    for path in sorted((data / "gtzan_audio").rglob("*.wav")):
        if path.stem not in stored:
            continue
        waveform, _ = soundfile.read(path, dtype="float32")
        # A column is a 387.5th of its track; the audio is cut, so the track's whole length is found by trying.
        tried = {}
        for frames in (1293, *range(1290, 1310)):
            extractor = SpectrogramFeatureExtractor(
                preset="gtzan_decimated",
                normalization="none",
                top_db=None,
                window_seconds=1.0,
                frames_per_second=22050 / 512 * 387.5 / frames,
            )
            # The last columns hear where the audio was cut off.
            tried[frames] = agreement(extractor.track_features(waveform)[:-2], stored[path.stem])
            if tried[frames] < 0.5:
                break
        lengths[path.stem] = min(tried, key=tried.get)
        errors[path.stem] = tried[lengths[path.stem]]
    usual = [track for track, frames in lengths.items() if frames == 1293]
    mean = np.mean(list(errors.values()))
    print(f"\n{len(errors)} tracks, {len(usual)} of 1293 frames: {mean:.3f} levels, most {max(errors.values()):.3f}")
    assert len(errors) >= 50
    assert len(usual) / len(errors) > 0.8  # the rate of the preset itself
    assert max(errors.values()) < 0.5  # less than one level of the 8 bits
    assert mean < 0.3  # rounding to a level alone makes 0.25
