"""GTZAN from all the places that it comes from: the same ids, artists and sides, and the broken track named."""

import hashlib
import warnings
from collections import Counter
from pathlib import Path

import datasets
import pytest
from dataset_hub import DatasetHub
from stand_ins import (
    GTZAN_IDS,
    audio_bytes,
    write_fault_filtered_mirror,
    write_gtzan_archive,
    write_gtzan_folder,
    write_gtzan_mirror,
    write_parquet,
    write_tar,
    zip_folder,
)

from hfmgc.data.archives import MARKER
from hfmgc.data.audio import load_audio
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.sources import open_source
from hfmgc.data.sources.contract import TRACK_FEATURES
from hfmgc.data.sources.gtzan import GENRES
from hfmgc.data.sources.gtzan_lists import artist_folds, artist_groups, fault_filtered
from hfmgc.errors import AudioError, ConfigError, DataError


# Of GTZAN_IDS, written down by hand from the public lists.
SIDES = {"blues.00000": "validation", "blues.00029": "train", "jazz.00054": "train", "jazz.00055": "train",
         "rock.00099": "train", "classical.00042": ""}  # fmt: skip


def gtzan(**options):
    return open_source("gtzan", options)


def assert_tracks(tracks, ids=GTZAN_IDS):
    assert tracks.features == TRACK_FEATURES
    assert list(tracks["track_id"]) == sorted(ids)
    for row in tracks:
        assert row["genre"] == row["track_id"].split(".")[0]
        assert row["genres"] == [row["genre"]]
        assert row["split"] == SIDES[row["track_id"]]
        if row["track_id"] != "jazz.00054":
            assert len(load_audio(row["audio"]["bytes"] or row["audio"]["path"], 22050)) == 4410


@pytest.mark.parametrize(("separator", "suffix"), [(".", ".wav"), (".", ".au"), ("_", ".wav"), ("_", ".flac")])
@pytest.mark.parametrize("inner", ["", "genres", "Data/genres_original"])
def test_a_folder_in_any_naming_gives_the_same_ids(tmp_path, separator, suffix, inner):
    if suffix == ".flac":  # libsndfile goes by the content
        suffix = ".WAV"
    write_gtzan_folder(tmp_path / "copy" / inner, separator=separator, suffix=suffix)
    source = gtzan(folder=str(tmp_path / "copy"))
    assert_tracks(source.tracks())
    assert source.location == "copy"
    assert source.revision is None


def test_the_authors_archive_is_unpacked_once(tmp_path):
    archive = write_gtzan_archive(tmp_path / "genres.tar.gz")
    source = gtzan(archive=str(archive))
    tracks = source.tracks()
    assert_tracks(tracks)
    assert list(source.tracks()["audio"]) == list(tracks["audio"])
    assert source.location == "genres.tar.gz"


def test_nothing_but_tracks_is_unpacked_from_an_archive(tmp_path):
    folder = write_gtzan_folder(tmp_path / "genres")
    for name in ("README.txt", "blues/._blues.00000.wav", "blues/cover.jpg", "extra/blues.00000.wav"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"no track")
    archive = zip_folder(folder, tmp_path / "zips" / "genres.zip")
    tracks = gtzan(archive=str(archive)).tracks()
    assert_tracks(tracks)
    root = Path(tracks[0]["audio"]["path"]).parents[2]
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != MARKER)
    assert files == sorted(Path(audio["path"]) for audio in tracks["audio"])


def test_the_archive_is_fetched_from_the_hub_and_compared_with_its_checksum(tmp_path, monkeypatch):
    write_gtzan_archive(tmp_path / "repository" / "data" / "genres.tar.gz")
    with DatasetHub() as hub:
        hub.add("marsyas/gtzan", tmp_path / "repository")
        hub.use_here(monkeypatch, tmp_path)
        source = gtzan(archive="marsyas/gtzan", repository_revision="main")
        assert_tracks(source.tracks())
        assert (source.location, source.revision) == ("marsyas/gtzan", "main")
        blob = next(path for path in (tmp_path / "hub").rglob("blobs/*") if len(path.name) == 64)
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
        # A blob that was damaged in the cache is not unpacked.
        blob.write_bytes(blob.read_bytes()[:-1] + b"\1")
        with pytest.raises(DataError, match=f"has sha256 .*, not the expected {blob.name}"):
            source.tracks()


