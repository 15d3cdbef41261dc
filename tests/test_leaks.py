"""The leak guard: nothing that belongs together on two sides, and an override that leaves its trace."""

import io
import json
import os
from dataclasses import asdict
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
import soxr
import yaml
from conftest import needs_real_data

from hfmgc.data.audio import load_audio
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.identity import identify_tracks
from hfmgc.data.leaks import Leak, find_leaks, refuse_leaks
from hfmgc.data.sources import open_source
from hfmgc.data.sources.gtzan import GENRES
from hfmgc.data.split_manifest import SplitManifest
from hfmgc.data.splits import split_corpus
from hfmgc.data.synthesis.composer import compose_track
from hfmgc.data.synthesis.instruments import SAMPLING_RATE
from hfmgc.errors import SplitError
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from recipes import finetune_here, tiny_settings, write_config


RATE = 16000


def noise(seed: int, seconds: float = 2.0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def decoded(waveforms: dict[str, np.ndarray], artists: dict[str, str] | None = None) -> datasets.Dataset:
    return datasets.Dataset.from_dict(
        {
            "track_id": list(waveforms),
            "artist": [(artists or {}).get(track_id, "") for track_id in waveforms],
            "waveform": list(waveforms.values()),
        }
    ).with_format("numpy", columns=["waveform"], output_all_columns=True)


def unlike(*ids: str, artists: dict[str, str] | None = None) -> datasets.Dataset:
    return decoded({track_id: noise(number) for number, track_id in enumerate(ids)}, artists)


def kept(features: dict[str, np.ndarray], number: str = "float32") -> datasets.Dataset:
    kind = datasets.Value(number)
    for _ in range(next(iter(features.values())).ndim):
        kind = datasets.List(kind)
    text = datasets.Value("string")
    return datasets.Dataset.from_dict(
        {"track_id": list(features), "artist": [""] * len(features), "features": list(features.values())},
        features=datasets.Features({"track_id": text, "artist": text, "features": kind}),
    ).with_format("numpy", columns=["features"], output_all_columns=True)


def sides(train: str, validation: str = "", test: str = "") -> dict[str, list[str]]:
    return {"train": train.split(), "validation": validation.split(), "test": test.split()}


def leaks_of(tracks: datasets.Dataset, split: dict[str, list[str]], rate: int = RATE, **options) -> list[Leak]:
    return find_leaks(tracks, split, identify_tracks(tracks, rate), **options)


def found(tracks: datasets.Dataset, split: dict[str, list[str]], **options) -> list[tuple]:
    return [(leak.kind, leak.sides, leak.ids) for leak in leaks_of(tracks, split, **options)]


def test_a_clean_split_has_no_leaks():
    tracks = unlike("a", "b", "c", artists={"a": "Ann", "b": "Bob"})
    assert leaks_of(tracks, sides("a", "b", "c")) == []


def test_a_track_on_two_sides_is_found():
    assert found(unlike("a", "b", "c"), sides("a b", "c", "b")) == [("track", ("train", "test"), ("b", "b"))]


def test_an_artist_on_two_sides_is_one_leak_for_each_pair_of_sides():
    artists = dict.fromkeys("abcdef", "Ann") | {"g": "Bob", "h": "Bob"}
    leaks = found(unlike(*"abcdefgh", artists=artists), sides("a b c g h", "d", "e f"))
    assert {(kind, frozenset(pair)) for kind, pair, _ in leaks} == {
        ("artist", frozenset({"train", "validation"})),
        ("artist", frozenset({"train", "test"})),
        ("artist", frozenset({"validation", "test"})),
    }
    assert len(leaks) == 3
    split = sides("a b c g h", "d", "e f")
    assert all(track_id in split[side] for _, pair, ids in leaks for side, track_id in zip(pair, ids, strict=True))


def test_an_artist_is_one_however_the_name_is_written():
    artists = {"a": "Bj\u00f6rk", "b": "BJO\u0308RK ", "c": "\uff26\uff55\uff4e  Lovers", "d": "fun lovers", "e": " "}
    artists["f"] = " "
    leaks = leaks_of(unlike(*"abcdef", artists=artists), sides("a c e", "b d f"))
    assert [(leak.kind, leak.ids) for leak in leaks] == [("artist", ("a", "b")), ("artist", ("c", "d"))]
    assert leaks[0].detail == "artist Bj\u00f6rk"


def test_unknown_artists_are_nobody():
    assert found(unlike("a", "b"), sides("a", "b")) == []


def test_an_artist_of_one_side_or_of_tracks_that_are_left_out_is_no_leak():
    artists = dict.fromkeys("abd", "Ann") | {"c": "Bob"}
    assert found(unlike(*"abcd", artists=artists), sides("a b", "c")) == []


def test_a_waived_artist_is_passed_over_and_no_other():
    tracks = unlike(*"abcd", artists={"a": "Ann", "b": "Ann", "c": "Bob", "d": "Bob"})
    leaks = found(tracks, sides("a c", "b d"), is_waived=lambda artist: "published so" if artist == "Ann" else None)
    assert leaks == [("artist", ("train", "validation"), ("c", "d"))]


def test_a_waiver_for_an_artist_does_not_waive_their_recording():
    tracks = decoded({"a": noise(0), "b": 0.3 * noise(0)}, {"a": "Ann", "b": "Ann"})
    assert found(tracks, sides("a", "b"), is_waived=lambda artist: "so") == [
        ("recording", ("train", "validation"), ("a", "b"))
    ]


def test_a_recording_on_two_sides_is_found_and_one_on_a_single_side_is_not():
    tracks = decoded({"a": noise(0), "b": noise(1), "c": 0.2 * noise(0), "d": 0.5 * noise(1), "e": noise(2)})
    assert found(tracks, sides("a b d", "e", "c")) == [("recording", ("train", "test"), ("a", "c"))]


def test_two_processes_find_what_one_finds():
    tracks = decoded({"a": noise(0), "b": noise(1), "c": 0.2 * noise(0), "d": noise(3)})
    split = sides("a b", "d", "c")
    leaks = find_leaks(tracks, split, identify_tracks(tracks, RATE, num_proc=2))
    assert leaks == leaks_of(tracks, split)
    assert [(leak.kind, leak.sides, leak.ids) for leak in leaks] == [("recording", ("train", "test"), ("a", "c"))]


def test_equal_features_on_two_sides_are_found():
    values = np.random.default_rng(0).integers(0, 256, (4, 8, 5)).astype(np.float32)
    features = {"a": values[0], "b": values[1], "c": values[0], "d": values[1], "e": values[2]}
    assert found(kept(features), sides("a b d", "e", "c")) == [("recording", ("train", "test"), ("a", "c"))]


def test_each_side_that_equal_features_lie_on_is_told():
    values = np.ones((8, 5), np.float32)
    leaks = found(kept(dict.fromkeys("abcd", values)), sides("a c", "b", "d"))
    assert {(pair, ids) for _, pair, ids in leaks} == {
        (("train", "validation"), ("a", "b")),
        (("validation", "train"), ("b", "c")),
        (("train", "test"), ("a", "d")),
        (("validation", "test"), ("b", "d")),
    }


def encoded_again(waveform: np.ndarray, sampling_rate: int, gain: float) -> np.ndarray:
    buffer = io.BytesIO()
    soundfile.write(buffer, gain * waveform, sampling_rate, format="MP3")
    return load_audio(buffer.getvalue(), 22050)


def levels(extractor: SpectrogramFeatureExtractor, waveform: np.ndarray) -> np.ndarray:
    return np.round(255 * extractor.normalize_track(extractor.track_features(waveform)).T).astype(np.uint8)


@pytest.fixture(scope="module")
def music() -> list[np.ndarray]:
    return [compose_track(genre, index, seconds=24.0, seed=9) for genre in ("blues", "metal") for index in range(2)]


@pytest.mark.parametrize("form", ["levels", "floats", "slices"])
def test_features_of_a_copy_encoded_again_are_found_and_no_others(music, form):
    extractor = SpectrogramFeatureExtractor(preset="gtzan_decimated", window_seconds=10.0)
    if form == "slices":
        extractor = SpectrogramFeatureExtractor(window_seconds=3.0, normalization="z_score")
    features_of = {
        "levels": lambda waveform: levels(extractor, waveform),
        "floats": extractor.track_features,
        "slices": extractor.track_windows,
    }[form]
    at_rate = [soxr.resample(waveform, SAMPLING_RATE, 22050) for waveform in music]
    features = {f"train {number}": features_of(waveform) for number, waveform in enumerate(at_rate)}
    for number, gain in ((1, 0.4), (2, 0.1)):
        features[f"test {number}"] = features_of(encoded_again(at_rate[number], 22050, gain))
    split = {side: [track_id for track_id in features if track_id.startswith(side)] for side in ("train", "test")}
    leaks = leaks_of(kept(features, "uint8" if form == "levels" else "float32"), split)
    assert [leak.ids for leak in leaks] == [("train 1", "test 1"), ("train 2", "test 2")]
    assert all("nearly the same features" in leak.detail for leak in leaks)


def test_equal_features_are_told_once(music):
    extractor = SpectrogramFeatureExtractor(preset="gtzan_decimated", window_seconds=10.0)
    features = dict.fromkeys(("a", "b"), levels(extractor, soxr.resample(music[0], SAMPLING_RATE, 22050)))
    leaks = leaks_of(kept(features, "uint8"), sides("a", "b"))
    assert [leak.detail for leak in leaks] == ["the same features"]


def test_silence_and_small_features_are_no_copies_of_each_other():
    generator = np.random.default_rng(0)
    quiet = np.zeros((2, 128, 300), np.uint8)
    quiet[0, 60, 10], quiet[1, 61, 10] = 255, 255
    quiet[:, :, ::40] += generator.integers(0, 2, (2, 128, 8)).astype(np.uint8)  # rounding, here and there
    assert found(kept({"a": quiet[0], "b": quiet[1]}, "uint8"), sides("a", "b")) == []
    few_bins = generator.random((2, 300, 20)).astype(np.float32)
    assert found(kept({"a": few_bins[0], "b": few_bins[0] + 0.01}), sides("a", "b")) == []


@needs_real_data
def test_real_features_of_mp3_copies_are_found_and_the_fault_filtered_sides_have_none():
    extractor = SpectrogramFeatureExtractor(preset="gtzan_decimated")
    features, split = {}, {"train": [], "test": []}
    for path in sorted((Path(os.environ["HFMGC_REAL_DATA"]) / "gtzan_audio").rglob("*.wav")):
        waveform = load_audio(path, 22050)
        features[path.stem] = levels(extractor, waveform)
        features[f"{path.stem} again"] = levels(extractor, encoded_again(waveform, 22050, 0.4))
        split["train"].append(path.stem)
        split["test"].append(f"{path.stem} again")
    leaks = leaks_of(kept(features, "uint8"), split, rate=22050)
    assert [leak.ids for leak in leaks] == list(zip(*split.values(), strict=True))

    folder = Path(os.environ["HFMGC_REAL_DATA"]) / "gtzan_logmel"
    tables = {
        side: datasets.Dataset.from_parquet(str(folder / f"{side}.parquet")).rename_column("log_mel", "features")
        for side in ("train", "validation")
    }
    filtered = datasets.concatenate_datasets(list(tables.values()))
    filtered = filtered.add_column("artist", [""] * len(filtered)).with_format(
        "numpy", columns=["features"], output_all_columns=True
    )
    clean = {side: list(table["track_id"]) for side, table in tables.items()}
    assert [leak.ids for leak in leaks_of(filtered, clean, rate=22050)] == []


def test_a_refusal_names_ids_sides_kinds_and_the_ways_out():
    tracks = decoded({"my/a": noise(0), "my/b": noise(1), "my/c": 0.2 * noise(0)}, {"my/b": "Ann", "my/c": "Ann"})
    with pytest.raises(SplitError) as refusal:
        refuse_leaks(leaks_of(tracks, sides("my/a", "my/b", "my/c my/b")))
    message = str(refusal.value)
    assert "1 by track: my/b (validation) and my/b (test)" in message
    assert "1 by recording: my/a (train) and my/c (test): the same recording" in message
    assert "grouped" in message
    assert "allow_leaks" in message
    assert "\n" not in message


def test_a_refusal_of_many_leaks_names_the_first_and_counts_the_rest():
    ids = [f"t{number}" for number in range(16)]
    artists = {track_id: f"artist {number // 2}" for number, track_id in enumerate(ids)}
    with pytest.raises(SplitError, match=r"8 by artist: t0 .* and 3 more") as refusal:
        split = {"train": ids[::2], "validation": ids[1::2], "test": []}
        refuse_leaks(leaks_of(unlike(*ids, artists=artists), split))
    assert "t8 " in str(refusal.value)
    assert "t10 " not in str(refusal.value)


def test_allowed_leaks_are_returned_and_can_be_recorded(tmp_path):
    tracks = decoded({"a": noise(0), "b": noise(1), "c": 0.2 * noise(0)})
    split = sides("a", "b", "c")
    leaks = leaks_of(tracks, split)
    assert [leak.ids for leak in leaks] == [("a", "c")]
    manifest = SplitManifest(
        "x", None, "official", [], 0, split, leaks=json.loads(json.dumps(list(map(asdict, leaks))))
    )
    manifest.save(tmp_path / "split.json")
    again = SplitManifest.load(tmp_path / "split.json")
    assert again.leaks[0]["kind"] == "recording"
    assert any("leak guard was overridden" in note and "1 by recording" in note for note in again.notes())


# The whole way, from files on disk.


def mp3(path: Path, waveform: np.ndarray, sampling_rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, sampling_rate, format="MP3")


def refused_with_planted_copy(folder: Path, original: str, work: Path) -> None:
    """Plant a quieter MP3 of a clip of a GTZAN folder under another genre and number; the guard must name both."""
    genre = original.split(".")[0]
    waveform, rate = soundfile.read(folder / genre / f"{original}.wav", dtype="float32")
    mp3(folder / "rock" / "rock.00077.mp3", 0.4 * waveform, rate)
    source = open_source("gtzan", {"folder": str(folder)})
    corpus = decode_corpus(source, RATE)
    ids = list(corpus.tracks["track_id"])
    assert "rock.00077" in ids
    test = [track_id for track_id in ids if track_id[-1] in "23457" and track_id != original]
    validation = [track_id for track_id in ids if track_id[-1] == "1" and track_id != original]
    train = [track_id for track_id in ids if track_id not in test + validation]
    manifest = SplitManifest("gtzan", None, "mine", [], 0, {"train": train, "validation": validation, "test": test})
    manifest.save(work / "split.json")
    split = split_corpus(corpus.tracks, source, policy="stratified", manifest=work / "split.json")
    # Ids 0 to 9 of a genre are often by one artist, which the guard tells as well: here it is told to pass them over.
    passed_over = lambda artist: True  # noqa: E731
    with pytest.raises(SplitError) as refusal:
        refuse_leaks(leaks_of(corpus.tracks, split.sides, is_waived=passed_over))
    assert f"the split leaks: 1 by recording: {original} (train) and rock.00077 (test)" in str(refusal.value)
    unplanted = {side: [track for track in members if track != "rock.00077"] for side, members in split.sides.items()}
    assert leaks_of(corpus.tracks, unplanted, is_waived=passed_over) == []


def test_a_planted_mp3_in_a_gtzan_folder_is_refused(tmp_path):
    for genre in GENRES:
        (tmp_path / "gtzan" / genre).mkdir(parents=True)
        for number in range(3):
            waveform = compose_track(genre, number, seconds=6.0, seed=1)
            soundfile.write(tmp_path / "gtzan" / genre / f"{genre}.{number:05d}.wav", waveform, SAMPLING_RATE)
    refused_with_planted_copy(tmp_path / "gtzan", "disco.00000", tmp_path)


@needs_real_data
def test_a_planted_mp3_among_real_clips_is_refused(tmp_path):
    for path in sorted((Path(os.environ["HFMGC_REAL_DATA"]) / "gtzan_audio").rglob("*.wav")):
        (tmp_path / "gtzan" / path.parent.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "gtzan" / path.parent.name / path.name).symlink_to(path)
    refused_with_planted_copy(tmp_path / "gtzan", "blues.00000", tmp_path)


def planted_list(folder: Path) -> Path:
    """A list with an official split, in which a test track of pop is a training track of blues."""
    lines = ["path,label,split"]
    for genre in ("blues", "pop"):
        for number, side in enumerate(("train", "train", "validation", "test")):
            waveform = compose_track(genre, number, seconds=4.0, seed=5)
            if (genre, side) == ("pop", "test"):
                mp3(folder / "pop" / "another name.mp3", 0.4 * compose_track("blues", 0, seconds=4.0, seed=5), 22050)
                lines.append("pop/another name.mp3,pop,test")
                continue
            (folder / genre).mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / genre / f"{number}.flac", waveform, SAMPLING_RATE)
            lines.append(f"{genre}/{number}.flac,{genre},{side}")
    (folder / "tracks.csv").write_text("\n".join(lines) + "\n")
    return folder / "tracks.csv"


