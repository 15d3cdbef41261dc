"""Lists of your own tracks, and datasets with an audio column: what they give, and what is refused by line and name."""

import json
import re

import datasets
import numpy as np
import pytest
import soundfile
from conftest import tone
from stand_ins import audio_bytes, write_parquet

from hfmgc.data.audio import load_audio
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.sources import open_source
from hfmgc.data.sources.contract import TRACK_FEATURES
from hfmgc.errors import ConfigError, DataError


@pytest.fixture
def music(tmp_path):
    """A folder with tracks in it, one of them with a name in another script."""
    for index, name in enumerate(["a.wav", "b.wav", "演歌/naïve ü.wav"]):
        path = tmp_path / "music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(index, seconds=0.2), 16000)
    return tmp_path / "music"


def write(folder, name, text, encoding="utf-8"):
    path = folder / name
    path.write_text(text, encoding=encoding, newline="")
    return str(path)


FULL = "path,label,artist,split,track_id\na.wav,blues,Ann,train,one\nb.wav,pop,,val,two\n演歌/naïve ü.wav,演歌,Björk,TEST,three\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_csv_gives_its_rows(music, encoding, end):
    source = open_source(write(music, "tracks.csv", FULL.replace("\n", end), encoding))
    tracks = source.tracks()
    assert tracks.features == TRACK_FEATURES
    assert [(r["track_id"], r["genre"], r["artist"], r["split"]) for r in tracks] == [
        ("one", "blues", "Ann", "train"),
        ("two", "pop", "", "validation"),
        ("three", "演歌", "Björk", "test"),
    ]
    assert source.genres() == ["blues", "pop", "演歌"]
    assert len(load_audio(tracks[2]["audio"]["path"], 16000)) == 3200
    assert source.location == "tracks.csv"
    assert str(music) not in str(source.describe())


def test_ids_of_absolute_paths_say_nothing_of_the_machine_and_do_not_depend_on_the_other_rows(music, tmp_path):
    def ids(*paths):
        text = "path,label\n" + "".join(f"{path},pop\n" for path in paths)
        return list(open_source(write(music, "tracks.csv", text)).tracks()["track_id"])

    other = tmp_path / "other"
    assert ids(music / "a.wav", music / "演歌" / "naïve ü.wav", "./b.wav") == ["a.wav", "演歌/naïve ü.wav", "./b.wav"]
    one, another, inside = ids(other / "x" / "1.wav", other / "y" / "1.wav", music / "a.wav")
    assert inside == "a.wav"
    assert one != another
    assert all(re.fullmatch(r"[0-9a-f]{8}/1\.wav", name) for name in (one, another))
    assert ids(other / "x" / "1.wav") == [one]
    text = f"path,label,track_id\na.wav,pop,{music / 'a.wav'}\n"
    assert list(open_source(write(music, "named.csv", text)).tracks()["track_id"]) == ["a.wav"]


@pytest.mark.parametrize("name", ["tracks.jsonl", "tracks.json"])
def test_json_gives_the_same_with_several_labels(music, name):
    rows = [
        {"path": "a.wav", "label": ["pop", "blues", "pop"], "artist": None},
        {"path": str(music / "b.wav"), "label": "blues", "split": "test"},
    ]
    text = json.dumps(rows) if name.endswith(".json") else "\n".join(map(json.dumps, rows)) + "\n\n"
    tracks = open_source(write(music, name, text)).tracks()
    assert [(r["genre"], r["genres"], r["artist"], r["split"]) for r in tracks] == [
        ("pop", ["pop", "blues"], "", ""),
        ("blues", ["blues"], "", "test"),
    ]
    assert tracks[0]["track_id"] == "a.wav"
    assert open_source(str(music / name)).genres() == ["blues", "pop"]


def test_columns_can_have_other_names_and_labels_a_separator(music):
    path = write(music, "tracks.tsv", "file\tstyle\tband\na.wav\tblues|rock\tAnn\n")
    options = {"path_column": "file", "label_column": "style", "artist_column": "band", "label_separator": "|"}
    row = open_source(path, options).tracks()[0]
    assert (row["genres"], row["artist"]) == (["blues", "rock"], "Ann")


