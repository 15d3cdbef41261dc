"""Chords and scales, as musicians write them.

Source: common-practice names; ours in the selection. Pitches are MIDI numbers (69 is A4, 440 Hz).
"""

import functools

from hfmgc.errors import ConfigError


QUALITIES: dict[str, tuple[int, ...]] = {
    "": (0, 4, 7),
    "m": (0, 3, 7),
    "7": (0, 4, 7, 10),
    "m7": (0, 3, 7, 10),
    "maj7": (0, 4, 7, 11),
    "9": (0, 4, 7, 10, 14),
    "m9": (0, 3, 7, 10, 14),
    "maj9": (0, 4, 7, 11, 14),
    "6": (0, 4, 7, 9),
    "dim": (0, 3, 6),
    "m7b5": (0, 3, 6, 10),
    "5": (0, 7, 12),
}
SCALES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "blues": (0, 3, 5, 6, 7, 10),
    "major pentatonic": (0, 2, 4, 7, 9),
    "minor pentatonic": (0, 3, 5, 7, 10),
    "bebop": (0, 2, 3, 4, 5, 7, 9, 10, 11),
}
_NUMERALS = {"i": 0, "ii": 2, "iii": 4, "iv": 5, "v": 7, "vi": 9, "vii": 11}


@functools.cache
def parse_chord(name: str) -> tuple[int, tuple[int, ...]]:
    """Return (root in semitones above the key note, intervals in semitones above the root) of a Roman numeral.

    A lower-case numeral is minor, a leading `b` or `#` alters the root, the rest is a quality: `bVII`, `ii7`, `Imaj7`,
    `V5` (power chord).

    Raises:
        ConfigError: the name is no such chord.
    """
    alteration = {"b": -1, "#": 1}.get(name[:1], 0)
    rest = name[1:] if alteration else name
    for length in range(min(3, len(rest)), 0, -1):
        numeral, quality = rest[:length], rest[length:]
        if numeral.lower() not in _NUMERALS or numeral not in (numeral.lower(), numeral.upper()):
            continue
        if numeral.islower() and not quality.startswith(("m", "dim", "5")):
            quality = f"m{quality}"
        if quality in QUALITIES:
            return (_NUMERALS[numeral.lower()] + alteration) % 12, QUALITIES[quality]
    raise ConfigError(f"{name!r} is not a chord: a Roman numeral and one of {', '.join(filter(None, QUALITIES))}")


def voice_chord(root: int, intervals: tuple[int, ...], low: int) -> tuple[int, ...]:
    """Return the chord's MIDI pitches folded into the octave above `low`: so neighbouring chords stay close together."""
    return tuple(sorted({low + (root + interval - low) % 12 for interval in intervals}))


def chord_tone(symbol: str, root: int, next_root: int, intervals: tuple[int, ...], low: int) -> int:
    """Return the MIDI pitch of one step of a bass line or an arpeggio, the root being folded just above `low`.

    `symbol`: `1` `3` `5` `7` are the chord's tones (the octave where it has no seventh), `8` the octave, `6` the major
    sixth, `9` the tenth, `a` a half tone below the next chord's root.
    """
    bottom = low + (root - low) % 12
    if symbol == "a":
        return low + (next_root - low) % 12 - 1
    if symbol == "7":
        return bottom + (intervals[3] if len(intervals) > 3 else 12)
    return bottom + {"1": 0, "3": intervals[1], "5": intervals[2], "6": 9, "8": 12, "9": 12 + intervals[1]}[symbol]


def frequency(pitch: float) -> float:
    """Return the frequency, in Hz, of a MIDI pitch in equal temperament."""
    return 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)
