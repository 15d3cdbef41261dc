"""Several genres a track, from the data to the batch: targets, refusals, splits, sources."""

import json

import datasets
import numpy as np
import pytest
import torch
from conftest import write_music
from stand_ins import write_fma_audio, write_fma_metadata, write_fma_mirror

from hfmgc.data.check import check_source
from hfmgc.data.collation import TrackCollator
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.extraction import extract_corpus
from hfmgc.data.sources import open_source
from hfmgc.data.splits import split_corpus
from hfmgc.errors import DataError
from hfmgc.evaluation.task import MULTI_LABEL, SINGLE_LABEL
from hfmgc.features.feature_extraction_ast import HfmgcASTFeatureExtractor


LABELS = {"folk": 0, "pop": 1, "rock": 2}


def example(genres, windows: int | None = None) -> dict:
    shape = (4, 3) if windows is None else (windows, 4, 3)
    return {"input_values": np.ones(shape, np.float32), "genre": next(iter(genres or []), ""), "genres": genres}


# The collator


def test_targets_are_ones_where_a_track_has_the_genre():
    batch = TrackCollator(LABELS, multi_label=True)([example(["rock", "folk"]), example(["pop"]), example([])])
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    stacks = TrackCollator(LABELS, multi_label=True)(
        [example(["pop"], windows=1), example(["rock", "pop"], windows=2)]
    )
    assert stacks["labels"].tolist() == [[0, 1, 0], [0, 1, 1]]
    assert stacks["window_mask"].tolist() == [[True, False], [True, True]]


def test_one_genre_a_track_stays_an_index():
    batch = TrackCollator(LABELS)([example(["rock", "folk"]), example(["pop"])])
    assert batch["labels"].tolist() == [2, 1]


def test_examples_without_genres_are_refused():
    bare = {"input_values": np.ones((4, 3), np.float32), "genre": "pop"}
    with pytest.raises(DataError, match=r"^genres: "):
        TrackCollator(LABELS, multi_label=True)([bare])


def test_data_of_the_other_kind_are_refused_naming_the_way_out():
    MULTI_LABEL.check_targets([["pop"], ["pop", "rock"]], where="data")
    SINGLE_LABEL.check_targets([["pop"], ["rock"]], where="data")
    with pytest.raises(DataError, match=r"each of the 2 tracks has one genre.*column genres"):
        MULTI_LABEL.check_targets([["pop"], ["rock"]], where="data")
    with pytest.raises(DataError, match=r"1 of 2 tracks have several genres.*problem_type multi_label_classification"):
        SINGLE_LABEL.check_targets([["pop"], ["pop", "rock"]], where="data")


# Manifests


@pytest.fixture
def music(tmp_path):
    return write_music(tmp_path / "music", ["a"], tracks=4, seconds=0.3) / "a"


def written(music, name, text):
    (music / name).write_text(text, encoding="utf-8")
    return str(music / name)


def listed(path, **options):
    return [(row["genre"], row["genres"]) for row in open_source(path, options).tracks()]


def test_a_csv_gives_genres_with_or_without_a_main_one(music):
    alone = written(music, "alone.csv", "path,genres\na.000.wav,rock|folk\na.001.wav, pop | rock \na.002.wav,pop\n")
    assert listed(alone) == [("rock", ["rock", "folk"]), ("pop", ["pop", "rock"]), ("pop", ["pop"])]
    assert open_source(alone).genres() == ["folk", "pop", "rock"]
    both = written(music, "both.csv", "path,label,genres\na.000.wav,folk,rock|folk\na.001.wav,pop,\n")
    assert listed(both) == [("folk", ["folk", "rock"]), ("pop", ["pop"])]
    assert listed(both, genres_column="") == [("folk", ["folk"]), ("pop", ["pop"])]
    other = written(music, "other.csv", "path,styles\na.000.wav,rock;folk\n")
    assert listed(other, genres_column="styles", label_separator=";") == [("rock", ["rock", "folk"])]


def test_json_lines_give_a_list_of_genres(music):
    rows = [
        {"path": "a.000.wav", "genres": ["rock", "folk"]},
        {"path": "a.001.wav", "label": "pop", "genres": ["rock"]},
    ]
    path = written(music, "tracks.jsonl", "\n".join(map(json.dumps, rows)))
    assert listed(path) == [("rock", ["rock", "folk"]), ("pop", ["pop", "rock"])]


def test_empty_and_missing_genres_are_named(music):
    path = written(music, "empty.csv", "path,genres\na.000.wav,rock\na.001.wav,|\n")
    with pytest.raises(DataError, match="line 3: 'genres' is empty"):
        open_source(path).tracks()
    with pytest.raises(DataError, match=r"no column 'styles'.*genres_column"):
        open_source(path, {"genres_column": "styles"}).tracks()
    with pytest.raises(DataError, match="no column 'label'"):
        open_source(path, {"genres_column": ""}).tracks()


def test_a_genre_that_is_only_second_counts(music):
    path = written(
        music, "t.csv", "path,genres\na.000.wav,rock|live\na.001.wav,rock|live\na.002.wav,pop|rock\na.003.wav,pop\n"
    )
    source = open_source(path)
    corpus = decode_corpus(source, 16000)
    assert "4 tracks of 3 genres" in corpus.summary()
    manifest = split_corpus(corpus.tracks, source, policy="stratified", ratios="1:1")
    assert manifest.genres == ["live", "pop", "rock"]
    report = check_source(source, shortest_seconds=0.1)
    assert not report.findings
    assert report.genres == {"live": 2, "pop": 2, "rock": 3}
    assert report.empty_genres == []