def test_a_path_is_no_genre(music):
    text = f"path,label\na.wav,blues\nb.wav,{music}/pop\n"
    with pytest.raises(DataError, match=r"tracks\.csv, line 3: .*'pop'"):
        open_source(write(music, "tracks.csv", text)).tracks()


def test_a_missing_file_is_reported_and_the_others_are_used(music):
    corpus = decode_corpus(open_source(write(music, "tracks.csv", "path,label\na.wav,blues\ngone.wav,pop\n")), 16000)
    assert list(corpus.tracks["track_id"]) == ["a.wav"]
    assert [(track.track_id, track.reason) for track in corpus.skipped] == [("gone.wav", "no such file")]


def test_a_changed_list_and_a_replaced_file_are_seen(music):
    path = write(music, "tracks.csv", FULL)
    before = open_source(path)
    revision, fingerprint = before.revision, before.tracks()._fingerprint
    assert open_source(path).tracks()._fingerprint == fingerprint
    soundfile.write(music / "a.wav", tone(5, seconds=0.3), 16000)
    assert open_source(path).tracks()._fingerprint != fingerprint
    write(music, "tracks.csv", FULL.replace("blues", "jazz"))
    assert open_source(path).revision != revision


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,label\na.wav,blues\n", r"no column 'path'.*path_column"),
        ("path,labels\na.wav,blues\n", r"no column 'label' \(did you mean 'labels'\?\).*label_column"),
        ("path,label\na.wav,\nb.wav, \n", "line 2: 'label' is empty"),
        ("path,label\na.wav,blues\n,pop\n", "line 3: 'path' is empty"),
        ("path,label\na.wav,blues\nb.wav,pop\na.wav,pop\n", r"line 4: 'a\.wav' .* line 2"),
        ("path,label\na.wav,blues\nx/../a.wav,pop\n", r"line 3: 'x/\.\./a\.wav' .* line 2"),
        ("path,label,track_id\na.wav,blues,1\nb.wav,pop,1\n", "track id '1' occurs more than once"),
        ("path,label,split\na.wav,blues,holdout\n", "line 2: 'holdout' is not a side of a split"),
        ("path,label\na, b.wav,blues\n", "line 2: 3 fields"),
        ("path,path,label\na.wav,b.wav,pop\n", "header"),
        ('path,label\n"a.wav,blues\n', "cannot be read"),
        ("path,label\n", "no rows"),
        ("", "no rows"),
    ],
)
def test_a_csv_that_cannot_be_used_is_named_with_the_line(music, text, said):
    with pytest.raises(DataError, match=rf"tracks\.csv.*{said}"):
        open_source(write(music, "tracks.csv", text)).tracks()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.jsonl", '{"path": "a.wav", "label": "pop"}\n{broken\n', r"t\.jsonl: .*\(line 2: "),
        ("t.jsonl", "[1]\n", "line 1: "),
        ("t.json", "[1, 2]", "item 1: "),
        ("t.json", "[", "cannot be read"),
        ("t.jsonl", '{"path": "a.wav", "label": []}', "line 1: 'label'"),
    ],
)
def test_json_that_cannot_be_used_is_named(music, name, text, said):
    with pytest.raises(DataError, match=said):
        open_source(write(music, name, text)).tracks()


def test_another_encoding_a_missing_list_and_a_missing_named_column_are_told(music):
    with pytest.raises(DataError, match="not UTF-8"):
        open_source(write(music, "tracks.csv", FULL.replace("演歌", "x"), "latin-1")).tracks()
    with pytest.raises(DataError, match=r"gone\.csv': no such file"):
        open_source(str(music / "gone.csv"))
    with pytest.raises(DataError, match="no column 'band'"):
        open_source(write(music, "tracks.csv", FULL), {"artist_column": "band"}).tracks()


NAMES = ["演歌", "blues"]


