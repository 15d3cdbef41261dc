"""Tables of features as a dataset: FMA's, GTZAN's and others; their splits, and rows and files that cannot be used."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import stand_ins
from conftest import needs_real_data

import hfmgc
from hfmgc.data.check import check_source
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.features import TrackWindows, check_front_end, track_features
from hfmgc.data.leaks import make_split
from hfmgc.data.sources import open_source
from hfmgc.data.sources.gtzan_lists import fault_filtered
from hfmgc.errors import ConfigError, DataError
from hfmgc.features.feature_extraction_handmade import HandmadeFeatureExtractor
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.features.handmade_features import GTZAN_SUMMARY_COLUMNS, column_names, columns


def table(path, **options):
    return open_source("table", {"file": str(path), **options})


def extractor_of(source) -> HandmadeFeatureExtractor:
    fields = source.front_end()
    assert fields.pop("feature_extractor_type") == "HandmadeFeatureExtractor"
    return HandmadeFeatureExtractor(**fields)


def feature_matrix(tracks, extractor) -> np.ndarray:
    return np.concatenate([track_features(track, extractor) for track in tracks])


def plain_table(path, *, tracks: int = 12):
    """A CSV of three columns of numbers, with everything that it may have about a track."""
    values = np.random.default_rng(0).standard_normal((tracks, 3))
    frame = pd.DataFrame(values, columns=["loudness", "tempo", "key"])
    frame.insert(0, "track_id", [f"song {index}" for index in range(tracks)])
    frame.insert(2, "genre", ["rock", "folk"] * (tracks // 2))
    frame["artist"] = [f"artist {index // 2}" for index in range(tracks)]
    frame["split"] = ["train", "train", "valid", "valid", "test", "test"] * (tracks // 6)
    frame.to_csv(path, index=False)
    return values.astype(np.float32)


def fma_table() -> pd.DataFrame:
    """A stand-in that pandas writes as the authors did theirs."""
    index = pd.MultiIndex.from_tuples(columns(), names=("feature", "statistics", "number"))
    values = np.random.default_rng(0).standard_normal((3, 518)).astype(np.float32)
    return pd.DataFrame(values, index=pd.Index([2, 10, 140], name="track_id"), columns=index)


@pytest.fixture
def fma_metadata(tmp_path):
    return stand_ins.write_fma_metadata(tmp_path / "fma_metadata")


def test_any_table_becomes_tracks_with_one_frame(tmp_path):
    values = plain_table(tmp_path / "songs.csv")
    source = table(tmp_path / "songs.csv")
    assert source.columns == ["loudness", "tempo", "key"]
    corpus = decode_corpus(source, 22050)
    assert corpus.genres == ["folk", "rock"]
    first = corpus.tracks[0]
    assert {name: first[name] for name in ("track_id", "genre", "genres", "artist", "split")} == {
        "track_id": "song 0",
        "genre": "rock",
        "genres": ["rock"],
        "artist": "artist 0",
        "split": "train",
    }
    extractor = extractor_of(source)
    check_front_end(source, extractor)
    np.testing.assert_array_equal(feature_matrix(corpus.tracks, extractor), values)
    assert extractor.column_names == source.columns
    windows = TrackWindows(corpus.tracks, extractor)
    assert windows.counts == [1] * 12
    assert windows.stack(3).shape == (1, 1, 3)
    assert make_split(corpus, policy="official", extractor=extractor).counts() == {
        "train": 4,
        "validation": 4,
        "test": 4,
    }
    assert table(tmp_path / "songs.csv").tracks()._fingerprint == source.tracks()._fingerprint


def test_a_tab_separated_table_and_an_archive_are_read_alike(tmp_path):
    values = plain_table(tmp_path / "songs.csv")
    frame = pd.read_csv(tmp_path / "songs.csv")
    frame.to_csv(tmp_path / "songs.tsv", sep="\t", index=False)
    named = {"track_id": frame["track_id"].to_numpy(str), "columns": np.array(["loudness", "tempo", "key"])}
    np.savez(tmp_path / "songs.npz", X=values, y=frame["genre"].to_numpy(str), **named)
    other = np.array([None, {}])  # arrays that are not needed are not read
    np.savez(tmp_path / "bare.npz", X=values, y=frame["genre"].to_numpy(str), other=other)
    for name in ("songs.tsv", "songs.npz", "bare.npz"):
        source = table(tmp_path / name)
        tracks = decode_corpus(source, 22050).tracks
        np.testing.assert_array_equal(feature_matrix(tracks, extractor_of(source)), values)
        assert list(tracks["genre"]) == list(frame["genre"])
        bare = name == "bare.npz"
        assert tracks[0]["track_id"] == ("row 1" if bare else "song 0")
        assert source.columns == (
            ["feature_000", "feature_001", "feature_002"] if bare else ["loudness", "tempo", "key"]
        )


def test_gtzans_table_has_its_artists_and_fault_filtered_split(tmp_path):
    ids = [track_id for members in fault_filtered().values() for track_id in members[::7]]
    source = table(stand_ins.write_gtzan_table(tmp_path / "features_30_sec.csv", ids))
    assert source.columns == list(GTZAN_SUMMARY_COLUMNS)
    assert source.split_policies == open_source("gtzan", {}).split_policies
    corpus = decode_corpus(source, 22050)
    split = make_split(corpus, policy="fault_filtered", extractor=extractor_of(source))
    for side, members in fault_filtered().items():
        assert split.sides[side] == [track_id for track_id in members[::7] if track_id != "jazz.00054"]
    assert {row["track_id"]: row["artist"] for row in source.tracks()}["blues.00029"] == "group 2"
    assert "Tzanetakis" in source.describe()["citation"]


def test_without_the_test_tracks_the_validation_side_is_evaluated(tmp_path):
    ids = [track_id for side in ("train", "validation") for track_id in fault_filtered()[side][::7]]
    source = table(stand_ins.write_gtzan_table(tmp_path / "features_30_sec.csv", ids))
    split = make_split(decode_corpus(source, 22050), policy="fault_filtered")
    assert (split.evaluation_side, split.sides["test"]) == ("validation", [])
    assert "fault-filtered test side" in split.comparable_note


def test_gtzans_table_of_snippets_is_refused(tmp_path):
    frame = pd.read_csv(stand_ins.write_gtzan_table(tmp_path / "features_3_sec.csv"))
    frame["filename"] = frame["filename"].str.replace(".wav", ".0.wav")
    frame.to_csv(tmp_path / "features_3_sec.csv", index=False)
    with pytest.raises(DataError, match=r"features_3_sec\.csv.*features_30_sec\.csv"):
        table(tmp_path / "features_3_sec.csv").tracks()


@pytest.mark.parametrize("whole", [True, False])
def test_fmas_table_has_the_genres_artists_and_official_sides_of_tracks_csv(tmp_path, fma_metadata, whole):
    values = fma_table()
    # The columns in another order, and without the row of the index's name.
    (values if whole else values.iloc[:, ::-1].rename_axis(index=None)).to_csv(
        fma_metadata / "features.csv", float_format="%.10e"
    )
    source = table(fma_metadata if whole else fma_metadata / "features.csv", subset="small")
    tracks = source.tracks()
    assert source.columns == column_names()
    assert [(row["track_id"], row["genre"], row["artist"], row["split"]) for row in tracks] == [
        ("000010", "Pop", "6", "train"),
        ("000140", "Folk", "54", "validation"),
    ]
    np.testing.assert_allclose(feature_matrix(tracks, extractor_of(source)), values.to_numpy()[1:], rtol=1e-6)
    # A changed file is read again.
    (values + 1).to_csv(fma_metadata / "features.csv", float_format="%.10e")
    changed = table(fma_metadata, subset="small").tracks()
    np.testing.assert_allclose(np.ravel(changed[1]["features"]), values.to_numpy()[2] + 1, rtol=1e-5)


@pytest.mark.parametrize("text", ["", "nan", "inf", "1e300", "loud"])
def test_numbers_that_are_not_finite_are_skipped_by_track_and_column(tmp_path, text):
    plain_table(tmp_path / "songs.csv")
    frame = pd.read_csv(tmp_path / "songs.csv", dtype=str)
    frame.loc[3, "tempo"] = text
    frame.to_csv(tmp_path / "songs.csv", index=False)
    corpus = decode_corpus(table(tmp_path / "songs.csv"), 22050)
    assert len(corpus.tracks) == 11
    assert [(track.track_id, track.reason) for track in corpus.skipped] == [
        ("song 3", "no finite number in column tempo")
    ]


def test_fmas_and_gtzans_broken_rows_are_skipped_too(tmp_path, fma_metadata):
    values = fma_table()
    values.loc[140, ("chroma_cens", "kurtosis", "03")] = np.nan
    values.to_csv(fma_metadata / "features.csv")
    (skipped,) = decode_corpus(table(fma_metadata, subset="small"), 22050).skipped
    assert (skipped.track_id, skipped.reason.split()[-1]) == ("000140", "chroma_cens-kurtosis-03")
    path = stand_ins.write_gtzan_table(tmp_path / "features_30_sec.csv")
    frame = pd.read_csv(path)
    frame.loc[1, ["tempo", "mfcc3_var"]] = np.inf
    frame.to_csv(path, index=False)
    reasons = {track.track_id: track.reason for track in decode_corpus(table(path), 22050).skipped}
    assert reasons["blues.00029"] == "no finite number in column tempo, mfcc3_var"


def test_check_and_load_dataset_take_a_table(tmp_path):
    values = plain_table(tmp_path / "songs.csv")
    frame = pd.read_csv(tmp_path / "songs.csv")
    frame.loc[3, "key"] = np.nan
    frame.loc[5, ["loudness", "tempo", "key"]] = frame.loc[4, ["loudness", "tempo", "key"]]
    frame.to_csv(tmp_path / "songs.csv", index=False)
    report = check_source(table(tmp_path / "songs.csv"))
    assert [(finding.track_id, finding.kind) for finding in report.findings] == [
        ("song 3", "unusable"),
        ("song 5", "duplicate"),
    ]
    assert "column key" in report.findings[0].detail
    music = hfmgc.load_dataset("table", "official", file=tmp_path / "songs.csv", allow_leaks=True)
    assert music.num_rows == {"train": 4, "validation": 3, "test": 4}
    np.testing.assert_allclose(music["train"][0]["features"], values[:1], rtol=1e-6)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda t: t.drop(columns=("mfcc", "mean", "07")), "517 columns .*mfcc-mean-07"),
        (lambda t: t.rename(columns={"zcr": "zrc"}, level=0), "zcr-kurtosis-01"),
        (lambda t: pd.concat([t, t.iloc[:, :1]], axis=1), "519 columns"),
        (lambda t: t.droplevel(2, axis=1), "three header rows"),
        (lambda t: t.set_axis(column_names(), axis=1), "three header rows"),
        (lambda t: t.rename(index={10: "ten"}), "'ten'"),
        (lambda t: t.iloc[:0], "no tracks"),
    ],
)
def test_another_features_csv_is_refused_by_what_it_lacks(fma_metadata, spoil, named):
    spoil(fma_table()).to_csv(fma_metadata / "features.csv")
    with pytest.raises(DataError, match=rf"features\.csv.*{named}|{named}.*features\.csv"):
        table(fma_metadata, subset="small").tracks()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("filename,label,tempo\nblues.00000.wav,blues,1\n", "chroma_stft_mean"),
        ("track_id,tempo\na,1\n", "genre"),
        ("track_id,genre\na,rock\n", "features"),
        ("genre,tempo,tempo\nrock,1,2\n", "'tempo'"),
        ("track_id,genre,tempo\na,rock,1\na,folk,2\n", "'a'"),
        ("genre,tempo\nrock,1,2,3\n", "songs.csv"),
        (",genre,tempo\n0,rock,1\n", "column 1"),
        ("genre,tempo\n", "no tracks"),
        ("genre,tempo,title\nrock,1,Stairs\nfolk,2,Road\n", "title"),
        ("genre,tempo,split\nrock,1,somewhere\n", "'somewhere'"),
        ("", "songs.csv"),
    ],
)
def test_a_table_without_what_is_needed_is_refused(tmp_path, text, named):
    (tmp_path / "songs.csv").write_text(text)
    with pytest.raises(DataError, match=named):
        table(tmp_path / "songs.csv").tracks()


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ({"X": np.zeros((2, 3))}, "y"),
        ({"X": np.zeros((2, 3)), "y": np.array(["a", "b", "c"])}, r"X .*\[2, 3\]"),
        ({"X": np.zeros((2, 3)), "y": np.array(["a", "b"]), "columns": np.array(["one"])}, "columns"),
        ({"X": np.array([["1"], ["2"]]), "y": np.array(["a", "b"])}, "X"),
        ({"X": np.array([[None], [1]]), "y": np.array(["a", "b"])}, "songs.npz"),
    ],
)
def test_an_archive_without_what_is_needed_is_refused(tmp_path, arrays, named):
    np.savez(tmp_path / "songs.npz", **arrays)
    with pytest.raises(DataError, match=named):
        table(tmp_path / "songs.npz").tracks()


def test_options_and_front_ends_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"absent\.csv"):
        table(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="file is empty"):
        table("")
    plain_table(tmp_path / "songs.csv")
    with pytest.raises(ConfigError, match=r"fma_517.*fma_518"):
        table(tmp_path / "songs.csv", layout="fma_517")
    source = table(tmp_path / "songs.csv")
    with pytest.raises(DataError, match="layout"):
        check_front_end(source, HandmadeFeatureExtractor(layout="gtzan_57"))
    with pytest.raises(DataError, match="feature_extractor_type"):
        check_front_end(source, SpectrogramFeatureExtractor())
    renamed = HandmadeFeatureExtractor(layout="table", columns=["loudness", "tempo", "mode"])
    with pytest.raises(DataError, match="columns"):
        check_front_end(source, renamed)


@needs_real_data
def test_the_real_tables_are_read():
    folder = Path(os.environ["HFMGC_REAL_DATA"], "features")
    source = table(folder / "gtzan_features_30s.csv")
    corpus = decode_corpus(source, 22050)
    assert len(corpus.tracks) == 709
    assert make_split(corpus, policy="fault_filtered").counts() == {"train": 442, "validation": 197, "test": 0}
    source = table(folder / "fma_small_mfcc40.npz")
    assert feature_matrix(source.tracks(), extractor_of(source)).shape == (6395, 40)
