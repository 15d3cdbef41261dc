"""The front door: what `import hfmgc` offers, and that its datasets are those that the recipes train on."""

import doctest
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from conftest import tone, write_music
from kept_features import write_sides

import hfmgc
from hfmgc.data.sources.gtzan_lists import fault_filtered
from hfmgc.errors import ConfigError, SplitError
from hfmgc.features.feature_extraction_ast import HfmgcASTFeatureExtractor
from hfmgc.training.arguments import DataArguments, RunArguments
from hfmgc.training.preparation import prepare_data


def test_load_audio_is_reached_without_torch_or_the_libraries_of_hugging_face():
    script = """
import sys
import hfmgc
hfmgc.load_audio
loaded = {"torch", "transformers", "datasets", "librosa", "peft"} & set(sys.modules)
assert not loaded, loaded
assert set(hfmgc.__all__) <= set(dir(hfmgc))
from hfmgc import load_audio
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_what_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="load_datasets"):
        _ = hfmgc.load_datasets


@pytest.mark.parametrize("name", [*hfmgc.__all__, "inference.pipeline.MusicGenreClassificationPipeline"])
def test_every_public_name_has_an_example_that_runs(name, tmp_path, monkeypatch, tiny_checkpoint):
    monkeypatch.chdir(tmp_path)
    if name == "SplitManifest":
        write_music(tmp_path / "music")
    soundfile.write("song.wav", tone(0, seconds=2.0, sampling_rate=44100), 44100)
    if "Classif" in name:
        tiny_checkpoint(name="runs/mine")
    documentation = inspect.getdoc(pkgutil.resolve_name(f"hfmgc.{name}"))
    example = doctest.DocTestParser().get_doctest(documentation, {}, name, None, None)
    assert example.examples, f"hfmgc.{name} has no example"
    said: list[str] = []
    assert not doctest.DocTestRunner().run(example, out=said.append).failed, "".join(said)


@pytest.mark.parametrize("policy", ["stratified", "grouped"])
def test_it_is_the_data_that_a_recipe_trains_on(policy, tmp_path):
    music = artists(tmp_path)
    split = {"split_policy": policy, "split_ratios": "2:1:1", "split_seed": 3}
    ours = hfmgc.load_dataset(music, sampling_rate=16000, save_manifest=tmp_path / "split.json", **split)
    run = RunArguments(output_dir=str(tmp_path / "run"), report_to="none", use_cpu=True)
    theirs = prepare_data(DataArguments(data=str(music), **split), run, HfmgcASTFeatureExtractor(max_length=64))
    manifest = hfmgc.SplitManifest.load(tmp_path / "split.json")
    assert (manifest.digest, manifest.sides) == (theirs.manifest.digest, theirs.manifest.sides)
    for track_id, identity in manifest.identities.items():
        assert identity.items() <= theirs.manifest.identities[track_id].items()  # a recipe adds its features'
    assert ours["train"].features["genre"].names == theirs.corpus.genres
    for side, track_ids in theirs.manifest.sides.items():
        for track, expected in zip(ours[side], theirs.corpus.select(track_ids), strict=True):
            np.testing.assert_array_equal(track["waveform"], expected["waveform"])
            assert track["waveform"].dtype == np.float32
            assert ours[side].features["genre"].int2str(track["genre"]) == expected["genre"]
            assert track["genres"] == [track["genre"]]
            assert (track["track_id"], track["artist"]) == (expected["track_id"], expected["artist"])


def test_without_a_rate_the_audio_stays_undecoded_and_unusable_files_are_skipped(music_folder, caplog):
    music = music_folder(tracks=4)
    (music / "metal" / "metal.001.wav").write_bytes(b"not audio at all")
    undecoded = hfmgc.load_dataset(str(music), split_ratios="1:1:1")
    decoded = hfmgc.load_dataset(str(music), split_ratios="1:1:1", sampling_rate=16000)
    assert "1 skipped" in caplog.text and "metal.001" in caplog.text
    assert undecoded.num_rows == decoded.num_rows and sum(undecoded.num_rows.values()) == 11
    assert undecoded["train"].features["audio"] == datasets.Audio(decode=False)
    for side in undecoded:
        for track, expected in zip(undecoded[side], decoded[side], strict=True):
            assert track["audio"]["path"].endswith(track["track_id"]) and track["track_id"] == expected["track_id"]
            np.testing.assert_array_equal(hfmgc.load_audio(track["audio"]["path"], 16000), expected["waveform"])


def test_a_split_that_the_data_lack_and_a_rate_of_0_are_refused_before_decoding(music_folder, monkeypatch):
    music = music_folder(("blues", "pop"), tracks=3)
    monkeypatch.delattr("hfmgc.api.decode_corpus")
    for options, field in (
        ({"split_policy": "grouped"}, "split_policy"),
        ({"split_ratios": "8"}, "split_ratios"),
        ({"sampling_rate": 0}, "sampling_rate"),
    ):
        with pytest.raises(ConfigError, match=field):
            hfmgc.load_dataset(music, **options)


def test_a_leak_is_refused_or_recorded(music_folder, tmp_path):
    music = music_folder(("blues", "pop"), tracks=3)
    copy = (music / "blues" / "blues.000.wav").read_bytes()
    for number in (1, 2):
        (music / "blues" / f"blues.00{number}.wav").write_bytes(copy)
    with pytest.raises(SplitError, match=r"blues\.000"):
        hfmgc.load_dataset(music, split_ratios="1:1:1")
    leaking = hfmgc.load_dataset(
        music, split_ratios="1:1:1", allow_leaks=True, save_manifest=tmp_path / "split.json", split_seed=1
    )
    manifest = hfmgc.SplitManifest.load(tmp_path / "split.json")
    assert {leak["kind"] for leak in manifest.leaks} == {"recording"}
    repeated = hfmgc.load_dataset(music, split_manifest=tmp_path / "split.json", allow_leaks=True)
    assert {side: rows["track_id"][:] for side, rows in repeated.items()} == {
        side: rows["track_id"][:] for side, rows in leaking.items()
    }


def test_gtzan_has_its_published_sides(tmp_path):
    chosen = {side: [ids[0] for ids in by_genre(members).values()] for side, members in fault_filtered().items()}
    for number, track_id in enumerate(sorted(set().union(*chosen.values()))):
        path = tmp_path / "gtzan" / track_id.split(".")[0] / f"{track_id}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(number, seconds=1.0, sampling_rate=8000, frequency=200 + 20 * number), 8000)
    gtzan = hfmgc.load_dataset("gtzan", split_policy="fault_filtered", sampling_rate=8000, folder=tmp_path / "gtzan")
    assert {side: sorted(rows["track_id"]) for side, rows in gtzan.items()} == {
        side: sorted(members) for side, members in chosen.items()
    }
    assert gtzan["test"].features["genre"].num_classes == 10


def test_tracks_with_several_genres_keep_them_all(tmp_path):
    lines = ["path,genres"]
    for number in range(9):
        soundfile.write(tmp_path / f"{number}.wav", tone(number, seconds=1.0, frequency=200 + 60 * number), 16000)
        lines.append(f"{number}.wav,{'rock|folk' if number % 3 else 'folk'}")
    (tmp_path / "tracks.csv").write_text("\n".join(lines))
    music = hfmgc.load_dataset(tmp_path / "tracks.csv", split_ratios="1:1:1", sampling_rate=16000)
    label = music["train"].features["genre"]
    genres = {tuple(label.int2str(list(track["genres"]))) for side in music.values() for track in side}
    assert genres == {("rock", "folk"), ("folk",)}
    collate = hfmgc.TrackCollator({name: index for index, name in enumerate(label.names)}, multi_label=True)
    track = next(track for track in music["train"] if len(track["genres"]) == 2)
    assert collate([{**track, "input_values": np.zeros((2, 4, 8))}])["labels"].tolist() == [[1.0, 1.0]]


def test_stored_features_come_as_they_are_with_or_without_a_rate(tmp_path):
    write_sides(tmp_path / "features")
    for rate in (None, 22050):
        stored = hfmgc.load_dataset(tmp_path / "features", "official", rate)
        assert stored.num_rows == {"train": 6, "validation": 2, "test": 3}
        assert np.asarray(stored["test"][0]["features"]).shape == (128, 40)
        assert stored["test"].features["genre"].names == ["blues", "pop"]


def test_an_unknown_option_is_refused_by_name():
    with pytest.raises(ConfigError, match="subste"):
        hfmgc.load_dataset("fma", subste="small")


def test_a_policy_that_the_data_lack_is_refused_before_they_are_decoded(music_folder, monkeypatch):
    monkeypatch.setattr("hfmgc.api.decode_corpus", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(ConfigError, match="split_policy"):
        hfmgc.load_dataset(music_folder(), split_policy="official")


def artists(folder: Path) -> Path:
    """A manifest of two genres, each with six tracks by as many artists."""
    lines = ["path,label,artist"]
    for number in range(12):
        waveform = tone(number, seconds=1.5, frequency=200 + 40 * number)
        soundfile.write(folder / f"{number}.wav", waveform, 16000)
        lines.append(f"{number}.wav,{('blues', 'pop')[number % 2]},artist {number}")
    (folder / "tracks.csv").write_text("\n".join(lines))
    return folder / "tracks.csv"


def by_genre(track_ids: list[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for track_id in track_ids:
        groups.setdefault(track_id.split(".")[0], []).append(track_id)
    return groups
