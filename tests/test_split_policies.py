"""Split policies: the published lists to the letter, whole artists, and a manifest that repeats what was."""

import json
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from conftest import tone, write_music
from stand_ins import GTZAN_IDS, write_fault_filtered_mirror, write_gtzan_folder

from hfmgc.data.corpus import decode_corpus
from hfmgc.data.identity import identify_tracks
from hfmgc.data.leaks import find_leaks
from hfmgc.data.sources import open_source
from hfmgc.data.sources.gtzan import GENRES
from hfmgc.data.sources.gtzan_lists import artist_folds, artist_groups, fault_filtered
from hfmgc.data.split_manifest import SplitManifest
from hfmgc.data.splits import grouped_split, split_corpus
from hfmgc.errors import ConfigError, SplitError
from recipes import finetune_here, tiny_settings, write_config


ALL_IDS = [f"{genre}.{number:05d}" for genre in GENRES for number in range(100)]


@pytest.fixture(scope="module")
def gtzan(tmp_path_factory):
    """GTZAN in full, its tracks cut to a tenth of a second: jazz.00054 is broken, as it really is."""
    folder = tmp_path_factory.mktemp("data") / "gtzan"
    for genre in GENRES:
        (folder / genre).mkdir(parents=True)
    for number, track_id in enumerate(ALL_IDS):
        path = folder / track_id.split(".")[0] / f"{track_id}.wav"
        soundfile.write(path, tone(number, seconds=0.1, sampling_rate=8000), 8000)
    (folder / "jazz" / "jazz.00054.wav").write_bytes(b"\0" * 100)
    return decode_corpus(open_source("gtzan", {"folder": str(folder)}), 8000)


def split(corpus, policy: str, **options) -> SplitManifest:
    return split_corpus(corpus.tracks, corpus.source, policy=policy, **options)


def listed(folder: Path, rows: list[tuple[str, str, str]], **options):
    """Decode a list of (genre, artist, split) tracks."""
    folder.mkdir(parents=True)
    lines = ["path,label,artist,split"]
    for number, (genre, artist, side) in enumerate(rows):
        soundfile.write(folder / f"{number:03d}.wav", tone(number, seconds=0.1, sampling_rate=8000), 8000)
        lines.append(f"{number:03d}.wav,{genre},{artist},{side}")
    (folder / "tracks.csv").write_text("\n".join(lines) + "\n")
    return decode_corpus(open_source(str(folder / "tracks.csv"), options), 8000)


def everyone(manifest: SplitManifest) -> list[str]:
    return sorted(track_id for members in manifest.sides.values() for track_id in members)


# Published lists.


def test_fault_filtered_gives_the_listed_sides_and_says_what_is_missing(gtzan):
    manifest = split(gtzan, "fault_filtered", seed=7, ratios="1:1:1")
    lists = fault_filtered()
    assert {side: len(members) for side, members in lists.items()} == {"train": 443, "validation": 197, "test": 290}
    assert manifest.sides == {**lists, "train": [track for track in lists["train"] if track != "jazz.00054"]}
    assert manifest.counts() == {"train": 442, "validation": 197, "test": 290}
    assert manifest.notes() == [
        "incomplete: 442 of 443 train tracks of the fault_filtered lists (jazz.00054: broken in every copy of GTZAN)"
    ]
    assert (manifest.policy, manifest.ratios, manifest.seed) == ("fault_filtered", [], 0)
    assert manifest.genres == list(GENRES)


def test_a_part_of_a_published_split_is_called_incomplete_with_its_counts(gtzan, tmp_path):
    lists = fault_filtered()
    few = {track_id for side in lists.values() for genre in GENRES for track_id in _of(genre, side)[:2]}
    wanted = few - set(lists["test"]) | {_of(genre, lists["test"])[0] for genre in GENRES[:4]}
    rows = [row for row, track_id in enumerate(gtzan.tracks["track_id"]) if track_id in wanted]
    manifest = split_corpus(gtzan.tracks.select(rows), gtzan.source, policy="fault_filtered")
    assert manifest.counts()["test"] == 4
    assert manifest.incomplete.startswith(
        "incomplete: 4 of 290 test, 20 of 197 validation, 20 of 443 train tracks of "
    )
    assert manifest.incomplete in manifest.notes()
    manifest.save(tmp_path / "split.json")
    assert SplitManifest.load(tmp_path / "split.json") == manifest
    fold = split(gtzan, "artist_folds", fold=1)
    broken = "test" if "jazz.00054" in artist_folds()[0] else "train"
    total = 315 if broken == "test" else 633
    assert fold.incomplete.startswith(
        f"incomplete: {total - 1} of {total} {broken} tracks of the artist_folds lists (jazz.00054"
    )
    assert split(gtzan, "stratified").incomplete is None


