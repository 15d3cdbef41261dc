"""Features kept from before: every layout in use is read; what is broken is set aside, and what does not fit is named."""

from pathlib import Path

import datasets
import numpy as np
import pytest
from kept_features import RATE, fails, log_mel_rows, tracks_of, write_log_mel, write_sides, write_table

from hfmgc.data.corpus import decode_corpus
from hfmgc.data.sources import open_source
from hfmgc.data.sources.feature_rows import depth_and_type


def test_a_file_becomes_tracks_with_ids_genres_and_levels_as_stored(tmp_path):
    path = write_log_mel(tmp_path / "mel.parquet", [0, 2, 0])
    tracks = tracks_of(path)
    assert tracks["track_id"] == ["t.00", "t.01", "t.02"]
    assert tracks["genre"] == ["blues", "pop", "blues"]
    assert tracks["genres"] == [["blues"], ["pop"], ["blues"]]
    assert set(tracks["split"]) == {""}
    expected = log_mel_rows([0, 2, 0])["log_mel"]
    np.testing.assert_array_equal(np.asarray(tracks.with_format("numpy")["features"]), np.stack(expected))


def test_genres_keep_the_order_of_the_class_labels_and_an_unused_one_is_dropped(tmp_path):
    path = write_log_mel(tmp_path / "mel.parquet", [2, 0])
    assert open_source(str(path)).genres() == ["blues", "pop"]
    reordered = datasets.Features(
        {
            "track_id": datasets.Value("string"),
            "genre": datasets.ClassLabel(names=["rock", "pop", "blues"]),
            "mel": datasets.Array2D((2, 2), "float32"),
        }
    )
    rows = {"track_id": ["a", "b"], "genre": [2, 0], "mel": np.zeros((2, 2, 2), np.float32)}
    datasets.Dataset.from_dict(rows, features=reordered).to_parquet(str(tmp_path / "other.parquet"))
    assert open_source(str(tmp_path / "other.parquet")).genres() == ["rock", "blues"]
    assert tracks_of(tmp_path / "other.parquet")["genre"] == ["blues", "rock"]


def test_genres_in_words_are_sorted_and_other_names_of_the_columns_are_known(tmp_path):
    path = write_table(tmp_path / "mel.parquet", track_id=None, genre=None, filename=["x", "y"], label=["pop", "演歌"])
    assert open_source(str(path)).genres() == ["pop", "演歌"]
    assert tracks_of(path)["track_id"] == ["x", "y"]
    assert tracks_of(path)["genre"] == ["pop", "演歌"]


def test_a_track_without_genre_is_set_aside_and_is_no_genre_of_its_own(tmp_path):
    path = write_table(tmp_path / "words.parquet", genre=["blues", None])
    source = open_source(str(path))
    assert source.genres() == ["blues"]
    assert [(track.track_id, track.reason) for track in decode_corpus(source, 22050).skipped] == [("b", "no genre")]
    path = write_log_mel(tmp_path / "labels.parquet", [0, -1, 2])
    source = open_source(str(path))
    assert source.genres() == ["blues", "pop"]
    corpus = decode_corpus(source, 22050)
    assert (list(corpus.tracks["genre"]), [track.track_id for track in corpus.skipped]) == (["blues", "pop"], ["t.01"])


def test_a_column_of_lists_names_all_genres_of_a_track(tmp_path):
    path = write_table(tmp_path / "mel.parquet", genre=[["pop", "blues"], ["pop"]])
    tracks = tracks_of(path)
    assert tracks["genre"] == ["pop", "pop"]
    assert tracks["genres"] == [["pop", "blues"], ["pop"]]
    assert open_source(str(path)).genres() == ["blues", "pop"]


def test_the_genre_is_the_first_of_the_genres_also_if_the_file_has_them_otherwise(tmp_path):
    lists = [["blues", "pop"], ["folk", "pop"]]
    tracks = tracks_of(write_table(tmp_path / "mel.parquet", genre=["pop", None], genres=lists))
    assert tracks["genre"] == ["pop", "folk"]
    assert tracks["genres"] == [["pop", "blues"], ["folk", "pop"]]


