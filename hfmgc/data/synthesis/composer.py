"""Compose and render one synthetic track.

Source: ours. Everything random comes from `randomness.example_generator`, so a track depends only on seed, genre, index,
length, and the versions of numpy and scipy.
"""

import math
from collections.abc import Iterator

import numpy as np
from scipy.signal import butter, oaconvolve, sosfilt

from hfmgc.data.synthesis.instruments import SAMPLING_RATE, VOICES, render_kit
from hfmgc.data.synthesis.styles import STYLES, GenreStyle, Part, Range
from hfmgc.randomness import example_generator


_ACCENTS = {"X": 1.0, "x": 0.75, "o": 0.35}
# Semitones above C. Pitches are MIDI numbers (69 is A4, 440 Hz).
_NOTES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
# Suffix of a chord's name -> intervals above the root.
QUALITIES: dict[str, tuple[int, ...]] = {
    "": (0, 4, 7),
    "m": (0, 3, 7),
    "7": (0, 4, 7, 10),
    "m7": (0, 3, 7, 10),
    "maj7": (0, 4, 7, 11),
    "m9": (0, 3, 7, 10, 14),
    "5": (0, 7, 12),
}


def parse_chord(name: str) -> tuple[int, tuple[int, ...]]:
    """Return the root (semitones above C) and the intervals of a chord such as `Am7`, `Bbmaj7` or `E5`."""
    accidental = {"b": -1, "#": 1}.get(name[1:2], 0)
    return (_NOTES[name[0]] + accidental) % 12, QUALITIES[name[2:] if accidental else name[1:]]


def voice_chord(root: int, intervals: tuple[int, ...], low: int) -> tuple[int, ...]:
    """Return the pitches of a chord, folded into the octave above `low` to keep consecutive chords close together."""
    return tuple(sorted({low + (root + interval - low) % 12 for interval in intervals}))


def chord_tone(symbol: str, root: int, intervals: tuple[int, ...], low: int) -> int:
    """Return the pitch of a chord tone: `1`, `3`, `5`, `7` (the octave in a triad) or `8`.

    The root lies in the octave above `low`.
    """
    seventh = intervals[3] if len(intervals) > 3 else 12
    tones = {"1": 0, "3": intervals[1], "5": intervals[2], "7": seventh, "8": 12}
    return low + (root - low) % 12 + tones[symbol]


def frequency(pitch: float) -> float:
    """Return the frequency of a pitch in equal temperament, in Hz."""
    return 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)


class _Track:
    """The tempo and chords that all parts of a track share, and the mix of the parts rendered so far."""

    def __init__(self, style: GenreStyle, seconds: float, generator: np.random.Generator):
        self.style, self.generator = style, generator
        self.mix = np.zeros(round(seconds * SAMPLING_RATE), dtype=np.float32)
        self.bar = 4 * 60.0 / self.draw(style.tempo)
        self.jitter = generator.uniform(0.001, 0.009)  # of onsets, in seconds
        # A track starts anywhere within a bar, at any bar of the progression.
        self.start = -self.bar * generator.uniform()
        self.bars = math.ceil((seconds - self.start) / self.bar)
        key, chords = int(generator.integers(12)), str(generator.choice(style.progressions)).split()
        chords = np.roll(chords, int(generator.integers(len(chords))))
        parsed = [parse_chord(chords[bar % len(chords)]) for bar in range(self.bars)]
        self.chords = [(root + key, intervals) for root, intervals in parsed]

    def draw(self, bounds: Range) -> float:
        return float(self.generator.uniform(*bounds))

    def choose(self, options: list[str]) -> str:
        """Return one of the options; earlier options are more frequent."""
        weights = 1.0 / np.arange(1, len(options) + 1) ** 1.5
        return str(self.generator.choice(options, p=weights / weights.sum()))

    def steps(self, row: str) -> Iterator[tuple[int, int, float]]:
        """Yield the bar, step and onset (seconds) of each note or stroke; now and then two bars rest."""
        rests = np.repeat(self.generator.uniform(size=self.bars) < 0.1, 2)[: self.bars] & (self.bars > 3)
        for bar in np.flatnonzero(~rests):
            for step, symbol in enumerate(row):
                if symbol not in ".-":
                    onset = self.start + (bar + step / len(row)) * self.bar
                    yield bar, step, onset + self.generator.normal(0.0, self.jitter)

    def add_note(self, part: np.ndarray, note: np.ndarray, onset: float, gain: float) -> None:
        """Add a note to a part at `onset` seconds, cut to the length of the track."""
        begin = round(onset * SAMPLING_RATE)
        note = note[max(-begin, 0) : max(len(part) - begin, 0)]
        begin = max(begin, 0)
        part[begin : begin + len(note)] += np.float32(gain) * note

    def add_part(self, part: np.ndarray, decibels: float) -> None:
        """Mix in a finished part, about `decibels` above the level that all parts are normalised to."""
        level = float(np.sqrt(np.mean(np.square(part))))
        if level > 1e-6:
            self.mix += part * np.float32(10 ** ((decibels + self.generator.normal(0.0, 1.5)) / 20) / level)


