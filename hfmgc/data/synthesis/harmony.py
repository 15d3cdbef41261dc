"""Chords by their usual names. Pitches are MIDI numbers (69 is A4, 440 Hz)."""

from hfmgc.errors import ConfigError


_NOTES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
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
    """Return the root of a chord such as `Am7`, `Bbmaj7` or `E5`, in semitones above C, and the intervals above it.

    Raises:
        ConfigError: If it is not a chord.
    """
    accidental = {"b": -1, "#": 1}.get(name[1:2], 0)
    root, quality = name[:1], name[2:] if accidental else name[1:]
    if root not in _NOTES or quality not in QUALITIES:
        raise ConfigError(f"{name!r} is not a chord: a note and one of {', '.join(filter(None, QUALITIES))}")
    return (_NOTES[root] + accidental) % 12, QUALITIES[quality]


def voice_chord(root: int, intervals: tuple[int, ...], low: int) -> tuple[int, ...]:
    """Return the chord's pitches, folded into the octave above `low`: consecutive chords stay close together."""
    return tuple(sorted({low + (root + interval - low) % 12 for interval in intervals}))


def chord_tone(symbol: str, root: int, intervals: tuple[int, ...], low: int) -> int:
    """Return the pitch of a tone of the chord, whose root is in the octave above `low`.

    `symbol` is `1`, `3`, `5`, `7` (the octave in a triad) or `8`.
    """
    seventh = intervals[3] if len(intervals) > 3 else 12
    tones = {"1": 0, "3": intervals[1], "5": intervals[2], "7": seventh, "8": 12}
    return low + (root - low) % 12 + tones[symbol]


def frequency(pitch: float) -> float:
    """Return the frequency of a pitch in equal temperament, in Hz."""
    return 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)