def _of(genre: str, track_ids: list[str]) -> list[str]:
    return [track_id for track_id in track_ids if track_id.startswith(genre) and track_id != "jazz.00054"]


def test_grouped_reduces_ratios_and_takes_artists_as_one_however_they_are_written():
    ids = [f"t{number:02d}" for number in range(40)]
    artists = [f"artist {number // 2}" for number in range(40)]
    plain = grouped_split(ids, ["pop"] * 40, artists, ratios=[8, 1, 1], seed=0)
    assert grouped_split(ids, ["pop"] * 40, artists, ratios=[80, 10, 10], seed=0) == plain
    written = [name.upper() if number % 2 else f" {name}" for number, name in enumerate(artists)]
    for members in grouped_split(ids, ["pop"] * 40, written, ratios=[8, 1, 1], seed=0).values():
        counts = Counter(artists[ids.index(track_id)] for track_id in members)
        assert set(counts.values()) == {2}
    with pytest.raises(SplitError, match="needs artists"):
        grouped_split(ids, ["pop"] * 40, [" "] * 40, ratios=[8, 1, 1], seed=0)


def test_fault_filtered_lists_hold_what_is_published():
    sides = {track_id: side for side, members in fault_filtered().items() for track_id in members}
    assert len(sides) == 930
    # Lines of the published files, by hand.
    assert sides["blues.00029"] == "train"
    assert sides["blues.00000"] == "validation"
    assert "classical.00042" not in sides


def test_fault_filtered_needs_no_waiver_but_the_known_one(gtzan):
    manifest = split(gtzan, "fault_filtered")
    artists = gtzan.tracks.remove_columns("waveform")
    # Features that differ, so that only artists are judged here.
    judged = artists.add_column("features", [[number] for number in range(len(artists))])
    identities = identify_tracks(judged, 8000)
    is_waived = lambda artist: gtzan.source.artist_waiver(manifest.policy, artist)  # noqa: E731
    assert find_leaks(judged, manifest.sides, identities, is_waived=is_waived) == []
    assert [leak.detail for leak in find_leaks(judged, manifest.sides, identities)] == ["artist group 138"]


def test_lists_that_match_nothing_say_what_the_ids_look_like(tmp_path):
    ids = [f"{genre}.00000" for genre in GENRES]
    mirror = write_fault_filtered_mirror(
        tmp_path / "mirror", {"train": ids, "validation": ids, "test": ids}, named=False
    )
    corpus = decode_corpus(open_source("gtzan", {"repository": str(mirror)}), 8000)
    with pytest.raises(SplitError, match="match none of the 30 tracks") as refusal:
        split(corpus, "fault_filtered")
    assert "'blues.00000'" in str(refusal.value)
    assert repr(min(corpus.tracks["track_id"])) in str(refusal.value)
    assert min(corpus.tracks["track_id"]) not in ALL_IDS


def test_lists_that_leave_a_side_empty_are_refused(gtzan):
    train = set(fault_filtered()["train"])
    rows = [row for row, track_id in enumerate(gtzan.tracks["track_id"]) if track_id in train]
    with pytest.raises(SplitError, match="leaves no track for validation"):
        split_corpus(gtzan.tracks.select(rows), gtzan.source, policy="fault_filtered")


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_an_artist_fold_is_the_test_side_and_no_artist_is_divided(gtzan, fold):
    manifest = split(gtzan, "artist_folds", fold=fold)
    folds = artist_folds()
    assert [len(members) for members in folds] == [315, 316, 317]
    assert manifest.sides["test"] == [track for track in folds[fold - 1] if track != "jazz.00054"]
    assert everyone(manifest) == sorted(set().union(*folds) - {"jazz.00054"})
    groups = [{artist_groups()[track] for track in members} for members in manifest.sides.values()]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    assert 3 < len(manifest.sides["train"]) / len(manifest.sides["validation"]) < 5
    assert {track.split(".")[0] for track in manifest.sides["validation"]} == set(GENRES)
    assert manifest.policy == f"artist_folds, fold {fold}"
    assert "not comparable" in manifest.comparable_note


