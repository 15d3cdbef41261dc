"""Features kept from before are cut, trained on and judged as the front end that made them would have it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import needs_real_data, write_music
from kept_features import FIELDS, fails, log_mel_rows, write_log_mel, write_sides
from transformers import AutoFeatureExtractor

import hfmgc.cli
from hfmgc.data.caching import code_identity
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.features import TrackWindows, check_front_end, extract_features, track_windows, training_window
from hfmgc.data.sources import open_source
from hfmgc.data.split_manifest import SplitManifest
from hfmgc.errors import DataError
from hfmgc.features.feature_extraction_ast import HfmgcASTFeatureExtractor
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from recipes import finetune_here, tiny_settings, write_config


def test_windows_of_levels_are_those_of_the_spectrogram_between_0_and_1(tmp_path):
    path = write_log_mel(tmp_path / "mel.parquet", [0, 2], frames=40)
    extractor = SpectrogramFeatureExtractor(**FIELDS)
    corpus = decode_corpus(open_source(str(path)), 22050)
    windows = TrackWindows(extract_features(corpus.tracks, extractor), extractor)
    frames = extractor.window_shape[0]
    spectrograms = []
    for row, levels in zip(windows, log_mel_rows([0, 2])["log_mel"], strict=True):
        levels = levels.T.astype(np.float32)
        spectrograms.append((levels - levels.min()) / (levels.max() - levels.min()))  # the front end's min-max
        assert row["input_values"].dtype == np.float32
        np.testing.assert_allclose(row["input_values"][0], spectrograms[-1][:frames], atol=1e-6)
    one = training_window(corpus.tracks[0], extractor, np.random.default_rng(0))
    starts = range(40 - frames + 1)
    assert sum(np.allclose(spectrograms[0][start : start + frames], one, atol=1e-6) for start in starts) == 1


def test_stored_slices_are_the_windows_and_training_takes_one_of_them():
    slices = np.random.default_rng(0).random((5, 64, 128)).astype(np.float32)
    extractor = HfmgcASTFeatureExtractor(max_length=64)
    track = {"track_id": "a", "features": slices}
    np.testing.assert_array_equal(track_windows(track, extractor), slices)
    drawn = [training_window(track, extractor, np.random.default_rng(seed)) for seed in range(20)]
    taken = {next(row for row in range(5) if np.array_equal(slices[row], one)) for one in drawn}
    assert len(taken) > 1


def test_features_that_do_not_fit_the_front_end_name_the_track():
    mel, ast = SpectrogramFeatureExtractor(**FIELDS), HfmgcASTFeatureExtractor(max_length=64)
    wrong_bins = {"track_id": "pop.07", "features": np.zeros((64, 400), np.uint8)}
    with pytest.raises(DataError, match=r"pop.07: the stored features do not fit.*\[128, frames\]"):
        track_windows(wrong_bins, mel)
    with pytest.raises(DataError, match=r"pop\.07.*do not fit"):
        training_window(wrong_bins, mel, np.random.default_rng(0))
    slices = {"track_id": "pop.08", "features": np.zeros((3, 32, 128), np.float32)}
    with pytest.raises(DataError, match=r"pop\.08: stored slices .*32 frames and 128 bins, .* 64 and 128"):
        track_windows(slices, ast)


def train(tmp_path: Path, data: Path, **more):
    settings = tiny_settings(data, tmp_path / "run", **{"front_end": FIELDS, "split_policy": "official", **more})
    return finetune_here(write_config(tmp_path / "run.yaml", settings))


def test_wrong_bins_and_the_wrong_front_end_end_a_recipe_in_one_line(tmp_path):
    data = write_sides(tmp_path / "mel")
    result = train(tmp_path, data, front_end={"max_length": 64})
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "front_end: {preset: gtzan_decimated}" in result.stderr.strip().splitlines()[-1]
    result = train(
        tmp_path, data, front_end={**FIELDS, "num_bins": 64}, model={"backbone_config": {"num_mel_bins": 64}}
    )
    assert result.returncode == 1
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("error: validation.")
    assert "do not fit the front end" in line


def test_offline_augmentation_is_refused_where_there_is_no_audio(tmp_path):
    result = train(tmp_path, write_sides(tmp_path / "mel"), augmentation="offline")
    assert result.returncode == 1
    assert "augmentation: " in result.stderr.strip().splitlines()[-1]


def test_the_recipe_trains_on_the_sides_and_a_single_file_is_judged_alike(tmp_path, capsys):
    data = write_sides(tmp_path / "mel")
    result = train(tmp_path, data)
    assert result.returncode == 0, result.stderr
    trained = json.loads((tmp_path / "run" / "results.json").read_text())
    assert trained["tracks"] == 3
    assert json.loads((tmp_path / "run" / "config.json").read_text())["id2label"] == {"0": "blues", "1": "pop"}
    capsys.readouterr()
    arguments = ["evaluate", str(tmp_path / "run"), "--data", str(data / "test.parquet"), "--json"]
    assert hfmgc.cli.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    by_id = {row["track_id"]: row for row in trained["predictions"]}
    assert sorted(by_id) == ["test.00", "test.01", "test.02"]
    assert {row["track_id"]: row for row in report["predictions"]} == by_id
    assert report["metrics"]["accuracy"] == trained["metrics"]["accuracy"]


def test_genres_that_a_checkpoint_does_not_know_are_named(tmp_path, capsys, tiny_checkpoint):
    path = write_log_mel(tmp_path / "mel.parquet", [0, 1])
    assert "genres that checkpoint" in fails(capsys, "evaluate", tiny_checkpoint(), "--data", path)


@needs_real_data
def test_the_real_log_mel_has_two_fault_filtered_sides_and_fits_its_preset():
    tracks = decode_corpus(open_source(str(Path(os.environ["HFMGC_REAL_DATA"]) / "gtzan_logmel")), 22050).tracks
    assert [tracks["split"].count(side) for side in ("train", "validation", "")] == [442, 197, 70]
    windows = track_windows(tracks[0], SpectrogramFeatureExtractor(preset="gtzan_decimated"))
    assert windows.shape[1:] == SpectrogramFeatureExtractor(preset="gtzan_decimated").window_shape
    assert 0 <= windows.min() < 0.5 < windows.max() <= 1


def test_statistics_of_the_front_end_come_from_the_training_side_alone(tmp_path):
    """The quiet tracks of one genre and the loud ones of the other sides would move the mean."""
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=4, seconds=1.0)
    settings = tiny_settings(music, tmp_path / "out", num_train_epochs=1, fit_statistics="per_bin")
    settings["front_end"] = {"preset": "gtzan_decimated", "normalization": "none", "window_frames": 64}
    result = finetune_here(write_config(tmp_path / "run.yaml", settings))
    assert result.returncode == 0, result.stderr
    saved = AutoFeatureExtractor.from_pretrained(tmp_path / "out")
    manifest = SplitManifest.load(tmp_path / "out" / "split.json")
    corpus = decode_corpus(open_source(str(music)), saved.sampling_rate)

    def fitted(track_ids: list[str]) -> list[float]:
        fields = {"normalization": "none", "window_frames": 64}
        extractor = SpectrogramFeatureExtractor(preset="gtzan_decimated", **fields)
        return extractor.fit_statistics((track["waveform"] for track in corpus.select(track_ids)), per_bin=True).mean

    assert saved.normalization == "statistics"
    assert saved.mean == pytest.approx(fitted(manifest.sides["train"]), rel=1e-5)
    assert saved.mean != pytest.approx(fitted(sorted(corpus.tracks["track_id"])), rel=1e-5)


def test_a_damaged_copy_in_the_cache_is_not_blamed_on_the_file(tmp_path):
    path = write_log_mel(tmp_path / "mel.parquet", [0, 1])
    cached = Path(open_source(str(path))._parts[0].table.cache_files[0]["filename"])
    half = tmp_path / "half.arrow"
    half.write_bytes(cached.read_bytes()[:200])
    half.replace(cached)
    with pytest.raises(DataError, match="a file in the cache of datasets is damaged"):
        open_source(str(path)).tracks()


def extracted(folder: Path, **changed) -> Path:
    """Write sides as `hfmgc extract` leaves them, with the description of another front end where `changed`."""
    write_sides(folder)
    front_end = SpectrogramFeatureExtractor(**{**FIELDS, **changed}).to_dict()
    code = code_identity("decoding", "features")
    content = {"complete": True, "tracks": 11, "front_end": front_end, "code": code}
    (folder / "extraction.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["", "train.parquet"])
def test_features_of_another_front_end_are_refused_and_the_fields_named(tmp_path, name):
    folder = extracted(tmp_path / "kept", frames_per_second=4.0)
    source = open_source(str(folder / name))
    with pytest.raises(DataError, match=r"frames_per_second 4.0, not 12\.9"):
        check_front_end(source, SpectrogramFeatureExtractor(**FIELDS))
    check_front_end(source, SpectrogramFeatureExtractor(**{**FIELDS, "frames_per_second": 4.0}))


def test_how_features_are_cut_and_normalised_is_free(tmp_path):
    source = open_source(str(extracted(tmp_path / "kept")))
    assert source.notes() == []
    other = {"preset": "gtzan_decimated", "window_seconds": 10.0, "window_policy": "all", "normalization": "z_score"}
    check_front_end(source, SpectrogramFeatureExtractor(**other))


def test_training_and_evaluation_refuse_features_of_another_front_end(tmp_path, capsys, tiny_checkpoint):
    folder = extracted(tmp_path / "kept", n_fft=4096)
    assert hfmgc.cli.main(["evaluate", str(tiny_checkpoint()), "--data", str(folder)]) == 1
    assert "another front end" in capsys.readouterr().err
    result = train(tmp_path, folder, front_end=FIELDS)
    assert result.returncode == 1
    assert "n_fft 4096, not 2048" in result.stderr.strip().splitlines()[-1]


def test_of_features_of_another_origin_it_is_said_that_nobody_knows(tmp_path):
    source = open_source(str(write_sides(tmp_path / "kept")))
    check_front_end(source, SpectrogramFeatureExtractor(**FIELDS))
    assert "front end" in source.notes()[0]
