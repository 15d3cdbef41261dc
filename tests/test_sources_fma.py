"""FMA from the authors' folders and zips and from the mirrors."""

from pathlib import Path

import datasets
import pytest
from stand_ins import (
    audio_bytes,
    write_fma_audio,
    write_fma_metadata,
    write_fma_mirror,
    write_parquet,
    write_zip,
    zip_folder,
)

from hfmgc.data.audio import load_audio
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.sources import open_source
from hfmgc.data.sources.contract import TRACK_FEATURES
from hfmgc.data.sources.fma import SMALL_GENRES, TOP_GENRES
from hfmgc.errors import AudioError, ConfigError, DataError


@pytest.fixture
def authors(tmp_path):
    """The authors' folders: options of the source."""
    write_fma_metadata(tmp_path / "fma_metadata")
    write_fma_audio(tmp_path / "fma_small")
    return {"audio": str(tmp_path / "fma_small"), "metadata": str(tmp_path / "fma_metadata")}


def fma(**options):
    return open_source("fma", options)


def test_the_small_subset_has_its_tracks_genres_artists_and_official_sides(authors):
    source = fma(**authors)
    tracks = source.tracks()
    assert tracks.features == TRACK_FEATURES
    assert [(r["track_id"], r["genre"], r["genres"], r["artist"], r["split"]) for r in tracks] == [
        ("000010", "Pop", ["Pop"], "6", "train"),
        ("000140", "Folk", ["Folk"], "54", "validation"),
        ("098565", "Rock", ["Rock"], "7", "train"),
        ("100478", "Rock", ["Rock"], "7", "test"),
    ]
    assert len(load_audio(tracks[0]["audio"]["path"], 22050)) == pytest.approx(11025, abs=1200)
    assert source.genres() == list(SMALL_GENRES)
    assert source.location == "fma_small"
    assert source.notes() == []


def test_the_authors_zips_give_what_their_folders_give(tmp_path, authors):
    audio = zip_folder(tmp_path / "fma_small", tmp_path / "zips" / "fma_small.zip")
    metadata = zip_folder(tmp_path / "fma_metadata", tmp_path / "zips" / "fma_metadata.zip")
    folders = fma(**authors).tracks()
    zips = fma(audio=str(audio), metadata=str(metadata), verify=False).tracks()
    for column in ("track_id", "genre", "genres", "artist", "split"):
        assert list(zips[column]) == list(folders[column])
    assert len(load_audio(zips[0]["audio"]["path"], 22050)) > 0


@pytest.mark.parametrize(("which", "said"), [("metadata", "f0df49ffe5f2"), ("audio", "ade154f73363")])
def test_zips_that_are_not_the_authors_are_refused(tmp_path, authors, which, said):
    folder = tmp_path / f"fma_{'small' if which == 'audio' else 'metadata'}"
    packed = zip_folder(folder, tmp_path / "zips" / f"{folder.name}.zip")
    with pytest.raises(DataError, match=rf"{folder.name}\.zip has sha1 [0-9a-f]{{40}}, not the expected {said}"):
        fma(**{**authors, which: str(packed)}).tracks()


def test_larger_subsets_hold_the_smaller_ones(authors):
    count = {subset: len(fma(subset=subset, **authors).tracks()) for subset in ("small", "medium", "large", "full")}
    assert count == {"small": 4, "medium": 5, "large": 6, "full": 6}
    assert fma(subset="medium", **authors).genres() == list(TOP_GENRES)
    assert len(TOP_GENRES) == 16


def test_tracks_without_a_file_and_without_a_genre_stay_in_the_table(authors, caplog):
    tracks = fma(subset="large", **authors).tracks()
    missing = next(row for row in tracks if row["track_id"] == "001686")
    assert (missing["genre"], missing["genres"]) == ("", [])
    with pytest.raises(AudioError, match="no such file"):
        load_audio(missing["audio"]["path"], 22050)
    assert "1 of 6 tracks" in caplog.text


