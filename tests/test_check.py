"""`hfmgc check`: what is wrong with a corpus is found and reported, and nothing else changes."""

import json
import os
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from conftest import needs_real_data, tone, write_music
from stand_ins import write_fma_audio, write_fma_metadata, write_maestro

import hfmgc.cli
from hfmgc.data.check import CheckReport, check_source
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.sources import open_source


RATE = 16000


def melody(seed: int, *, seconds: float = 6.0, sampling_rate: int = RATE) -> np.ndarray:
    """Notes of a random tune with overtones and noise: unlike a tone it can be told from others, float32 [samples]."""
    generator = np.random.default_rng(seed)
    notes = []
    for _ in range(round(seconds / 0.25)):
        time = np.arange(round(0.25 * sampling_rate)) / sampling_rate
        frequency = 220 * 2 ** (generator.integers(0, 30) / 12)
        note = sum(np.sin(2 * np.pi * frequency * step * time) / step for step in range(1, 8))
        notes.append(note * np.exp(-4 * time))
    waveform = np.concatenate(notes)
    waveform = waveform / np.abs(waveform).max() + 0.02 * generator.standard_normal(len(waveform))
    return (0.5 * waveform).astype(np.float32)


@pytest.fixture
def spoiled(tmp_path) -> Path:
    """A folder with one file of each fault, besides four sound ones."""
    music = tmp_path / "music"
    for genre in ("blues", "pop", "rock"):
        (music / genre).mkdir(parents=True)
    for seed, name in enumerate(("blues/a.wav", "blues/b.wav", "pop/a.wav", "pop/b.wav")):
        soundfile.write(music / name, melody(seed), RATE)
    (music / "blues" / "broken.mp3").write_bytes(b"no music")
    (music / "blues" / "empty.wav").write_bytes(b"")
    soundfile.write(music / "blues" / "silent.wav", np.zeros(2 * RATE), RATE)
    soundfile.write(music / "blues" / "nan.wav", np.full(2 * RATE, np.nan), RATE, subtype="FLOAT")
    soundfile.write(music / "pop" / "short.wav", melody(5)[: RATE // 2], RATE)
    soundfile.write(music / "pop" / "clipped.wav", np.clip(20 * melody(6), -1, 1), RATE, subtype="FLOAT")
    soundfile.write(music / "pop" / "rate.wav", melody(7, sampling_rate=44100), 44100)
    shutil.copy(music / "blues" / "a.wav", music / "pop" / "copy.wav")
    soundfile.write(music / "pop" / "reencoded.mp3", 0.5 * melody(1), RATE)
    return music


def check(capsys, data: Path | str, *options: str) -> dict:
    """Run `hfmgc check --json` and return the document."""
    capsys.readouterr()
    code = hfmgc.cli.main(["check", str(data), "--json", *options])
    report = json.loads(capsys.readouterr().out)
    assert code == (0 if report["usable"] else 1)
    return report


def found(report: dict) -> dict[str, tuple[str, bool]]:
    """Return track id -> (kind, whether its exclusion is recommended)."""
    assert len({finding["track_id"] for finding in report["findings"]}) == len(report["findings"])
    return {finding["track_id"]: (finding["kind"], finding["exclude"]) for finding in report["findings"]}


def test_every_fault_is_found_and_what_is_sound_is_not_accused(spoiled, capsys):
    report = check(capsys, spoiled)
    assert found(report) == {
        "blues/broken.mp3": ("unusable", True),
        "blues/empty.wav": ("unusable", True),
        "blues/silent.wav": ("unusable", True),
        "blues/nan.wav": ("unusable", True),
        "pop/short.wav": ("too short", True),
        "pop/clipped.wav": ("clipped", False),
        "pop/rate.wav": ("unexpected rate", False),
        "pop/copy.wav": ("duplicate", True),
        "pop/reencoded.mp3": ("duplicate", True),
    }
    details = {finding["track_id"]: finding["detail"] for finding in report["findings"]}
    assert details["blues/empty.wav"] == "empty file (0 bytes)"
    assert "silent" in details["blues/silent.wav"]
    assert "NaN" in details["blues/nan.wav"]
    assert details["pop/short.wav"] == "0.50 s"
    assert details["pop/rate.wav"] == "44100 Hz, most have 16000 Hz"
    assert details["pop/copy.wav"] == "the same samples as blues/a.wav"
    assert details["pop/reencoded.mp3"].startswith("the same recording as blues/b.wav")


def test_the_counts_are_of_what_remains_and_a_genre_without_tracks_is_named(spoiled, capsys):
    report = check(capsys, spoiled)
    assert (report["tracks"], report["usable"]) == (13, 6)
    assert report["genres"] == {"blues": 2, "pop": 4}
    assert report["empty_genres"] == ["rock"]
    assert report["rates"] == {"16000": 8, "44100": 1}
    assert report["total_seconds"] == pytest.approx(6 * 6.0)
    assert report["data"]["location"] == "music"


def test_the_text_names_every_finding_and_what_becomes_of_the_track(spoiled, capsys):
    assert hfmgc.cli.main(["check", str(spoiled)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("folder (music): 13 tracks, 6 usable")
    assert "unusable (skipped by every run):" in lines
    assert "duplicate (exclusion recommended: --write_exclusions FILE lists them):" in lines
    assert "clipped (usable):" in lines
    assert any(line.split() == ["rock", "no", "tracks"] for line in lines)
    assert "  pop/copy.wav: the same samples as blues/a.wav" in lines


def test_a_corpus_with_nothing_usable_is_no_success(tmp_path, capsys):
    (tmp_path / "music" / "pop").mkdir(parents=True)
    (tmp_path / "music" / "pop" / "a.wav").write_bytes(b"no audio")
    assert hfmgc.cli.main(["check", str(tmp_path / "music")]) == 1
    assert "1 tracks, 0 usable" in capsys.readouterr().out


def test_a_sound_corpus_has_nothing_to_report(tmp_path, capsys):
    music = write_music(tmp_path / "music", ("blues",), tracks=1, seconds=2)
    assert hfmgc.cli.main(["check", str(music)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing to report"


def test_two_processes_find_what_one_finds(spoiled, capsys, monkeypatch, tmp_path):
    one = check(capsys, spoiled)
    # Another cache: the second check must decode for itself.
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "other")
    two = check(capsys, spoiled, "--num_proc", "2")
    assert one == two


def test_what_counts_as_too_short_can_be_chosen(tmp_path, capsys):
    (tmp_path / "music" / "blues").mkdir(parents=True)
    for seed, seconds in enumerate((0.5, 3.0)):
        soundfile.write(tmp_path / "music" / "blues" / f"{seed}.wav", melody(seed, seconds=seconds), RATE)
    assert found(check(capsys, tmp_path / "music", "--shortest_seconds", "0.1")) == {}
    assert found(check(capsys, tmp_path / "music", "--shortest_seconds", "5")) == {
        "blues/0.wav": ("too short", True),
        "blues/1.wav": ("too short", True),
    }


def test_a_check_only_reports(spoiled, capsys):
    before = decode_corpus(open_source(str(spoiled)), RATE)
    check(capsys, spoiled, "--shortest_seconds", "16")
    after = decode_corpus(open_source(str(spoiled)), RATE)
    assert after.tracks["track_id"] == before.tracks["track_id"]
    assert after.skipped == before.skipped
    assert {"pop/copy.wav", "pop/reencoded.mp3", "blues/a.wav"} <= set(after.tracks["track_id"])


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT", "DOUBLE"])
def test_waves_of_any_depth_are_sound(tmp_path, capsys, subtype):
    (tmp_path / "music" / "blues").mkdir(parents=True)
    soundfile.write(tmp_path / "music" / "blues" / "a.wav", melody(1, seconds=2), RATE, subtype=subtype)
    report = check(capsys, tmp_path / "music")
    assert (report["usable"], report["findings"]) == (1, [])


@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_file_of_one_sample_is_excluded_and_does_not_end_the_check(tmp_path, capsys, rate):
    music = write_music(tmp_path / "music", ("blues",), tracks=1, seconds=2)
    soundfile.write(music / "blues" / "one.wav", np.array([0.5]), rate)
    report = check(capsys, music)
    assert {track for track, (kind, exclude) in found(report).items() if exclude} == {"blues/one.wav"}
    assert report["usable"] == 1


def test_stereo_and_names_in_any_script_are_checked(tmp_path, capsys):
    (tmp_path / "müzik" / "演歌").mkdir(parents=True)
    stereo = np.stack([melody(1, seconds=2), melody(2, seconds=2)], axis=1)
    soundfile.write(tmp_path / "müzik" / "演歌" / "naïve 音.flac", stereo, RATE)
    (tmp_path / "müzik" / "演歌" / "Альбом.wav").write_bytes(b"")
    report = check(capsys, tmp_path / "müzik")
    assert report["genres"] == {"演歌": 1}
    assert found(report) == {"演歌/Альбом.wav": ("unusable", True)}


def test_files_that_are_all_broken_make_a_report_and_no_error(tmp_path, capsys):
    (tmp_path / "music" / "blues").mkdir(parents=True)
    for name in ("a.wav", "b.wav"):
        (tmp_path / "music" / "blues" / name).write_bytes(b"no music")
    report = check(capsys, tmp_path / "music")
    assert (report["tracks"], report["usable"], report["empty_genres"]) == (2, 0, ["blues"])


def test_tones_that_are_alike_are_no_duplicates(tmp_path, capsys):
    (tmp_path / "music" / "blues").mkdir(parents=True)
    for seed in range(6):
        soundfile.write(tmp_path / "music" / "blues" / f"{seed}.wav", tone(seed, seconds=5), RATE)
    assert found(check(capsys, tmp_path / "music")) == {}


def test_a_missing_folder_is_one_line(tmp_path, capsys):
    assert hfmgc.cli.main(["check", str(tmp_path / "gone"), "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip().splitlines()[-1].startswith("error: ")
    assert "no such folder" in err


def test_stored_features_are_checked_too(tmp_path, capsys):
    values = np.random.default_rng(0).integers(0, 255, (6, 8, 20)).tolist()
    values[1] = values[0]
    values[4] = []
    rows = {"track_id": [*"abcdef"], "genre": ["blues", "blues", "pop", "pop", "pop", "pop"], "mel": values}
    datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / "mel.parquet"))
    report = check(capsys, tmp_path / "mel.parquet")
    assert found(report) == {"b": ("duplicate", True), "e": ("unusable", True)}
    assert (report["tracks"], report["usable"], report["genres"]) == (6, 4, {"blues": 1, "pop": 3})


@pytest.mark.parametrize("number", ["uint8", "int64"])
def test_features_of_a_copy_encoded_again_are_duplicates_and_no_others(tmp_path, capsys, number):
    generator = np.random.default_rng(0)
    levels = generator.integers(20, 200, (4, 128, 300))
    copy = levels[1] + generator.integers(-9, 10, levels[1].shape)
    # Of each pair the one with the smaller id is kept, wherever it lies.
    rows = {
        "track_id": ["f", "e", "d", "c", "b", "a"],
        "genre": ["pop"] * 6,
        "mel": [levels[0], levels[0], levels[1], copy, levels[2], levels[3]],
    }
    kind = datasets.List(datasets.List(datasets.Value(number)))
    features = datasets.Features(
        {"track_id": datasets.Value("string"), "genre": datasets.Value("string"), "mel": kind}
    )
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "mel.parquet"))
    report = check(capsys, tmp_path / "mel.parquet")
    assert found(report) == {"f": ("duplicate", True), "d": ("duplicate", True)}
    details = {finding["track_id"]: finding["detail"] for finding in report["findings"]}
    assert details["f"] == "the same features as e"
    assert details["d"].startswith("nearly the same features as c (")


def test_features_with_nan_or_frames_of_different_length_are_unusable(tmp_path, capsys):
    rows = {
        "track_id": ["nan", "ragged", "sound"],
        "genre": ["blues", "blues", "blues"],
        "mel": [[[0.0, np.nan]], [[1.0], [1.0, 2.0]], [[1.0, 2.0]]],
    }
    datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / "mel.parquet"))
    report = check(capsys, tmp_path / "mel.parquet")
    assert found(report) == {"nan": ("unusable", True), "ragged": ("unusable", True)}


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1"])
def test_a_shortest_length_that_is_none_is_refused(capsys, seconds):
    for verb in ("check MUSIC", "extract MUSIC OUT", "evaluate RUN --data MUSIC", "predict RUN song.mp3"):
        with pytest.raises(SystemExit) as ended:
            hfmgc.cli.main([*verb.split(), f"--shortest_seconds={seconds}"])
        assert ended.value.code == 2
        assert "argument --shortest_seconds: " in capsys.readouterr().err


@needs_real_data
def test_the_real_data_as_a_whole_are_checked_without_falling(capsys):
    report = check(capsys, Path(os.environ["HFMGC_REAL_DATA"]), "--num_proc", "2")
    assert report["usable"] > 0
    assert report["empty_genres"]
    assert report["genres"]["gtzan_audio"] > 0


def test_a_folder_without_any_audio_is_one_line(tmp_path, capsys):
    (tmp_path / "music" / "blues").mkdir(parents=True)
    (tmp_path / "music" / "blues" / "cover.jpg").write_bytes(b"")
    assert hfmgc.cli.main(["check", str(tmp_path / "music")]) == 1
    assert "no audio files" in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_snippet_that_is_too_short_does_not_take_the_whole_track_with_it(tmp_path):
    folder = write_music(tmp_path / "music", {"blues": 1, "pop": 1}, seconds=4.0)
    waveform, rate = soundfile.read(folder / "pop" / "pop.000.wav")
    soundfile.write(folder / "pop" / "A_snippet.wav", waveform[: int(0.95 * rate)], rate)
    report = check_source(open_source(str(folder)))
    assert [(item.track_id, item.kind) for item in report.findings] == [("pop/A_snippet.wav", "too short")]


@pytest.fixture
def authors(tmp_path) -> dict:
    """FMA's stand-in: a clip that is known as too short, and one of the large subset without a top genre."""
    numbers = (2, 10, 140, 98565, 1686, 100478)
    return {
        "audio": str(write_fma_audio(tmp_path / "fma_large", numbers)),
        "metadata": str(write_fma_metadata(tmp_path / "fma_metadata")),
        "subset": "large",
    }


def test_usable_is_what_loading_uses(authors, capsys):
    next(Path(authors["audio"]).rglob("001686.*")).write_bytes(b"no music")  # has no genre either
    report = check(capsys, "fma", "--shortest_seconds", "0.1", "--data_options", json.dumps(authors))
    details = {finding["track_id"]: finding["detail"] for finding in report["findings"]}
    assert details == {"098565": "too short or empty in the authors' clips of 30 s", "001686": "no genre"}
    corpus = decode_corpus(open_source("fma", authors), RATE)
    assert report["usable"] == len(corpus.tracks) == 4
    assert {track.track_id: track.reason for track in corpus.skipped} == details


def test_recordings_of_a_dataset_without_genres_are_usable_and_the_text_says_what_for(tmp_path, capsys):
    options = json.dumps({"audio": str(write_maestro(tmp_path / "maestro"))})
    report = check(capsys, "maestro", "--data_options", options)
    assert (report["tracks"], report["usable"], report["findings"]) == (4, 4, [])
    assert hfmgc.cli.main(["check", "maestro", "--data_options", options]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "maestro (maestro): 4 tracks, 4 usable, 8.0 seconds; 4 at 44100 Hz",
        "no genres: for pre-training only",
        "nothing to report",
    ]


@pytest.mark.parametrize(("seconds", "said"), [(59.0, "59.0 seconds"), (90.0, "1.5 minutes"), (5400.0, "1.50 hours")])
def test_a_length_is_told_in_a_unit_that_fits(seconds, said):
    report = CheckReport({"name": "folder", "location": "x"}, 1, 1, {"pop": 1}, [], seconds, {"8000": 1})
    assert report.to_text().splitlines()[0] == f"folder (x): 1 tracks, 1 usable, {said}; 1 at 8000 Hz"


def test_tracks_of_other_rates_take_a_line_for_each_rate(tmp_path, capsys):
    rates = {16000: 5, 22050: 3, 44100: 1}
    for rate, count in rates.items():
        for number in range(count):
            path = tmp_path / "music" / "pop" / f"{rate}.{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, melody(rate + number, seconds=3.0, sampling_rate=rate), rate)
    assert len(check(capsys, tmp_path / "music")["findings"]) == 4
    assert hfmgc.cli.main(["check", str(tmp_path / "music")]) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "unexpected rate (usable):",
        "  3 tracks, the first pop/22050.0.wav: 22050 Hz, most have 16000 Hz",
        "  pop/44100.0.wav: 44100 Hz, most have 16000 Hz",
    ]
