"""Features kept from before: every layout in use is read, trained on and judged; what does not fit is named."""

import json
import os
from pathlib import Path

import datasets
import numpy as np
import pytest
from conftest import write_music
from transformers import AutoFeatureExtractor

import hfmgc.cli
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.features import check_front_end, extract_windows, track_windows, training_window
from hfmgc.data.sources import open_source
from hfmgc.data.split_manifest import SplitManifest
from hfmgc.errors import ConfigError, DataError
from hfmgc.features.feature_extraction_ast import HfmgcASTFeatureExtractor
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from recipes import finetune_here, tiny_settings, write_config


FIELDS = {"preset": "gtzan_decimated", "window_frames": 64}
NAMES = ["blues", "classical", "pop"]
RATE = 22050


def log_mel_rows(labels: list[int], *, seed: int = 0, prefix: str = "t", frames: int = 40) -> dict:
    """Rows as `gtzan_logmel` has them: a track id, a label, and levels [128, frames] that differ by label."""
    generator = np.random.default_rng(seed)
    mel = [generator.integers(40 * max(label, 0), 200, (128, frames), dtype=np.uint8) for label in labels]
    return {"track_id": [f"{prefix}.{row:02d}" for row in range(len(labels))], "genre": labels, "log_mel": mel}


def write_log_mel(path: Path, labels: list[int], *, frames: int = 40, **options) -> Path:
    """Write a stand-in of a file of `gtzan_logmel`: uint8 Array2D and a ClassLabel of which one name is not used."""
    features = datasets.Features(
        {
            "track_id": datasets.Value("string"),
            "genre": datasets.ClassLabel(names=NAMES),
            "log_mel": datasets.Array2D((128, frames), "uint8"),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = log_mel_rows(labels, frames=frames, **options)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))
    return path


def write_sides(folder: Path) -> Path:
    """Write train, validation and test parquet files."""
    write_log_mel(folder / "train.parquet", [0, 0, 0, 2, 2, 2], seed=1, prefix="train")
    write_log_mel(folder / "validation.parquet", [2, 0], seed=2, prefix="validation")
    write_log_mel(folder / "test.parquet", [0, 2, 2], seed=3, prefix="test")
    return folder


def write_table(path: Path, **columns) -> Path:
    """Write a parquet file of two tracks with spectrograms [3, 4]; a column given as None is left out."""
    mel = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32).tolist()
    rows = {"track_id": ["a", "b"], "genre": ["blues", "pop"], "mel": mel, **columns}
    datasets.Dataset.from_dict({name: value for name, value in rows.items() if value is not None}).to_parquet(
        str(path)
    )
    return path


def tracks_of(path: Path, **options) -> datasets.Dataset:
    return open_source(str(path), options).tracks()


def fails(capsys, *arguments: object) -> str:
    """Return the one line that a command ends with."""
    capsys.readouterr()
    assert hfmgc.cli.main([str(argument) for argument in arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    line = err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line


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
        ({"track_id": None}, "no column for the track id: one of track_id, id, filename (it has genre, mel)"),
        ({"genre": None}, "no column for the genre: one of genre, label, genre_top (it has track_id, mel)"),
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
    line = fails(capsys, "check", path, "--data_options", "{column: genre}")
    assert "column 'genre' holds neither spectrograms nor slices" in line
    line = fails(capsys, "check", path, "--data_options", "{column: stfd}")
    assert "no column 'stfd' (did you mean 'stft'?)" in line


def test_a_side_without_the_column_of_the_others_is_an_error(tmp_path, capsys):
    (tmp_path / "mel").mkdir()
    write_table(tmp_path / "mel" / "train.parquet")
    write_table(tmp_path / "mel" / "test.parquet", genre=None, label=["blues", "pop"])
    assert "no column 'label'" in fails(capsys, "check", tmp_path / "mel")


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
    assert "no track that can be used; the first: a: NaN or infinite features" in line


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
            "validation.parquet holds features of 2 dimensions as float32, train.parquet of 2",
        ),
        (
            np.ones((2, 2, 3, 4), np.uint8),
            "validation.parquet holds features of 3 dimensions as uint8, train.parquet of 2",
        ),
    ],
)
def test_parts_whose_numbers_mean_different_things_are_refused(tmp_path, capsys, other, said):
    write_arrays(tmp_path / "mel" / "train.parquet", np.ones((2, 3, 4), np.uint8), prefix="train")
    write_arrays(tmp_path / "mel" / "validation.parquet", other, prefix="validation")
    line = fails(capsys, "check", tmp_path / "mel")
    assert said in line
    assert "extract them alike" in line


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
    assert "mel: no rows in it; extract the features again" in fails(capsys, "check", tmp_path / "mel")
    assert "train.parquet: no rows in it" in fails(capsys, "check", tmp_path / "mel" / "train.parquet")
    write_log_mel(tmp_path / "mel" / "test.parquet", [0, 2])
    assert tracks_of(tmp_path / "mel")["split"] == ["test", "test"]