def test_the_folds_depend_neither_on_seed_nor_on_ratios(gtzan):
    assert split(gtzan, "artist_folds", seed=1, ratios="1:1:1") == split(gtzan, "artist_folds", seed=2, ratios="4:1")


@pytest.mark.parametrize("fold", [0, 4, -1])
def test_another_fold_is_refused(gtzan, fold):
    with pytest.raises(ConfigError, match=f"split_fold {fold}: "):
        split(gtzan, "artist_folds", fold=fold)


def test_official_sides_are_taken_as_they_are_and_tracks_without_one_are_left_out(tmp_path):
    rows = [("pop", "", "test"), ("blues", "", "train"), ("pop", "", "train"), ("blues", "", ""), ("pop", "", "dev")]
    manifest = split(listed(tmp_path / "music", rows), "official", seed=5)
    assert manifest.sides == {"train": ["001.wav", "002.wav"], "validation": ["004.wav"], "test": ["000.wav"]}
    assert (manifest.ratios, manifest.seed) == ([], 0)


def test_no_official_split_or_half_of_one_is_refused(tmp_path):
    corpus = listed(tmp_path / "none", [("pop", "", ""), ("blues", "", "")])
    with pytest.raises(SplitError, match="has no official split"):
        split(corpus, "official")
    corpus = listed(tmp_path / "half", [("pop", "", "train"), ("blues", "", "train"), ("pop", "", "test")])
    with pytest.raises(SplitError, match=r"'official' leaves no track for validation: .* lists none"):
        split(corpus, "official")


# Drawn splits.


def artists_corpus(seed: int = 0, artists: int = 60) -> tuple[list[str], list[str], list[str]]:
    """Ids, genres and artists: artists of one to six tracks, each of one genre."""
    generator = np.random.default_rng(seed)
    rows = []
    for artist in range(artists):
        genre = ("blues", "metal", "pop")[artist % 3]
        for _ in range(int(generator.integers(1, 7))):
            rows.append((f"{genre}/{len(rows):03d}", genre, f"artist {artist}"))
    return tuple(map(list, zip(*rows, strict=True)))


@pytest.mark.parametrize("ratios", [[8, 1, 1], [6, 2, 2], [5, 2, 3], [4, 1, 5], [4, 1, 0]])
def test_grouped_keeps_artists_together_and_genres_about_in_the_ratios(ratios):
    ids, genres, artists = artists_corpus()
    sides = grouped_split(ids, genres, artists, ratios=ratios, seed=0)
    assert sorted(track for members in sides.values() for track in members) == sorted(ids)
    assert all(members == sorted(members) for members in sides.values())
    owner, genre_of = dict(zip(ids, artists, strict=True)), dict(zip(ids, genres, strict=True))
    side_of_artist: dict[str, set] = {}
    for side, members in sides.items():
        for track in members:
            side_of_artist.setdefault(owner[track], set()).add(side)
    assert all(len(found) == 1 for found in side_of_artist.values())
    totals = Counter(genres)
    for (side, members), ratio in zip(sides.items(), ratios, strict=True):
        for genre, total in totals.items():
            share = sum(genre_of[track] == genre for track in members) / total
            assert share == pytest.approx(ratio / sum(ratios), abs=0.08), (side, genre)


def test_grouped_depends_on_ids_and_seed_and_not_on_their_order():
    columns = artists_corpus()
    backward = [column[::-1] for column in columns]
    shuffled = [[column[row] for row in np.random.default_rng(3).permutation(len(column))] for column in columns]
    first = grouped_split(*columns, ratios=[8, 1, 1], seed=0)
    assert first == grouped_split(*backward, ratios=[8, 1, 1], seed=0)
    assert first == grouped_split(*shuffled, ratios=[8, 1, 1], seed=0)
    assert first != grouped_split(*columns, ratios=[8, 1, 1], seed=1)


def test_grouped_takes_a_track_of_nobody_for_an_artist_of_its_own():
    ids = [f"{number:02d}" for number in range(40)]
    artists = ["Ann"] * 10 + [""] * 30
    sides = grouped_split(ids, ["pop"] * 40, artists, ratios=[2, 1, 1], seed=0)
    assert sum(bool(set(members) & set(ids[:10])) for members in sides.values()) == 1
    assert sum(bool(set(members) & set(ids[10:])) for members in sides.values()) == 3


