"""The front end of hand-made features: one vector for a track, its statistics, and its way through extraction."""

import numpy as np
import pytest
from conftest import tone, write_music
from transformers import AutoFeatureExtractor

import hfmgc
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.extraction import extract_corpus
from hfmgc.data.features import check_front_end, extract_features, track_features, track_windows
from hfmgc.data.sources import open_source
from hfmgc.errors import DataError
from hfmgc.features.feature_extraction_handmade import HandmadeFeatureExtractor
from hfmgc.features.handmade_features import (
    GTZAN_SUMMARY_COLUMNS,
    column_names,
    extract_handmade_features,
    extract_summary_features,
)


RATE = 22050


@pytest.mark.parametrize(("layout", "rate", "columns"), [("fma_518", 44100, column_names()),
                                                         ("gtzan_57", 22050, list(GTZAN_SUMMARY_COLUMNS))])  # fmt: skip
def test_a_track_of_any_length_is_one_window_of_one_frame(layout, rate, columns):
    extractor = HandmadeFeatureExtractor(layout=layout)
    assert (extractor.sampling_rate, extractor.column_names) == (rate, columns)
    tracks = [tone(seed, seconds=seconds, sampling_rate=rate) for seed, seconds in enumerate((0.2, 0.7))]
    batch = extractor(tracks, sampling_rate=rate, return_tensors="np")
    assert batch["input_values"].shape == (2, 1, 1, len(columns))
    assert batch["window_mask"].all()
    expected = {
        "fma_518": lambda waveform: extract_handmade_features(waveform, rate),
        "gtzan_57": lambda waveform: extract_summary_features(waveform, rate),
    }[layout]
    for track, values in zip(tracks, batch["input_values"], strict=True):
        np.testing.assert_array_equal(values[0, 0], expected(track))
    short = extractor(tracks[0][:500], sampling_rate=rate, return_tensors="np")["input_values"]
    np.testing.assert_array_equal(short[0, 0, 0], expected(np.resize(tracks[0][:500], 2048)))


def test_statistics_are_those_of_each_column_and_are_saved(tmp_path):
    extractor = HandmadeFeatureExtractor(layout="table", columns=["a", "b", "c"])
    rows = np.array([[1.0, 1e5, 7.0], [3.0, 3e5, 7.0], [5.0, 2e5, 7.0]], np.float32)
    extractor.fit_statistics((row[None] for row in rows), per_bin=True)
    assert extractor.mean == pytest.approx([3.0, 2e5, 7.0])
    assert extractor.std == pytest.approx([rows[:, 0].std(), rows[:, 1].std(), 1.0])
    window = extractor.cut_features(rows[:1])
    np.testing.assert_allclose(window, [[(rows[0] - extractor.mean) / extractor.std]], rtol=1e-6)
    extractor.save_pretrained(tmp_path)
    loaded = HandmadeFeatureExtractor.from_pretrained(tmp_path)
    np.testing.assert_array_equal(loaded.cut_features(rows[:1]), window)
    assert loaded.column_names == ["a", "b", "c"]
    with pytest.raises(ValueError, match="per_bin"):
        extractor.fit_statistics(iter(rows))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"layout": "gtzan_58"}, "layout"),
        ({"layout": "table"}, "num_features"),
        ({"layout": "table", "num_features": 0}, "num_features"),
        ({"layout": "table", "num_features": 3, "columns": ["a"]}, "num_features|columns"),
        ({"num_features": 57}, "num_features"),
        ({"columns": ["a"]}, "columns"),
        ({"std": 0.0}, "std"),
        ({"mean": [0.0, 1.0]}, "mean"),
        ({"sampling_rate": 0}, "sampling_rate"),
        ({"sampling_rate": 12800}, "sampling_rate"),
    ],
)
def test_impossible_fields_are_refused_by_name(fields, named):
    with pytest.raises(ValueError, match=named):
        HandmadeFeatureExtractor(**fields)


def test_columns_of_a_table_cannot_be_computed_from_audio(tmp_path):
    extractor = HandmadeFeatureExtractor(layout="table", num_features=3)
    with pytest.raises(ValueError, match="layout"):
        extractor(tone(0, seconds=0.2), sampling_rate=extractor.sampling_rate)
    source = open_source(str(write_music(tmp_path / "music", {"blues": 1}, seconds=0.2)))
    with pytest.raises(DataError, match="layout"):
        check_front_end(source, extractor)


def test_extracted_and_computed_features_are_the_same(tmp_path):
    folder = write_music(tmp_path / "music", ("blues", "pop"), tracks=1, seconds=0.5)
    extractor = HandmadeFeatureExtractor(layout="gtzan_57")
    extract_corpus(open_source(str(folder)), extractor, tmp_path / "extracted")
    stored = open_source(str(tmp_path / "extracted"))
    check_front_end(stored, HandmadeFeatureExtractor(layout="gtzan_57", normalization="statistics"))
    with pytest.raises(DataError, match="layout"):
        check_front_end(stored, HandmadeFeatureExtractor(layout="fma_518"))
    audio = decode_corpus(open_source(str(folder)), RATE).tracks
    tracks = decode_corpus(stored, RATE).tracks
    computed = extract_features(audio, extractor)
    for one, other in zip(computed, tracks, strict=True):
        np.testing.assert_array_equal(track_features(one, extractor), track_features(other, extractor))
    extractor.fit_statistics((np.asarray(track["features"]) for track in tracks), per_bin=True)
    for one, other in zip(audio, tracks, strict=True):
        np.testing.assert_array_equal(track_windows(one, extractor), track_windows(other, extractor))


def test_it_is_public_and_known_to_auto_classes(tmp_path):
    hfmgc.HandmadeFeatureExtractor(layout="gtzan_57").save_pretrained(tmp_path)
    assert type(AutoFeatureExtractor.from_pretrained(tmp_path)) is HandmadeFeatureExtractor