def test_a_folder_of_sides_is_the_official_split(tmp_path):
    tracks = tracks_of(write_sides(tmp_path / "mel"))
    assert {side: tracks["split"].count(side) for side in ("train", "validation", "test")} == {
        "train": 6,
        "validation": 2,
        "test": 3,
    }
    for track_id, side in zip(tracks["track_id"], tracks["split"], strict=True):
        assert track_id.split(".")[0] == side


@pytest.mark.parametrize("whole", [True, False])
def test_what_save_to_disk_writes_is_read(tmp_path, whole):
    folder = write_sides(tmp_path / "mel")
    expected = tracks_of(folder)
    parts = {
        side: datasets.Dataset.from_parquet(str(folder / f"{side}.parquet"))
        for side in ("train", "validation", "test")
    }
    saved = datasets.concatenate_datasets(list(parts.values())) if whole else datasets.DatasetDict(parts)
    saved.save_to_disk(str(tmp_path / "saved"))
    tracks = tracks_of(tmp_path / "saved")
    assert dict(zip(tracks["track_id"], tracks["genre"], strict=True)) == dict(
        zip(expected["track_id"], expected["genre"], strict=True)
    )
    assert set(tracks["split"]) == ({""} if whole else {"train", "validation", "test"})


def test_artist_and_split_columns_are_taken_over(tmp_path):
    path = write_table(tmp_path / "mel.parquet", artist=["Åse", None], split=["train", "test"])
    tracks = tracks_of(path)
    assert tracks["artist"] == ["Åse", ""]
    assert tracks["split"] == ["train", "test"]


def test_the_same_files_have_the_same_fingerprint_and_changed_ones_another(tmp_path):
    path = write_log_mel(tmp_path / "mel.parquet", [0, 2])
    first = tracks_of(path)._fingerprint
    assert tracks_of(path)._fingerprint == first
    write_log_mel(path, [0, 2], seed=5)
    assert tracks_of(path)._fingerprint != first


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"track_id": None}, "no column for the track id, only genre, mel: name it track_id"),
        ({"genre": None}, "no column for the genre, only track_id, mel: name it genre"),
        ({"mel": None}, "0 columns hold spectrograms or slices (none)"),
        ({"stft": np.ones((2, 5, 4)).tolist()}, "2 columns hold spectrograms or slices (mel, stft): name one with"),
    ],
)
def test_columns_that_are_missing_or_ambiguous_are_named(tmp_path, capsys, columns, named):
    path = write_table(tmp_path / "mel.parquet", **columns)
    assert named in fails(capsys, "check", path)


def test_a_column_can_be_named_and_one_that_is_not_there_is_an_error(tmp_path, capsys):
    path = write_table(tmp_path / "mel.parquet", stft=np.ones((2, 5, 4)).tolist())
    assert np.asarray(tracks_of(path, column="stft")["features"][0]).shape == (5, 4)
    assert np.asarray(tracks_of(path, column="mel")["features"][0]).shape == (3, 4)
    for column in ("genre", "stfd"):
        line = fails(capsys, "check", path, "--data_options", f"{{column: {column}}}")
        assert "mel.parquet: 2 columns hold spectrograms or slices (mel, stft): name one" in line


def test_sides_may_name_their_columns_differently(tmp_path, capsys):
    (tmp_path / "mel").mkdir()
    write_table(tmp_path / "mel" / "train.parquet")
    write_table(tmp_path / "mel" / "test.parquet", genre=None, label=["blues", "pop"], track_id=None, id=["c", "d"])
    tracks = tracks_of(tmp_path / "mel")
    assert (tracks["track_id"], tracks["genre"]) == (["c", "d", "a", "b"], ["blues", "pop"] * 2)
    write_table(tmp_path / "mel" / "test.parquet", genre=None)
    assert "test.parquet: no column for the genre" in fails(capsys, "check", tmp_path / "mel")


@pytest.mark.parametrize("content", [b"no parquet", b""])
def test_a_damaged_file_is_one_line_that_names_it(tmp_path, capsys, tiny_checkpoint, content):
    path = tmp_path / "mel.parquet"
    path.write_bytes(content)
    assert "mel.parquet: cannot be read as features" in fails(capsys, "check", path)
    assert "mel.parquet: cannot be read as features" in fails(capsys, "evaluate", tiny_checkpoint(), "--data", path)


