"""The report's augmentations do what they say, within their ranges, from nothing but their generator."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from audiomentations.core.serialization import SERIALIZABLE_REGISTRY

from hfmgc.data.augmentation.echo import Echo
from hfmgc.data.augmentation.report import (
    ORIGINAL,
    VARIANTS,
    FreshAugmentation,
    augment,
    build_transform,
    offline_variants,
    source_samples_needed,
)
from hfmgc.errors import AudioError, ConfigError
from hfmgc.randomness import example_generator, seeded_globals


RATE = 22_050


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def gain_at(variant: str, frequency: float) -> float:
    """The gain in dB of a variant for a sine, measured in the middle of two seconds."""
    sine = (0.2 * np.sin(2 * np.pi * frequency * np.arange(2 * RATE) / RATE)).astype(np.float32)
    result = augment(sine, RATE, variant, example_generator("gain", variant))
    return 20 * np.log10(np.std(result[RATE // 2 : -RATE // 2]) / np.std(sine))


def drawn(transform, count: int = 300) -> list[dict]:
    """The parameters of many draws."""
    parameters, silence = [], np.zeros(64, dtype=np.float32)
    with seeded_globals(np.random.default_rng(0)):
        for _ in range(count):
            transform.randomize_parameters(silence, RATE)
            parameters.append(dict(transform.parameters))
    return parameters


def spans(values: list[float], low: float, high: float) -> bool:
    """Whether the values stay within a range and fill nearly all of it."""
    return low <= min(values) < low + 0.05 * (high - low) and high - 0.05 * (high - low) < max(values) <= high


def test_variants_are_the_six_of_the_report_in_order():
    assert list(VARIANTS) == ["faster", "slower", "high_pass", "low_pass", "echo", "bundle"]


@pytest.mark.parametrize(("variant", "low", "high"), [("faster", 1.6, 1.9), ("slower", 0.6, 0.8)])
def test_tempo_is_drawn_from_its_range_and_changes_the_length_by_it(variant, low, high):
    transform = build_transform(variant)
    assert spans([parameters["rate"] for parameters in drawn(transform)], low, high)
    with seeded_globals(np.random.default_rng(1)):
        stretched = transform(noise(RATE), RATE)
    assert abs(len(stretched) - RATE / transform.parameters["rate"]) <= 1


def test_tempo_moves_beats_but_keeps_the_pitch():
    time = np.arange(4 * RATE) / RATE
    beats = (0.5 * np.sin(2 * np.pi * 440 * time) * (time % 0.5 < 0.1)).astype(np.float32)
    faster = augment(beats, RATE, "faster", np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(faster * np.hanning(len(faster))))
    assert abs(np.argmax(spectrum) * RATE / len(faster) - 440) < 5
    envelope = np.abs(faster).reshape(-1)[: len(faster) // 64 * 64].reshape(-1, 64).mean(axis=1)
    rhythm = np.abs(np.fft.rfft(envelope - envelope.mean(), 16 * len(envelope)))
    beats_per_second = np.argmax(rhythm) * (RATE / 64) / (16 * len(envelope))
    assert abs(beats_per_second - 2 * len(beats) / len(faster)) < 0.1


@pytest.mark.parametrize(("variant", "low", "high"), [("high_pass", 1400, 1599), ("low_pass", 900, 1099)])
def test_cutoffs_are_drawn_from_their_ranges_with_two_poles(variant, low, high):
    parameters = drawn(build_transform(variant))
    assert spans([each["cutoff_freq"] for each in parameters], low, high)
    assert {each["rolloff"] for each in parameters} == {12}


def test_high_pass_removes_what_is_below_at_twelve_decibels_an_octave():
    assert abs(gain_at("high_pass", 6000)) < 0.5
    assert gain_at("high_pass", 200) < -30
    assert abs(gain_at("high_pass", 400) - gain_at("high_pass", 200) - 12) < 1


def test_low_pass_removes_what_is_above():
    assert abs(gain_at("low_pass", 200)) < 0.5
    assert gain_at("low_pass", 4000) < -20


def test_echo_ranges_are_those_of_the_report():
    parameters = drawn(build_transform("echo"))
    assert spans([each["in_gain"] for each in parameters], 0.6, 0.98)
    assert spans([each["out_gain"] for each in parameters], 0.6, 0.98)
    assert spans([each["delays"][0] for each in parameters], 50, 499)
    assert spans([each["decays"][0] for each in parameters], 0.2, 0.4)


def test_echo_impulse_response_has_taps_of_aecho():
    echo = Echo((0.8, 0.8), (0.9, 0.9), delays=[(200, 200), (400, 400)], decays=[(0.3, 0.3), (0.2, 0.2)], p=1.0)
    impulse = np.zeros(RATE, dtype=np.float32)
    impulse[10] = 1.0
    response = echo(impulse, RATE)
    taps = np.flatnonzero(response)
    assert taps.tolist() == [10, 10 + 4410, 10 + 8820]
    # The copies are of the raw input: the input gain does not touch them, and nothing feeds back.
    np.testing.assert_allclose(response[taps], [0.9 * 0.8, 0.9 * 0.3, 0.9 * 0.2], rtol=1e-6)


def test_echo_truncates_delays_clips_and_leaves_its_input_alone():
    echo = Echo((1, 1), (1, 1), delays=[(50.03, 50.03)], decays=[(1, 1)], p=1.0)
    ones = np.full((2, 2000), 0.75, dtype=np.float32)
    response = echo(ones, RATE)
    assert response.shape == (2, 2000) and response.dtype == np.float32
    assert (response[:, :1103] == 0.75).all() and (response[:, 1103:] == 1.0).all()  # 1,103.16 samples
    assert (ones == 0.75).all()


def test_echo_longer_than_the_clip_is_a_gain_only():
    echo = Echo((0.5, 0.5), (0.5, 0.5), p=1.0)
    np.testing.assert_allclose(echo(np.ones(10, np.float32), RATE), 0.25)


def test_frozen_echo_repeats_its_parameters_and_new_draws_differ():
    echo, clip = Echo(p=1.0), noise(RATE)
    with seeded_globals(np.random.default_rng(0)):
        first = echo(clip, RATE)
        assert not np.array_equal(first, echo(clip, RATE))
        echo.freeze_parameters()
        assert np.array_equal(echo(clip, RATE), echo(clip, RATE))


def test_echo_survives_a_round_trip_through_json():
    echo = Echo(in_gain=(0.7, 0.98), delays=((10, 20), (30, 40)), decays=((0.1, 0.2), (0.3, 0.4)), p=1.0)
    state = json.loads(json.dumps(echo.to_dict()))["transform"]
    again = SERIALIZABLE_REGISTRY[state.pop("__class_fullname__")](**state)
    assert again.to_dict() == echo.to_dict()
    clip = noise(4000)
    with seeded_globals(np.random.default_rng(3)):
        expected = echo(clip, RATE)
    again.parameters = json.loads(json.dumps(echo.serialize_parameters()))
    again.freeze_parameters()
    assert np.array_equal(again(clip, RATE), expected)


def test_bundle_is_low_pass_then_tempo_then_two_taps():
    low_pass, tempo, echo = build_transform("bundle").transforms
    assert spans([each["cutoff_freq"] for each in drawn(low_pass)], 500, 799)
    assert spans([each["rate"] for each in drawn(tempo)], 0.6, 0.9)
    (fixed, *_) = drawn(echo, 1)
    assert fixed == {
        "should_apply": True,
        "in_gain": 0.8,
        "out_gain": 0.9,
        "delays": [200.0, 400.0],
        "decays": [0.3, 0.3],
    }


TEMPI = {"faster": (1.59, 1.91), "slower": (0.59, 0.81), "bundle": (0.59, 0.91)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_lengths(variant):
    clip = noise(RATE)
    slowest, fastest = TEMPI.get(variant, (1.0, 1.0))
    assert RATE / fastest <= len(augment(clip, RATE, variant, np.random.default_rng(0))) <= RATE / slowest
    offline = offline_variants(clip, RATE, lambda variant: np.random.default_rng(0))[variant]
    assert min(RATE, RATE / fastest) <= len(offline) <= RATE


def test_slower_offline_variants_are_cropped_at_random():
    ramp = np.linspace(0.0, 0.8, RATE).astype(np.float32) * np.sin(2 * np.pi * 300 * np.arange(RATE) / RATE)

    def loudness_at_the_start(seed: int) -> float:
        clip = offline_variants(ramp, RATE, lambda variant: np.random.default_rng(seed))["slower"]
        return round(float(np.abs(clip[:2000]).max()), 2)

    assert len({loudness_at_the_start(seed) for seed in range(12)}) > 4


def test_enough_source_gives_enough_output_at_every_rate():
    for samples in (1, 10, 999, 16_000):
        needed = source_samples_needed(samples)
        assert needed == -(-samples * 19 // 10)
        for seed in range(8):
            assert len(augment(noise(needed), RATE, "faster", np.random.default_rng(seed))) >= samples


@pytest.mark.parametrize("variant", [ORIGINAL, *VARIANTS])
@pytest.mark.parametrize("sampling_rate", [1_500, 16_000, 44_100])
def test_short_and_silent_clips_stay_finite(variant, sampling_rate):
    for clip in (np.zeros(1), np.ones(1), noise(2), noise(100), np.zeros(5_000), np.full(3_000, 1e-30)):
        result = augment(clip, sampling_rate, variant, np.random.default_rng(0))
        assert result.dtype == np.float32 and 1 <= len(result) <= 1 + len(clip) / 0.59
        assert np.isfinite(result).all()
        assert clip.any() or not result.any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_augmentation_is_repeatable_and_leaves_the_global_state_alone(variant):
    clip = noise(8_000)
    untouched = clip.copy()
    random.seed(1)
    np.random.seed(1)
    states = random.getstate(), np.random.get_state()[1].tobytes()
    first = augment(clip, RATE, variant, example_generator(0, "track", variant))
    assert states == (random.getstate(), np.random.get_state()[1].tobytes())
    random.seed(2)
    np.random.seed(2)
    assert np.array_equal(first, augment(clip, RATE, variant, example_generator(0, "track", variant)))
    assert np.array_equal(clip, untouched)
    other = augment(clip, RATE, variant, example_generator(1, "track", variant))
    assert len(other) != len(first) or not np.array_equal(first, other)


def test_another_process_augments_alike(capsys):
    code = (
        "import hashlib, numpy as np; from hfmgc.data.augmentation.report import VARIANTS, augment;"
        "from hfmgc.randomness import example_generator as g;"
        "clip = (0.1 * np.random.default_rng(0).standard_normal(9000)).astype(np.float32);"
        "print(*(hashlib.sha256(augment(clip, 22050, v, g(5, v)).tobytes()).hexdigest() for v in VARIANTS))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "5"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    there = done.stdout.split()
    exec(code, {})
    assert there == capsys.readouterr().out.split() and len(set(there)) == len(VARIANTS)


def test_fresh_augmentation_draws_the_original_and_the_six_alike():
    augmentation, generator = FreshAugmentation(), np.random.default_rng(0)
    names = [augmentation.draw(generator) for _ in range(7_000)]
    counts = {name: names.count(name) for name in (ORIGINAL, *VARIANTS)}
    assert all(850 < count < 1150 for count in counts.values()), counts
    assert sum(counts.values()) == 7_000


def test_fresh_augmentation_keeps_to_its_probability():
    clip = noise(400)
    never, always = FreshAugmentation(0.0), FreshAugmentation(1.0)
    generator = np.random.default_rng(0)
    assert all(np.array_equal(never(clip, RATE, generator), clip) for _ in range(20))
    assert ORIGINAL not in {always.draw(generator) for _ in range(200)}
    results = [FreshAugmentation()(clip, RATE, example_generator(0, epoch, "track")) for epoch in (0, 1, 2, 0)]
    assert np.array_equal(results[0], results[3])


def test_offline_variants_are_seven_and_independent_of_each_other():
    clip = noise(RATE)
    clips = offline_variants(clip, RATE, lambda variant: example_generator(0, "track", variant))
    assert list(clips) == [ORIGINAL, *VARIANTS]
    assert np.array_equal(clips[ORIGINAL], clip)
    assert np.array_equal(clips["echo"], augment(clip, RATE, "echo", example_generator(0, "track", "echo")))
    assert len({result.tobytes() for result in clips.values()}) == 7


def test_unusable_input_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'high_pass'"):
        augment(noise(10), RATE, "highpass", np.random.default_rng(0))
    for clip in (np.zeros(0), np.zeros((2, 10)), np.array([0.0, np.nan])):
        with pytest.raises(AudioError):
            augment(clip, RATE, "echo", np.random.default_rng(0))
