"""`hfmgc predict` and `hfmgc similar`: paths, tables, resumed output, long and broken files."""

import csv
import io
import json
import os
import shutil
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from conftest import tone
from forked import Forked
from fresh import run_fresh

from hfmgc.data import audio
from hfmgc.data.audio import decode_audio
from hfmgc.features.feature_extraction_ast import HfmgcASTFeatureExtractor
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.inference import parts, prediction_files, songs
from hfmgc.inference.predict import TrackClassifier
from hfmgc.inference.songs import SongPredictor, _cut
from recipes import hfmgc_here


RATE = 16000


@pytest.fixture
def checkpoint(tiny_checkpoint):
    return tiny_checkpoint()


@pytest.fixture
def music(music_folder):
    """Five songs of different lengths in two folders, a silent one, one with an offset, and a broken one."""
    folder = music_folder(("blues", "pop"), tracks=2, seconds=1.5)
    soundfile.write(folder / "pop" / "long.wav", tone(7, seconds=5.0), RATE)
    soundfile.write(folder / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(folder / "offset.wav", np.full(RATE, 0.3), RATE)
    (folder / "broken.mp3").write_bytes(b"no sound")
    (folder / "notes.txt").write_text("no audio")
    return folder


@pytest.fixture
def packaged(tmp_path, tiny_checkpoint, monkeypatch):
    """Tiny checkpoints in place of those in the package: ten genres as "gtzan", tags of several labels as "msd"."""

    def make(*names):
        for name in names:
            folder = tiny_checkpoint(("blues", "happy", "pop"), name=f"packaged/{name}", **{
                "gtzan": {},
                "msd": {"problem_type": "multi_label_classification"},
            }[name])  # fmt: skip
            if name == "msd":
                path = folder / "config.json"
                path.write_text(json.dumps(json.loads(path.read_text()) | {"genres": ["blues", "pop"]}))
        for module in (songs, sys.modules["hfmgc.checkpoints"]):
            monkeypatch.setattr(module, "FOLDER", tmp_path / "packaged")

    return make


def predictions(*arguments, code: int = 0) -> dict:
    done = hfmgc_here("predict", *arguments, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_files_folders_globs_and_lists_name_each_file_once(checkpoint, music, monkeypatch):
    found = predictions(checkpoint, music, music / "pop" / "pop.*.wav", music / "pop" / "long.wav", code=3)
    assert {Path(file).name for file in found["predictions"]} == {
        "blues.000.wav", "blues.001.wav", "pop.000.wav", "pop.001.wav", "long.wav",
    }  # fmt: skip
    assert {Path(file).name for file in found["skipped"]} == {"silent.wav", "offset.wav", "broken.mp3"}
    (music / "blues" / "folder.mp3").mkdir()
    shutil.copy(music / "pop" / "long.wav", music / "caf\udce9.wav")  # a name in Latin-1
    listed = [music / "blues", "", music / "caf\udce9.wav", music / "pop" / ".." / "blues" / "blues.001.wav"]
    list_on_stdin(monkeypatch, *listed)
    found = predictions(checkpoint, "-")
    names = [Path(file).name for file in found["predictions"]]
    assert names == ["blues.000.wav", "blues.001.wav", "caf\\xe9.wav"] and not found["skipped"]


def list_on_stdin(monkeypatch, *paths):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n".join(os.fsencode(path) for path in paths))))


def test_folders_globs_and_lists_without_audio_are_errors(checkpoint, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    list_on_stdin(monkeypatch, "", "-")
    for path in (tmp_path / "*.flac", tmp_path / "empty", "-"):
        done = hfmgc_here("predict", checkpoint, path)
        assert done.returncode == 1
        assert f"error: {path}: no " in done.stderr


def test_batches_across_songs_predict_as_the_pipeline(checkpoint, music):
    files = sorted(map(str, music.glob("*/*.wav")))
    found = predictions(checkpoint, *files, "--batch_size", 3, "--num_proc", 2, "--top_k", 3)["predictions"]
    assert list(found) == files
    classifier = TrackClassifier(checkpoint)
    for file in files:
        expected = {item["label"]: item["score"] for item in classifier.classify_file(file)}
        assert {item["label"]: item["score"] for item in found[file]["genres"]} == pytest.approx(expected, abs=1e-5)
    counts = {Path(file).name: row["windows"] for file, row in found.items()}
    assert counts["pop.000.wav"] == 3 and counts["long.wav"] == 8


def test_the_table_lists_notes_and_unusable_files(checkpoint, music):
    soundfile.write(music / "short.wav", tone(3, seconds=0.3), RATE)
    done = hfmgc_here("predict", checkpoint, music, "--shortest_seconds", 0.1)
    assert done.returncode == 3
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["file", "genre", "windows"]
    assert len([line for line in lines if " of " in line and "pop" in line]) >= 3
    assert any("short.wav" in line and "looped" in line for line in lines)
    unusable = [line for line in lines if ": unusable: " in line]
    assert [Path(line.partition(":")[0]).name for line in unusable] == ["broken.mp3", "offset.wav", "silent.wav"]
    assert "constant offset" in unusable[1] and "silent" in unusable[2]


def test_a_truncated_file_is_predicted_with_a_note(checkpoint, tmp_path):
    soundfile.write(tmp_path / "song.wav", tone(3, seconds=4.0), RATE)
    content = (tmp_path / "song.wav").read_bytes()
    (tmp_path / "song.wav").write_bytes(content[: len(content) // 2])
    (row,) = predictions(checkpoint, tmp_path / "song.wav")["predictions"].values()
    assert row["genre"] and "truncated: 2.00 s of the 4.00 s" in row["note"]


def test_without_a_checkpoint_the_packaged_ones_predict_genres_and_tags(packaged, music):
    song = music / "pop" / "long.wav"
    packaged("msd")
    (row,) = predictions(song)["predictions"].values()
    assert {item["label"] for item in row["genres"]} == {"blues", "pop"}
    assert {item["label"] for item in row["tags"]} == {"blues", "happy", "pop"}
    packaged("gtzan")
    (row,) = predictions(song)["predictions"].values()
    assert sum(item["score"] for item in row["genres"]) == pytest.approx(1)
    assert len(row["genres"]) == len(row["tags"]) == 3
    assert row["agreeing"] <= row["windows"] == 8


def test_stages_that_packaged_checkpoints_share_are_computed_once_with_the_same_answers(tmp_path):
    soundfile.write(tmp_path / "song.wav", tone(1, seconds=4.0), RATE)
    names, files = ["package:gtzan", "package:msd"], [str(tmp_path / "song.wav")]
    both = SongPredictor(names)
    calls = []
    for model in both.models:
        model.model.timbral[0].register_forward_hook(lambda *_: calls.append(1))
    (together,) = both.predict(files)
    assert both.shared_stages == 1 and len(calls) == 1
    (genres,), (tags,) = (list(SongPredictor([name]).predict(files)) for name in names)
    for ours, alone in ((together.row["genres"], genres.row["genres"]), (together.row["tags"], tags.row["tags"])):
        assert [item["label"] for item in ours] == [item["label"] for item in alone]
        assert [item["score"] for item in ours] == pytest.approx([item["score"] for item in alone], abs=1e-5)


def test_checkpoints_with_equal_layers_but_other_weights_share_nothing(tiny_checkpoint):
    one, other = tiny_checkpoint(name="one"), tiny_checkpoint(name="other")
    model = SongPredictor([str(other)]).models[0]
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.mul_(1.5)
    model.save_pretrained(other)
    assert SongPredictor([str(one), str(other)]).shared_stages == 0


def test_checkpoints_with_other_front_ends_are_refused_together(tiny_checkpoint):
    one, other = tiny_checkpoint(name="one"), tiny_checkpoint(name="other")
    HfmgcASTFeatureExtractor(max_length=64, mean=0.0).save_pretrained(other)
    with pytest.raises(songs.ConfigError, match="other"):
        SongPredictor([str(one), str(other)])


def test_a_checkpoint_without_files_is_an_error(checkpoint):
    done = hfmgc_here("predict", checkpoint)
    assert done.returncode == 1 and str(checkpoint) in done.stderr


# Output files


def read(path: Path) -> list[dict]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with path.open(newline="") as file:
        return list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in file]


@pytest.mark.parametrize("suffix", prediction_files.SUFFIXES)
def test_an_output_file_has_a_row_for_each_file_and_is_not_overwritten(checkpoint, music, tmp_path, suffix):
    output = tmp_path / f"songs{suffix}"
    command = ["predict", checkpoint, music, "--output", output]
    done = hfmgc_here(*command)
    assert done.returncode == 3 and str(output) in done.stdout
    rows = read(output)
    assert [Path(row["file"]).name for row in rows if row["problem"]] == ["broken.mp3", "offset.wav", "silent.wav"]
    assert len([row for row in rows if row["genre"]]) == 5
    content = output.read_bytes()
    repeated = json.loads(hfmgc_here(*command, "--json").stdout)
    assert repeated["songs"] == 5 and len(repeated["skipped"]) == 3 and repeated["output"] == str(output)
    for options in (("--top_k", 1), ("--timeline", tmp_path / "lines")):
        other = hfmgc_here(*command, *options)
        assert other.returncode == 1 and str(output) in other.stderr
    config = checkpoint / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"voting": "majority"}))
    assert hfmgc_here(*command).returncode == 1, "its songs would be answered by another rule"
    assert output.read_bytes() == content
    assert not output.with_name(f"{output.name}.parts").exists()


def test_the_table_has_tags_only_for_a_model_of_tags(checkpoint, music):
    titles = hfmgc_here("predict", checkpoint, music / "pop" / "long.wav").stdout.splitlines()[0]
    assert titles.endswith("other genres")


def test_an_output_of_another_kind_is_refused(checkpoint, music, tmp_path):
    done = hfmgc_here("predict", checkpoint, music, "--output", tmp_path / "songs.xlsx")
    assert done.returncode == 1 and "--output" in done.stderr
    for name, content in (("a.csv", b"a,b\n1,2\n"), ("b.csv", b"\xff"), ("c.jsonl", b"[1]\n"), ("d.parquet", b"")):
        (tmp_path / name).write_bytes(content)
        done = hfmgc_here("predict", checkpoint, music, "--output", tmp_path / name)
        assert done.returncode == 1 and name in done.stderr
        assert (tmp_path / name).read_bytes() == content


HELD = """
import pathlib, sys, time
from hfmgc.cli import main
from hfmgc.inference import prediction_files, songs

prediction_files.SONGS_PER_PART = 2
opened, marker = songs.SongPredictor._open, pathlib.Path(sys.argv[1])

def held(self, file):
    if file.endswith("long.wav"):
        marker.touch()
        time.sleep(600)
    return opened(self, file)

songs.SongPredictor._open = held
sys.exit(main(sys.argv[2:]))
"""


def count_decoded(monkeypatch) -> list[str]:
    decoded, opened = [], SongPredictor._open
    monkeypatch.setattr(SongPredictor, "_open", lambda self, file: decoded.append(file) or opened(self, file))
    return decoded


@pytest.mark.parametrize("suffix", prediction_files.SUFFIXES)
def test_a_killed_prediction_resumes_with_nothing_lost_or_twice(checkpoint, music, tmp_path, monkeypatch, suffix):
    output, marker = tmp_path / f"songs{suffix}", tmp_path / "marker"
    script = tmp_path / "held.py"
    script.write_text(HELD)
    command = ["predict", checkpoint, music / "blues", music / "pop", "--output", output]
    process = Forked(script, marker, *command)
    while not (marker.exists() and list(tmp_path.glob("songs.*.parts/*.parquet"))):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not output.exists()
    monkeypatch.setattr(prediction_files, "SONGS_PER_PART", 2)
    decoded = count_decoded(monkeypatch)
    assert hfmgc_here(*command).returncode == 0
    assert 1 <= len(decoded) <= 3 and "long.wav" in decoded[0]
    resumed = read(output)
    assert hfmgc_here(*command[:-1], tmp_path / f"whole{suffix}").returncode == 0
    assert output.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    assert len({row["file"] for row in resumed}) == 5


def test_a_full_disk_ends_the_command_which_then_resumes(checkpoint, music, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_files, "SONGS_PER_PART", 2)
    output, written = tmp_path / "songs.csv", []
    write = parts.write_table

    def full(path, *arguments):
        written.append(path)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        write(path, *arguments)

    command = ["predict", checkpoint, music / "blues", music / "pop", "--output", output]
    with monkeypatch.context() as patched:
        patched.setattr(parts, "write_table", full)
        done = hfmgc_here(*command)
    assert done.returncode == 1 and str(tmp_path) in done.stderr and "disk is full" in done.stderr
    decoded = count_decoded(monkeypatch)
    assert hfmgc_here(*command).returncode == 0
    assert len(decoded) == 3
    assert len(read(output)) == 5


# Long files


@pytest.mark.parametrize(
    "extractor",
    [
        HfmgcASTFeatureExtractor(max_length=64, max_windows=3),
        HfmgcASTFeatureExtractor(max_length=64, window_policy="all"),
        HfmgcASTFeatureExtractor(max_length=64, window_policy="random"),
        SpectrogramFeatureExtractor(preset="musicnn", window_seconds=0.5),
        SpectrogramFeatureExtractor(num_bins=32, normalize_over="track", normalization="z_score", window_seconds=0.5),
        SpectrogramFeatureExtractor(num_bins=32, waveform_normalization="z_score", window_seconds=0.5),
        SpectrogramFeatureExtractor(num_bins=32, window_seconds=60.0),
    ],
    ids=["gaps", "all", "random", "musicnn", "track", "waveform", "short"],
)
def test_windows_cut_in_blocks_are_those_of_the_whole_track(tmp_path, monkeypatch, extractor):
    monkeypatch.setattr(songs, "BLOCK_WINDOWS", 3)
    soundfile.write(tmp_path / "song.wav", tone(1, seconds=7.3), extractor.sampling_rate)
    decoded = decode_audio(tmp_path / "song.wav", extractor.sampling_rate)
    expected = extractor.track_windows(decoded.waveform)
    starts, blocks = _cut(decoded, extractor)
    np.testing.assert_allclose(np.concatenate(list(blocks)), expected, atol=2e-4)
    assert len(starts) == len(expected) and 0 <= starts[0] <= starts[-1] < 7.3


@pytest.mark.parametrize("rate", [16000, 22050, 44100])
@pytest.mark.parametrize("gain", [0.5, 5.0])
def test_audio_decoded_in_blocks_is_that_decoded_whole(tmp_path, monkeypatch, rate, gain):
    waveform = np.stack([tone(1, seconds=3.1, sampling_rate=rate), tone(2, seconds=3.1, sampling_rate=rate)], axis=1)
    soundfile.write(tmp_path / "song.wav", gain * waveform, rate, subtype="FLOAT")
    whole = decode_audio(tmp_path / "song.wav", RATE)
    monkeypatch.setattr(audio, "BLOCK_FRAMES", 1000)
    monkeypatch.setattr(audio, "MEMORY_BYTES", 5000)
    blocks = decode_audio(tmp_path / "song.wav", RATE)
    assert np.array_equal(blocks.waveform, whole.waveform)
    assert np.abs(whole.waveform).max() > (0.9 if gain == 5.0 else 0.1)
    assert np.array_equal(blocks.read(1234, 5678), whole.waveform[1234:5678])


def test_memory_does_not_grow_with_the_length_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "BLOCK_FRAMES", 2**14)
    monkeypatch.setattr(audio, "MEMORY_BYTES", 2**16)
    extractor = HfmgcASTFeatureExtractor(max_length=64, window_policy="all")
    peaks = []
    for seconds in (20, 80):
        soundfile.write(tmp_path / "song.wav", tone(1, seconds=seconds), RATE)
        tracemalloc.start()
        _, blocks = _cut(decode_audio(tmp_path / "song.wav", RATE), extractor)
        assert sum(len(block) for block in blocks) > 3 * seconds
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_a_part_of_a_long_song_is_heard_unless_all_is_asked_for(checkpoint, music):
    HfmgcASTFeatureExtractor(max_length=64, max_windows=2).save_pretrained(checkpoint)
    song = music / "pop" / "long.wav"
    (part,) = predictions(checkpoint, song)["predictions"].values()
    assert part["windows"] == 2 and part["heard_seconds"] == pytest.approx(1.31, abs=0.01)
    assert "--all_windows" in part["note"]
    (whole,) = predictions(checkpoint, song, "--all_windows")["predictions"].values()
    assert whole["windows"] == 8 and whole["heard_seconds"] == pytest.approx(5.0, abs=0.05) and not whole["note"]