def test_windows_of_levels_are_those_of_the_spectrogram_between_0_and_1(tmp_path):
    path = write_log_mel(tmp_path / "mel.parquet", [0, 2], frames=40)
    extractor = SpectrogramFeatureExtractor(**FIELDS)
    corpus = decode_corpus(open_source(str(path)), 22050)
    windows = extract_windows(corpus.tracks, extractor)
    frames = extractor.window_shape[0]
    for row, levels in zip(windows, log_mel_rows([0, 2])["log_mel"], strict=True):
        spectrogram = levels.T.astype(np.float32) / np.float32(255)
        assert row["input_values"].dtype == np.float32
        np.testing.assert_array_equal(row["input_values"][0], spectrogram[:frames])
        np.testing.assert_array_equal(row["input_values"], extractor.cut_features(spectrogram))
    one = training_window(corpus.tracks[0], extractor, np.random.default_rng(0))
    spectrogram = log_mel_rows([0, 2])["log_mel"][0].T.astype(np.float32) / np.float32(255)
    places = [start for start in range(40 - frames + 1) if np.array_equal(spectrogram[start : start + frames], one)]
    assert len(places) == 1


def test_stored_slices_are_the_windows_and_training_takes_one_of_them():
    slices = np.random.default_rng(0).random((5, 64, 128)).astype(np.float32)
    extractor = HfmgcASTFeatureExtractor(max_length=64)
    track = {"track_id": "a", "features": slices}
    np.testing.assert_array_equal(track_windows(track, extractor), slices)
    drawn = [training_window(track, extractor, np.random.default_rng(seed)) for seed in range(20)]
    taken = {next(row for row in range(5) if np.array_equal(slices[row], one)) for one in drawn}
    assert len(taken) > 1


def test_features_that_do_not_fit_the_front_end_name_the_track():
    mel, ast = SpectrogramFeatureExtractor(**FIELDS), HfmgcASTFeatureExtractor(max_length=64)
    wrong_bins = {"track_id": "pop.07", "features": np.zeros((64, 400), np.uint8)}
    with pytest.raises(DataError, match=r"pop.07: the stored spectrogram does not fit.*\[128, frames\]"):
        track_windows(wrong_bins, mel)
    with pytest.raises(DataError, match=r"pop\.07.*does not fit"):
        training_window(wrong_bins, mel, np.random.default_rng(0))
    slices = {"track_id": "pop.08", "features": np.zeros((3, 32, 128), np.float32)}
    with pytest.raises(DataError, match=r"pop\.08: stored slices of 32 frames and 128 bins, .* makes 64 and 128"):
        track_windows(slices, ast)


def test_a_front_end_of_audio_on_stored_spectrograms_says_the_way_out():
    track = {"track_id": "a", "features": np.zeros((128, 400), np.uint8)}
    with pytest.raises(ConfigError, match=r"makes its windows from audio.*front_end: \{preset: gtzan_decimated\}"):
        track_windows(track, HfmgcASTFeatureExtractor(max_length=64))
    with pytest.raises(ConfigError, match="makes its windows from audio"):
        training_window(track, HfmgcASTFeatureExtractor(max_length=64), np.random.default_rng(0))


def train(tmp_path: Path, data: Path, **more):
    settings = tiny_settings(data, tmp_path / "run", **{"front_end": FIELDS, "split_policy": "official", **more})
    return finetune_here(write_config(tmp_path / "run.yaml", settings))


def test_wrong_bins_and_the_wrong_front_end_end_a_recipe_in_one_line(tmp_path):
    data = write_sides(tmp_path / "mel")
    result = train(tmp_path, data, front_end={"max_length": 64})
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "front_end: {preset: gtzan_decimated}" in result.stderr.strip().splitlines()[-1]
    result = train(
        tmp_path, data, front_end={**FIELDS, "num_bins": 64}, model={"backbone_config": {"num_mel_bins": 64}}
    )
    assert result.returncode == 1
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("error: validation.")
    assert "does not fit the front end" in line


def test_offline_augmentation_is_refused_where_there_is_no_audio(tmp_path):
    result = train(tmp_path, write_sides(tmp_path / "mel"), augmentation="offline")
    assert result.returncode == 1
    assert "need audio, and these are features" in result.stderr.strip().splitlines()[-1]


def test_the_recipe_trains_on_the_sides_and_a_single_file_is_judged_alike(tmp_path, capsys):
    data = write_sides(tmp_path / "mel")
    result = train(tmp_path, data)
    assert result.returncode == 0, result.stderr
    trained = json.loads((tmp_path / "run" / "results.json").read_text())
    assert trained["tracks"] == 3
    assert json.loads((tmp_path / "run" / "config.json").read_text())["id2label"] == {"0": "blues", "1": "pop"}
    capsys.readouterr()
    arguments = ["evaluate", str(tmp_path / "run"), "--data", str(data / "test.parquet"), "--json"]
    assert hfmgc.cli.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    by_id = {row["track_id"]: row for row in trained["predictions"]}
    assert sorted(by_id) == ["test.00", "test.01", "test.02"]
    assert {row["track_id"]: row for row in report["predictions"]} == by_id
    assert report["metrics"]["accuracy"] == trained["metrics"]["accuracy"]