def test_grouped_without_artists_or_with_too_few_is_refused(tmp_path):
    rows = [(genre, "", "") for genre in ("blues", "pop") for _ in range(5)]
    with pytest.raises(SplitError, match="'grouped' needs artists"):
        split(listed(tmp_path / "none", rows), "grouped")
    rows = [(genre, f"{genre} {number % 4}", "") for genre in ("blues", "pop") for number in range(8)]
    corpus = listed(tmp_path / "few", rows)
    with pytest.raises(SplitError, match=r"'grouped' with ratios 8:1:1 .* 10 artists, not 8"):
        split(corpus, "grouped")
    manifest = split(corpus, "grouped", ratios="2:1:1")
    assert len(everyone(manifest)) == 16
    assert all(manifest.counts().values())


def test_grouped_gtzan_passes_the_guard_by_artists_and_stratified_does_not(gtzan):
    judged = gtzan.tracks.remove_columns("waveform").add_column("features", [[n] for n in range(len(gtzan.tracks))])
    identities = identify_tracks(judged, 8000)
    leaks = lambda policy: find_leaks(judged, split(gtzan, policy).sides, identities)  # noqa: E731
    assert leaks("grouped") == []
    assert {leak.kind for leak in leaks("stratified")} == {"artist"}


@pytest.mark.parametrize(
    ("ratios", "counts"),
    [
        ("8:1:1", (800, 100, 99)),
        ("6:2:2", (599, 200, 200)),
        ("5:2:3", (500, 200, 299)),
        ("4:1:5", (400, 100, 499)),
        ("4:1", (799, 200, 0)),
    ],
)
def test_the_ratios_of_the_papers_divide_gtzan(gtzan, ratios, counts):
    manifest = split(gtzan, "stratified", ratios=ratios)
    assert sum(counts) == 999
    for found, expected in zip(manifest.counts().values(), counts, strict=True):
        assert abs(found - expected) <= 1
    assert everyone(manifest) == sorted(set(ALL_IDS) - {"jazz.00054"})
    per_genre = Counter(track.split(".")[0] for track in manifest.sides["train"])
    assert max(per_genre.values()) - min(per_genre.values()) <= 1


# What a reader is told, and what is refused.


def test_a_random_split_of_gtzan_says_that_it_is_not_comparable_and_fault_filtered_does_not(gtzan):
    assert "not comparable" in split(gtzan, "stratified").comparable_note
    assert any("not comparable" in note for note in split(gtzan, "grouped").notes())
    assert split(gtzan, "fault_filtered").comparable_note is None
    assert not any("not comparable" in note for note in split(gtzan, "fault_filtered").notes())


def test_an_unknown_policy_and_one_that_the_source_has_not_are_refused(gtzan):
    with pytest.raises(ConfigError, match="did you mean 'stratified'"):
        split(gtzan, "stratifed")
    with pytest.raises(ConfigError, match=r"split_policy: gtzan .* fault_filtered, artist_folds"):
        split(gtzan, "official")


@pytest.mark.parametrize("policy", ["stratified", "grouped", "fault_filtered", "artist_folds"])
def test_a_genre_without_usable_tracks_is_refused_by_every_policy(tmp_path, policy):
    corpus = decode_corpus(
        open_source("gtzan", {"folder": str(write_gtzan_folder(tmp_path / "few", GTZAN_IDS))}), 8000
    )
    with pytest.raises(SplitError, match=r"'country' of gtzan \(few\) has 0 usable tracks"):
        split(corpus, policy)


def test_a_single_genre_is_refused(tmp_path):
    corpus = listed(tmp_path / "music", [("pop", "", "train"), ("pop", "", "dev"), ("pop", "", "test")])
    for policy in ("official", "stratified"):
        with pytest.raises(SplitError, match="has one genre only"):
            split(corpus, policy)


# Manifests that are given back.


def test_a_manifest_given_back_repeats_the_split_whatever_else_is_asked(gtzan, tmp_path):
    before = split(gtzan, "stratified", ratios="6:2:2", seed=11)
    before.save(tmp_path / "split.json")
    again = split(gtzan, "fault_filtered", ratios="8:1:1", seed=0, manifest=tmp_path / "split.json")
    assert again == before
    assert again.digest == before.digest


def test_a_manifest_with_a_track_that_is_not_there_is_refused(gtzan, tmp_path):
    manifest = split(gtzan, "stratified")
    manifest.sides["test"].append("jazz.00054")
    manifest.save(tmp_path / "split.json")
    with pytest.raises(SplitError, match=r"1 of its tracks are not in gtzan .*'jazz\.00054'"):
        split(gtzan, "stratified", manifest=tmp_path / "split.json")


