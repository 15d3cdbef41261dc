"""The synthetic corpus: repeatable, varied, musical, and written so that no half-written track is ever seen."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hfmgc.data.sources import open_source, synthetic
from hfmgc.data.synthesis import composer, corpus
from hfmgc.data.synthesis.composer import chord_tone, compose_track, frequency, parse_chord, voice_chord
from hfmgc.data.synthesis.corpus import write_corpus
from hfmgc.data.synthesis.instruments import KITS, SAMPLING_RATE, VOICES
from hfmgc.data.synthesis.styles import GENRES, STYLES
from hfmgc.errors import ConfigError, SaveError


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != corpus.LOCK_FILE)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def digest(waveform: np.ndarray) -> str:
    return hashlib.sha256(waveform.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def small_corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "synthetic", tracks_per_genre=1, seconds=1.5, seed=3)


def test_genres_are_those_of_gtzan():
    assert " ".join(GENRES) == "blues classical country disco hiphop jazz metal pop reggae rock"


@pytest.mark.parametrize("genre", GENRES)
def test_track_is_audible_bounded_and_repeatable(genre):
    track = compose_track(genre, 5, seconds=2.5, seed=1)
    assert track.dtype == np.float32 and track.shape == (round(2.5 * SAMPLING_RATE),)
    assert np.isfinite(track).all()
    assert 10 ** (-12.1 / 20) < np.abs(track).max() <= 1.0
    assert np.sqrt(np.mean(track**2)) > 0.005
    assert digest(track) == digest(compose_track(genre, 5, seconds=2.5, seed=1))


def test_track_depends_on_seed_genre_and_index_and_on_nothing_global():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    reference = compose_track("jazz", 0, seconds=2, seed=0)
    assert np.array_equal(before, np.random.get_state()[1])
    np.random.seed(1)
    assert np.array_equal(reference, compose_track("jazz", 0, seconds=2, seed=0))
    others = [
        compose_track("jazz", 1, seconds=2, seed=0),
        compose_track("jazz", 0, seconds=2, seed=1),
        compose_track("rock", 0, seconds=2, seed=0),
    ]
    for other in others:
        assert abs(np.corrcoef(reference, other)[0, 1]) < 0.5


def test_another_process_renders_the_same_bits():
    code = (
        "import hashlib; from hfmgc.data.synthesis.composer import compose_track as c;"
        "print(*(hashlib.sha256(c(g, 2, seconds=2, seed=9).tobytes()).hexdigest() for g in ('blues', 'metal')))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout.split() == [
        digest(compose_track(genre, 2, seconds=2, seed=9)) for genre in ("blues", "metal")
    ]


def test_loudness_varies_from_track_to_track():
    peaks = [np.abs(compose_track("classical", index, seconds=1, seed=0)).max() for index in range(8)]
    assert max(peaks) > 1.3 * min(peaks)


def test_genres_can_be_learned_but_not_trivially():
    features, labels = [], []
    for genre in GENRES:
        for index in range(10):
            track = compose_track(genre, index, seconds=3, seed=11)
            mfcc = librosa.feature.mfcc(y=track, sr=SAMPLING_RATE, n_mfcc=20, hop_length=1024)
            features.append(np.concatenate([mfcc.mean(axis=1), mfcc.std(axis=1)]))
            labels.append(genre)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    accuracy = cross_val_score(classifier, np.array(features), labels, cv=5).mean()
    assert 0.5 < accuracy < 0.98


def test_tempo_and_drums_are_those_of_the_genre():
    def tempos(genre: str) -> list[float]:
        tracks = (compose_track(genre, index, seconds=10, seed=2) for index in range(5))
        return [float(librosa.feature.tempo(y=track, sr=SAMPLING_RATE)[0]) for track in tracks]

    assert 108 < np.median(tempos("disco")) < 134
    assert np.median(tempos("reggae")) < 105


def test_every_chord_instrument_and_kit_of_the_styles_exists():
    for style in STYLES.values():
        for chord in " ".join(style.progressions).split():
            parse_chord(chord)
        assert set(style.kits.split(", ")) <= set(KITS)
        for part in style.parts:
            assert set(part.instruments.split(", ")) <= set(VOICES)
            assert set(part.rows) <= set("x13578~.- ")
        rows = [row for groove in style.grooves for row in groove.values()] + " ".join(
            p.rows for p in style.parts
        ).split()
        assert {len(row) for row in rows} <= {8, 12, 16}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("C", (0, (0, 4, 7))),
        ("Dm7", (2, (0, 3, 7, 10))),
        ("Bb", (10, (0, 4, 7))),
        ("Cmaj7", (0, (0, 4, 7, 11))),
        ("F#m", (6, (0, 3, 7))),
        ("G5", (7, (0, 7, 12))),
    ],
)
def test_chord_names(name, expected):
    assert parse_chord(name) == expected


def test_chords_are_folded():
    assert voice_chord(9, (0, 3, 7), 60) == (60, 64, 69)
    assert chord_tone("5", 2, (0, 4, 7), 36) == 45
    assert chord_tone("7", 0, (0, 4, 7), 36) == 48


@pytest.mark.parametrize("instrument", ["acoustic guitar", "piano", "organ", "saxophone", "electric bass"])
@pytest.mark.parametrize("pitch", [45, 69])
def test_instruments_are_in_tune(instrument, pitch):
    note = VOICES[instrument](frequency(pitch), 2.0, 0.5, np.random.default_rng(0))[: 2 * SAMPLING_RATE]
    spectrum = np.abs(np.fft.rfft(note * np.hanning(len(note)), 8 * SAMPLING_RATE))
    expected = frequency(pitch)
    near = slice(round(8 * expected * 0.95), round(8 * expected * 1.05) + 1)
    found = (np.argmax(spectrum[near]) + near.start) / 8
    assert abs(1200 * np.log2(found / expected)) < 10  # cents


def test_corpus_has_the_layout_and_format_of_gtzan(small_corpus):
    assert {path.name for path in small_corpus.iterdir()} == {*GENRES, "README.txt", corpus.LOCK_FILE}
    for genre in GENRES:
        path = small_corpus / genre / f"{genre}.00000.flac"
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype, info.format) == (22_050, 1, "PCM_16", "FLAC")
        decoded, _ = soundfile.read(path, dtype="float32")
        assert np.abs(decoded - compose_track(genre, 0, seconds=1.5, seed=3)).max() < 1e-4
    assert not [path for path in small_corpus.parent.iterdir() if path != small_corpus]


def test_readme_says_that_the_corpus_is_synthetic_and_its_seed(small_corpus):
    text = (small_corpus / "README.txt").read_text()
    assert "SYNTHETIC" in text and "procedural" in text and "seed 3" in text


def test_complete_corpus_is_not_rendered_again_and_a_lost_track_is(small_corpus, monkeypatch):
    before, calls = contents(small_corpus), []

    def counting(genre, index, **settings):
        calls.append((genre, index))
        return compose_track(genre, index, **settings)

    monkeypatch.setattr(composer, "compose_track", counting)
    write_corpus(small_corpus, tracks_per_genre=1, seconds=1.5, seed=3)
    assert calls == []
    (small_corpus / "pop" / "pop.00000.flac").unlink()
    write_corpus(small_corpus, tracks_per_genre=1, seconds=1.5, seed=3)
    assert calls == [("pop", 0)] and contents(small_corpus) == before


def test_concurrent_writers_do_not_break_each_other(tmp_path):
    settings = {"tracks_per_genre": 1, "seconds": 1, "seed": 4}
    with ThreadPoolExecutor(3) as executor:
        folders = list(executor.map(lambda _: write_corpus(tmp_path / "shared", **settings), range(3)))
    assert set(folders) == {tmp_path / "shared"}
    assert contents(tmp_path / "shared") == contents(write_corpus(tmp_path / "reference", **settings))
    assert {path.name for path in tmp_path.iterdir()} == {"shared", "reference"}


def test_interrupted_rendering_leaves_whole_tracks_and_resumes(tmp_path, monkeypatch):
    settings = {"tracks_per_genre": 1, "seconds": 1, "seed": 0}

    def failing(genre, index, **settings):
        if genre == "country":
            raise OSError(28, "No space left on device")
        return compose_track(genre, index, **settings)

    monkeypatch.setattr(composer, "compose_track", failing)
    with pytest.raises(SaveError, match="half"):
        write_corpus(tmp_path / "half", **settings)
    half = contents(tmp_path / "half")
    monkeypatch.undo()
    assert sorted(half) == ["README.txt", "blues/blues.00000.flac", "classical/classical.00000.flac"]
    whole = contents(write_corpus(tmp_path / "whole", **settings))
    assert half.items() < whole.items()
    assert contents(write_corpus(tmp_path / "half", **settings)) == whole


def test_corpora_of_other_settings_have_other_folders(monkeypatch):
    options = {"tracks_per_genre": 1, "seconds": 1.5, "seed": 3}
    folder = open_source("synthetic", options).origin
    assert open_source("synthetic", {**options, "seed": 4}).origin != folder
    monkeypatch.setattr(synthetic, "CORPUS_VERSION", corpus.CORPUS_VERSION + 1)
    assert open_source("synthetic", options).origin != folder


@pytest.mark.parametrize("option", [{"tracks_per_genre": 0}, {"seconds": 0.5}, {"seconds": float("nan")}])
def test_bad_options_are_refused(option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        open_source("synthetic", option)
