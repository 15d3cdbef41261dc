"""`hfmgc extract`: features once, in shards, resumed where it was interrupted, and equal to what the extractor gives."""

import importlib.metadata
import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from conftest import write_music
from forked import run_forked

import hfmgc.cli
from hfmgc.data import caching, extraction
from hfmgc.data.audio import load_audio
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.extraction import LOCK_FILE, extract_corpus
from hfmgc.data.features import track_windows
from hfmgc.data.sources import open_source
from hfmgc.errors import DataError
from hfmgc.features.feature_extraction_ast import HfmgcASTFeatureExtractor
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.files import file_lock


FIELDS = {"preset": "gtzan_decimated", "window_frames": 64}
DECIMATED = ("--front_end", json.dumps(FIELDS))
RATE = 22050


@pytest.fixture
def music(tmp_path) -> Path:
    """Eight tracks of two genres, among them a broken and an empty file."""
    folder = write_music(tmp_path / "music", ("blues", "pop"), tracks=3, seconds=2, sampling_rate=RATE)
    (folder / "blues" / "broken.mp3").write_bytes(b"no music")
    (folder / "pop" / "empty.wav").write_bytes(b"")
    return folder


def extract(capsys, data: Path, output: Path, *options: str) -> dict:
    """Run `hfmgc extract --json` in shards of three tracks and return the document."""
    capsys.readouterr()
    assert hfmgc.cli.main(["extract", str(data), str(output), "--shard_size", "3", "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments: object) -> str:
    """Return the one line that a refused extraction ends with."""
    capsys.readouterr()
    assert hfmgc.cli.main(["extract", *map(str, arguments)]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line


def stored(folder: Path) -> dict[str, np.ndarray]:
    """Return track id -> features of an extraction."""
    tracks = open_source(str(folder)).tracks().with_format("numpy", columns=["features"], output_all_columns=True)
    return {track["track_id"]: np.asarray(track["features"]) for track in tracks}


def shard_states(folder: Path) -> dict[str, tuple[int, int]]:
    """Return what tells whether a shard was written again: its inode and its time of change."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("part-*")}


def test_features_equal_those_of_the_extractor_and_lie_in_shards(music, tmp_path, capsys):
    result = extract(capsys, music, tmp_path / "out", *DECIMATED)
    assert (result["tracks"], result["complete"]) == (6, True)
    names = [path.name for path in sorted((tmp_path / "out").glob("*.parquet"))]
    assert names == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert [pq.read_metadata(tmp_path / "out" / name).num_rows for name in names] == [3, 1, 2]
    features = stored(tmp_path / "out")
    assert len(features) == 6
    extractor = SpectrogramFeatureExtractor(**FIELDS)
    for track_id, values in features.items():
        expected = extractor.track_features(load_audio(music / track_id, RATE))
        assert expected.shape[1] == 128
        np.testing.assert_array_equal(values, expected)


def test_broken_files_are_counted_and_named(music, tmp_path, capsys):
    result = extract(capsys, music, tmp_path / "out", *DECIMATED)
    reasons = {row["track_id"]: row["reason"] for row in result["skipped"]}
    assert sorted(reasons) == ["blues/broken.mp3", "pop/empty.wav"]
    assert reasons["pop/empty.wav"] == "empty file (0 bytes)"
    assert json.loads((tmp_path / "out" / "extraction.json").read_text()) == result
    assert hfmgc.cli.main(["extract", str(music), str(tmp_path / "out"), "--shard_size", "3", *DECIMATED]) == 0
    text = capsys.readouterr().out
    assert text.startswith("6 tracks extracted to ")
    assert "skipped: pop/empty.wav: empty file (0 bytes)" in text


def test_two_processes_write_what_one_writes_bit_for_bit(music, tmp_path, capsys):
    one = extract(capsys, music, tmp_path / "one", *DECIMATED)
    two = extract(capsys, music, tmp_path / "two", *DECIMATED, "--num_proc", "2")
    assert one == two
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_only_a_shard_that_is_missing_is_written_again(music, tmp_path, capsys):
    first = extract(capsys, music, tmp_path / "out", *DECIMATED)
    content = (tmp_path / "out" / "part-00001.parquet").read_bytes()
    before = shard_states(tmp_path / "out")
    (tmp_path / "out" / "part-00001.parquet").unlink()
    assert extract(capsys, music, tmp_path / "out", *DECIMATED) == first
    after = shard_states(tmp_path / "out")
    assert sorted(before) == sorted(after)
    assert {name for name in before if before[name] != after[name]} == {"part-00001.parquet"}
    assert (tmp_path / "out" / "part-00001.parquet").read_bytes() == content


def test_a_finished_extraction_decodes_nothing_again(music, tmp_path, capsys, monkeypatch):
    first = extract(capsys, music, tmp_path / "out", *DECIMATED)
    monkeypatch.setattr(extraction, "decode_track", None)
    assert extract(capsys, music, tmp_path / "out", *DECIMATED) == first


KILLED = """
import os, sys
import hfmgc.cli
from hfmgc.data import caching, extraction
load, calls = extraction.decode_track, []
def load_and_die(*arguments, **options):
    calls.append(arguments)
    if len(calls) == 8:
        os._exit(9)
    return load(*arguments, **options)
extraction.decode_track = load_and_die
hfmgc.cli.main(sys.argv[1:])
"""


def test_a_killed_extraction_is_not_trusted_and_goes_on_in_another_process(music, tmp_path, capsys):
    out = tmp_path / "out"
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    done = run_forked(script, "extract", music, out, "--shard_size", "3", *DECIMATED)
    assert done.returncode == 9, done.stderr
    assert sorted(path.suffix for path in out.glob("part-00002*")) == [".tmp"]  # half of the last shard
    assert sorted(path.name for path in out.glob("*.parquet")) == ["part-00000.parquet", "part-00001.parquet"]
    with pytest.raises(DataError, match=r"extraction was interrupted.*hfmgc extract"):
        open_source(str(out)).tracks()
    before = shard_states(out)
    assert extract(capsys, music, out, *DECIMATED)["tracks"] == 6
    after = shard_states(out)
    for name in ("part-00000.parquet", "part-00001.parquet"):
        assert after[name] == before[name]
    extract(capsys, music, tmp_path / "whole", *DECIMATED)
    for path in (tmp_path / "whole").glob("*.parquet"):
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_a_half_written_temporary_is_no_part_of_the_result(music, tmp_path, capsys):
    extract(capsys, music, tmp_path / "out", *DECIMATED)
    before = stored(tmp_path / "out")
    left = tmp_path / "out" / "part-00002.4711.tmp"
    (tmp_path / "out" / "part-00002.parquet").rename(left)
    left.write_bytes(b"half")
    extract(capsys, music, tmp_path / "out", *DECIMATED)
    after = stored(tmp_path / "out")
    assert not left.exists()
    assert sorted(before) == sorted(after)
    for track_id, values in after.items():
        np.testing.assert_array_equal(values, before[track_id])


def test_a_worker_that_outlived_its_parent_writes_no_shard_into_another_extraction(
    music, tmp_path, capsys, monkeypatch
):
    original = extraction._Extraction.row

    def row(self, index):
        description = json.loads((self.folder / "extraction.json").read_text())
        (self.folder / "extraction.json").write_text(json.dumps({**description, "dtype": "float16"}))
        return original(self, index)

    monkeypatch.setattr(extraction._Extraction, "row", row)
    assert "out: another extraction" in refused(capsys, music, tmp_path / "out", *DECIMATED)
    assert not list((tmp_path / "out").glob("part-*"))


def test_two_extractions_do_not_write_to_one_folder_at_a_time(music, tmp_path, capsys):
    with file_lock(tmp_path / "out" / LOCK_FILE):
        line = refused(capsys, music, tmp_path / "out", *DECIMATED)
    assert "out: another hfmgc extract is writing to it: wait until it has ended" in line
    assert not (tmp_path / "out" / "extraction.json").exists()
    assert extract(capsys, music, tmp_path / "out", *DECIMATED)["tracks"] == 6


def test_a_damaged_description_is_one_line_and_nothing_is_written_over(music, tmp_path, capsys):
    extract(capsys, music, tmp_path / "out", *DECIMATED)
    before = shard_states(tmp_path / "out")
    (tmp_path / "out" / "extraction.json").write_text('{"complete": tr')
    line = refused(capsys, music, tmp_path / "out", "--shard_size", 3, *DECIMATED)
    assert "extraction.json: damaged" in line
    assert shard_states(tmp_path / "out") == before


def test_a_folder_of_another_front_end_data_or_type_is_refused_naming_what_differs(music, tmp_path, capsys):
    out = tmp_path / "out"
    extract(capsys, music, out, *DECIMATED)
    before = shard_states(out)
    same = ("--shard_size", 3)
    other = ("--front_end", "{preset: gtzan_decimated, n_fft: 1024}")
    assert "(front_end differ)" in refused(capsys, music, out, *same, *other)
    assert "(dtype differ)" in refused(capsys, music, out, *same, *DECIMATED, "--dtype", "float16")
    assert "(shard_size differ)" in refused(capsys, music, out, *DECIMATED, "--shard_size", 4)
    soundfile.write(music / "pop" / "new.wav", load_audio(music / "pop" / "pop.000.wav", RATE)[::-1], RATE)
    assert "(tracks_digest differ)" in refused(capsys, music, out, *same, *DECIMATED)
    assert shard_states(out) == before


def test_values_beyond_half_precision_are_refused_and_the_folder_stays_usable(music, tmp_path, capsys):
    bare = ("--front_end", json.dumps({"representation": "stft", "scale": "none", "power": 3.0}))
    line = refused(capsys, music, tmp_path / "out", *bare, "--dtype", "float16")
    assert "dtype: the features of blues/blues.000.wav exceed the range of float16: choose float32" in line
    assert extract(capsys, music, tmp_path / "out", *DECIMATED)["tracks"] == 6


@pytest.mark.parametrize("front_end", [{"max_length": 64}, {"preset": "divide_and_conquer_3s"}, FIELDS])
def test_half_precision_gives_the_windows_of_the_audio_to_a_tenth_of_a_decibel(music, tmp_path, capsys, front_end):
    extract(capsys, music, tmp_path / "out", "--front_end", json.dumps(front_end), "--dtype", "float16")
    extractor_class = SpectrogramFeatureExtractor if "preset" in front_end else HfmgcASTFeatureExtractor
    extractor = extractor_class(**front_end)
    tracks = open_source(str(tmp_path / "out")).tracks().with_format("numpy", ["features"], output_all_columns=True)
    assert len(tracks) == 6
    assert tracks.features["features"].feature.feature.dtype == "float16"
    for track in tracks:
        waveform = load_audio(music / track["track_id"], extractor.sampling_rate)
        np.testing.assert_allclose(track_windows(track, extractor), extractor.track_windows(waveform), atol=0.1 / 80)


def test_normalisation_and_windows_may_differ_when_an_extraction_is_resumed(music, tmp_path, capsys):
    first = extract(capsys, music, tmp_path / "out", *DECIMATED)
    other = {"preset": "gtzan_decimated", "window_frames": 65, "normalization": "z_score", "normalize_over": "window"}
    assert extract(capsys, music, tmp_path / "out", "--front_end", json.dumps(other)) == first


def test_shards_of_another_code_version_are_not_mixed(music, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    extract(capsys, music, out, *DECIMATED)
    (out / "part-00001.parquet").unlink()
    installed = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0.1" if name == "librosa" else installed(name))
    before = shard_states(out)
    assert "(code differ)" in refused(capsys, music, out, "--shard_size", 3, *DECIMATED)
    assert shard_states(out) == before


def test_features_of_other_versions_are_said_or_refused(music, tmp_path, capsys, monkeypatch):
    extract(capsys, music, tmp_path / "out", *DECIMATED)
    installed = importlib.metadata.version
    assert open_source(str(tmp_path / "out")).notes() == []
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", lambda name: "0.0.1" if name == "librosa" else installed(name))
        (note,) = open_source(str(tmp_path / "out")).notes()
    assert note == f"these features were extracted with librosa {installed('librosa')} (now 0.0.1)"
    monkeypatch.setitem(caching.COMPUTATIONS, "features", caching.Computation(99))
    with pytest.raises(DataError, match=r"another version of hfmgc extracted these features"):
        open_source(str(tmp_path / "out")).tracks()


def test_a_flipped_bit_in_a_shard_is_found_when_it_is_loaded_and_when_it_is_resumed(music, tmp_path, capsys):
    out = tmp_path / "out"
    extract(capsys, music, out, *DECIMATED)
    path = out / "part-00000.parquet"
    whole = path.read_bytes()
    spoiled = bytearray(whole)
    spoiled[len(whole) // 2] ^= 1
    path.write_bytes(spoiled)
    with pytest.raises(DataError, match=r"part-00000.parquet: cannot be read as features"):
        open_source(str(out)).tracks()
    extract(capsys, music, out, *DECIMATED)
    assert path.read_bytes() == whole


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(music, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("my own")
    line = refused(capsys, music, tmp_path / "mine", *DECIMATED)
    assert "is not empty" in line
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_an_unknown_dtype_and_features_instead_of_audio_are_refused(music, tmp_path, capsys):
    assert "float32, float16" in refused(capsys, music, tmp_path / "out", *DECIMATED, "--dtype", "int4")
    extract(capsys, music, tmp_path / "out", *DECIMATED)
    assert "out: these are features already" in refused(capsys, tmp_path / "out", tmp_path / "again", *DECIMATED)


def test_a_corpus_without_a_usable_track_is_an_error(tmp_path, capsys):
    (tmp_path / "music" / "blues").mkdir(parents=True)
    (tmp_path / "music" / "blues" / "a.wav").write_bytes(b"")
    line = refused(capsys, tmp_path / "music", tmp_path / "out", *DECIMATED)
    assert "folder (music): no track can be used; the first: blues/a.wav: empty file" in line


def test_what_is_excluded_is_not_extracted(music, tmp_path, capsys):
    (tmp_path / "bad.csv").write_text("track_id,reason\npop/pop.000.wav,duplicate: of another\n")
    assert hfmgc.cli.main(["check", str(music)]) == 0  # which changes nothing
    result = extract(capsys, music, tmp_path / "out", "--exclude", str(tmp_path / "bad.csv"), *DECIMATED)
    reasons = {row["track_id"]: row["reason"] for row in result["skipped"]}
    assert reasons["pop/pop.000.wav"] == "excluded: duplicate: of another"
    assert "pop/pop.000.wav" not in stored(tmp_path / "out")


def test_shards_with_another_exclusion_list_are_not_resumed(music, tmp_path, capsys):
    (tmp_path / "bad.txt").write_text("pop/pop.000.wav\n")
    extract(capsys, music, tmp_path / "out", *DECIMATED)
    before = shard_states(tmp_path / "out")
    more = ("--shard_size", 3, "--exclude", tmp_path / "bad.txt", *DECIMATED)
    line = refused(capsys, music, tmp_path / "out", *more)
    assert "(excluded_digest differ): choose another folder" in line
    assert shard_states(tmp_path / "out") == before


def test_all_genres_of_a_track_are_kept(tmp_path, capsys):
    folder = write_music(tmp_path / "music", ("blues", "pop"), tracks=1, seconds=1, sampling_rate=RATE)
    given = {"blues/blues.000.wav": ["blues", "soul", "演歌"], "pop/pop.000.wav": ["pop"]}

    class ManyGenres(type(open_source(str(folder)))):
        def tracks(self):
            return super().tracks().map(lambda row: {"genres": given[row["track_id"]]})

    extractor = SpectrogramFeatureExtractor(**FIELDS)
    extract_corpus(ManyGenres(str(folder)), extractor, tmp_path / "out", shard_size=1)
    tracks = open_source(str(tmp_path / "out")).tracks()
    assert dict(zip(tracks["track_id"], tracks["genres"], strict=True)) == given
    assert list(tracks["genre"]) == ["blues", "pop"]


def test_truncated_files_are_named_when_their_features_are_used(music, tmp_path, capsys):
    path = music / "pop" / "pop.000.wav"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    extract(capsys, music, tmp_path / "out", *DECIMATED)
    corpus = decode_corpus(open_source(str(tmp_path / "out")), RATE)
    assert list(corpus.truncated) == ["pop/pop.000.wav"]
    assert "1 truncated tracks" in corpus.notes()[0]


def test_depths_and_names_of_all_kinds_are_extracted(tmp_path, capsys):
    folder = write_music(tmp_path / "müzik", ("演歌",), tracks=1, seconds=1, sampling_rate=RATE)
    waveform = load_audio(folder / "演歌" / "演歌.000.wav", RATE)
    for subtype in ("PCM_U8", "PCM_24", "FLOAT"):
        soundfile.write(folder / "演歌" / f"naïve {subtype}.wav", waveform, RATE, subtype=subtype)
    soundfile.write(folder / "演歌" / "one.wav", np.array([0.5]), RATE)
    extract(capsys, folder, tmp_path / "out", "--shortest_seconds", "0", *DECIMATED)
    features = stored(tmp_path / "out")
    exact = features.pop("演歌/演歌.000.wav")
    assert len(features) == 4
    np.testing.assert_array_equal(features["演歌/naïve FLOAT.wav"], exact)
    np.testing.assert_allclose(features["演歌/naïve PCM_24.wav"], exact, atol=1e-3)
    assert np.isfinite(features["演歌/one.wav"]).all()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser writes everywhere")
def test_a_place_that_cannot_be_written_is_named(music, tmp_path, capsys):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "locked" in refused(capsys, music, tmp_path / "locked" / "out", *DECIMATED)


def test_a_damaged_shard_is_written_again_and_a_missing_one_is_noticed(tmp_path):
    music = write_music(tmp_path / "music", {"blues": 2, "pop": 2}, seconds=0.5)
    extractor = SpectrogramFeatureExtractor(preset="gtzan_decimated")
    extract_corpus(open_source(str(music)), extractor, tmp_path / "out", shard_size=2)
    first, second = (tmp_path / "out" / f"part-0000{number}.parquet" for number in range(2))
    whole = first.read_bytes()
    first.write_bytes(whole[:200])
    extract_corpus(open_source(str(music)), extractor, tmp_path / "out", shard_size=2)
    assert first.read_bytes() == whole
    second.unlink()
    with pytest.raises(DataError, match="2 of the 4 extracted tracks"):
        open_source(str(tmp_path / "out")).tracks()