def test_a_mirror_gives_the_same_ids_whatever_rate_it_declares(tmp_path):
    source = gtzan(repository=str(write_gtzan_mirror(tmp_path / "mirror")))
    assert_tracks(source.tracks(), [track_id for track_id in GTZAN_IDS if track_id != "jazz.00054"])
    assert source.location == "mirror"
    assert source.revision is None


def test_the_fault_filtered_mirror_agrees_with_the_lists(tmp_path):
    sides = {"train": ["jazz.00054", "rock.00099"], "validation": ["blues.00000"], "test": ["blues.00012"]}
    tracks = gtzan(repository=str(write_fault_filtered_mirror(tmp_path / "mirror", sides))).tracks()
    assert {row["track_id"]: row["split"] for row in tracks} == {
        track_id: side for side, ids in sides.items() for track_id in ids
    }


def test_a_mirror_that_does_not_keep_to_the_lists_is_refused(tmp_path):
    sides = {"train": ["rock.00099"], "validation": ["blues.00012"]}
    with pytest.raises(DataError, match=r"split 'validation': .*blues\.00012 on test"):
        gtzan(repository=str(write_fault_filtered_mirror(tmp_path / "mirror", sides))).tracks()


def test_a_mirror_without_file_names_keeps_its_own_sides(tmp_path):
    sides = {"train": ["rock.00099", "blues.00029"], "test": ["blues.00012"]}
    tracks = gtzan(repository=str(write_fault_filtered_mirror(tmp_path / "mirror", sides, named=False))).tracks()
    assert {row["track_id"]: (row["genre"], row["split"], row["artist"]) for row in tracks} == {
        "blues.test-00000": ("blues", "test", ""),
        "blues.train-00001": ("blues", "train", ""),
        "rock.train-00000": ("rock", "train", ""),
    }


def test_the_pinned_commit_is_that_of_the_default_mirror_alone():
    assert gtzan().revision == "4bd857132cb0e731bef3ec68558e7acc0a85f144"
    assert gtzan().notes() == []
    other = gtzan(repository="confit/gtzan-parquet")
    assert other.revision is None
    assert "not pinned" in other.notes()[0]
    assert gtzan(repository="confit/gtzan-parquet", repository_revision="abc").revision == "abc"


def test_the_lists_are_the_public_ones():
    sides = fault_filtered()
    assert {side: len(ids) for side, ids in sides.items()} == {"train": 443, "validation": 197, "test": 290}
    listed = [track_id for ids in sides.values() for track_id in ids]
    assert len(set(listed)) == 930
    everything = {f"{genre}.{number:05d}" for genre in GENRES for number in range(100)}
    left_out = everything - set(listed)
    assert Counter(track_id.split(".")[0] for track_id in left_out) == Counter(
        classical=1, country=2, disco=7, hiphop=8, jazz=13, metal=9, pop=16, reggae=14
    )
    assert {"classical.00042", "country.00052", "metal.00045", "reggae.00091"} <= left_out
    folds = artist_folds()
    assert [len(fold) for fold in folds] == [315, 316, 317]
    groups = artist_groups()
    assert sorted(groups) == sorted(track_id for fold in folds for track_id in fold)
    assert set(groups) <= everything
    of_fold = [{groups[track_id] for track_id in fold} for fold in folds]
    assert not of_fold[0] & of_fold[1]
    assert not of_fold[0] & of_fold[2]
    assert not of_fold[1] & of_fold[2]


def test_the_artist_that_the_two_lists_disagree_about_is_the_only_waived_one():
    source = gtzan()
    groups, crossing = artist_groups(), {}
    for side, ids in fault_filtered().items():
        for track_id in ids:
            if track_id in groups:
                crossing.setdefault(groups[track_id], set()).add(side)
    crossing = {group for group, sides in crossing.items() if len(sides) > 1}
    assert crossing == {group for group in set(groups.values()) if source.artist_waiver("fault_filtered", group)}
    assert source.artist_waiver("stratified", "group 138") is None


def test_artists_are_filled_in_where_they_are_known(tmp_path):
    write_gtzan_folder(tmp_path / "copy", ["blues.00012", "blues.00013", "jazz.00051"])
    assert list(gtzan(folder=str(tmp_path / "copy")).tracks()["artist"]) == ["group 1", "group 1", ""]