def test_a_recipe_refuses_a_planted_copy_and_an_override_is_recorded_everywhere(tmp_path):
    settings = tiny_settings(planted_list(tmp_path / "music"), tmp_path / "out", split_policy="official")
    config = write_config(tmp_path / "run.yaml", {**settings, "num_train_epochs": 1})
    refused = finetune_here(config)
    assert refused.returncode == 1
    line = refused.stderr.strip().splitlines()[-1]
    assert line.startswith(
        "error: the split leaks: 1 by recording: blues/0.flac (train) and pop/another name.mp3 (test)"
    )
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "out" / "results.json").exists()

    allowed = finetune_here(config, "--allow_leaks")
    assert allowed.returncode == 0, allowed.stderr
    out = tmp_path / "out"
    assert [leak["ids"] for leak in json.loads((out / "split.json").read_text())["leaks"]] == [
        ["blues/0.flac", "pop/another name.mp3"]
    ]
    assert yaml.safe_load((out / "run.yaml").read_text())["settings"]["DataArguments"]["allow_leaks"] is True
    said = [note for note in json.loads((out / "results.json").read_text())["notes"] if "leak guard" in note]
    assert len(said) == 1
    assert "overridden" in said[0]
    assert "1 by recording" in said[0]
    assert said[0] in allowed.stdout
