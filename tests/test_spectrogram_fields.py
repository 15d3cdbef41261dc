"""Fields of the spectrogram front end: impossible ones are refused by name, and all travel with a checkpoint."""

import warnings

import numpy as np
import pytest
from conftest import tone
from spectrograms import extract, make

from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"representation": "wavelet"}, "representation"),
        ({"scale": "decibel"}, "scale"),
        ({"normalization": "minmax"}, "normalization"),
        ({"normalize_over": "corpus"}, "normalize_over"),
        ({"waveform_normalization": "peak"}, "waveform_normalization"),
        ({"mel_norm": 1}, "mel_norm"),
        ({"n_fft": 0}, "n_fft"),
        ({"hop_length": 1.5}, "hop_length"),
        ({"num_bins": 0}, "num_bins"),
        ({"win_length": 513}, "win_length"),
        ({"fmin": 9000}, "fmin"),
        ({"fmax": 9000}, "fmax"),
        ({"representation": "stft", "num_bins": 100}, "num_bins"),
        ({"representation": "mfcc", "num_bins": 129}, "num_bins"),
        ({"representation": "mfcc", "scale": "none"}, "scale"),
        ({"representation": "cqt", "num_bins": 120}, "num_bins"),
        ({"power": 1.5}, "power"),
        ({"db_reference": "min"}, "db_reference"),
        ({"top_db": -1}, "top_db"),
        ({"affine_scale": 0}, "affine_scale"),
        ({"window_seconds": 0.01}, "window_seconds"),
        ({"window_seconds": float("nan")}, "window_seconds"),
        ({"window_frames": 100}, "window_seconds and window_frames"),
        ({"window_seconds": None, "window_frames": 1.5}, "window_frames"),
        ({"frames_per_second": 126}, "frames_per_second"),
        ({"crop": [33, 100]}, r"crop .*\[32, 126\]"),
        ({"crop": 5}, "crop"),
        ({"resize": [1, 2, 3]}, "resize"),
        ({"resize": [0, 2]}, "resize"),
        ({"mean": [0.0, 1.0]}, r"mean must be .* not \[0\.0, 1\.0\]"),
        ({"std": float("nan")}, "std must be .* not nan"),
        ({"std": 0.0}, "std"),
        ({"std": [[1.0]]}, "std"),
        ({"normalisation": "min_max"}, "normalisation: .*'normalization'"),
        ({"max_window": 3}, "max_window: .*'max_windows'"),
        ({"window_overlap": 1.0}, "window_overlap"),
    ],
)
def test_impossible_fields_are_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=message):
        make(**fields)


def test_a_window_can_be_given_in_frames():
    extractor = make(window_seconds=None, window_frames=77)
    assert extractor.window_shape == (77, 32)
    assert extract(extractor, tone(0, seconds=1.0)).shape[1:] == (77, 32)


def test_a_saved_extractor_loads_unchanged(tmp_path):
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


def test_it_loads_where_hfmgc_is_not_installed(tmp_path, elsewhere):
    folder = tmp_path / "front_end_alone"
    extractor = make(preset="gtzan_decimated", window_seconds=2.0)
    extractor.save_pretrained(folder)
    waveform = tone(1, seconds=5.0)
    np.savez(tmp_path / "inputs.npz", waveform=waveform)
    answers = elsewhere.ask(folder, tmp_path / "inputs.npz")
    assert "error" not in answers, answers["error"]
    np.testing.assert_array_equal(np.float32(answers["features"][0]), extract(extractor, waveform))


def test_making_one_and_extracting_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for preset in ("divide_and_conquer_3s", "m2d"):
            extractor = SpectrogramFeatureExtractor(preset=preset)
            extract(extractor, tone(0, seconds=1.0, sampling_rate=extractor.sampling_rate))
