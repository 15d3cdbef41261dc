"""Styles of GTZAN's ten genres for procedural music: tempo, harmony, parts, drums and mix.

Source: ours, after textbook descriptions of the genres. Ranges overlap on purpose, so no single number separates two
genres.

A row of steps fills one bar, usually with 16 steps (straight) or 12 (triplets). Steps of a part: `x` the chord, `1 3 5 7 8`
one chord tone (`composer.chord_tone`), `~` the next tone of a random walk over the chord, `-` hold, `.` rest. Drum
strokes: `X` accented, `x` normal, `o` soft.
"""

from dataclasses import dataclass


Range = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """One player. A track uses one row and one instrument; the first of each list is the most frequent."""

    rows: str  # rows of steps, separated by spaces
    instruments: str  # separated by commas
    low: int  # MIDI pitch; chords are folded into the octave above it
    gain: float = 0.0  # dB
    chance: float = 1.0  # probability that a track has this part


@dataclass(frozen=True)
class GenreStyle:
    """The style of a genre; a track draws one value from each range."""

    tempo: Range  # beats per minute, four beats per bar
    progressions: tuple[str, ...]  # one chord per bar, in C; tracks are transposed
    parts: tuple[Part, ...]
    grooves: tuple[dict[str, str], ...] = ()  # drum -> row of strokes
    kits: str = "acoustic"  # separated by commas
    drum_gain: float = 0.0  # dB
    reverberation: Range = (0.4, 1.0)  # seconds
    tilt: Range = (-3.0, 3.0)  # dB