def test_all_genres_of_the_hierarchy_serve_as_several_labels(authors):
    source = fma(subset="large", labels="all", **authors)
    genres = {row["track_id"]: (row["genre"], row["genres"]) for row in source.tracks()}
    assert genres["000140"] == ("Folk", ["Folk", "Singer-Songwriter"])
    assert genres["001686"] == ("Rock", ["Rock", "Singer-Songwriter"])
    assert source.genres() == ["Pop", "Rock", "Folk", "Hip-Hop", "Singer-Songwriter"]
    assert fma(labels="all", **authors).genres() == ["Pop", "Rock", "Folk", "Singer-Songwriter"]


def test_short_clips_are_known_and_whole_tracks_are_not_blamed(authors):
    assert fma(**authors).known_problem("098565") == "too short or empty in the authors' clips of 30 s"
    assert fma(**authors).known_problem("000010") is None
    assert fma(subset="full", **authors).known_problem("098565") is None
    assert len(fma().card.known_bad) == 21


def test_the_authors_features_are_found(tmp_path, authors):
    assert fma(metadata=authors["metadata"]).features_csv == tmp_path / "fma_metadata" / "features.csv"
    (tmp_path / "fma_metadata" / "features.csv").unlink()
    table = open_source("table", {"file": authors["metadata"]})
    with pytest.raises(DataError, match=r"fma_metadata has no features\.csv"):
        table.tracks()
    assert [track.side for track in fma(metadata=authors["metadata"]).metadata_tracks()] == [
        "train", "validation", "train", "test"
    ]  # fmt: skip


@pytest.mark.parametrize("named", [True, False])
def test_the_mirrors_have_several_genres_and_no_side(tmp_path, named):
    source = fma(repository=str(write_fma_mirror(tmp_path / "mirror", named=named)))
    tracks = source.tracks()
    ids = ["000010", "000011", "000012"] if named else ["train-000000", "train-000001", "train-000002"]
    assert [(r["track_id"], r["genre"], r["genres"], r["artist"], r["split"]) for r in tracks] == [
        (ids[0], "Rock", ["Rock", "Ambient"], "Ann", ""),
        (ids[1], "Folk", ["Folk"], "Björk", ""),
        (ids[2], "", [], "", ""),
    ]
    assert source.genres() == ["Ambient", "Folk", "Rock"]
    assert "lack the official split and the top genre" in source.notes()[0]
    assert len(load_audio(tracks[0]["audio"]["bytes"], 22050)) > 0


def test_without_a_place_the_mirror_of_the_subset_is_read_and_not_pinned():
    source = fma(subset="medium")
    assert source.location == "benjamin-paine/free-music-archive-medium"
    assert "not pinned" in source.notes()[1]
    with pytest.raises(
        DataError, match=r"FMA could not be loaded from benjamin-paine/.*\{audio: PATH, metadata: PATH\}"
    ):
        source.tracks()


@pytest.mark.parametrize("drop", [[("set", "split")], [("artist", "id"), ("track", "genre_top")]])
def test_missing_columns_are_named(tmp_path, drop):
    write_fma_metadata(tmp_path / "fma_metadata", drop=drop)
    audio = write_fma_audio(tmp_path / "fma_small")
    with pytest.raises(DataError, match=r"tracks\.csv: no column .*in its first two rows") as caught:
        fma(audio=str(audio), metadata=str(tmp_path / "fma_metadata")).tracks()
    assert all(str(column) in str(caught.value) for column in drop)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[17, 103]", "[17, 999]", "genre 999 of 000140 is not in genres.csv"),
        ("[17, 103]", "17; 103", r"tracks\.csv, track 140: "),
        ("validation", "holdout", "'holdout' is not a side of a split"),
        ("\n140,", "\nx,", r"tracks\.csv, track x: "),
        ("\n140,", "\n10,", "track id '000010' occurs more than once"),
        ("Folk", "Polka", "'Polka' of 000140"),
    ],
)
def test_damaged_metadata_is_named(tmp_path, authors, old, new, said):
    path = tmp_path / "fma_metadata" / "tracks.csv"
    text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=said):
        fma(labels="all", **authors).tracks()