def test_extracted_features_keep_all_genres(music, tmp_path):
    path = written(music, "t.csv", "path,genres\na.000.wav,rock|live\na.001.wav,pop\na.002.wav,pop|rock\n")
    extract_corpus(open_source(path), HfmgcASTFeatureExtractor(max_length=64), tmp_path / "features")
    source = open_source(str(tmp_path / "features"))
    corpus = decode_corpus(source, 16000)
    assert dict(zip(corpus.tracks["track_id"], corpus.tracks["genres"], strict=True)) == {
        "a.000.wav": ["rock", "live"],
        "a.001.wav": ["pop"],
        "a.002.wav": ["pop", "rock"],
    }
    assert corpus.genres == ["live", "pop", "rock"]
    assert split_corpus(corpus.tracks, source, policy="stratified", ratios="1:1").counts()["train"] >= 1


# Splits


def table(genres: list[list[str]]) -> datasets.Dataset:
    return datasets.Dataset.from_list(
        [
            {"track_id": f"{i:02d}", "genre": names[0], "genres": names, "artist": f"{i}", "split": ""}
            for i, names in enumerate(genres)
        ]
    )


class Source:
    """What the split asks of a source."""

    class card:
        name = "manifest"

    title, location, revision, split_policies = "manifest (tracks.csv)", "tracks.csv", None, ("stratified", "grouped")

    def __init__(self, genres):
        self._genres = genres

    def genres(self):
        return self._genres

    def split_note(self, policy):
        return None


def split(genres, **options):
    names = sorted({name for track in genres for name in track})
    return split_corpus(table(genres), Source(names), policy="stratified", ratios="2:1:1", **options)


def test_tracks_with_several_genres_are_divided_by_the_first_one_and_it_is_said():
    genres = [["pop", "live"]] * 8 + [["rock"]] * 8
    manifest = split(genres)
    for side, count in (("train", 4), ("validation", 2), ("test", 2)):
        firsts = [genres[int(track_id)][0] for track_id in manifest.sides[side]]
        assert (firsts.count("pop"), firsts.count("rock")) == (count, count)
    assert "divided by the first genre" in manifest.notes()[0]
    assert split([["pop"]] * 4 + [["rock"]] * 4).notes() == []


def test_rare_first_genres_are_drawn_together_and_one_alone_joins_the_largest():
    many = split([["pop", "live"]] * 8 + [["jazz", "pop"], ["folk", "pop"], ["live", "pop"], ["noise", "pop"]])
    assert many.counts() == {"train": 6, "validation": 3, "test": 3}
    assert sum(int(track_id) >= 8 for track_id in many.sides["train"]) == 2
    one = split([["pop", "live"]] * 7 + [["jazz", "pop"]])
    assert sum(one.counts().values()) == 8
    assert split([["pop", "live"]] * 7 + [["jazz", "pop"]]).digest == one.digest


# FMA


def test_fma_gives_several_genres_and_the_tracks_without_one_are_reported(tmp_path):
    metadata = write_fma_metadata(tmp_path / "fma_metadata")
    audio = write_fma_audio(tmp_path / "fma_large", numbers=(2, 10, 140, 1686, 100478))
    options = {"subset": "large", "labels": "all", "audio": str(audio), "metadata": str(metadata)}
    source = open_source("fma", options)
    corpus = decode_corpus(source, 16000)
    manifest = split_corpus(corpus.tracks, source, policy="official")
    genres = dict(zip(corpus.tracks["track_id"], corpus.tracks["genres"], strict=True))
    assert genres["001686"] == ["Rock", "Singer-Songwriter"]
    assert manifest.sides["test"] == ["001686", "100478"]
    label2id = {genre: index for index, genre in enumerate(corpus.genres)}
    rows = [{"input_values": np.ones((2, 2), np.float32), **row} for row in corpus.select(manifest.sides["test"])]
    labels = TrackCollator(label2id, multi_label=True)(rows)["labels"]
    named = [[corpus.genres[index] for index in torch.nonzero(row).flatten()] for row in labels]
    assert named == [["Rock", "Singer-Songwriter"], ["Rock"]]
    top = decode_corpus(open_source("fma", {**options, "labels": "top"}), 16000)
    assert ("001686", "no genre") in [(track.track_id, track.reason) for track in top.skipped]


def test_a_mirror_names_the_genres_that_occur_in_it(tmp_path):
    mirror = write_fma_mirror(tmp_path / "mirror", named=True)
    path = next((mirror / "data").glob("*.parquet"))
    whole = datasets.Dataset.from_parquet(str(path))
    whole.select([0]).to_parquet(path)  # Rock and Ambient
    assert open_source("fma", {"repository": str(mirror)}).genres() == ["Ambient", "Rock"]


def test_balanced_class_weights_count_a_track_for_each_of_its_genres():
    from types import SimpleNamespace

    from hfmgc.training.preparation import balanced_class_weights

    tracks = table([["pop", "live"], ["rock", "live"], ["rock"], ["rock"]])
    data = SimpleNamespace(
        corpus=SimpleNamespace(genres=["live", "pop", "rock"]), train=SimpleNamespace(tracks=tracks)
    )
    assert balanced_class_weights(data) == pytest.approx([6 / (3 * 2), 6 / (3 * 1), 6 / (3 * 3)])