def test_a_truncated_file_among_sound_ones_is_one_line(tmp_path, capsys):
    folder = write_sides(tmp_path / "mel")
    whole = (folder / "test.parquet").read_bytes()
    (folder / "test.parquet").write_bytes(whole[: len(whole) // 2])
    assert "test.parquet: cannot be read as features" in fails(capsys, "check", folder)


def write_rows(path: Path, values: list, **columns) -> Path:
    """Write a parquet file with these features, ids a, b, ... and the genres blues and pop in turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {
        "track_id": list("abcdefghij"[: len(values)]),
        "genre": [("blues", "pop")[row % 2] for row in range(len(values))],
        "mel": values,
        **columns,
    }
    datasets.Dataset.from_dict(rows).to_parquet(str(path))
    return path


def reasons(corpus) -> dict[str, str]:
    return {track.track_id: track.reason for track in corpus.skipped}


def test_broken_rows_are_set_aside_counted_and_named(tmp_path):
    sound = [[1.0, 2.0], [3.0, 4.0]]
    broken = [
        None,
        [],
        [[]],
        [[1.0, 2.0], [3.0]],
        [[1.0, np.nan], [3.0, 4.0]],
        [[1.0, np.inf], [3.0, 4.0]],
        [[1.0], [2.0]],
    ]
    corpus = decode_corpus(
        open_source(str(write_rows(tmp_path / "mel.parquet", [sound, *broken, sound, sound]))), RATE
    )
    assert corpus.tracks["track_id"] == ["a", "i", "j"]
    assert reasons(corpus) == {
        "b": "empty features",
        "c": "empty features",
        "d": "empty features",
        "e": "frames of different length, or missing values",
        "f": "NaN or infinite features",
        "g": "NaN or infinite features",
        "h": "1 bins, where most have 2 bins",
    }
    assert "7 skipped" in corpus.summary()
    np.testing.assert_array_equal(corpus.tracks[1]["features"], np.float32(sound))


def test_broken_slices_and_levels_are_set_aside(tmp_path):
    slices = np.ones((3, 2, 4), np.float32).tolist()
    values = [slices, slices[:1], np.ones((2, 2, 3)).tolist(), [slices[0], [[1.0]]]]
    corpus = decode_corpus(open_source(str(write_rows(tmp_path / "slices.parquet", values))), RATE)
    assert corpus.tracks["track_id"] == ["a", "b"]
    assert reasons(corpus)["c"] == "slices of 2 frames and 3 bins, where most have slices of 2 frames and 4 bins"
    assert "different length" in reasons(corpus)["d"]
    # Tracks may differ in length, and only the bins of levels come first.
    levels = [np.full((3, frames), 7).tolist() for frames in (4, 5, 6)] + [[[256]] * 3]
    corpus = decode_corpus(open_source(str(write_rows(tmp_path / "levels.parquet", levels))), RATE)
    assert corpus.tracks["track_id"] == ["a", "b", "c"]
    assert reasons(corpus) == {"d": "levels outside 0..255"}


def test_without_a_usual_size_nothing_is_accused_of_another(tmp_path):
    values = [np.ones((2, bins)).tolist() for bins in (3, 4)]
    corpus = decode_corpus(open_source(str(write_rows(tmp_path / "mel.parquet", values))), RATE)
    assert reasons(corpus) == {}


def test_features_that_are_all_broken_are_one_line(tmp_path, capsys, tiny_checkpoint):
    path = write_rows(tmp_path / "mel.parquet", [[[np.nan]], [[np.inf]]])
    line = fails(capsys, "evaluate", tiny_checkpoint(), "--data", path)
    assert "no track can be used; the first: a: NaN or infinite features" in line


def test_repeated_ids_are_refused_also_over_files(tmp_path, capsys):
    mel = [[[1.0]], [[2.0]]]
    path = write_rows(tmp_path / "mel.parquet", mel, track_id=["x", "x"])
    assert "track id 'x' occurs more than once" in fails(capsys, "check", path)
    for side in ("train", "test"):
        write_rows(tmp_path / "mel" / f"{side}.parquet", mel)
    assert "track id 'a' (and 1 more) occurs more than once" in fails(capsys, "check", tmp_path / "mel")


def test_a_row_without_an_id_is_set_aside_by_its_place(tmp_path):
    path = write_rows(tmp_path / "mel.parquet", [[[1.0]], [[2.0]], [[3.0]]], track_id=["x", None, None])
    corpus = decode_corpus(open_source(str(path)), RATE)
    assert corpus.tracks["track_id"] == ["x"]
    assert reasons(corpus) == {"mel.parquet, row 1": "no track id", "mel.parquet, row 2": "no track id"}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            np.ones((2, 3, 4), np.float32),
            "validation.parquet: features of 2 dimensions as float32, but train.parquet has 2",
        ),
        (
            np.ones((2, 2, 3, 4), np.uint8),
            "validation.parquet: features of 3 dimensions as uint8, but train.parquet has 2",
        ),
    ],
)
def test_parts_whose_numbers_mean_different_things_are_refused(tmp_path, capsys, other, said):
    write_arrays(tmp_path / "mel" / "train.parquet", np.ones((2, 3, 4), np.uint8), prefix="train")
    write_arrays(tmp_path / "mel" / "validation.parquet", other, prefix="validation")
    line = fails(capsys, "check", tmp_path / "mel")
    assert said in line


def write_arrays(path: Path, values: np.ndarray, *, prefix: str) -> Path:
    """Write features as arrays of a fixed size and of their own type of number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {3: datasets.Array2D, 4: datasets.Array3D}[values.ndim](values.shape[1:], values.dtype.name)
    features = datasets.Features(
        {"track_id": datasets.Value("string"), "genre": datasets.Value("string"), "mel": kind}
    )
    rows = {
        "track_id": [f"{prefix}.{row}" for row in range(len(values))],
        "genre": [("blues", "pop")[row % 2] for row in range(len(values))],
        "mel": values,
    }
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))
    return path