def test_a_missing_list_and_missing_places_are_named(tmp_path, authors):
    with pytest.raises(DataError, match="is neither a folder nor a zip"):
        fma(audio=str(tmp_path / "gone"), metadata=authors["metadata"]).tracks()
    with pytest.raises(DataError, match="give audio"):
        fma(metadata=authors["metadata"]).tracks()
    empty = write_zip(tmp_path / "other.zip", {"readme.txt": b""})
    with pytest.raises(DataError, match=r"^other\.zip has no tracks\.csv"):
        fma(audio=authors["audio"], metadata=str(empty)).tracks()
    with pytest.raises(DataError, match=r"^other\.zip has no features\.csv"):
        open_source("table", {"file": str(empty)}).tracks()
    (tmp_path / "fma_metadata" / "tracks.csv").unlink()
    with pytest.raises(DataError, match=r"^fma_metadata has no tracks\.csv"):
        fma(**authors).tracks()


def test_of_a_larger_archive_only_the_subset_is_unpacked(tmp_path, authors):
    (tmp_path / "fma_metadata" / "features.csv").write_bytes(b"large")
    audio = (tmp_path / "fma_small").rename(tmp_path / "fma_large")
    (audio / "001").mkdir(exist_ok=True)
    (audio / "001" / "001686.mp3").write_bytes(b"of the large subset")
    zips = [
        zip_folder(folder, tmp_path / "zips" / f"{folder.name}.zip") for folder in (audio, tmp_path / "fma_metadata")
    ]
    source = fma(audio=str(zips[0]), metadata=str(zips[1]), verify=False)
    paths = [Path(one["path"]) for one in source.tracks()["audio"]]
    assert paths[0].is_file()
    unpacked = {path.name for path in paths[0].parents[2].rglob("*.mp3")}
    assert unpacked == {path.name for path in paths if path.is_file()}
    assert "001686.mp3" not in unpacked
    metadata = source._metadata_file("tracks.csv").parent
    assert {path.name for path in metadata.glob("*.csv")} == {"tracks.csv", "genres.csv"}
    assert source.features_csv.read_bytes() == b"large"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"subset": "smal"}, "no subset 'smal'.*did you mean 'small'"),
        ({"labels": "both"}, "labels must be top or all"),
        ({"audio": "x"}, "audio needs metadata"),
        ({"labels": "top"}, "mirrors have no top genre"),
        ({"repository": "a/b", "metadata": "x"}, "not both"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        fma(**options)


def test_a_repository_that_is_no_mirror_is_named(tmp_path):
    import datasets

    folder = write_parquet(tmp_path / "other", {"train": {"text": ["a"]}}, {"text": datasets.Value("string")})
    with pytest.raises(DataError, match=r"FMA \(other, split 'train'\): no column 'audio', only text"):
        fma(repository=str(folder)).tracks()


def test_a_row_of_a_mirror_without_audio_is_set_aside_and_the_others_used(tmp_path):
    features = {"audio": datasets.Audio(decode=False), "genres": datasets.List(datasets.ClassLabel(names=["Folk"]))}
    rows = {"audio": [{"bytes": audio_bytes(0, form="MP3"), "path": "000010.mp3"}, None], "genres": [[0], [0]]}
    mirror = write_parquet(tmp_path / "mirror", {"train": rows}, features)
    corpus = decode_corpus(open_source("fma", {"repository": str(mirror)}), 16000)
    assert list(corpus.tracks["track_id"]) == ["000010"]
    assert [(track.track_id, track.reason) for track in corpus.skipped] == [
        ("train-000001", "no audio: neither a path nor bytes")
    ]


def test_a_class_number_without_a_name_is_no_genre(tmp_path):
    features = {
        "audio": datasets.Audio(decode=False),
        "genres": datasets.List(datasets.ClassLabel(names=["Folk", "Rock"])),
    }
    rows = {
        "audio": [{"bytes": audio_bytes(number, form="MP3"), "path": f"{number}.mp3"} for number in range(4)],
        "genres": [[0], [7], [-1], [99, 1]],
    }
    source = open_source("fma", {"repository": str(write_parquet(tmp_path / "mirror", {"train": rows}, features))})
    assert source.genres() == ["Folk", "Rock"]
    corpus = decode_corpus(source, 16000)
    assert dict(zip(corpus.tracks["track_id"], corpus.tracks["genres"], strict=True)) == {
        "000000": ["Folk"],
        "000003": ["Rock"],
    }
    assert [(track.track_id, track.reason) for track in corpus.skipped] == [
        ("000001", "no genre"),
        ("000002", "no genre"),
    ]
