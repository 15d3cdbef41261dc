"""The acoustic fingerprint: one recording under every disguise is found, and different recordings never are."""

import io
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from conftest import needs_real_data, tone

from hfmgc.data import fingerprints
from hfmgc.data.audio import load_audio
from hfmgc.data.fingerprints import (
    MAX_BIT_ERRORS,
    MAX_BIT_ERRORS_OF_EXCERPT,
    find_matches,
    fingerprint,
    stored_fingerprint,
)
from hfmgc.data.synthesis.composer import compose_track
from hfmgc.data.synthesis.instruments import SAMPLING_RATE


RATE = 16000
GENRES = ("blues", "metal", "hiphop", "classical")
TRACKS, SECONDS = 2, 10.0
REAL_DATA = os.environ.get("HFMGC_REAL_DATA", "")


def encoded(waveform: np.ndarray, sampling_rate: int, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, sampling_rate, format=form, **options)
    return buffer.getvalue()


def bare_noise(seed: int, seconds: float) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def sine(frequency: float, seconds: float = 5.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def originals() -> list[np.ndarray]:
    """Several tracks of each genre at the rate of the composer."""
    return [compose_track(genre, index, seconds=SECONDS, seed=3) for genre in GENRES for index in range(TRACKS)]


@pytest.fixture(scope="module")
def known(originals) -> list[np.ndarray]:
    return [fingerprint(soxr.resample(track, SAMPLING_RATE, RATE), RATE) for track in originals]


def to_mp3(track):
    return load_audio(encoded(track, SAMPLING_RATE, "MP3"), RATE)


def to_poor_mp3(track):
    return load_audio(encoded(soxr.resample(track, SAMPLING_RATE, RATE), RATE, "MP3", compression_level=0.9), RATE)


def to_ogg(track):
    return load_audio(encoded(track, SAMPLING_RATE, "OGG"), RATE)


def quieter(track):
    return load_audio(encoded(0.05 * track, SAMPLING_RATE, "WAV", subtype="PCM_16"), RATE)


def inverted(track):
    return -soxr.resample(track, SAMPLING_RATE, RATE)


def by_way_of_8_khz(track):
    return soxr.resample(soxr.resample(track, SAMPLING_RATE, 8000), 8000, RATE)


def excerpt(track):
    return soxr.resample(track, SAMPLING_RATE, RATE)[37_123 : 37_123 + 6 * RATE]


def delayed(track):
    return np.pad(soxr.resample(track, SAMPLING_RATE, RATE), (7_777, 0))


def noisy(track):
    track = soxr.resample(track, SAMPLING_RATE, RATE)
    return track + 0.05 * np.std(track) * np.random.default_rng(0).standard_normal(len(track)).astype(np.float32)


def excerpt_as_quiet_mp3(track):
    return load_audio(encoded(0.3 * track[50_001 : 50_001 + 6 * SAMPLING_RATE], SAMPLING_RATE, "MP3"), RATE)


DISGUISES = (to_mp3, to_poor_mp3, to_ogg, quieter, inverted, by_way_of_8_khz, excerpt, delayed, noisy,
             excerpt_as_quiet_mp3)  # fmt: skip


@pytest.mark.parametrize("disguise", DISGUISES, ids=lambda disguise: disguise.__name__)
def test_a_copy_is_found_in_every_disguise_and_nothing_else_is(originals, known, disguise):
    copies = [fingerprint(disguise(track), RATE) for track in originals]
    count = len(originals)
    matches = find_matches(known + copies)
    assert [(match.first, match.second) for match in matches] == [(track, track + count) for track in range(count)]
    shared = 5.0 if "excerpt" in disguise.__name__ else 9.0
    assert all(match.shared_seconds > shared and match.bit_errors < MAX_BIT_ERRORS for match in matches)


def test_a_copy_at_another_rate_of_the_corpus_is_found(originals, known):
    copies = [fingerprint(track, SAMPLING_RATE) for track in originals]
    assert [(match.first, match.second) for match in find_matches(known + copies)] == [
        (track, track + len(known)) for track in range(len(known))
    ]


@pytest.mark.parametrize("genre", GENRES)
def test_unrelated_tracks_of_a_genre_do_not_match(genre):
    tracks = [fingerprint(compose_track(genre, index, seconds=6.0, seed=11), SAMPLING_RATE) for index in range(12)]
    assert find_matches(tracks) == []


def test_tones_noise_and_silence_do_not_match():
    sounds = [
        *(sine(frequency) for frequency in (440.0, 466.2, 554.4, 880.0)),
        *(bare_noise(seed, 5.0) for seed in range(4)),
        *(np.zeros(5 * RATE, np.float32) for _ in range(2)),
        *(np.full(5 * RATE, 0.5, np.float32) for _ in range(2)),
    ]
    assert find_matches([fingerprint(sound, RATE) for sound in sounds]) == []


@pytest.mark.parametrize("seconds", [0.5, 1.0, 4.0])
def test_tones_with_some_noise_do_not_match(seconds):
    sounds = [
        tone(10 * octave + n, seconds=seconds, frequency=220.0 * 2**octave) for octave in range(3) for n in range(4)
    ]
    assert find_matches([fingerprint(sound, RATE) for sound in sounds]) == []


def test_the_same_noise_matches():
    noise = bare_noise(0, 5.0)
    sounds = [bare_noise(1, 5.0), noise, 0.2 * noise]
    assert [(match.first, match.second) for match in find_matches([fingerprint(s, RATE) for s in sounds])] == [(1, 2)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("samples", [0, 1, 2, 100, 4607, 4608, 4609])
def test_tracks_of_hardly_any_samples_have_a_fingerprint_and_match_nothing(samples, known):
    for content in (np.zeros(samples, np.float32), np.ones(samples, np.float32)):
        short = fingerprint(content, RATE)
        assert short.dtype == np.uint32
        assert find_matches([short, short, *known]) == []


@pytest.mark.parametrize("shape", [(0, 40), (40, 0), (0, 4, 40), (2, 4, 0)])
def test_features_without_values_have_an_empty_fingerprint(shape):
    assert stored_fingerprint(np.zeros(shape, np.float32)).shape == (0,)


def test_a_copy_of_one_second_is_found():
    sounds = [bare_noise(seed, 1.0) for seed in range(5)]
    sounds.append(0.5 * sounds[3])
    assert [(m.first, m.second) for m in find_matches([fingerprint(s, RATE) for s in sounds])] == [(3, 5)]


def test_a_jingle_that_two_tracks_share_makes_no_copy_of_them():
    jingle = bare_noise(9, 1.5)
    tracks = [np.concatenate([bare_noise(seed, 5.0), jingle, bare_noise(seed + 100, 5.0)]) for seed in range(2)]
    assert find_matches([fingerprint(track, RATE) for track in tracks]) == []


def test_twelve_seconds_within_two_other_recordings_of_thirty_are_found_with_their_length():
    def around(shared: np.ndarray, before: float, seed: int) -> np.ndarray:
        return np.concatenate([bare_noise(seed, before), shared, bare_noise(seed + 1, 30.0 - 12.0 - before)])

    shared = bare_noise(0, 12.0)
    whole, moved = around(shared, 9.0, 10), around(shared, 10.0, 30)
    again = load_audio(encoded(0.4 * around(shared, 9.0, 20), RATE, "MP3"), RATE)
    matches = find_matches([fingerprint(track, RATE) for track in (whole, again, moved, bare_noise(40, 30.0))])
    assert [(match.first, match.second) for match in matches] == [(0, 1), (0, 2), (1, 2)]
    assert all(11.5 < match.shared_seconds < 12.7 for match in matches)
    assert all(match.bit_errors < MAX_BIT_ERRORS_OF_EXCERPT for match in matches)


def test_no_fingerprints_have_no_matches():
    assert find_matches([]) == []
    assert find_matches([np.zeros(0, np.uint32)] * 2) == []
    assert find_matches([], groups=[]) == []


def test_silence_within_a_track_is_marked():
    words = fingerprint(np.concatenate([np.zeros(2 * RATE, np.float32), bare_noise(0, 2.0)]), RATE)
    assert not words[:50].any()
    assert words[-50:].all()


def test_groups_restrict_the_pairs(known):
    tracks = [known[0], known[0], known[4], known[4], known[0]]
    pairs = lambda groups: [(match.first, match.second) for match in find_matches(tracks, groups)]  # noqa: E731
    assert pairs(None) == [(0, 1), (0, 4), (1, 4), (2, 3)]
    assert pairs([0, 0, 1, 1, 1]) == [(0, 4), (1, 4)]
    assert pairs([0, 1, 0, 1, 0]) == [(0, 1), (1, 4), (2, 3)]
    assert pairs([0, 0, 0, 0, 0]) == []


@pytest.fixture(scope="module")
def forty_copies(originals, known) -> list[np.ndarray]:
    """One recording forty times: as it is, at 29 gains, and as MP3 and OGG at some of them."""
    track = soxr.resample(originals[0], SAMPLING_RATE, RATE)
    copies = [fingerprint(np.float32(gain) * track, RATE) for gain in np.geomspace(0.05, 0.9, 29)]
    for gain in np.linspace(0.2, 1.0, 5):
        copies += [fingerprint(disguise(gain * originals[0]), RATE) for disguise in (to_mp3, to_ogg)]
    return [known[0], *copies]


def test_a_recording_that_is_there_forty_times_is_found_each_time(forty_copies, known):
    matches = find_matches([*forty_copies, *known[1:]])
    assert {match.second for match in matches if match.first == 0} == set(range(1, 40))
    assert all(match.second < 40 for match in matches)


def test_equal_copies_are_told_by_the_first_one_and_not_by_the_square_of_them(known):
    matches = find_matches([known[3], *[known[0]] * 300, *known[4:]])
    assert {match.second for match in matches if match.first == 1} == set(range(2, 301))
    assert len(matches) < 5 * 300
    assert all(match.second < 301 for match in matches)


def test_many_copies_are_told_on_every_side_that_they_lie_on(forty_copies, known):
    tracks = [*forty_copies, *known[1:]]
    groups = [0] * 30 + [1] * 5 + [2] * 5 + [0, 1, 2] * 3 + [0, 1]
    matches = find_matches(tracks, groups)
    assert {match.first for match in matches} | {match.second for match in matches} == set(range(40))
    assert {(groups[match.first], groups[match.second]) for match in matches} == {(0, 1), (0, 2), (1, 2)}
    for copy in range(30, 40):
        assert any(match.second == copy and groups[match.first] == 0 for match in matches)


def test_the_fingerprint_does_not_depend_on_what_else_there_is(originals, known):
    again = fingerprint(soxr.resample(originals[0], SAMPLING_RATE, RATE), RATE)
    np.testing.assert_array_equal(again, known[0])


@needs_real_data
def test_every_real_clip_is_found_as_quiet_mp3_and_no_two_clips_match():
    paths = sorted((Path(REAL_DATA) / "gtzan_audio").rglob("*.wav"))
    assert paths, "HFMGC_REAL_DATA has no gtzan_audio"
    known, copies = [], []
    for path in paths:
        waveform, rate = soundfile.read(path, dtype="float32")
        known.append(fingerprint(soxr.resample(waveform, rate, RATE), RATE))
        copies.append(fingerprint(load_audio(encoded(0.4 * waveform, rate, "MP3"), RATE), RATE))
    assert [(match.first, match.second) for match in find_matches(known + copies)] == [
        (track, track + len(paths)) for track in range(len(paths))
    ]


def test_a_long_recording_is_fingerprinted_in_little_memory_and_the_same_across_blocks(monkeypatch):
    waveform = bare_noise(0, 600.0)
    tracemalloc.start()
    words = fingerprint(waveform, RATE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6  # the spectrum of all of it takes 1 GB
    some = waveform[: 80 * RATE]
    in_blocks = fingerprint(some, RATE)
    monkeypatch.setattr(fingerprints, "BLOCK_FRAMES", 10**9)
    np.testing.assert_array_equal(in_blocks, fingerprint(some, RATE))
    np.testing.assert_array_equal(in_blocks, words[: len(in_blocks)])