def test_genres_that_a_checkpoint_does_not_know_are_named(tmp_path, capsys, tiny_checkpoint):
    path = write_log_mel(tmp_path / "mel.parquet", [0, 1])
    assert "genres that checkpoint" in fails(capsys, "evaluate", tiny_checkpoint(), "--data", path)


@pytest.mark.skipif("HFMGC_REAL_DATA" not in os.environ, reason="HFMGC_REAL_DATA (real features) is not set")
def test_the_real_log_mel_has_two_fault_filtered_sides_and_fits_its_preset():
    tracks = decode_corpus(open_source(str(Path(os.environ["HFMGC_REAL_DATA"]) / "gtzan_logmel")), 22050).tracks
    assert [tracks["split"].count(side) for side in ("train", "validation", "")] == [442, 197, 70]
    windows = track_windows(tracks[0], SpectrogramFeatureExtractor(preset="gtzan_decimated"))
    assert windows.shape[1:] == SpectrogramFeatureExtractor(preset="gtzan_decimated").window_shape
    assert 0 <= windows.min() < 0.5 < windows.max() <= 1


def test_statistics_of_the_front_end_come_from_the_training_side_alone(tmp_path):
    """The quiet tracks of one genre and the loud ones of the other sides would move the mean."""
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=4, seconds=1.0)
    settings = tiny_settings(music, tmp_path / "out", num_train_epochs=1, fit_statistics="per_bin")
    settings["front_end"] = {"preset": "gtzan_decimated", "normalization": "none", "window_frames": 64}
    result = finetune_here(write_config(tmp_path / "run.yaml", settings))
    assert result.returncode == 0, result.stderr
    saved = AutoFeatureExtractor.from_pretrained(tmp_path / "out")
    manifest = SplitManifest.load(tmp_path / "out" / "split.json")
    corpus = decode_corpus(open_source(str(music)), saved.sampling_rate)

    def fitted(track_ids: list[str]) -> list[float]:
        fields = {"normalization": "none", "window_frames": 64}
        extractor = SpectrogramFeatureExtractor(preset="gtzan_decimated", **fields)
        return extractor.fit_statistics((track["waveform"] for track in corpus.select(track_ids)), per_bin=True).mean

    assert saved.normalization == "statistics"
    assert saved.mean == pytest.approx(fitted(manifest.sides["train"]), rel=1e-5)
    assert saved.mean != pytest.approx(fitted(sorted(corpus.tracks["track_id"])), rel=1e-5)


def test_a_damaged_copy_in_the_cache_is_not_blamed_on_the_file(tmp_path):
    path = write_log_mel(tmp_path / "mel.parquet", [0, 1])
    cached = Path(open_source(str(path))._parts()[0].table.cache_files[0]["filename"])
    half = tmp_path / "half.arrow"
    half.write_bytes(cached.read_bytes()[:200])
    half.replace(cached)
    with pytest.raises(DataError, match="a file in the cache of datasets is damaged"):
        open_source(str(path)).tracks()


def extracted(folder: Path, **changed) -> Path:
    """Write sides as `hfmgc extract` leaves them, with the description of another front end where `changed`."""
    write_sides(folder)
    front_end = SpectrogramFeatureExtractor(**{**FIELDS, **changed}).to_dict()
    content = {"complete": True, "tracks": 11, "front_end": front_end}
    (folder / "extraction.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["", "train.parquet"])
def test_features_of_another_front_end_are_refused_and_the_fields_named(tmp_path, name):
    folder = extracted(tmp_path / "kept", frames_per_second=4.0)
    source = open_source(str(folder / name))
    with pytest.raises(DataError, match=r"frames_per_second 4.0, not 12\.9"):
        check_front_end(source, SpectrogramFeatureExtractor(**FIELDS))
    check_front_end(source, SpectrogramFeatureExtractor(**{**FIELDS, "frames_per_second": 4.0}))


def test_how_features_are_cut_and_normalised_is_free(tmp_path):
    source = open_source(str(extracted(tmp_path / "kept")))
    assert source.notes() == []
    other = {"preset": "gtzan_decimated", "window_seconds": 10.0, "window_policy": "all", "normalization": "z_score"}
    check_front_end(source, SpectrogramFeatureExtractor(**other))


def test_training_and_evaluation_refuse_features_of_another_front_end(tmp_path, capsys, tiny_checkpoint):
    folder = extracted(tmp_path / "kept", n_fft=4096)
    assert hfmgc.cli.main(["evaluate", str(tiny_checkpoint()), "--data", str(folder)]) == 1
    assert "made by another front end" in capsys.readouterr().err
    result = train(tmp_path, folder, front_end=FIELDS)
    assert result.returncode == 1
    assert "n_fft 4096, not 2048" in result.stderr.strip().splitlines()[-1]


def test_of_features_of_another_origin_it_is_said_that_nobody_knows(tmp_path):
    source = open_source(str(write_sides(tmp_path / "kept")))
    check_front_end(source, SpectrogramFeatureExtractor(**FIELDS))
    assert "nothing says how these features were made" in source.notes()[0]