def test_a_recipe_repeats_the_split_of_a_manifest_and_refuses_a_missing_track(tmp_path):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=6, seconds=1)
    corpus = decode_corpus(open_source(str(music)), 16000)
    drawn = split(corpus, "stratified", ratios="1:1:1", seed=99)
    drawn.save(tmp_path / "given.json")
    settings = tiny_settings(music, tmp_path / "out", num_train_epochs=1)
    config = write_config(tmp_path / "run.yaml", settings)
    result = finetune_here(config, "--split_manifest", tmp_path / "given.json")
    assert result.returncode == 0, result.stderr
    kept = json.loads((tmp_path / "out" / "split.json").read_text())
    assert kept["sides"] == drawn.sides
    assert kept["digest"] == drawn.digest
    assert (kept["ratios"], kept["seed"]) == ([1, 1, 1], 99)
    assert json.loads((tmp_path / "out" / "results.json").read_text())["split"]["digest"] == drawn.digest

    (music / drawn.sides["test"][0]).unlink()
    other = ("--split_manifest", tmp_path / "out" / "split.json", "--output_dir", tmp_path / "other")
    refused = finetune_here(config, *other)
    assert refused.returncode == 1
    assert refused.stderr.strip().splitlines()[-1].startswith("error: ")
    assert drawn.sides["test"][0] in refused.stderr.strip().splitlines()[-1]


def test_a_policy_does_not_depend_on_the_order_of_the_table(gtzan):
    backward = gtzan.tracks.select(range(len(gtzan.tracks) - 1, -1, -1))
    assert isinstance(backward, datasets.Dataset)
    for policy in ("stratified", "grouped", "fault_filtered", "artist_folds"):
        assert split_corpus(backward, gtzan.source, policy=policy) == split(gtzan, policy)


@pytest.mark.parametrize("others", [[], artist_folds()[1][:3], [f"{genre}.00031" for genre in GENRES]])
def test_artist_folds_of_a_handful_of_tracks_are_refused_by_their_own_name(gtzan, others):
    kept = {*artist_folds()[0], *others}
    rows = [row for row, track_id in enumerate(gtzan.tracks["track_id"]) if track_id in kept]
    with pytest.raises(SplitError, match=r"split_policy 'artist_folds' .*five artists") as caught:
        split_corpus(gtzan.tracks.select(rows), gtzan.source, policy="artist_folds", fold=1)
    assert "grouped" not in str(caught.value)


def test_grouped_with_more_folds_than_any_genre_has_tracks_is_refused(tmp_path):
    rows = [(genre, f"{genre} {number}", "") for genre in ("blues", "pop", "rock", "jazz") for number in range(3)]
    corpus = listed(tmp_path / "few", rows)
    with pytest.raises(SplitError, match=r"'grouped' with ratios 8:1:1 .* 10 tracks; the largest has 3"):
        split(corpus, "grouped")
    assert len(everyone(split(corpus, "grouped", ratios="1:1:1"))) == 12


@pytest.mark.parametrize("policy", ["fault_filtered", "artist_folds"])
def test_lists_that_match_nothing_are_named_before_anything_else(tmp_path, policy):
    listed_ids = set(artist_groups()).union(*fault_filtered().values())
    foreign = next(track_id for track_id in ALL_IDS if track_id not in listed_ids)
    corpus = decode_corpus(
        open_source("gtzan", {"folder": str(write_gtzan_folder(tmp_path / "one", [foreign]))}), 8000
    )
    with pytest.raises(SplitError, match=f"^the {policy} lists match none of the 1 tracks of one: .*'{foreign}'"):
        split(corpus, policy)


@pytest.mark.parametrize(
    ("policy", "test_side"), [("fault_filtered", fault_filtered()["test"]), ("artist_folds", artist_folds()[0])]
)
def test_published_lists_without_their_test_side_are_refused_and_do_not_fall_back(gtzan, policy, test_side):
    rows = [row for row, track_id in enumerate(gtzan.tracks["track_id"]) if track_id not in test_side]
    with pytest.raises(SplitError, match=f"'{policy}' leaves no track for test: none of its listed tracks"):
        split_corpus(gtzan.tracks.select(rows), gtzan.source, policy=policy)
