"""How a genre is written down: parts as rows of steps over one bar, and ranges that every track draws from.

Source: ours; the rows are those of a drum machine. A row has any number of steps, usually 16 (straight) or 12
(triplets), and fills the bar. Steps of a part: `x` the whole chord, `p` root, fifth and octave, `1 3 5 6 7 8 9 a` one
tone (`harmony.chord_tone`), `-` hold, `.` rest. Steps of a drum: `X` accent, `x` stroke, `o` soft stroke, `.` rest.
"""

from dataclasses import dataclass, field


Range = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """One player: the rows and instruments that a track chooses among.

    `low` is the MIDI pitch above which chords are folded, `gain` is in dB, `chance` the probability that the part plays
    at all in a track, `strum` the delay in seconds between a chord's strings, `gate` how long a step sounds, as a share
    of its written length.
    """

    rows: tuple[str, ...]
    instruments: tuple[str, ...]
    low: int
    gain: float = 0.0
    chance: float = 1.0
    strum: float = 0.0
    gate: float = 0.95


@dataclass(frozen=True)
class Melody:
    """An improvised line: a random walk over a scale, `density` notes a beat on the average, in phrases with rests."""

    instruments: tuple[str, ...]
    scales: tuple[str, ...]
    density: Range
    low: int
    gain: float = 0.0
    chance: float = 0.7


@dataclass(frozen=True)
class GenreStyle:
    """What tracks of a genre have in common. Ranges are (lowest, highest), drawn uniformly for every track."""

    tempo: Range  # beats a minute
    progressions: tuple[str, ...]  # Roman numerals, one a bar
    parts: tuple[Part, ...]
    melody: Melody
    grooves: tuple[dict[str, str], ...] = field(default=({},))  # of each: stroke -> row
    kits: tuple[str, ...] = ("acoustic",)
    drums: float = 1.0  # probability that a track has drums
    drum_gain: float = 0.0  # dB
    swing: Range = (0.5, 0.5)  # where in the beat the second eighth falls (of rows of 16 steps)
    meters: tuple[int, ...] = (4,)  # beats a bar
    reverberation: Range = (0.4, 1.0)  # seconds
    wet: Range = (0.05, 0.25)
    tilt: Range = (-3.0, 3.0)  # dB
    lowpass: Range = (7000.0, 11000.0)  # Hz
    drive: Range = (0.6, 1.6)  # of the sum
    hiss: Range = (0.0001, 0.001)
    crackle: Range = (0.0, 0.0)  # clicks a second
    dynamics: Range = (0.0, 0.15)  # depth of slow swells
    peak: Range = (-6.0, -0.2)  # dB below full scale
