"""Features of a corpus are extracted once, whatever is split, cut and normalised from them afterwards."""

from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from conftest import tone

from hfmgc.data.audio import FULL_SCALE, load_audio
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.identity import identify_tracks, track_identity
from hfmgc.data.sources import open_source
from hfmgc.features.feature_extraction_ast import HfmgcASTFeatureExtractor
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.training.arguments import DataArguments, RunArguments
from hfmgc.training.preparation import PreparedData, prepare_data


RATE = 16000
FRONT_ENDS = {
    "ast": (HfmgcASTFeatureExtractor, {"max_length": 32}),
    "track": (
        SpectrogramFeatureExtractor,
        {"sampling_rate": RATE, "num_bins": 40, "window_frames": 16, "normalize_over": "track"},
    ),
}


@pytest.fixture
def music(tmp_path) -> Path:
    """A manifest of sixteen tracks of two genres and eight artists."""
    lines = ["path,label,artist"]
    for number in range(16):
        genre = ("blues", "pop")[number % 2]
        waveform = tone(number, seconds=1.5, frequency=150 + 70 * number)
        soundfile.write(tmp_path / f"{number}.wav", waveform, RATE)
        lines.append(f"{number}.wav,{genre},{genre} {number // 4}")
    (tmp_path / "tracks.csv").write_text("\n".join(lines))
    return tmp_path / "tracks.csv"


def prepared(music: Path, extractor, **settings) -> PreparedData:
    run = RunArguments(output_dir=str(music.parent / "run"), report_to="none", use_cpu=True)
    return prepare_data(
        DataArguments(data=str(music), split_ratios="2:1:1", allow_leaks=True, **{"augmentation": "none", **settings}),
        run,
        extractor,
    )


def content(data: PreparedData) -> list[np.ndarray]:
    return [
        data.train[0]["input_values"],
        *(row["input_values"] for side in (data.validation, data.test) for row in side),
    ]


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_another_seed_policy_normalisation_or_window_extracts_nothing_again(name, music, tmp_path, monkeypatch):
    kind, fields = FRONT_ENDS[name]
    transform, calls = kind.transform, []
    monkeypatch.setattr(kind, "transform", lambda self, waveform: (calls.append(1), transform(self, waveform))[1])
    other = (
        {"do_normalize": False, "window_policy": "all", "max_length": 20}
        if name == "ast"
        else {"normalization": "z_score", "normalize_over": "window", "window_frames": 20}
    )
    runs = [
        ({}, {}),
        ({"split_seed": 1}, {}),
        ({"split_policy": "grouped"}, {}),
        ({"training_windows": "fixed"}, {}),
        ({"split_seed": 2}, other),
    ]
    if name != "ast":
        runs.append(({"fit_statistics": "per_bin"}, other))
    found, sides = [], set()
    for settings, changed in runs:
        data = prepared(music, kind(**{**fields, **changed}), **settings)
        found.append(content(data))
        sides.add(data.manifest.digest)
        assert len(calls) == 16
    assert len(sides) >= 4
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "other_cache")
    for number in (2, len(runs) - 1):
        settings, changed = runs[number]
        fresh = content(prepared(music, kind(**{**fields, **changed}), **settings))
        for one, other_value in zip(found[number], fresh, strict=True):
            np.testing.assert_array_equal(one, other_value)
    assert len(calls) == 32


def test_another_front_end_extracts_its_own_features(music, monkeypatch):
    transform, calls = SpectrogramFeatureExtractor.transform, []
    monkeypatch.setattr(
        SpectrogramFeatureExtractor,
        "transform",
        lambda self, waveform: (calls.append(1), transform(self, waveform))[1],
    )
    for bins in (40, 41):
        prepared(music, SpectrogramFeatureExtractor(sampling_rate=RATE, num_bins=bins, window_frames=16))
    assert len(calls) == 32


def test_cached_and_fresh_audio_and_their_identities_are_equal(tmp_path):
    """Audio of 24 bits, of floats above full scale, and resampled: the cache keeps 16 bits."""
    (tmp_path / "music" / "pop").mkdir(parents=True)
    loud = 9 * tone(1, seconds=2.0)
    files = {"fine.flac": (tone(2, seconds=2.0), RATE, "PCM_24"), "loud.wav": (loud, RATE, "FLOAT")}
    files["clipped.wav"] = (3 * tone(4, seconds=2.0), RATE, "FLOAT")
    files["other.wav"] = (tone(3, seconds=2.0, sampling_rate=22050), 22050, "FLOAT")
    for name, (waveform, rate, subtype) in files.items():
        soundfile.write(tmp_path / "music" / "pop" / name, waveform, rate, subtype=subtype)
    tracks = decode_corpus(open_source(str(tmp_path / "music")), RATE).tracks
    identities = identify_tracks(tracks, RATE)
    assert tracks.data.nbytes < 4 * 2 * RATE * 2.1
    for track in tracks:
        fresh = load_audio(tmp_path / "music" / track["track_id"], RATE)
        assert track["waveform"].dtype == fresh.dtype == np.float32
        np.testing.assert_array_equal(track["waveform"], fresh)
        identity = track_identity(fresh, RATE)
        assert identities[track["track_id"]].digest == identity["digest"]
        np.testing.assert_array_equal(identities[track["track_id"]].sound, identity["fingerprint"])
    # Neither wraps around.
    heard = {track["track_id"]: track["waveform"] for track in tracks}
    np.testing.assert_allclose(heard["pop/loud.wav"], loud / np.abs(loud).max(), atol=1 / FULL_SCALE)
    clipped = np.clip(files["clipped.wav"][0], -1, 1)
    np.testing.assert_allclose(heard["pop/clipped.wav"], clipped, atol=1 / FULL_SCALE)


def test_changed_waveforms_stay_within_16_bits(tmp_path, music_folder):
    tracks = decode_corpus(open_source(str(music_folder({"pop": 1}, seconds=0.5))), RATE).tracks
    louder = tracks.map(lambda track: {"waveform": 8 * track["waveform"]})
    np.testing.assert_allclose(
        louder[0]["waveform"], np.clip(8 * tracks[0]["waveform"], -1, 1 - 1 / FULL_SCALE), atol=1 / FULL_SCALE
    )


def test_the_room_in_the_cache_is_announced_before_it_is_written(music, capsys, monkeypatch):
    extractor = HfmgcASTFeatureExtractor(max_length=32)
    prepared(music, extractor)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("cache: ")]
    assert str(datasets.config.HF_DATASETS_CACHE) in line
    assert "16 tracks about 0.8 MB" in line  # 16 x 1.5 s x 16,000 samples of 2 bytes
    assert "features about 1.2 MB" in line  # 16 x 148 frames x 128 bins of 4 bytes
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    prepared(music, extractor)
    assert "HF_DATASETS_CACHE" in capsys.readouterr().out
