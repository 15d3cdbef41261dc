"""Tracks are left out of a run because the user asked for it: printed, recorded, and compared when the run is resumed."""

import json
from pathlib import Path

import datasets
import pytest
import yaml
from conftest import write_music

import hfmgc.cli
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.sources import open_source
from hfmgc.data.sources.exclusions import describe_exclusions, read_exclusions
from hfmgc.errors import ConfigError, DataError
from recipes import TRAIN_CLASSIFIER, classifier_settings, hfmgc_here, run_here, write_config, write_features


RATE = 16000


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.csv", "track_id,reason\npop/a.wav,duplicate: of b\n", {"pop/a.wav": "duplicate: of b"}),
        ("a.tsv", "reason\ttrack_id\nnoise\tpop/a.wav\n", {"pop/a.wav": "noise"}),
        ("a.json", '[{"track_id": "a", "reason": "noise"}, {"track_id": 7}]', {"a": "noise", "7": "no reason given"}),
        ("a.jsonl", '{"track_id": "a"}\n', {"a": "no reason given"}),
        ("a.txt", "pop/a b.wav\n\n pop/ü.wav\n", {"pop/a b.wav": "no reason given", "pop/ü.wav": "no reason given"}),
        ("empty.csv", "track_id,reason\n", {}),
    ],
)
def test_a_list_may_be_csv_json_or_text(tmp_path, name, text, expected):
    assert read_exclusions(write(tmp_path / name, text)) == expected


@pytest.mark.parametrize(
    ("name", "text", "error", "said"),
    [
        ("a.csv", "reason\nnoise\n", DataError, "a.csv, line 2: no track_id"),
        ("a.xls", "", ConfigError, "a.xls"),
        ("gone.csv", None, DataError, "no such file"),
    ],
)
def test_a_list_that_cannot_be_read_is_one_line(tmp_path, name, text, error, said):
    if text is not None:
        write(tmp_path / name, text)
    with pytest.raises(error, match=said):
        read_exclusions(tmp_path / name)


def test_what_check_writes_is_left_out_when_asked_for_and_only_then(tmp_path):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=2, seconds=1.5)
    (music / "pop" / "zcopy.wav").write_bytes((music / "blues" / "blues.000.wav").read_bytes())
    (music / "pop" / "broken.wav").write_bytes(b"no music")
    done = hfmgc_here("check", music, "--write_exclusions", tmp_path / "bad.csv")
    assert done.returncode == 0
    assert done.stdout.strip().splitlines()[-1] == f"written: {tmp_path / 'bad.csv'} (1 tracks), for --exclude"
    assert len(decode_corpus(open_source(str(music)), RATE).tracks) == 5
    corpus = decode_corpus(open_source(str(music), exclude=tmp_path / "bad.csv"), RATE)
    reasons = {track.track_id: track.reason for track in corpus.skipped}
    assert reasons["pop/zcopy.wav"] == "excluded: duplicate: the same samples as blues/blues.000.wav"
    assert reasons.keys() == {"pop/zcopy.wav", "pop/broken.wav"}
    assert corpus.notes() == ["1 tracks excluded (1 duplicate)"]
    assert corpus.exclusions()["reasons"] == {"duplicate": 1}


def write_manifest(folder: Path) -> tuple[str, dict]:
    write_music(folder / "music", ("blues", "pop"), tracks=2)
    files = sorted((folder / "music").rglob("*.wav"))
    rows = [f"{path},{path.parent.name},{path.stem}" for path in files]
    return str(write(folder / "tracks.csv", "\n".join(["path,label,track_id", *rows]))), {}


def write_hub(folder: Path) -> tuple[str, dict]:
    write_music(folder / "music", ("blues", "pop"), tracks=2)
    files = sorted((folder / "music").rglob("*.wav"))
    rows = {
        "audio": [path.read_bytes() for path in files],
        "label": [path.parent.name for path in files],
        "track_id": [path.stem for path in files],
    }
    datasets.Dataset.from_dict(rows).to_parquet(str(folder / "hub.parquet"))
    return "hub", {"repository": str(folder / "hub.parquet"), "id_column": "track_id"}