def test_the_timeline_is_a_table_and_a_picture_for_each_song(checkpoint, music, tmp_path):
    for copy in ("blues/long.wav", "long-2.wav", "$\\x$.wav"):  # `$` begins a formula in labels of matplotlib
        shutil.copy(music / "pop" / "long.wav", music / copy)
    found = predictions(checkpoint, music, "--timeline", tmp_path / "lines", code=3)["predictions"]
    names = {"blues.000", "blues.001", "pop.000", "pop.001", "$\\x$", "long", "long-2", "long-3"}
    assert {path.name for path in (tmp_path / "lines").iterdir()} == {
        f"{name}{suffix}" for name in names for suffix in (".csv", ".png")
    }
    rows = read(tmp_path / "lines" / "long.csv")
    row = found[str(music / "blues" / "long.wav")]
    assert len(rows) == row["windows"] and float(rows[0]["start"]) == 0 and float(rows[-1]["end"]) == 5.0
    assert sum(line["genre"] == row["genre"] for line in rows) == row["agreeing"]
    assert (tmp_path / "lines" / "long.png").read_bytes().startswith(b"\x89PNG")


def test_predicting_imports_no_library_that_it_does_not_need(tmp_path):
    soundfile.write(tmp_path / "song.wav", tone(1, seconds=4.0), RATE)
    unused = {
        "audiomentations", "datasets", "evaluate", "librosa.core", "matplotlib", "numba", "pandas", "peft", "pyarrow", "scipy.signal",
        "sklearn", "transformers.generation.utils", "transformers.pipelines", "transformers.trainer",
    }  # fmt: skip
    code = f"import sys; from hfmgc.cli import main; print(main(sys.argv[1:]), {unused} & set(sys.modules))"
    done = run_fresh(code, "predict", tmp_path / "song.wav")
    assert done.stdout.splitlines()[-1] == "0 set()", done.stdout + done.stderr


