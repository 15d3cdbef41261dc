"""Links that cannot be followed and names that are not UTF-8 are skipped, counted and named, wherever tracks are listed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from conftest import tone, write_music

import hfmgc.cli
from hfmgc.data.check import check_source
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.sources import open_source
from hfmgc.errors import DataError


RATE = 16000
STRICT_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii:strict"}
LATIN = os.fsdecode(b"caf\xe9.wav")  # in Latin-1


def skipped(source) -> dict[str, str]:
    return {track.track_id: track.reason for track in decode_corpus(source, RATE).skipped}


def test_links_that_lead_nowhere_or_in_a_circle_are_listed_as_skipped(tmp_path):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=1)
    (music / "blues" / "gone.wav").symlink_to(tmp_path / "gone.wav")
    (music / "blues" / "itself.wav").symlink_to("itself.wav")
    (music / "pop" / "more").symlink_to(tmp_path / "nowhere")
    (music / "pop" / "round").symlink_to(music)
    (music / "rock").symlink_to(tmp_path / "unmounted")
    (music / "all").symlink_to(".")
    (music / "pop" / ".hidden").symlink_to(tmp_path / "nowhere")
    source = open_source(str(music))
    nowhere, circle = "a link to a missing file", "a link to one of its parent folders"
    expected = {
        "all": circle,
        "blues/gone.wav": nowhere,
        "blues/itself.wav": circle,
        "pop/more": nowhere,
        "pop/round": circle,
        "rock": nowhere,
    }
    assert skipped(source) == expected
    assert source.genres() == ["blues", "pop"]
    report = check_source(source, shortest_seconds=0)
    assert {finding.track_id: finding.detail for finding in report.findings} == expected
    assert (report.tracks, report.usable) == (8, 2)


def test_files_in_linked_folders_are_read(tmp_path):
    elsewhere = write_music(tmp_path / "elsewhere", ("album",), tracks=2)
    music = write_music(tmp_path / "music", ("blues",), tracks=1)
    (music / "blues" / "album").symlink_to(elsewhere / "album")
    (music / "pop").symlink_to(elsewhere)
    source = open_source(str(music))
    assert decode_corpus(source, RATE).tracks["track_id"] == [
        "blues/album/album.000.wav",
        "blues/album/album.001.wav",
        "blues/blues.000.wav",
        "pop/album/album.000.wav",
        "pop/album/album.001.wav",
    ]
    assert source.genres() == ["blues", "pop"]


@pytest.fixture
def latin(tmp_path) -> Path:
    """A folder in which a file, a folder and a genre have names in Latin-1."""
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=4)
    for name in (LATIN, os.fsdecode(b"d\xe9j\xe0/a.wav")):
        (music / "blues" / name).parent.mkdir(exist_ok=True)
        soundfile.write(str(music / "blues" / "new.wav"), tone(9, seconds=1), RATE)
        (music / "blues" / "new.wav").rename(music / "blues" / name)
    genre = music / os.fsdecode(b"vari\xe9t\xe9")
    genre.mkdir()
    (music / "pop" / "pop.003.wav").rename(genre / "b.wav")
    return music


NAMED = {"blues/caf\\xe9.wav", "blues/d\\xe9j\\xe0/a.wav", "vari\\xe9t\\xe9/b.wav"}


def test_names_that_are_not_utf8_are_skipped_counted_and_named(latin, capsys):
    source = open_source(str(latin))
    reasons = skipped(source)
    assert reasons.keys() == NAMED
    assert set(reasons.values()) == {"its path or genre is not UTF-8: rename it"}
    assert source.genres() == ["blues", "pop"]
    assert hfmgc.cli.main(["check", str(latin), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["tracks"], report["usable"]) == (10, 7)
    assert {finding["track_id"] for finding in report["findings"]} == NAMED


def test_data_whose_own_path_is_not_utf8_are_one_line(tmp_path):
    folder = write_music(tmp_path / "music", ("blues",), tracks=1).rename(tmp_path / LATIN)
    with pytest.raises(DataError, match=r"caf\\xe9.wav: its path or genre is not UTF-8: rename it"):
        open_source(str(folder))


def test_a_list_with_names_that_are_not_utf8_loses_only_their_rows(latin):
    rows = [
        {"path": str(latin / "pop" / "pop.000.wav"), "label": "pop"},
        {"path": f"music/blues/{LATIN}", "label": "blues"},
        {"path": "music/blues/blues.000.wav", "label": "vari\udce9t\udce9"},
        {"path": "music/\ud800.wav", "label": "blues"},
    ]
    path = latin.parent / "tracks.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    source = open_source(str(path))
    corpus = decode_corpus(source, RATE)
    assert len(corpus.tracks) == 1
    assert {track.track_id for track in corpus.skipped} == {
        "music/blues/caf\\xe9.wav",
        "music/blues/blues.000.wav",
        "music/\\ud800.wav",
    }
    assert source.genres() == ["blues", "pop"]


def test_check_and_predict_name_any_file_in_a_strict_locale(latin, tiny_checkpoint):
    (latin / "pop" / "pop.000.wav").rename(latin / "pop" / "ü.wav")
    files = [latin / "pop" / "ü.wav", latin / "blues" / LATIN, latin / os.fsdecode(b"gone\xe9.wav")]
    # Both in one process: starting Python takes longer than they do.
    code = (
        "import sys; from hfmgc.cli import main; folder, *predict = sys.argv[1:]; "
        "assert main(['check', folder]) == 0; print('predictions:'); main(['predict', *predict, '--json'])"
    )
    command = [sys.executable, "-c", code, latin, tiny_checkpoint(), *files]
    done = subprocess.run(command, capture_output=True, env={**os.environ, **STRICT_LOCALE}, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    report, _, answer = done.stdout.decode("ascii").partition("predictions:")
    assert "blues/caf\\xe9.wav: its path or genre is not ascii: rename it, or set PYTHONUTF8=1" in report
    assert "pop/\\xfc.wav" in report
    answer = json.loads(answer)
    assert {Path(name).name for name in answer["predictions"]} == {"ü.wav", "caf\\xe9.wav"}
    assert {Path(name).name: reason for name, reason in answer["skipped"].items()} == {"gone\\xe9.wav": "no such file"}