def write_stored(folder: Path) -> tuple[str, dict]:
    write_features(folder / "features.parquet", ("blues", "pop"), tracks=4)
    return str(folder / "features.parquet"), {}


@pytest.mark.parametrize(
    ("make", "track_id"),
    [
        (write_manifest, "pop.001"),
        (write_hub, "pop.001"),
        (write_stored, "pop.1"),
        (lambda _: ("synthetic", {"tracks_per_genre": 1, "seconds": 1.0}), "pop/pop.00000.flac"),
    ],
)
def test_every_kind_of_source_leaves_out_what_is_excluded(tmp_path, make, track_id):
    data, options = make(tmp_path)
    excluded = write(tmp_path / "bad.csv", f"track_id,reason\n{track_id},noise\nelsewhere,noise\n")
    corpus = decode_corpus(open_source(data, options, exclude=excluded), RATE)
    assert track_id not in corpus.tracks["track_id"]
    assert [(track.track_id, track.reason) for track in corpus.skipped] == [(track_id, "excluded: noise")]
    assert corpus.notes() == ["1 tracks excluded (1 noise); 1 ids of the exclusion list are not in the data"]


def test_a_run_says_prints_and_records_what_it_leaves_out_and_compares_it_when_resumed(tmp_path, capsys):
    data = write_features(tmp_path / "mel.parquet", ("blues", "pop"), tracks=8)
    excluded = write(tmp_path / "bad.csv", "track_id,reason\nblues.1,too short: 2.0 s\nblues.2,noise\n")
    settings = classifier_settings(data, tmp_path / "run", num_train_epochs=1, exclude=str(excluded))
    config = write_config(tmp_path / "run.yaml", settings)
    done = run_here(TRAIN_CLASSIFIER, config)
    assert done.returncode == 0, done.stderr
    said = "2 tracks excluded (1 too short, 1 noise)"
    assert f"note: {said}" in done.stdout.split("split:")[1]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {"track_id": "blues.1", "reason": "excluded: too short: 2.0 s"} in results["skipped"]
    assert said in results["notes"]
    record = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())
    assert record["settings"]["DataArguments"]["exclude"] == "bad.csv"
    assert (record["exclusions"]["tracks"], record["exclusions"]["reasons"]) == (2, {"too short": 1, "noise": 1})

    write(excluded, "track_id,reason\nblues.1,noise\n")  # the same name, another content
    again = run_here(TRAIN_CLASSIFIER, config, "--resume_from_checkpoint", "last", "--num_train_epochs", "2")
    assert again.returncode == 1
    line = again.stderr.strip().splitlines()[-1]
    assert f"another exclusion list ({said}; now 1 tracks excluded (1 noise))" in line

    capsys.readouterr()
    report = ["evaluate", str(tmp_path / "run"), "--data", str(data), "--side", "all", "--json"]
    assert hfmgc.cli.main([*report, "--exclude", str(excluded)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["skipped"] == [{"track_id": "blues.1", "reason": "excluded: noise"}]
    assert "1 tracks excluded (1 noise)" in report["notes"]


def test_a_list_that_excludes_nothing_changes_nothing():
    described = describe_exclusions({"elsewhere": "noise"}, ["blues.1"])
    assert (described["tracks"], described["digest"]) == (0, None)
    assert describe_exclusions({}, ["blues.1"]) is None


def test_a_list_without_rows_is_reported(tmp_path, caplog):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=1, seconds=0.2)
    assert open_source(str(music), exclude=write(tmp_path / "bad.csv", "track_id,reason\n")).excluded == {}
    assert "bad.csv" in caplog.text


def test_a_reason_may_be_longer_than_csvs_default_limit(tmp_path):
    (tmp_path / "list.csv").write_text(f"track_id,reason\na,{'x' * 200_000}\n")
    assert len(read_exclusions(tmp_path / "list.csv")["a"]) == 200_000