# Similar songs


def test_the_nearest_song_is_the_song_itself(checkpoint, music, tmp_path):
    embeddings = tmp_path / "embeddings.parquet"
    assert hfmgc_here("embed", music, embeddings, "--checkpoint", checkpoint).returncode == 0
    done = hfmgc_here("similar", music / "pop" / "long.wav", embeddings, "--top_k", 3, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["songs"]
    assert len(found) == 3 and found[0]["track_id"] == "pop/long.wav"
    similarities = [song["similarity"] for song in found]
    assert similarities[0] == pytest.approx(1, abs=1e-5) and similarities == sorted(similarities, reverse=True)
    assert hfmgc_here("similar", music / "pop" / "long.wav", embeddings).stdout.splitlines()[0].startswith("1.000")


def test_similar_refuses_another_checkpoint_and_other_files(checkpoint, tiny_checkpoint, music, tmp_path):
    embeddings, song = tmp_path / "embeddings.parquet", music / "pop" / "long.wav"
    assert hfmgc_here("embed", music, embeddings, "--checkpoint", checkpoint).returncode == 0
    other = tiny_checkpoint(name="other")
    HfmgcASTFeatureExtractor(max_length=64, mean=0.0).save_pretrained(other)
    for arguments, named in (
        ((song, embeddings, "--checkpoint", other), str(embeddings)),
        ((song, song), str(song)),
        ((music / "silent.wav", embeddings), "silent.wav"),
    ):
        done = hfmgc_here("similar", *arguments)
        assert done.returncode == 1 and named in done.stderr
    table = pq.read_table(embeddings)
    column = table.column_names.index("embedding")
    rows = [[float("nan")] * table["embedding"].type.list_size] * len(table)
    for broken in (
        table.slice(0, 0),
        table.drop_columns("embedding"),
        table.set_column(column, "embedding", pa.array(rows)),
        table.set_column(column, "embedding", pa.array([[1.0, 2.0]] * len(table))),
        table.set_column(column, "embedding", pa.array([None] * len(table), pa.list_(pa.float32()))),
    ):
        pq.write_table(broken.replace_schema_metadata(table.schema.metadata), tmp_path / "broken.parquet")
        done = hfmgc_here("similar", song, tmp_path / "broken.parquet")
        assert done.returncode == 1 and "broken.parquet" in done.stderr
    checkpoint.rename(tmp_path / "moved")
    assert hfmgc_here("similar", song, embeddings).returncode == 1
    assert hfmgc_here("similar", song, embeddings, "--checkpoint", tmp_path / "moved").returncode == 0