def test_parts_of_other_sizes_and_precisions_are_joined(tmp_path):
    short, long = np.full((2, 3, 4), 0.1, np.float32), np.full((2, 5, 4), 0.1, np.float64)
    write_arrays(tmp_path / "mel" / "test.parquet", short, prefix="test")
    write_arrays(tmp_path / "mel" / "train.parquet", long, prefix="train")
    tracks = decode_corpus(open_source(str(tmp_path / "mel")), RATE).tracks
    for row, expected in zip(tracks, [*short, *long], strict=True):
        np.testing.assert_allclose(row["features"], expected, rtol=1e-6)
    assert tracks["split"] == ["test", "test", "train", "train"]


def test_classes_of_another_order_or_in_words_are_joined_by_their_names(tmp_path):
    for side, names in (("test", ["pop", "blues", "unused"]), ("train", ["rock", "blues", "pop"])):
        features = datasets.Features(
            {
                "track_id": datasets.Value("string"),
                "genre": datasets.ClassLabel(names=names),
                "mel": datasets.Array2D((2, 2), "float32"),
            }
        )
        rows = {
            "track_id": [f"{side}.{row}" for row in range(2)],
            "genre": [0, 1],
            "mel": np.ones((2, 2, 2), np.float32),
        }
        (tmp_path / "mel").mkdir(exist_ok=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "mel" / f"{side}.parquet"))
    mel = np.ones((2, 2, 2), np.float32).tolist()
    write_rows(tmp_path / "mel" / "validation.parquet", mel, genre=["folk", "pop"])
    source = open_source(str(tmp_path / "mel"))
    assert source.tracks()["genre"] == ["pop", "blues", "rock", "blues", "folk", "pop"]
    assert source.genres() == ["pop", "blues", "rock", "folk"]


def test_files_without_rows_are_one_line_and_one_among_others_is_left_out(tmp_path, capsys):
    write_log_mel(tmp_path / "mel" / "train.parquet", [])
    assert "mel: has no rows" in fails(capsys, "check", tmp_path / "mel")
    assert "train.parquet: has no rows" in fails(capsys, "check", tmp_path / "mel" / "train.parquet")
    write_log_mel(tmp_path / "mel" / "test.parquet", [0, 2])
    assert tracks_of(tmp_path / "mel")["split"] == ["test", "test"]


def test_lists_of_fixed_size_arrays_are_slices():
    assert depth_and_type(datasets.List(datasets.Array2D((3, 4), "float32"))) == (3, "float32")
