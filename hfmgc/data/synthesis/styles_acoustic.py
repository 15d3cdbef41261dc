"""The five genres played on acoustic or lightly amplified instruments: blues, classical, country, jazz, reggae.

Source: ours, after the textbook descriptions of the genres. Ranges overlap on purpose: no single number tells two
genres apart.
"""

from hfmgc.data.synthesis.arrangement import GenreStyle, Melody, Part


ACOUSTIC_STYLES: dict[str, GenreStyle] = {
    "blues": GenreStyle(
        tempo=(66, 126),
        progressions=(
            "I7 I7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7",
            "I7 IV7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7",
            "i7 i7 i7 i7 iv7 iv7 i7 i7 bVI7 V7 i7 V7",
        ),
        parts=(
            Part(("1..1.31..5.6", "1..3..5..6..", "1..8..7..5.."), ("electric bass", "upright bass"), 33, 0),
            Part(
                ("x.xx.xx.xx.x", "x-x-x-x-x-x-", "..x..x..x..x"),
                ("overdriven guitar", "electric guitar"),
                45,
                -1,
                0.95,
            ),
            Part(("..x..x..x..x", "x-----x-----"), ("piano", "organ"), 55, -6, 0.6),
        ),
        melody=Melody(("harmonica", "lead guitar", "overdriven guitar"), ("blues",), (0.8, 2.0), 62, 2, 0.95),
        grooves=(
            {"kick": "X.....x.....", "snare": "...X.....X..", "hat": "x.xx.xx.xx.x"},
            {"kick": "X..x..X..x..", "snare": "...X.o...X.o", "ride": "x.xx.xx.xx.x"},
            {"kick": "x.....x....x", "snare": "...x.....x..", "hat": "xxxxxxxxxxxx"},
        ),
        kits=("acoustic", "jazz"),
        drums=0.92,
        drum_gain=-4,
        reverberation=(0.4, 1.2),
        tilt=(-2.5, 0.0),
        lowpass=(4500, 10500),
        hiss=(0.0003, 0.004),
    ),
    "classical": GenreStyle(
        tempo=(58, 132),
        progressions=("I IV V I vi ii V I", "i iv V i bVI iv V i", "I V vi iii IV I IV V", "i bVII bVI V i iv V7 i"),
        parts=(
            Part(
                ("1358538358538531", "1-5-8-5-9-8-5-3-", "153513531535"),
                ("piano", "harpsichord", "nylon guitar"),
                48,
                0,
                0.6,
            ),
            Part(("x---------------", "x-------x-------", "x...x...x..."), ("strings",), 55, 0, 0.75),
            Part(("1---------------", "1-------5-------", "1---........"), ("strings", "piano"), 36, -2, 0.8),
        ),
        melody=Melody(
            ("solo violin", "flute", "piano", "strings"), ("major", "harmonic minor"), (0.6, 2.4), 67, 0, 0.85
        ),
        drums=0.0,
        meters=(3, 4),
        reverberation=(1.2, 2.6),
        wet=(0.25, 0.7),
        tilt=(-3.5, -1.0),
        drive=(0.3, 0.6),
        hiss=(0.0001, 0.003),
        dynamics=(0.3, 0.75),
        peak=(-12, -1),
    ),
    "country": GenreStyle(
        tempo=(84, 152),
        progressions=("I I IV I I I V V", "I IV V I", "I V I V IV I V I", "I I IV IV V V I I"),
        parts=(
            Part(
                ("1-......5-......", "1-..1...5-..5...", "1---....5---a..."), ("upright bass", "electric bass"), 33, 0
            ),
            Part(
                ("....x.......x...", "..x...x...x...x.", "..x.x.xx..x.x.xx"), ("acoustic guitar",), 52, 0, 1.0, 0.012
            ),
            Part(("1.5.8.5.1.5.8.5.", "15385385"), ("banjo", "electric guitar", "acoustic guitar"), 55, -4, 0.6),
        ),
        melody=Melody(
            ("pedal steel", "solo violin", "voice", "harmonica"), ("major pentatonic",), (0.7, 1.8), 64, -2, 0.8
        ),
        grooves=(
            {"kick": "X.......X.......", "snare": "o.o.X.ooo.o.X.oo"},
            {"kick": "X.......X.......", "snare": "ooooXoooooooXooo"},
            {"kick": "X.......X.......", "rim": "....X.......X...", "shaker": "x.x.x.x.x.x.x.x."},
            {"kick": "X.......X.......", "snare": "....X.......X...", "hat": "x.x.x.x.x.x.x.x."},
        ),
        drums=0.85,
        drum_gain=-5,
        swing=(0.5, 0.6),
        tilt=(1.5, 4.0),
    ),
    "jazz": GenreStyle(
        tempo=(92, 200),
        progressions=(
            "ii7 V7 Imaj7 vi7",
            "Imaj7 vi7 ii7 V7",
            "ii7 V7 Imaj7 IVmaj7 iim7b5 V7 i7 i7",
            "I7 IV7 I7 I7 IV7 #IVdim I7 VI7 ii7 V7 I7 V7",
        ),
        parts=(
            Part(("1..3..5..a..", "1..5..8..a..", "1..3..5.57a."), ("upright bass",), 33, 2),
            Part(
                ("x....x......", "..x.....x...", ".....x.....x", "x-----......"),
                ("piano", "electric guitar", "vibraphone"),
                54,
                -4,
                0.9,
            ),
            Part(("x-----------",), ("brass", "saxophone"), 60, -10, 0.2),
        ),
        melody=Melody(
            ("saxophone", "brass", "piano", "vibraphone", "electric guitar"),
            ("bebop", "dorian"),
            (1.2, 3.0),
            62,
            0,
            0.9,
        ),
        grooves=(
            {"ride": "X..x.xX..x.x", "hat": "...x.....x..", "kick": "o..o..o..o..", "snare": "........o..."},
            {"ride": "x..X.xx..X.x", "hat": "...x.....x..", "snare": "..o....o...."},
            {"hat": "x..X.xx..X.x", "shaker": "oooooooooooo", "kick": "o.....o....."},
        ),
        kits=("jazz",),
        drums=0.85,
        drum_gain=-5,
        reverberation=(0.5, 1.5),
        wet=(0.1, 0.35),
        tilt=(-3.0, -0.5),
        lowpass=(4500, 10500),
        hiss=(0.0002, 0.004),
        dynamics=(0.1, 0.35),
    ),
    "reggae": GenreStyle(
        tempo=(66, 92),
        progressions=("I IV I IV", "i7 iv7 i7 iv7", "I V vi IV", "I ii I ii", "i bVII i bVII"),
        parts=(
            Part(("..1-3-5-..1-..5-", "1-..1-3-5-......", "1---..5-..3-1---"), ("electric bass", "sub bass"), 31, 4),
            Part(
                ("....x.......x...", "..x...x...x...x.", "....xx......xx.."),
                ("muted guitar", "electric guitar"),
                58,
                0,
                gate=0.5,
            ),
            Part(
                ("..x.x.x...x.x.x.", "...xx......xx...", "....x.......x..."), ("organ", "piano"), 57, -4, 0.8, gate=0.6
            ),
        ),
        melody=Melody(
            ("voice", "brass", "organ", "harmonica"), ("major pentatonic", "dorian"), (0.5, 1.4), 62, -3, 0.7
        ),
        grooves=(
            {"kick": "........X.......", "rim": "........X.......", "hat": "x.x.x.x.x.x.x.x."},
            {"kick": "........X.......", "snare": "........X..o..o.", "hat": "x..xx..xx..xx..x"},
            {"kick": "X...X...X...X...", "rim": "........X.......", "hat": "..x...x...x...x."},
        ),
        kits=("reggae",),
        drum_gain=-1,
        swing=(0.5, 0.6),
        reverberation=(0.6, 1.8),
        wet=(0.1, 0.4),
        tilt=(-4.0, -1.0),
        lowpass=(5000, 10500),
    ),
}
