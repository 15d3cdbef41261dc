"""The five genres made of electric and electronic sounds: disco, hiphop, metal, pop, rock.

Source: ours, after the textbook descriptions of the genres. Ranges overlap on purpose: no single number tells two
genres apart.
"""

from hfmgc.data.synthesis.arrangement import GenreStyle, Melody, Part


_BACKBEAT = (
    {"kick": "X.......X.x.....", "snare": "....X.......X...", "hat": "x.x.x.x.x.x.x.x."},
    {"kick": "X.....x.X.......", "snare": "....X.......X..o", "hat": "X.o.X.o.X.o.X.o."},
    {"kick": "X..x..x...x.....", "snare": "....X.......X...", "ride": "x...x...x...x..."},
)

ELECTRIC_STYLES: dict[str, GenreStyle] = {
    "disco": GenreStyle(
        tempo=(112, 130),
        progressions=("im7 iv7 im7 iv7", "Imaj7 vi7 ii7 V7", "i7 bVII bVImaj7 V7", "ii7 V7 Imaj7 vi7"),
        parts=(
            Part(
                ("1.8.1.8.1.8.1.8.", "1..81.8.1..85.8.", "1.8.1.8.5.8.7.8."),
                ("electric bass", "synth bass"),
                33,
                1,
                gate=0.8,
            ),
            Part(
                ("..x...x...x...x.", "x.xx.xx.x.xx.xx.", "..xx..xx..xx..x."),
                ("muted guitar", "electric guitar"),
                57,
                -3,
                0.8,
            ),
            Part(("x---------------", "x..x..x.........", "......x-........"), ("strings", "brass"), 62, -4, 0.8),
            Part(("..x...x...x...x.", "x-----x---------"), ("electric piano", "piano"), 55, -5, 0.5),
        ),
        melody=Melody(("voice", "strings", "brass", "synth lead"), ("dorian", "major"), (0.6, 1.6), 67, -3, 0.6),
        grooves=(
            {
                "kick": "X...X...X...X...",
                "snare": "....X.......X...",
                "open": "..x...x...x...x.",
                "hat": "x...x...x...x...",
            },
            {
                "kick": "X...X...X...X...",
                "clap": "....X.......X...",
                "open": "..x...x...x...x.",
                "hat": "x.oxx.oxx.oxx.ox",
            },
            {
                "kick": "X...X...X...X...",
                "snare": "....x.......x..o",
                "open": "..X...X...X...X.",
                "shaker": "xxxxxxxxxxxxxxxx",
            },
        ),
        kits=("disco", "electronic"),
        reverberation=(0.4, 1.3),
        tilt=(0.5, 3.0),
    ),
    "hiphop": GenreStyle(
        tempo=(80, 100),
        progressions=("im7 im7 iv7 im7", "im9 bVImaj7", "ii7 V7 ii7 V7", "im7 bVII", "im9 im9"),
        parts=(
            Part(
                ("1-----.1..1-....", "1---....1.......", "1-....1-..5-..1."),
                ("sub bass", "synth bass", "electric bass"),
                28,
                3,
            ),
            Part(
                ("x-----..x-------", "x.......x..x....", "1.5.7.9.5.7.3.5."),
                ("electric piano", "piano", "strings", "vibraphone"),
                57,
                -4,
                0.9,
            ),
            Part(("8..8..7.8..8..5.", "x..............."), ("synth pluck", "flute", "brass"), 67, -8, 0.35),
        ),
        melody=Melody(("voice", "saxophone", "synth lead"), ("minor pentatonic", "dorian"), (1.0, 2.6), 55, -5, 0.4),
        grooves=(
            {"kick": "X.....x...X.....", "snare": "....X.......X...", "hat": "x.x.x.x.x.x.x.x."},
            {"kick": "X..x......X.x...", "snare": "....X..o....X...", "hat": "x.x.x.xxx.x.x.x."},
            {"kick": "X......X.X......", "clap": "....X.......X...", "hat": "x.xxx.x.x.xxxxx."},
        ),
        kits=("boom-bap", "electronic"),
        drum_gain=3,
        swing=(0.5, 0.62),
        reverberation=(0.2, 0.6),
        wet=(0.0, 0.12),
        tilt=(-4.0, -1.5),
        lowpass=(3500, 9500),
        drive=(1.0, 3.0),
        hiss=(0.0005, 0.006),
        crackle=(0, 16),
    ),
    "metal": GenreStyle(
        tempo=(100, 190),
        progressions=("i5 i5 bVI5 bVII5", "i5 bII5 i5 bII5", "i5 i5 bIII5 bII5", "i5 bVI5 bIII5 bVII5"),
        parts=(
            Part(("p.ppp.ppp.ppp.pp", "pppppppppppppppp", "p..p..p..p..p.p."), ("palm-muted guitar",), 40, 3, 0.85),
            Part(("p---------------", "p-----p-----p---", "p-------p---p---"), ("distorted guitar",), 40, 1, 0.9),
            Part(("1.111.111.111.11", "1.1.1.1.1.1.1.1."), ("picked bass",), 28, -2),
        ),
        melody=Melody(("lead guitar", "voice"), ("phrygian", "harmonic minor"), (1.0, 4.0), 64, -2, 0.45),
        grooves=(
            {"kick": "xxxxxxxxxxxxxxxx", "snare": "....X.......X...", "crash": "x...x...x...x..."},
            {"kick": "X.xxx.xxx.xxx.xx", "snare": "....X.......X...", "ride": "x.x.x.x.x.x.x.x."},
            {"kick": "X.x.X.x.X.x.X.x.", "snare": "..X...X...X...X.", "hat": "x.x.x.x.x.x.x.x."},
            {"kick": "X..x..x.X..x..x.", "snare": "........X.......", "crash": "x.......x......."},
        ),
        kits=("metal",),
        drum_gain=1,
        reverberation=(0.3, 0.8),
        tilt=(0.5, 3.0),
        drive=(1.6, 4.0),
        peak=(-3, -0.1),
    ),
    "pop": GenreStyle(
        tempo=(88, 132),
        progressions=("I V vi IV", "vi IV I V", "I vi IV V", "IV I V vi"),
        parts=(
            Part(
                ("1.1.1.1.1.1.1.1.", "1-----1-..1-....", "1...1...1...1..."),
                ("synth bass", "electric bass", "sub bass"),
                33,
                0,
            ),
            Part(("x---------------",), ("synth pad", "strings", "organ"), 57, -2, 0.85),
            Part(
                ("x.x.x.x.x.x.x.x.", "x..x..x.x..x..x.", "1.5.8.5.9.5.8.5."),
                ("synth pluck", "piano", "acoustic guitar", "electric piano"),
                55,
                -3,
                0.85,
                0.006,
            ),
        ),
        melody=Melody(("voice", "synth lead"), ("major pentatonic", "major"), (0.9, 2.0), 62, 2, 0.95),
        grooves=(
            {"kick": "X...X...X...X...", "clap": "....X.......X...", "hat": "..x...x...x...x."},
            {"kick": "X.....x.X.......", "clap": "....X.......X...", "hat": "x.x.x.x.x.x.x.x."},
            *_BACKBEAT[:2],
        ),
        kits=("electronic", "acoustic"),
        drums=0.92,
        tilt=(2.0, 5.0),
        drive=(1.0, 2.6),
        reverberation=(0.5, 1.6),
    ),
    "rock": GenreStyle(
        tempo=(96, 164),
        progressions=("I bVII IV I", "I IV V IV", "i bVI bIII bVII", "I V vi IV", "i bVII bVI bVII"),
        parts=(
            Part(
                ("1.1.1.1.1.1.1.1.", "1...1.1.1...1.1.", "1-..1.1.5-..3.1."), ("electric bass", "picked bass"), 33, 0
            ),
            Part(
                ("x.x.x.x.x.x.x.x.", "x---x.x-x---x.x-", "p.p.p.p.p.p.p.p."),
                ("overdriven guitar", "distorted guitar"),
                47,
                0,
                1.0,
                0.008,
            ),
            Part(
                ("x---------------", "1.5.8.5.1.5.8.5."), ("electric guitar", "organ", "acoustic guitar"), 55, -6, 0.6
            ),
        ),
        melody=Melody(("voice", "lead guitar"), ("minor pentatonic", "major pentatonic"), (0.8, 2.2), 62, -1, 0.75),
        grooves=_BACKBEAT,
        drum_gain=1,
        reverberation=(0.3, 1.2),
        tilt=(-0.5, 2.0),
        drive=(1.0, 3.0),
    ),
}
