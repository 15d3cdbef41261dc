"""Compose and render one synthetic track.

Source: ours. A track is drawn in two steps: the arrangement (tempo, key, chords, rows, instruments, mix) and the
performance (timing, loudness of every stroke). Both come from `randomness.example_generator`, so a track depends on
nothing but (seed, genre, index, seconds) and the versions of numpy and scipy.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hfmgc.data.synthesis import production
from hfmgc.data.synthesis.arrangement import GenreStyle, Melody, Part, Range
from hfmgc.data.synthesis.drums import render_kit
from hfmgc.data.synthesis.harmony import SCALES, chord_tone, frequency, parse_chord, voice_chord
from hfmgc.data.synthesis.instruments import SAMPLING_RATE, VOICES
from hfmgc.data.synthesis.styles import STYLES
from hfmgc.errors import ConfigError, nearest
from hfmgc.randomness import example_generator


# Of the instruments that go through an amplifier: ranges of drive and of the cabinet's cutoff in Hz.
_AMPLIFIERS: dict[str, tuple[Range, Range]] = {
    "palm-muted guitar": ((8.0, 30.0), (3500, 6000)),
    "distorted guitar": ((5.0, 25.0), (3500, 6000)),
    "overdriven guitar": ((1.5, 7.0), (3000, 5500)),
    "lead guitar": ((1.5, 8.0), (2800, 5000)),
    "electric guitar": ((0.4, 1.4), (3000, 6000)),
    "harmonica": ((0.8, 2.5), (2500, 4500)),
}
_ACCENTS = {"X": 1.0, "x": 0.75, "o": 0.35}


class _Track:
    """One track in the making: what was drawn for all parts, and the sum of the parts rendered so far."""

    def __init__(self, style: GenreStyle, seconds: float, generator: np.random.Generator):
        self.style, self.generator = style, generator
        self.samples = round(seconds * SAMPLING_RATE)
        self.mix = np.zeros(self.samples, dtype=np.float32)
        self.beats = int(generator.choice(style.meters))
        self.bar = self.beats * 60.0 / self.draw(style.tempo)
        self.swing = self.draw(style.swing)
        self.key = int(generator.integers(12))
        chords = [parse_chord(name) for name in str(generator.choice(style.progressions)).split()]
        # An excerpt starts anywhere: in any bar of the progression and anywhere within that bar.
        first = int(generator.integers(len(chords)))
        self.start = -self.bar * generator.uniform()
        self.bars = math.ceil((seconds - self.start) / self.bar)
        self.chords = [chords[(first + bar) % len(chords)] for bar in range(self.bars + 1)]
        self.humanisation = generator.uniform(0.001, 0.009)

    def draw(self, bounds: Range) -> float:
        return float(self.generator.uniform(*bounds))

    def choose(self, options: Sequence[Any]) -> Any:
        """Return one of the options: the first is the genre's signature and comes most often: of three, two times in three."""
        weights = 1.0 / np.arange(1, len(options) + 1) ** 1.5
        return options[int(self.generator.choice(len(options), p=weights / weights.sum()))]

    def onset(self, bar: int, step: int, steps: int) -> float:
        """Return the time in seconds of a step, swung if the row is one of 16 steps, and a little inexact."""
        position = step / steps
        if steps == 16:
            eighth, half = divmod(step, 2)
            # Of each pair of eighths the second one is late; sixteenths halve the eighths around them.
            pair, second = divmod(eighth, 2)
            begin = 2 * pair + (2 * self.swing if second else 0.0)
            length = 2 * (1 - self.swing) if second else 2 * self.swing
            position = (begin + 0.5 * half * length) / 8
        return self.start + (bar + position) * self.bar + self.generator.normal(0.0, self.humanisation)

    def resting(self) -> np.ndarray:
        """Return per bar whether a part is silent, bool [bars]: now and then it leaves out two bars."""
        rests = np.repeat(self.generator.uniform(size=self.bars // 2 + 1) < 0.1, 2)[: self.bars]
        return rests & (self.bars > 3)

    def place(self, track: np.ndarray, sound: np.ndarray, onset: float, gain: float) -> None:
        """Add a sound at `onset` seconds; what lies outside of the track is cut."""
        begin = round(onset * SAMPLING_RATE)
        sound = sound[max(-begin, 0) : max(self.samples - begin, 0)]
        begin = max(begin, 0)
        track[begin : begin + len(sound)] += np.float32(gain) * sound

    def add(self, track: np.ndarray, decibels: float, instrument: str = "") -> None:
        """Amplify a finished part, bring it to a common level, and mix it in `decibels` above that, more or less."""
        if instrument in _AMPLIFIERS:
            drive, cabinet = _AMPLIFIERS[instrument]
            track = production.distort(track, self.draw(drive), self.draw(cabinet))
        level = float(np.sqrt(np.mean(np.square(track))))
        if level > 1e-6:
            self.mix += track * np.float32(10 ** ((decibels + self.generator.normal(0.0, 1.5)) / 20) / level)


def _play_drums(track: _Track) -> None:
    generator, style = track.generator, track.style
    kit = render_kit(track.choose(style.kits), generator)
    groove = style.grooves[int(generator.integers(len(style.grooves)))]
    rests, fills = track.resting(), generator.uniform(0.0, 0.6)
    sum_of_strokes = np.zeros_like(track.mix)
    for stroke, row in groove.items():
        sound, gain = kit[stroke], 10 ** (generator.normal(0.0, 2.0) / 20)
        for bar in np.flatnonzero(~rests):
            for step, symbol in enumerate(row):
                if symbol != ".":
                    loudness = gain * _ACCENTS[symbol] * generator.uniform(0.8, 1.1)
                    track.place(sum_of_strokes, sound, track.onset(bar, step, len(row)), loudness)
    for bar in range(3, track.bars, 4):
        if generator.uniform() < fills:
            for step in range(12, 16):
                sound = kit["tom" if generator.uniform() < 0.5 else "snare"]
                track.place(sum_of_strokes, sound, track.onset(bar, step, 16), generator.uniform(0.4, 0.9))
    track.add(sum_of_strokes, style.drum_gain)


def _play_part(track: _Track, part: Part) -> None:
    generator = track.generator
    instrument, row = track.choose(part.instruments), track.choose(part.rows)
    timbre, voice = generator.uniform(), VOICES[instrument]
    step_seconds = track.bar / len(row)
    rests, sounds = track.resting(), {}
    buffer = np.zeros_like(track.mix)
    for bar in np.flatnonzero(~rests):
        (root, intervals), (next_root, _) = track.chords[bar], track.chords[bar + 1]
        for step, symbol in enumerate(row):
            if symbol in ".-":
                continue
            held = len(row[step + 1 :]) - len(row[step + 1 :].lstrip("-")) + 1
            if symbol == "x":
                pitches = voice_chord(root + track.key, intervals, part.low)
            else:
                tone = "1" if symbol == "p" else symbol
                pitch = chord_tone(tone, root + track.key, next_root + track.key, intervals, part.low)
                pitches = (pitch, pitch + 7, pitch + 12) if symbol == "p" else (pitch,)
            key = (pitches, held)
            if key not in sounds:
                # The same stroke is rendered once a track: strings and hammers repeat, players do not.
                seconds = max(held * step_seconds * part.gate, 0.03)
                notes = [voice(frequency(pitch), seconds, timbre, generator) for pitch in pitches]
                sounds[key] = [note / np.float32(np.sqrt(len(notes))) for note in notes]
            onset, gain = track.onset(bar, step, len(row)), generator.uniform(0.65, 1.0)
            for string, note in enumerate(sounds[key]):
                track.place(buffer, note, onset + string * part.strum, gain)
    track.add(buffer, part.gain, instrument)


def _play_melody(track: _Track, melody: Melody) -> None:
    generator = track.generator
    # A minor tonic chord wants a scale with a minor third; where the style has none that fits (blues), all will do.
    third = next((3 if 3 in intervals else 4 for root, intervals in track.chords if root == 0), 4)
    scales = [name for name in melody.scales if third in SCALES[name]] or melody.scales
    instrument, scale = track.choose(melody.instruments), SCALES[str(generator.choice(scales))]
    timbre, voice, density = generator.uniform(), VOICES[instrument], track.draw(melody.density)
    degree, beat = int(generator.integers(len(scale))), generator.uniform(0, 4)
    buffer = np.zeros_like(track.mix)
    while beat < track.bars * track.beats:
        if generator.uniform() < 0.12:
            beat += float(generator.choice((1.0, 2.0, 4.0)))
            continue
        beats = float(generator.choice((0.5, 1.0, 1.0, 1.5, 2.0))) / density
        # A quarter of the steps are leaps; the walk is turned back at the ends of an octave and a half.
        degree += int(generator.choice((-1, 1)) * (1 if generator.uniform() < 0.75 else generator.integers(2, 4)))
        degree = int(np.clip(degree, -2, int(1.5 * len(scale))))
        octave, index = divmod(degree, len(scale))
        pitch = melody.low + (track.key - melody.low) % 12 + 12 * octave + scale[index]
        beat_seconds = track.bar / track.beats
        note = voice(frequency(pitch), 0.9 * beats * beat_seconds, timbre, generator)
        track.place(buffer, note, track.start + beat * beat_seconds, generator.uniform(0.6, 1.0))
        beat += beats
    track.add(buffer, melody.gain, instrument)


def _produce(track: _Track) -> np.ndarray:
    style, generator = track.style, track.generator
    signal = production.reverberate(track.mix, track.draw(style.reverberation), track.draw(style.wet), generator)
    depth, period = track.draw(style.dynamics), generator.uniform(5.0, 14.0)
    swell = np.sin(2 * np.pi * np.arange(track.samples) / (period * SAMPLING_RATE) + generator.uniform(0, 2 * np.pi))
    signal = signal * (1 - depth * (0.5 + 0.5 * swell)).astype(np.float32)
    signal = production.tilt(signal, track.draw(style.tilt))
    signal = production.cut(signal, track.draw(style.lowpass), "lowpass")
    signal = production.finish(signal, track.draw(style.drive), 0.0)
    # Hiss and clicks belong to the record, so they come after the room and the tone controls.
    signal += production.surface_noise(track.samples, track.draw(style.hiss), track.draw(style.crackle), generator)
    return production.finish(signal, 0.01, track.draw(style.peak))


def check_request(genre: str, seconds: float) -> None:
    """Raise `ConfigError` unless the genre is one of the ten and `seconds` is finite and at least 1."""
    if genre not in STYLES:
        raise ConfigError(f"{genre!r} is not a genre of the synthetic corpus{nearest(str(genre), STYLES)}")
    if not math.isfinite(seconds) or seconds < 1:
        raise ConfigError(f"seconds={seconds}: a synthetic track lasts at least 1 second")


def compose_track(genre: str, index: int, *, seconds: float, seed: int) -> np.ndarray:
    """Return a synthetic track of a genre, mono float32 [samples] at `SAMPLING_RATE`, within -1..1.

    Source: ours. Equal arguments give equal bits in the same environment; tracks of different index, genre or seed
    share nothing, and a longer track is another track, not the continuation of a shorter one.

    Raises:
        ConfigError: the genre is unknown, or `seconds` is below 1 or not finite.
    """
    check_request(genre, seconds)
    style = STYLES[genre]
    track = _Track(style, seconds, example_generator("synthetic corpus", seed, genre, index))
    if track.generator.uniform() < style.drums:
        _play_drums(track)
    for part in style.parts:
        if track.generator.uniform() < part.chance:
            _play_part(track, part)
    if track.generator.uniform() < style.melody.chance:
        _play_melody(track, style.melody)
    if not track.mix.any():
        # Every part may have been left out, by chance or by its rests: silence is no example of a genre.
        _play_part(track, style.parts[0])
    return _produce(track)
