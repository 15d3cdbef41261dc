"""A folder of music: what is in it, what is left out and said so, and that it is decoded once."""

import hashlib
import os
import resource
import shutil
import tracemalloc
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from conftest import tone
from forked import run_forked

from hfmgc.data.caching import reading_cache
from hfmgc.data.corpus import Corpus, decode_corpus
from hfmgc.data.features import TrackWindows, extract_features
from hfmgc.data.sources import open_source
from hfmgc.data.sources.folder import Folder
from hfmgc.data.splits import split_corpus
from hfmgc.errors import ConfigError, DataError, SaveError, SplitError
from hfmgc.features.feature_extraction_ast import HfmgcASTFeatureExtractor


RATE = 16000


def decode(folder: Path, rate: int = RATE, **options) -> Corpus:
    return decode_corpus(open_source(str(folder)), rate, **options)


def test_a_folder_becomes_tracks_with_their_genres_and_waveforms(music_folder):
    folder = music_folder({"blues": 2, "metal": 1}, seconds=0.5, sampling_rate=22050)
    corpus = decode(folder)
    assert corpus.genres == ["blues", "metal"]
    assert corpus.tracks["track_id"] == ["blues/blues.000.wav", "blues/blues.001.wav", "metal/metal.000.wav"]
    assert corpus.tracks["genre"] == ["blues", "blues", "metal"]
    assert corpus.skipped == []
    track = corpus.tracks[2]
    assert isinstance(track["waveform"], np.ndarray)
    assert track["waveform"].dtype == np.float32
    assert track["waveform"].shape == (8000,)
    assert "audio" not in track


def test_selection_gives_the_tracks_asked_for_in_that_order(music_folder):
    corpus = decode(music_folder(seconds=0.2))
    wanted = ["pop/pop.001.wav", "blues/blues.002.wav"]
    chosen = corpus.select(wanted)
    assert chosen["track_id"] == wanted
    everything = dict(zip(corpus.tracks["track_id"], corpus.tracks["waveform"], strict=True))
    np.testing.assert_array_equal(chosen[0]["waveform"], everything[wanted[0]])
    with pytest.raises(DataError, match=r"1 of 2 track ids are not in folder \(music\).* 'pop/gone.wav'"):
        corpus.select(["blues/blues.000.wav", "pop/gone.wav"])


def test_broken_files_are_skipped_counted_and_named(music_folder):
    folder = music_folder({"blues": 2, "pop": 2}, seconds=0.2)
    (folder / "blues" / "cut.mp3").write_bytes(b"no music")
    (folder / "pop" / "empty.wav").write_bytes(b"")
    soundfile.write(folder / "pop" / "nothing.wav", np.zeros(100), RATE)
    soundfile.write(folder / "pop" / "nan.wav", np.array([0.1, np.nan]), RATE, subtype="FLOAT")
    corpus = decode(folder)
    assert len(corpus.tracks) == 4
    report = {row["track_id"]: row["reason"] for row in corpus.skipped_report()}
    assert sorted(report) == ["blues/cut.mp3", "pop/empty.wav", "pop/nan.wav", "pop/nothing.wav"]
    assert report["blues/cut.mp3"].startswith("cannot be decoded (")
    assert report["pop/empty.wav"] == "empty file (0 bytes)"
    assert report["pop/nan.wav"] == "NaN or infinite samples"
    assert "silent" in report["pop/nothing.wav"]
    assert corpus.summary().startswith(
        "4 tracks of 2 genres from folder (music); 4 skipped (the first: blues/cut.mp3:"
    )


def test_audio_that_cannot_be_decoded_here_is_reported_and_other_files_are_not(music_folder):
    folder = music_folder({"blues": 1}, seconds=0.2)
    (folder / "blues" / "phone.M4A").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    for name in ("cover.jpg", "notes.txt", "playlist.m3u"):
        (folder / "blues" / name).write_bytes(b"no audio")
    corpus = decode(folder)
    assert [track.track_id for track in corpus.skipped] == ["blues/phone.M4A"]
    assert len(corpus.tracks) == 1


def test_hidden_files_and_folders_are_left_out(music_folder):
    folder = music_folder({"blues": 2}, seconds=0.2)
    (folder / ".cache").mkdir()
    (folder / "blues" / ".trash").mkdir()
    source = folder / "blues" / "blues.000.wav"
    for name in (".cache/a.wav", "blues/.trash/b.wav", "blues/._blues.000.wav"):
        (folder / name).write_bytes(source.read_bytes())
    corpus = decode(folder)
    assert corpus.genres == ["blues"]
    assert len(corpus.tracks) + len(corpus.skipped) == 2


def test_names_in_any_script_and_albums_in_folders_are_kept(music_folder):
    folder = music_folder({"Türkü": 1, "演歌": 1}, seconds=0.2)
    album = folder / "演歌" / "Альбом [1]"
    album.mkdir()
    soundfile.write(album / "naïve - 音.flac", tone(1, seconds=0.2), RATE)
    corpus = decode(folder)
    assert corpus.genres == ["Türkü", "演歌"]
    assert "演歌/Альбом [1]/naïve - 音.flac" in list(corpus.tracks["track_id"])