def test_the_broken_track_stays_in_the_table_and_is_known(tmp_path):
    source = gtzan(folder=str(write_gtzan_folder(tmp_path / "copy")))
    assert source.known_problem("jazz.00054") == "broken in every copy of GTZAN"
    assert source.known_problem("jazz.00055") is None
    row = next(row for row in source.tracks() if row["track_id"] == "jazz.00054")
    with pytest.raises(AudioError):
        load_audio(row["audio"]["path"], 22050)


@pytest.mark.parametrize("name", ["blues/song.wav", "blues/rock.00001.wav", "blues/blues.1.wav"])
def test_a_file_that_is_no_track_of_its_genre_is_named(tmp_path, name):
    folder = write_gtzan_folder(tmp_path / "copy")
    (folder / name).write_bytes(b"")
    with pytest.raises(DataError, match=rf"{name}: .*blues\.00000 or"):
        gtzan(folder=str(folder)).tracks()


def test_a_track_in_two_formats_is_refused(tmp_path):
    folder = write_gtzan_folder(tmp_path / "copy")
    write_gtzan_folder(tmp_path / "copy", ["blues.00000"], separator="_")
    with pytest.raises(DataError, match=r"track id 'blues\.00000' occurs more than once"):
        gtzan(folder=str(folder)).tracks()


def test_places_without_gtzan_are_named_and_no_path_above_them(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty has no subfolder"):
        gtzan(folder=str(tmp_path / "empty")).tracks()
    archive = write_tar(tmp_path / "other.tar.gz", {"readme.txt": b"nothing"})
    with pytest.raises(DataError, match=r"other\.tar\.gz has no subfolder"):
        gtzan(archive=str(archive)).tracks()
    with pytest.raises(DataError, match=r"gone\.tar\.gz: no such archive"):
        gtzan(archive=str(tmp_path / "gone.tar.gz")).tracks()
    with pytest.raises(ConfigError, match="give archive or folder, not both"):
        gtzan(archive="a", folder="b")


def test_a_wrong_checksum_of_the_archive_is_refused(tmp_path):
    archive = write_gtzan_archive(tmp_path / "genres.tar.gz")
    with pytest.raises(DataError, match=r"genres\.tar\.gz has sha256 .*, not the expected 0{64}"):
        gtzan(archive=str(archive), archive_checksum="sha256:" + "0" * 64).tracks()


def test_policies_that_are_not_comparable_say_so():
    source = gtzan()
    assert source.split_note("fault_filtered") is None
    assert all("not comparable" in source.split_note(policy) for policy in source.split_policies[1:])


def test_a_row_of_a_mirror_without_audio_is_set_aside_and_the_others_used(tmp_path):
    features = {
        "file": datasets.Value("string"),
        "audio": datasets.Audio(decode=False),
        "genre": datasets.Value("string"),
    }
    rows = {
        "file": ["blues.00000.wav", "pop.00001.wav"],
        "audio": [{"bytes": audio_bytes(0), "path": None}, None],
        "genre": ["blues", "pop"],
    }
    mirror = write_parquet(tmp_path / "mirror", {"train": rows}, features)
    corpus = decode_corpus(open_source("gtzan", {"repository": str(mirror)}), 16000)
    assert list(corpus.tracks["track_id"]) == ["blues.00000"]
    assert [(track.track_id, track.reason) for track in corpus.skipped] == [
        ("pop.00001", "no audio: neither a path nor bytes")
    ]


@pytest.mark.parametrize("number", [10, -1])
def test_a_class_number_without_a_name_is_named_where_nothing_else_tells_the_genre(tmp_path, number):
    features = {"audio": datasets.Audio(decode=False), "genre": datasets.ClassLabel(names=list(GENRES))}
    rows = {"audio": [{"bytes": audio_bytes(0), "path": None}], "genre": [number]}
    mirror = write_parquet(tmp_path / "mirror", {"train": rows}, features)
    with pytest.raises(DataError, match=rf"row 0 of split 'train': {number} "):
        gtzan(repository=str(mirror)).tracks()


def test_mirrors_are_read_without_a_warning(tmp_path):
    source = gtzan(repository=str(write_gtzan_mirror(tmp_path / "mirror")))
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        ids = list(source.tracks()["track_id"])
    assert ids == sorted(ids)
