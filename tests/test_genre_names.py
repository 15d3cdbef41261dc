"""Genres that read the same are one genre, in every source; what is not text is no genre."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from conftest import tone, write_music

import hfmgc.cli
from hfmgc.data.check import check_source
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.names import genres_of
from hfmgc.data.sources import open_source
from hfmgc.data.splits import split_corpus
from hfmgc.errors import DataError
from hfmgc.evaluation.evaluate import evaluate_checkpoint


WRITTEN = ["Rock", "rock", "r\uff4fck ", "Pop", "pop", "Pop"]  # the third with a letter of full width and a blank
ONE = ["Rock", "Rock", "Rock", "Pop", "Pop", "Pop"]


def write_manifest(folder: Path, labels: list, *, name: str = "tracks.jsonl", column: str = "label") -> Path:
    folder.mkdir(exist_ok=True)
    lines = []
    for number, label in enumerate(labels):
        soundfile.write(folder / f"{number}.wav", tone(number, seconds=0.2), 16000)
        lines.append(json.dumps({"path": f"{number}.wav", column: label}))
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


def in_a_folder(place: Path) -> str:
    for number, genre in enumerate(WRITTEN[:5]):
        (place / "music" / genre).mkdir(parents=True, exist_ok=True)
        soundfile.write(place / "music" / genre / f"{number}.wav", tone(number, seconds=0.2), 16000)
    soundfile.write(place / "music" / "Pop" / "5.wav", tone(5, seconds=0.2), 16000)
    return str(place / "music")


def in_a_manifest(place: Path) -> str:
    return str(write_manifest(place / "list", WRITTEN))


def in_features(place: Path) -> str:
    values = np.random.default_rng(0).random((6, 8, 5)).astype(np.float32).tolist()
    rows = {"track_id": [str(number) for number in range(6)], "genre": WRITTEN, "features": values}
    datasets.Dataset.from_dict(rows).to_parquet(str(place / "features.parquet"))
    return str(place / "features.parquet")


@pytest.mark.parametrize("write", [in_a_folder, in_a_manifest, in_features])
def test_genres_that_read_the_same_are_one_with_a_note_in_every_source(tmp_path, write):
    source = open_source(write(tmp_path))
    corpus = decode_corpus(source, 16000)
    assert sorted(corpus.genres) == ["Pop", "Rock"]
    assert sorted(corpus.tracks["genre"]) == sorted(ONE)
    assert sorted(genres_of(corpus.tracks)) == sorted([genre] for genre in ONE)
    manifest = split_corpus(corpus.tracks, source, policy="stratified", ratios="1:1:1")
    assert sorted(manifest.genres) == ["Pop", "Rock"]
    (note,) = corpus.notes()
    assert note.startswith("genres that differ only in case")
    assert "'rock' as 'Rock'" in note
    report = check_source(source, shortest_seconds=0.1)
    assert sum(report.genres.values()) == report.usable
    assert (set(report.genres), report.empty_genres, report.notes) == ({"Pop", "Rock"}, [], [note])


def test_genres_that_differ_stay_as_they_are_without_a_note(tmp_path):
    source = open_source(str(write_music(tmp_path / "music", ("Blues", "blue s"), tracks=2, seconds=0.2)))
    corpus = decode_corpus(source, 16000)
    assert sorted(corpus.genres) == ["Blues", "blue s"]
    assert corpus.notes() == []


def test_a_track_with_both_spellings_has_one_genre(tmp_path):
    corpus = decode_corpus(
        open_source(str(write_manifest(tmp_path / "list", [["Rock", "rock", "Pop"], ["pop"]]))), 16000
    )
    assert genres_of(corpus.tracks) == [["Rock", "Pop"], ["Pop"]]


def test_a_checkpoint_knows_its_genres_in_another_spelling(tmp_path, tiny_checkpoint):
    music = write_music(tmp_path / "music", ("BLUES", "Pop"), tracks=1, seconds=1)
    report = evaluate_checkpoint(str(tiny_checkpoint(("blues", "pop"))), str(music))
    assert {row["genre"] for row in report.predictions} == {"blues", "pop"}


@pytest.mark.parametrize("label", [1, 1.5, True, ["pop", 2], {"name": "pop"}])
@pytest.mark.parametrize("column", ["label", "genres"])
def test_a_label_that_is_no_text_is_refused_with_file_and_row(tmp_path, capsys, label, column):
    path = write_manifest(tmp_path / "list", ["pop", label, "rock"], column=column)
    assert hfmgc.cli.main(["check", str(path)]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"error: tracks.jsonl, line 2, '{column}': the label ")
    assert "write the name of the genre" in line


def test_labels_of_tables_that_are_no_text_are_refused_with_their_row(tmp_path):
    values = np.random.default_rng(0).random((2, 8, 5)).astype(np.float32).tolist()
    rows = {"track_id": ["a", "b"], "genre": [1, 2], "features": values}
    datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / "features.parquet"))
    with pytest.raises(DataError, match=r"features.parquet, row 0, 'genre': the label 1 is not text"):
        decode_corpus(open_source(str(tmp_path / "features.parquet")), 16000)