def test_a_folder_in_a_hidden_place_is_read_all_the_same(music_folder, tmp_path):
    folder = music_folder({"blues": 1}, seconds=0.2, name=".hidden/music")
    assert len(decode(folder).tracks) == 1


FINGERPRINT = """
import sys, hashlib
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.sources import open_source
from hfmgc.data.sources.folder import Folder
corpus = decode_corpus(open_source(sys.argv[1]), 16000)
print(hashlib.sha256(b"".join(track["waveform"].tobytes() for track in corpus.tracks)).hexdigest())
"""


def test_another_process_reads_what_was_decoded_and_a_replaced_file_is_decoded_anew(music_folder, tmp_path):
    folder = music_folder({"blues": 2}, seconds=0.3)
    first = decode(folder)
    before = [track["waveform"].copy() for track in first.tracks]
    path = folder / "blues" / "blues.000.wav"
    status = path.stat()
    # Replaced so that nobody can see it from outside: whoever decodes again gets other samples.
    soundfile.write(path, tone(77, seconds=0.3), RATE)
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    script = tmp_path / "fingerprint.py"
    script.write_text(FINGERPRINT)
    done = run_forked(script, folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == hashlib.sha256(b"".join(w.tobytes() for w in before)).hexdigest()

    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    again = decode(folder)
    np.testing.assert_allclose(again.tracks[0]["waveform"], tone(77, seconds=0.3), atol=1e-4)
    np.testing.assert_array_equal(again.tracks[1]["waveform"], before[1])


def test_another_rate_is_decoded_anew(music_folder):
    folder = music_folder({"blues": 1}, seconds=0.5)
    assert len(decode(folder).tracks[0]["waveform"]) == 8000
    assert len(decode(folder, 8000).tracks[0]["waveform"]) == 4000


def test_several_processes_decode_the_same(music_folder):
    folder = music_folder({"blues": 3, "pop": 2}, seconds=0.2)
    (folder / "blues" / "broken.wav").write_bytes(b"no music")
    one, two = decode(folder), decode(folder, num_proc=2)
    assert one.tracks["track_id"] == two.tracks["track_id"]
    assert one.skipped == two.skipped
    for a, b in zip(one.tracks, two.tracks, strict=True):
        np.testing.assert_array_equal(a["waveform"], b["waveform"])


def test_a_corpus_of_broken_files_alone_is_an_error_that_names_the_first(tmp_path):
    (tmp_path / "music" / "blues").mkdir(parents=True)
    (tmp_path / "music" / "blues" / "a.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"music.*; the first: blues/a.wav: empty file"):
        decode(tmp_path / "music")


def test_a_missing_folder_a_file_and_an_empty_folder_are_named(tmp_path):
    with pytest.raises(DataError, match=r"gone.*no such folder"):
        open_source(str(tmp_path / "gone"))
    (tmp_path / "file.wav").write_bytes(b"")
    with pytest.raises(DataError, match="not a folder"):
        decode(tmp_path / "file.wav")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no subfolders"):
        decode(tmp_path / "empty")


def test_a_genre_folder_without_audio_files_is_skipped_with_a_note(music_folder):
    folder = music_folder({"blues": 4, "pop": 4, "rock": 0}, seconds=0.2)
    (folder / "rock" / "cover.jpg").write_bytes(b"")
    corpus = decode(folder)
    assert corpus.genres == ["blues", "pop"]
    assert corpus.notes() == ["genre folders without audio files are skipped: rock"]
    assert split_corpus(corpus.tracks, corpus.source, policy="stratified", ratios="2:1:1").genres == ["blues", "pop"]


def test_a_genre_without_tracks_is_named(music_folder):
    folder = music_folder({"blues": 1, "pop": 0}, seconds=0.2)
    (folder / "pop" / "broken.wav").write_bytes(b"")
    corpus = decode(folder)
    with pytest.raises(SplitError, match=r"genre 'pop' of folder .* has 0 usable tracks"):
        split_corpus(corpus.tracks, corpus.source, policy="stratified")


def test_a_near_name_is_offered_for_an_unknown_dataset_and_option(music_folder):
    with pytest.raises(DataError, match="did you mean 'gtzan'"):
        open_source("gtzam")
    with pytest.raises(ConfigError, match=r"no field 'second'.*did you mean 'seconds'"):
        open_source("synthetic", {"second": 3})
    with pytest.raises(ConfigError, match="no field 'seed'"):
        open_source(str(music_folder({"blues": 1}, seconds=0.1)), {"seed": 1})
    with pytest.raises(ConfigError, match=r"data is empty: .* fma, gtzan,"):
        open_source("")


def test_a_result_names_the_folder_and_no_path_above_it(music_folder, tmp_path):
    source = open_source(str(music_folder({"blues": 1}, seconds=0.1)))
    assert source.location == "music"
    assert str(tmp_path) not in str(source.describe())
    assert str(tmp_path) not in decode_corpus(source, RATE).summary()


def test_named_datasets_say_what_they_are():
    assert open_source("synthetic").describe()["synthetic"] is True
    gtzan = open_source("gtzan")
    assert (len(gtzan.genres()), gtzan.describe()["synthetic"]) == (10, False)
    assert len(gtzan.revision) == 40
    assert "not comparable" in gtzan.split_note("stratified")


def test_gtzan_without_network_says_what_to_do():
    with pytest.raises(DataError, match=r"GTZAN could not be loaded from sanchit-gandhi/gtzan .*--data"):
        open_source("gtzan").tracks()


def test_few_decoded_tracks_are_in_memory_at_a_time(music_folder):
    folder = music_folder({"blues": 8}, seconds=30)
    tracemalloc.start()
    tracks = decode(folder).tracks
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(tracks) == 8
    assert peak < 12 * tracks[0]["waveform"].nbytes


def test_windows_equal_the_extractors(music_folder):
    folder = music_folder({"blues": 1}, seconds=0.4)
    soundfile.write(folder / "blues" / "long.wav", tone(9, seconds=2), RATE)
    tracks, extractor = decode(folder).tracks, HfmgcASTFeatureExtractor(max_length=64)
    windows = TrackWindows(extract_features(tracks, extractor), extractor)
    assert windows.column_names == ["track_id", "genre", "genres", "artist", "split", "input_values"]
    for row, track in zip(windows, tracks, strict=True):
        expected = extractor(track["waveform"], sampling_rate=RATE, return_tensors="np")["input_values"][0]
        np.testing.assert_array_equal(row["input_values"], expected)
    assert [len(row["input_values"]) for row in windows] == [1, 4]
    fewer = HfmgcASTFeatureExtractor(max_length=64, max_windows=2)
    other = TrackWindows(extract_features(tracks, fewer), fewer)
    assert [len(row["input_values"]) for row in other] == [1, 2]


class Unlabelled(Folder):
    """A corpus for pre-training: its tracks have no genres."""

    def tracks(self):
        return super().tracks().map(lambda track: {"genre": "", "genres": []})


def test_tracks_without_genres_are_refused_for_classification(music_folder):
    with pytest.raises(DataError, match=r"music.*; the first: blues/blues.000.wav: no genre"):
        decode_corpus(Unlabelled(str(music_folder({"blues": 2}, seconds=0.2))), RATE)


@pytest.mark.parametrize("content", [b"", b"no table at all, but some bytes", None], ids=["empty", "other", "half"])
@pytest.mark.parametrize("damaged", ["decoded", "listed"])
def test_a_damaged_cache_is_one_line_and_what_is_deleted_is_made_anew(music_folder, tmp_path, content, damaged):
    folder = music_folder({"blues": 2, "pop": 2}, seconds=0.3)
    corpus = decode(folder)
    before = [track["waveform"].copy() for track in corpus.tracks]
    listed = open_source(str(folder)).tracks().cache_files[0]["filename"]
    paths = {Path(file["filename"]) for file in corpus.tracks.cache_files} if damaged == "decoded" else {Path(listed)}
    for path in paths:
        # In its place and not into it: what is mapped into memory here stays whole.
        other = tmp_path / "other.arrow"
        other.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content is None else content)
        other.replace(path)
    with pytest.raises(DataError, match=r"a file in the cache of datasets is damaged .*: delete "):
        decode(folder)
    for path in paths:
        shutil.rmtree(path.parent) if damaged == "listed" else path.unlink()
    for track, waveform in zip(decode(folder).tracks, before, strict=True):
        np.testing.assert_array_equal(track["waveform"], waveform)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_cache_is_one_line_that_names_its_folder(music_folder, processes):
    """A quota stands in for the full disk."""
    folder = music_folder({"blues": 2, "pop": 2}, seconds=3.0, name=f"music_{processes}")
    open_source(str(folder)).tracks()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(SaveError) as error:
            decode_corpus(open_source(str(folder)), RATE, num_proc=processes)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(error.value).startswith(f"{datasets.config.HF_DATASETS_CACHE}: the disk is full or a quota is reached")
    assert "HF_HOME" in str(error.value)


def test_a_cache_that_cannot_be_written_is_one_line_that_names_its_folder(music_folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "datasets", Path("/proc/no/datasets")):
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
        with pytest.raises(SaveError, match=rf"{folder}: cannot be written .* HF_HOME"):
            decode(music_folder({"blues": 2}, seconds=0.2, name=f"music_{folder.parent.name}"))
    monkeypatch.undo()
    with pytest.raises(PermissionError, match="music"), reading_cache():  # of the music, not of the cache
        raise PermissionError(13, "Permission denied", str(tmp_path / "music"))