def rows(count, start=0):
    return {
        "audio": [{"bytes": audio_bytes(start + i, sampling_rate=16000), "path": None} for i in range(count)],
        "label": [i % 2 for i in range(count)],
        "who": ["Ann", None, "Björk"][:count],
        "name": [f"song {start + i}" for i in range(count)],
        "part": ["train", "val", "test"][:count],
    }


@pytest.fixture
def repository(tmp_path):
    """A dataset of two splits as the Hub has it."""
    features = {"audio": datasets.Audio(decode=False), "label": datasets.ClassLabel(names=NAMES)}
    features |= {name: datasets.Value("string") for name in ("who", "name", "part")}
    return write_parquet(tmp_path / "repository", {"train": rows(3), "test": rows(2, 3)}, features)


def hub(place, **options):
    return open_source("hub", {"repository": str(place), **options})


def test_a_dataset_gives_its_rows_with_the_names_of_its_classes(repository):
    source = hub(repository)
    tracks = source.tracks()
    assert tracks.features == TRACK_FEATURES
    assert sorted((r["track_id"], r["genre"], r["artist"], r["split"]) for r in tracks) == [
        ("test/000000", "演歌", "", "test"),
        ("test/000001", "blues", "", "test"),
        ("train/000000", "演歌", "", "train"),
        ("train/000001", "blues", "", "train"),
        ("train/000002", "演歌", "", "train"),
    ]
    assert source.genres() == NAMES
    assert source.location == "repository"
    corpus = decode_corpus(source, 16000)
    assert len(corpus.tracks) == 5
    np.testing.assert_allclose(corpus.tracks[0]["waveform"], load_audio(tracks[0]["audio"]["bytes"], 16000))


def test_its_columns_are_named(repository):
    source = hub(repository, splits="train", artist_column="who", id_column="name", split_column="part")
    assert [(r["track_id"], r["artist"], r["split"]) for r in source.tracks()] == [
        ("song 0", "Ann", "train"),
        ("song 1", "", "validation"),
        ("song 2", "Björk", "test"),
    ]
    text = hub(repository, splits="train", label_column="part")
    assert text.genres() == ["test", "train", "val"]
    none = hub(repository, label_column="")
    assert none.genres() == []
    assert set(none.tracks()["genre"]) == {""}


