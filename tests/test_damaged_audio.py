"""Audio that is there in part, too short or a constant: what check, a run and predict say of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import tone, write_music

import hfmgc.cli
from hfmgc.data.audio import decode_audio
from hfmgc.data.check import check_source
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.sources import open_source
from hfmgc.errors import AudioError
from hfmgc.features.feature_extraction_ast import HfmgcASTFeatureExtractor
from hfmgc.training.arguments import DataArguments, RunArguments
from hfmgc.training.preparation import prepare_data
from recipes import hfmgc_here


RATE = 16000


def encoded(path: Path, *, seconds: float = 4.0, rate: int = RATE, **options) -> bytes:
    soundfile.write(path, tone(1, seconds=seconds, sampling_rate=rate), rate, **options)
    return path.read_bytes()


def without_tag(mp3: bytes) -> bytes:
    """Drop the first frame of an MP3, which holds the tag that declares its length."""
    return mp3[mp3.index(b"\xff\xfb", 4) :]


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("wav", {}),
        ("wav", {"subtype": "MS_ADPCM"}),
        ("wav", {"format": "WAVEX", "subtype": "FLOAT"}),
        ("wav", {"format": "RF64"}),
        ("aiff", {}),
        ("au", {}),
        ("mp3", {"bitrate_mode": "VARIABLE", "compression_level": 0.5}),
        ("mp3", {"bitrate_mode": "CONSTANT", "compression_level": 0.5}),
    ],
)
def test_a_file_that_ends_before_its_header_says_is_truncated(tmp_path, suffix, options):
    whole = encoded(tmp_path / f"a.{suffix}", **options)
    assert decode_audio(whole, RATE).truncation == ""
    assert decode_audio(tmp_path / f"a.{suffix}", RATE).truncation == ""
    half = decode_audio(whole[: len(whole) // 2], RATE)
    assert half.seconds == pytest.approx(2.0, abs=0.2)
    assert half.declared_seconds == pytest.approx(4.0, abs=0.1)
    assert half.truncation == f"{half.seconds:.2f} s of the {half.declared_seconds:.2f} s that its header declares"
    assert len(half.waveform) == pytest.approx(half.seconds * RATE, abs=1)


def test_headers_that_declare_no_length_accuse_nobody(tmp_path):
    wav = encoded(tmp_path / "a.wav")
    place = wav.index(b"data") + 4
    for size in (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF024):  # what ffmpeg and sox write to a pipe
        streamed = wav[:place] + size.to_bytes(4, "little") + wav[place + 4 :]
        assert decode_audio(streamed, RATE).truncation == ""
    mp3 = encoded(tmp_path / "a.mp3", rate=44100, bitrate_mode="CONSTANT", compression_level=0.5)
    assert decode_audio(without_tag(mp3), RATE).truncation == ""
    assert decode_audio(without_tag(mp3)[: len(mp3) // 2], RATE).truncation == ""
    # Behind a tag with a picture of the cover.
    cover = b"ID3\x04\x00\x00" + bytes((0, 0, 40, 0)) + bytes(40 * 128)
    assert decode_audio(cover + mp3, RATE).truncation == ""
    assert "that its header declares" in decode_audio(cover + mp3[: len(mp3) // 2], RATE).truncation


def test_truncated_files_are_reported_by_check_and_listed_in_a_run(tmp_path, capsys):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=3, seconds=4.0)
    for name in ("a.wav", "b.mp3"):
        whole = encoded(music / "blues" / name)
        (music / "blues" / name).write_bytes(whole[: len(whole) // 2])
    assert hfmgc.cli.main(["check", str(music)]) == 0
    text = capsys.readouterr().out
    assert "truncated (usable):" in text
    report = check_source(open_source(str(music)))
    found = {finding.track_id: finding.detail for finding in report.findings if finding.kind == "truncated"}
    assert found.keys() == {"blues/a.wav", "blues/b.mp3"}
    corpus = decode_corpus(open_source(str(music)), RATE)
    assert corpus.truncated == found
    assert len(corpus.tracks) == 8
    assert corpus.notes() == [
        f"2 truncated tracks are used as they are: blues/a.wav ({found['blues/a.wav']}), "
        f"blues/b.mp3 ({found['blues/b.mp3']})"
    ]


@pytest.fixture
def poor(tmp_path) -> Path:
    """A folder with a clip of half a second and one that is a constant, besides sound ones."""
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=4, seconds=1.0)
    soundfile.write(music / "pop" / "short.wav", tone(1, seconds=0.5), RATE)
    soundfile.write(music / "pop" / "offset.wav", np.full(2 * RATE, 0.25), RATE, subtype="FLOAT")
    return music


SHORT = "too short (0.50 s; the minimum is 1 s)"
OFFSET = "no sound, only a constant offset"


def test_training_skips_short_clips_and_constants_as_asked(poor, tmp_path):
    def skipped(**options) -> dict[str, str]:
        arguments = DataArguments(data=str(poor), split_ratios="2:1:1", augmentation="none", **options)
        run = RunArguments(output_dir=str(tmp_path / "run"), use_cpu=True)
        corpus = prepare_data(arguments, run, HfmgcASTFeatureExtractor(max_length=64)).corpus
        return {track.track_id: track.reason for track in corpus.skipped}

    assert skipped() == {"pop/short.wav": SHORT, "pop/offset.wav": OFFSET}
    assert skipped(shortest_seconds=0.1) == {"pop/offset.wav": OFFSET}


def test_evaluate_and_extract_skip_what_training_skips(poor, tmp_path, tiny_checkpoint):
    done = hfmgc_here("evaluate", tiny_checkpoint(("blues", "pop")), "--data", poor, "--json")
    assert {row["track_id"]: row["reason"] for row in json.loads(done.stdout)["skipped"]} == {
        "pop/short.wav": SHORT,
        "pop/offset.wav": OFFSET,
    }
    done = hfmgc_here("extract", poor, tmp_path / "features", "--front_end", "{max_length: 64}", "--json")
    assert {row["track_id"] for row in json.loads(done.stdout)["skipped"]} == {"pop/short.wav", "pop/offset.wav"}


def test_predict_calls_short_clips_and_constants_unusable(poor, tiny_checkpoint):
    checkpoint, files = tiny_checkpoint(), [poor / "pop" / name for name in ("short.wav", "offset.wav", "pop.000.wav")]
    done = hfmgc_here("predict", checkpoint, *files)
    assert done.stdout.splitlines()[2:] == [f"{files[0]}: unusable: {SHORT}", f"{files[1]}: unusable: {OFFSET}"]
    done = hfmgc_here("predict", checkpoint, files[0])
    assert done.returncode == 3
    assert f"{files[0]}: unusable: {SHORT}" in done.stdout
    done = hfmgc_here("predict", checkpoint, files[0], "--shortest_seconds", "0.2", "--json")
    assert str(files[0]) in json.loads(done.stdout)["predictions"]


def test_a_quiet_track_with_an_offset_is_music(tmp_path):
    waveform = 0.3 + 0.001 * tone(1, seconds=1.0)
    soundfile.write(tmp_path / "quiet.wav", waveform, RATE, subtype="FLOAT")
    np.testing.assert_allclose(
        decode_audio(tmp_path / "quiet.wav", RATE).waveform, waveform, atol=1.6e-5
    )  # of 16 bits
    soundfile.write(tmp_path / "constant.wav", np.full(RATE, 0.3), RATE)
    with pytest.raises(AudioError, match=OFFSET):
        decode_audio(tmp_path / "constant.wav", RATE)
