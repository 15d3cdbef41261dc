"""Splits: stratified, seeded, independent of order, and recorded so that they can be repeated and compared."""

import json

import pytest

from hfmgc.data.split_manifest import SplitManifest
from hfmgc.data.splits import parse_ratios, stratified_split
from hfmgc.errors import ConfigError, SplitError


def corpus(**counts: int) -> tuple[list[str], list[str]]:
    tracks = [(f"{genre}/{number:03d}", genre) for genre, count in counts.items() for number in range(count)]
    return [track for track, _ in tracks], [genre for _, genre in tracks]


def manifest(**changes) -> SplitManifest:
    fields = {
        "dataset": "folder",
        "revision": None,
        "policy": "stratified",
        "ratios": [8, 1, 1],
        "seed": 3,
        "sides": {"train": ["a", "b"], "validation": ["c"], "test": ["Türkü/ü.wav"]},
        "genres": ["Türkü"],
    }
    return SplitManifest(**{**fields, **changes})


@pytest.mark.parametrize(
    ("text", "numbers"), [("8:1:1", [8, 1, 1]), ("4:1", [4, 1, 0]), ("6 : 2 : 2", [6, 2, 2]), ("8:1:0", [8, 1, 0])]
)
def test_ratios_are_read(text, numbers):
    assert parse_ratios(text) == numbers


@pytest.mark.parametrize("text", ["8", "8:1:1:1", "8:-1:1", "0.8:0.1:0.1", "a:b", "", "8:1:", "8:²:1", 28861])
def test_other_ratios_are_refused(text):
    with pytest.raises(ConfigError, match=r"^split_ratios: "):
        parse_ratios(text)


@pytest.mark.parametrize("text", ["0:1:1", "8:0:2"])
def test_a_split_without_training_or_validation_is_refused(text):
    with pytest.raises(ConfigError, match=f"^split_ratios: '{text}'"):
        parse_ratios(text)


def test_every_track_is_on_exactly_one_side():
    ids, genres = corpus(blues=37, metal=11, pop=100)
    sides = stratified_split(ids, genres, ratios=[6, 2, 2], seed=0)
    assert sorted(track for members in sides.values() for track in members) == sorted(ids)
    assert all(members == sorted(members) for members in sides.values())


@pytest.mark.parametrize(
    ("count", "ratios", "expected"),
    [
        (100, [8, 1, 1], [80, 10, 10]),
        (10, [8, 1, 1], [8, 1, 1]),
        (99, [8, 1, 1], [79, 10, 10]),
        (3, [8, 1, 1], [1, 1, 1]),
        (4, [98, 1, 1], [2, 1, 1]),
        (20, [4, 1, 0], [16, 4, 0]),
        (2, [4, 1, 0], [1, 1, 0]),
    ],
)
def test_each_genre_is_divided_by_the_ratios(count, ratios, expected):
    ids, genres = corpus(blues=count, pop=50)
    sides = stratified_split(ids, genres, ratios=ratios, seed=1)
    assert [sum(track.startswith("blues/") for track in members) for members in sides.values()] == expected


def test_the_split_depends_on_ids_and_seed_and_not_on_their_order():
    ids, genres = corpus(blues=30, pop=30)
    split = lambda order, seed: stratified_split(  # noqa: E731
        [ids[i] for i in order], [genres[i] for i in order], ratios=[8, 1, 1], seed=seed
    )
    forward, backward = range(60), range(59, -1, -1)
    assert split(forward, 0) == split(backward, 0)
    assert split(forward, 0) != split(forward, 1)


def test_the_split_of_a_genre_does_not_depend_on_the_others():
    ids, genres = corpus(blues=30, pop=30)
    both = stratified_split(ids, genres, ratios=[8, 1, 1], seed=0)
    alone = stratified_split(*corpus(blues=30), ratios=[8, 1, 1], seed=0)
    for side, members in alone.items():
        assert members == [track for track in both[side] if track.startswith("blues/")]


def test_the_split_of_these_tracks_stays_what_it_is():
    sides = stratified_split(*corpus(blues=5, pop=5), ratios=[3, 1, 1], seed=0)
    # Recorded once: results that were published with a seed must keep their split.
    digest = "sha256:eaa7b7d8780811a946c2471e038a7b3f88ee5825b72f7adec9c27d0a2d39edeb"
    assert manifest(sides=sides).digest == digest


@pytest.mark.parametrize("count", [1, 2])
def test_a_genre_with_too_few_tracks_is_named(count):
    ids, genres = corpus(blues=10, pop=count)
    with pytest.raises(SplitError, match=rf"^genre 'pop' .*\({count}\) for 3 sides"):
        stratified_split(ids, genres, ratios=[8, 1, 1], seed=0)


def test_a_manifest_survives_its_file(tmp_path):
    before = manifest(comparable_note="with artists on two sides")
    before.save(tmp_path / "split.json")
    after = SplitManifest.load(tmp_path / "split.json")
    assert after == before
    assert after.digest == before.digest
    content = json.loads((tmp_path / "split.json").read_text(encoding="utf-8"))
    assert content["counts"] == {"train": 2, "validation": 1, "test": 1}
    assert "Türkü" in (tmp_path / "split.json").read_text(encoding="utf-8")


def test_the_digest_tells_sides_apart_and_nothing_else():
    same = [manifest(), manifest(seed=9), manifest(sides={**manifest().sides, "train": ["b", "a"]})]
    assert len({item.digest for item in same}) == 1
    moved = manifest(sides={"train": ["a"], "validation": ["b", "c"], "test": ["Türkü/ü.wav"]})
    assert moved.digest != manifest().digest
    assert manifest().digest.startswith("sha256:")


def test_a_manifest_whose_ids_were_changed_is_refused(tmp_path):
    path = tmp_path / "split.json"
    manifest().save(path)
    path.write_text(path.read_text(encoding="utf-8").replace('"c"', '"d"'), encoding="utf-8")
    with pytest.raises(SplitError, match=r"split\.json"):
        SplitManifest.load(path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"digest": "x"}', "{broken", '{"digest": "x", "unknown": 1}'])
def test_a_file_that_is_no_manifest_is_named(tmp_path, content):
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(SplitError, match=r"split\.json: not a split manifest"):
        SplitManifest.load(path)


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(SplitError, match=r"gone\.json: no such split manifest"):
        SplitManifest.load(tmp_path / "gone.json")


def test_results_are_reported_for_the_test_side_or_else_for_validation():
    assert manifest().evaluation_side == "test"
    assert manifest(sides={"train": ["a"], "validation": ["b"], "test": []}).evaluation_side == "validation"