def test_saved_datasets_and_single_parquet_files_are_read(repository, tmp_path):
    single = hub(repository / "data" / "train-00000-of-00001.parquet")
    assert [row["track_id"] for row in single.tracks()] == ["train/000000", "train/000001", "train/000002"]
    table = datasets.load_dataset("parquet", data_files=str(repository / "data" / "test-00000-of-00001.parquet"))
    table = table["train"].cast_column("audio", datasets.Audio(decode=False))
    table.save_to_disk(tmp_path / "one")
    assert len(hub(tmp_path / "one").tracks()) == 2
    datasets.DatasetDict({"validation": table}).save_to_disk(tmp_path / "many")
    assert set(hub(tmp_path / "many").tracks()["split"]) == {"validation"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"audio_column": "sound"}, "no column 'sound', only audio, label"),
        ({"label_column": "labels"}, r"no column 'labels' \(did you mean 'label'\?\).*label_column"),
        ({"artist_column": "singer"}, "no column 'singer'.*artist_column"),
        ({"splits": "trian"}, "has no split 'trian'.*did you mean 'train'"),
        ({"id_column": "part"}, "track id '(train|val)' .*occurs more than once"),
        ({"split_column": "who", "splits": "train"}, "'Ann' is not a side"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(repository, options, said):
    with pytest.raises((DataError, ConfigError), match=said):
        hub(repository, **options).tracks()


@pytest.mark.parametrize("declared", [True, False])
def test_rows_without_bytes_and_path_are_set_aside_and_the_others_used(tmp_path, declared):
    struct = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    features = {"audio": datasets.Audio(decode=False) if declared else struct, "label": datasets.Value("string")}
    audio = [{"bytes": audio_bytes(0), "path": "a.wav"}, {"bytes": None, "path": None}, None]
    reasons = {f"train/00000{row}": "no audio: neither a path nor bytes" for row in (1, 2)}
    if not declared:  # datasets itself would not write a declared column with a path to nothing
        audio.append({"bytes": None, "path": "gone.wav"})
        reasons["train/000003"] = "no such file"
    rows = {"audio": audio, "label": ["x", "y", "x", "y"][: len(audio)]}
    corpus = decode_corpus(hub(write_parquet(tmp_path / "music", {"train": rows}, features)), 16000)
    assert list(corpus.tracks["track_id"]) == ["train/000000"]
    assert {track.track_id: track.reason for track in corpus.skipped} == reasons


def test_a_row_without_an_id_is_named_by_its_place(tmp_path):
    features = {
        "audio": datasets.Audio(decode=False),
        "label": datasets.Value("string"),
        "name": datasets.Value("string"),
    }
    audio = [{"bytes": audio_bytes(index), "path": None} for index in range(3)]
    rows = {"audio": audio, "label": ["x", "y", "x"], "name": ["song", None, None]}
    source = hub(write_parquet(tmp_path / "music", {"train": rows}, features), id_column="name")
    assert source.tracks()["track_id"] == ["song", "train/000001", "train/000002"]


def test_numbers_without_class_names_are_no_labels(tmp_path):
    features = {"audio": datasets.Audio(decode=False), "label": datasets.Value("int64")}
    rows = {"audio": [{"bytes": audio_bytes(0), "path": None}], "label": [3]}
    with pytest.raises(DataError, match=r"music, row 0 of split 'train', 'label': the label 3 is not text"):
        hub(write_parquet(tmp_path / "music", {"train": rows}, features)).tracks()


def test_a_dataset_without_rows_says_so(tmp_path):
    features = {"audio": datasets.Audio(decode=False), "label": datasets.Value("string")}
    folder = write_parquet(tmp_path / "music", {"train": {"audio": [], "label": []}}, features)
    with pytest.raises(DataError, match=r"from music \(.*check that it holds parquet files with rows"):
        hub(folder).tracks()


def test_a_path_of_thousands_of_characters_is_a_missing_file(music):
    path = write(music, "tracks.csv", "path,label\na.wav,blues\n" + "m" * 5000 + ".wav,pop\n")
    corpus = decode_corpus(open_source(path), 16000)
    assert list(corpus.tracks["track_id"]) == ["a.wav"]
    assert [track.reason for track in corpus.skipped] == ["no such file (File name too long)"]


def test_an_audio_column_without_audio_is_named(tmp_path):
    features = {"audio": datasets.Value("int64"), "label": datasets.Value("string")}
    folder = write_parquet(tmp_path / "numbers", {"train": {"audio": [1], "label": ["x"]}}, features)
    with pytest.raises(DataError, match="numbers, row 0 of split 'train': neither bytes nor a path"):
        hub(folder).tracks()


def test_a_dataset_that_is_not_there_or_not_named_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"could not be loaded from someone/music on the Hub .*check the network"):
        hub("someone/music").tracks()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"could not be loaded from empty \(.*check that it holds parquet files"):
        hub(tmp_path / "empty").tracks()
    with pytest.raises(ConfigError, match="hub: 'repository' is missing"):
        open_source("hub")
    assert "not pinned" in hub("someone/music").notes()[0]


def test_a_class_number_without_a_name_is_no_genre(tmp_path):
    features = {"audio": datasets.Audio(decode=False), "label": datasets.ClassLabel(names=["blues", "pop"])}
    rows = {
        "audio": [{"bytes": audio_bytes(number), "path": None} for number in range(5)],
        "label": [0, 1, 2, -1, -2],
    }
    corpus = decode_corpus(hub(write_parquet(tmp_path / "data", {"train": rows}, features)), 16000)
    assert list(corpus.tracks["genre"]) == ["blues", "pop"]
    assert [(track.track_id, track.reason) for track in corpus.skipped] == [
        (f"train/{number:06d}", "no genre") for number in (2, 3, 4)
    ]