def _play_drums(track: _Track) -> None:
    generator, samples = track.generator, np.zeros_like(track.mix)
    kit = render_kit(track.choose(track.style.kits.split(", ")), generator)
    for drum, row in track.style.grooves[int(generator.integers(len(track.style.grooves)))].items():
        gain = 10 ** (generator.normal(0.0, 2.0) / 20)
        for _, step, onset in track.steps(row):
            track.add_note(samples, kit[drum], onset, gain * _ACCENTS[row[step]] * generator.uniform(0.8, 1.1))
    track.add_part(samples, track.style.drum_gain)


def _play_part(track: _Track, part: Part) -> None:
    generator, samples = track.generator, np.zeros_like(track.mix)
    row, voice = track.choose(part.rows.split()), VOICES[track.choose(part.instruments.split(", "))]
    timbre, walk, notes = generator.uniform(), int(generator.integers(4)), {}
    for bar, step, onset in track.steps(row):
        root, intervals = track.chords[bar]
        held = len(row[step + 1 :]) - len(row[step + 1 :].lstrip("-")) + 1
        chord = voice_chord(root, intervals, part.low)
        if row[step] == "~":
            walk = int(np.clip(walk + generator.integers(-1, 2), 0, 2 * len(chord) - 1))
            pitches = (chord[walk % len(chord)] + 12 * (walk // len(chord)),)
        else:
            pitches = chord if row[step] == "x" else (chord_tone(row[step], root, intervals, part.low),)
        for pitch in pitches:
            if (pitch, held) not in notes:  # render each note once per track
                seconds = max(0.9 * held * track.bar / len(row), 0.03)
                notes[pitch, held] = voice(frequency(pitch), seconds, timbre, generator)
            track.add_note(samples, notes[pitch, held], onset, generator.uniform(0.65, 1.0))
    if voice.drive[1]:
        samples = _amplify(samples, track.draw(voice.drive), generator.uniform(2800, 5500))
    track.add_part(samples, part.gain)


def _filter(signal: np.ndarray, order: int, hertz: float, kind: str = "lowpass") -> np.ndarray:
    return sosfilt(butter(order, hertz, kind, fs=SAMPLING_RATE, output="sos"), signal).astype(np.float32)


def _amplify(signal: np.ndarray, drive: float, cabinet: float) -> np.ndarray:
    """Distort like a guitar amplifier; `cabinet` is the cutoff in Hz. The level of the signal has no effect."""
    level = np.sqrt(np.mean(np.square(signal))) + 1e-6
    return _filter(np.tanh(drive * _filter(signal, 2, 90.0, "highpass") / (3 * level)), 4, cabinet)


def _produce(track: _Track) -> np.ndarray:
    """Return the mix with reverberation, tilt, saturation and hiss."""
    style, generator, signal = track.style, track.generator, track.mix
    seconds = track.draw(style.reverberation)
    t = np.arange(int(0.8 * seconds * SAMPLING_RATE)) / SAMPLING_RATE
    room = generator.standard_normal(len(t)) * 10 ** (-3 * t / seconds)
    room = oaconvolve(signal, (room / np.sqrt(np.sum(room**2))).astype(np.float32))[: len(signal)]
    signal = signal + 0.25 * seconds * _filter(room, 1, 3500.0)
    bass, gain = _filter(signal, 1, 1000.0), 10 ** (track.draw(style.tilt) / 20)
    signal = _filter(bass / gain + (signal - bass) * gain, 2, generator.uniform(4500, 10_900))
    signal = np.tanh(signal * (generator.uniform(0.6, 2.0) / max(np.abs(signal).max(), 1e-9)))
    signal += generator.standard_normal(len(signal), dtype=np.float32) * np.float32(10 ** generator.uniform(-4, -2.5))
    peak = 10 ** (generator.uniform(-12.0, -0.2) / 20)
    return (signal * (peak / np.abs(signal).max())).astype(np.float32)


def compose_track(genre: str, index: int, *, seconds: float, seed: int) -> np.ndarray:
    """Return a synthetic track, mono float32 [samples] at `SAMPLING_RATE`, within -1..1.

    Equal arguments give bit-identical tracks in the same environment. A longer track does not continue a shorter one.
    """
    style = STYLES[genre]
    track = _Track(style, seconds, example_generator("synthetic corpus", seed, genre, index))
    if style.grooves:
        _play_drums(track)
    for part in style.parts:
        if track.generator.uniform() < part.chance:
            _play_part(track, part)
    if not track.mix.any():  # no part was drawn
        _play_part(track, style.parts[0])
    return _produce(track)