STYLES: dict[str, GenreStyle] = {
    "blues": GenreStyle(
        tempo=(66, 126),
        progressions=("C7 C7 C7 C7 F7 F7 C7 C7 G7 F7 C7 G7", "Cm7 Cm7 Fm7 Cm7 Ab7 G7 Cm7 G7"),
        parts=(
            Part("1..1.31..5.7 1..3..5..7.. 1..8..7..5..", "electric bass, upright bass", 33),
            Part("x.xx.xx.xx.x x-x-x-x-x-x- ..x..x..x..x", "overdriven guitar, electric guitar", 45, -1, 0.95),
            Part("..x..x..x..x x-----x-----", "piano, organ", 55, -6, 0.6),
            Part("~-~.~--..~~. ...~-~~--... ~--~~.......", "harmonica, lead guitar", 62, 2, 0.95),
        ),
        grooves=(
            {"kick": "X.....x.....", "snare": "...X.....X..", "hat": "x.xx.xx.xx.x"},
            {"kick": "X..x..X..x..", "snare": "...X.o...X.o", "ride": "x.xx.xx.xx.x"},
        ),
        kits="acoustic, jazz",
        drum_gain=-4,
        tilt=(-2.5, 0.0),
    ),
    "classical": GenreStyle(
        tempo=(58, 132),
        progressions=("C F G C Am Dm G C", "Cm Fm G Cm Ab Fm G Cm", "C G Am Em F C F G"),
        parts=(
            Part("1358538358538531 1-5-8-5-8-5-3-5- 153513531535", "harpsichord, piano", 48, 0, 0.6),
            Part("x--------------- x-------x------- x---x---x---", "strings", 55, 0, 0.75),
            Part("1--------------- 1-------5-------", "strings, piano", 36, -2, 0.8),
            Part("~-~-~---~-~~~--- ~~~~~-~-~~~-~-~- ~---~---~-------", "solo violin, strings", 67, 0, 0.85),
        ),
        reverberation=(1.2, 2.6),
        tilt=(-3.5, -1.0),
    ),
    "country": GenreStyle(
        tempo=(84, 152),
        progressions=("C C F C C C G G", "C F G C", "C G C G F C F G"),
        parts=(
            Part("1-......5-...... 1-..1...5-..5... 1---....5---....", "upright bass, electric bass", 33),
            Part("....x.......x... ..x...x...x...x. ..x.x.xx..x.x.xx", "acoustic guitar", 52),
            Part("1.5.8.5.1.5.8.5. 15385385", "banjo, electric guitar, acoustic guitar", 55, -4, 0.6),
            Part("~---~-~-~---.... ..~-~-~---~-....", "solo violin, voice, harmonica", 64, -2, 0.8),
        ),
        grooves=(
            {"kick": "X.......X.......", "snare": "ooooXoooooooXooo"},
            {"kick": "X.......X.......", "rim": "....X.......X...", "hat": "x.x.x.x.x.x.x.x."},
        ),
        drum_gain=-5,
        tilt=(1.5, 4.0),
    ),
    "disco": GenreStyle(
        tempo=(112, 130),
        progressions=("Cm7 Fm7 Cm7 Fm7", "Cmaj7 Am7 Dm7 G7", "Cm7 Bb Abmaj7 G7"),
        parts=(
            Part("1.8.1.8.1.8.1.8. 1..81.8.1..85.8.", "electric bass, synth bass", 33, 1),
            Part("..x...x...x...x. x.xx.xx.x.xx.xx. ..xx..xx..xx..x.", "muted guitar, electric guitar", 57, -3, 0.8),
            Part("x--------------- x..x..x......... ......x-........", "strings, brass", 62, -4, 0.8),
            Part("~-~-~---~-~-.... ....~-~-~-......", "voice, strings, brass, synth lead", 67, -3, 0.6),
        ),
        grooves=(
            {"kick": "X...X...X...X...", "snare": "....X.......X...", "open": "..x...x...x...x."},
            {"kick": "X...X...X...X...", "clap": "....X.......X...", "open": "..x...x...x...x.", "hat": "x.oxx.oxx.oxx.ox"},
        ),
        kits="disco, electronic",
        tilt=(0.5, 3.0),
    ),
    "hiphop": GenreStyle(
        tempo=(80, 100),
        progressions=("Cm7 Cm7 Fm7 Cm7", "Cm9 Abmaj7", "Dm7 G7 Dm7 G7", "Cm7 Bb"),
        parts=(
            Part("1-----.1..1-.... 1---....1....... 1-....1-..5-..1.", "sub bass, synth bass, electric bass", 28, 3),
            Part("x-----..x------- x.......x..x.... 1.5.7.8.5.7.3.5.", "electric piano, piano, strings", 57, -4, 0.9),
            Part("8..8..7.8..8..5. x...............", "synth pluck, brass", 67, -8, 0.35),
            Part("~.~~~.~.~.~~.... ..~~~.~~.~~.....", "voice, saxophone", 55, -5, 0.4),
        ),
        grooves=(
            {"kick": "X.....x...X.....", "snare": "....X.......X...", "hat": "x.x.x.x.x.x.x.x."},
            {"kick": "X..x......X.x...", "snare": "....X..o....X...", "hat": "x.x.x.xxx.x.x.x."},
        ),
        kits="boom-bap, electronic",
        drum_gain=3,
        reverberation=(0.2, 0.6),
        tilt=(-4.0, -1.5),
    ),
    "jazz": GenreStyle(
        tempo=(92, 200),
        progressions=("Dm7 G7 Cmaj7 Am7", "Cmaj7 Am7 Dm7 G7", "Dm7 G7 Cmaj7 Fmaj7 Bm7 E7 Am7 Am7"),
        parts=(
            Part("1..3..5..7.. 1..5..8..7.. 1..3..5.57..", "upright bass", 33, 2),
            Part("x....x...... ..x.....x... .....x.....x", "piano, electric guitar", 54, -4, 0.9),
            Part("~.~~.~~.~~.. ..~~.~~-.... ~~~~.~~.~~-.", "saxophone, brass, piano", 62, 0, 0.9),
        ),
        grooves=(
            {"ride": "X..x.xX..x.x", "hat": "...x.....x..", "kick": "o..o..o..o..", "snare": "........o..."},
            {"hat": "x..X.xx..X.x", "kick": "o.....o....."},
        ),
        kits="jazz",
        drum_gain=-5,
        reverberation=(0.5, 1.5),
        tilt=(-3.0, -0.5),
    ),
    "metal": GenreStyle(
        tempo=(100, 190),
        progressions=("C5 C5 Ab5 Bb5", "C5 Db5 C5 Db5", "C5 C5 Eb5 Db5"),
        parts=(
            Part("x.xxx.xxx.xxx.xx xxxxxxxxxxxxxxxx x..x..x..x..x.x.", "palm-muted guitar", 40, 3, 0.85),
            Part("x--------------- x-----x-----x--- x-------x---x---", "distorted guitar", 40, 1),
            Part("1.111.111.111.11 1.1.1.1.1.1.1.1.", "electric bass", 28, -2),
            Part("~~~~~~~~~~~~~~~~ ~---~-~-~---~~~~", "lead guitar, voice", 64, -2, 0.45),
        ),
        grooves=(
            {"kick": "xxxxxxxxxxxxxxxx", "snare": "....X.......X...", "crash": "x...x...x...x..."},
            {"kick": "X.x.X.x.X.x.X.x.", "snare": "..X...X...X...X.", "hat": "x.x.x.x.x.x.x.x."},
            {"kick": "X..x..x.X..x..x.", "snare": "........X.......", "crash": "x.......x......."},
        ),
        kits="metal",
        drum_gain=1,
        reverberation=(0.3, 0.8),
        tilt=(0.5, 3.0),
    ),
    "pop": GenreStyle(
        tempo=(88, 132),
        progressions=("C G Am F", "Am F C G", "C Am F G"),
        parts=(
            Part("1.1.1.1.1.1.1.1. 1-----1-..1-.... 1...1...1...1...", "synth bass, electric bass, sub bass", 33),
            Part("x---------------", "synth pad, strings, organ", 57, -2, 0.85),
            Part("x.x.x.x.x.x.x.x. x..x..x.x..x..x. 1.5.8.5.8.5.8.5.", "synth pluck, piano, acoustic guitar", 55, -3, 0.85),
            Part("~-~-~-~---~-.... ~---~-~-~-~-~---", "voice, synth lead", 62, 2, 0.95),
        ),
        grooves=(
            {"kick": "X...X...X...X...", "clap": "....X.......X...", "hat": "..x...x...x...x."},
            {"kick": "X.....x.X.......", "clap": "....X.......X...", "hat": "x.x.x.x.x.x.x.x."},
        ),
        kits="electronic, acoustic",
        tilt=(2.0, 5.0),
        reverberation=(0.5, 1.6),
    ),
    "reggae": GenreStyle(
        tempo=(66, 92),
        progressions=("C F C F", "Cm7 Fm7 Cm7 Fm7", "C Dm C Dm", "Cm Bb Cm Bb"),
        parts=(
            Part("..1-3-5-..1-..5- 1-..1-3-5-...... 1---..5-..3-1---", "electric bass, sub bass", 31, 4),
            Part("....x.......x... x...x...x...x... ....xx......xx..", "muted guitar, electric guitar", 58, 2),
            Part("....x.x.....x.x. ...xx......xx...", "organ, piano", 57, -6, 0.8),
            Part("~---~-~-........ ....~-~---......", "voice, brass, organ, harmonica", 62, -3, 0.7),
        ),
        grooves=(
            {"kick": "........X.......", "rim": "........X.......", "hat": "x.o.x.o.x.o.x.o."},
            {"kick": "X...X...X...X...", "rim": "........X.......", "hat": "x...x...x...x..."},
        ),
        kits="reggae",
        drum_gain=-1,
        reverberation=(0.6, 1.8),
        tilt=(-4.0, -1.0),
    ),
    "rock": GenreStyle(
        tempo=(96, 164),
        progressions=("C Bb F C", "C F G F", "Cm Ab Eb Bb"),
        parts=(
            Part("1.1.1.1.1.1.1.1. 1...1.1.1...1.1. 1-..1.1.5-..3.1.", "electric bass", 33),
            Part("x.x.x.x.x.x.x.x. x---x.x-x---x.x-", "overdriven guitar, distorted guitar", 47),
            Part("x--------------- 1.5.8.5.1.5.8.5.", "electric guitar, organ, acoustic guitar", 55, -6, 0.6),
            Part("~-~-~---~-~-.... ~---~---~-~-~---", "voice, lead guitar", 62, -1, 0.75),
        ),
        grooves=(
            {"kick": "X.......X.x.....", "snare": "....X.......X...", "hat": "x.x.x.x.x.x.x.x."},
            {"kick": "X..x..x...x.....", "snare": "....X.......X...", "ride": "x...x...x...x..."},
        ),
        drum_gain=1,
        reverberation=(0.3, 1.2),
        tilt=(-0.5, 2.0),
    ),
}  # fmt: skip
GENRES: tuple[str, ...] = tuple(STYLES)
