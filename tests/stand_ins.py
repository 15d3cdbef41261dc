"""Small stand-ins of the public datasets in the layout that they really have."""

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import soundfile
from conftest import tone

from hfmgc.features.handmade_features import GTZAN_SUMMARY_COLUMNS


RATE = 22050
GTZAN_IDS = ("blues.00000", "blues.00029", "classical.00042", "jazz.00054", "jazz.00055", "rock.00099")


def audio_bytes(seed: int, *, seconds: float = 0.2, sampling_rate: int = RATE, form: str = "WAV") -> bytes:
    """A tone as the bytes of a file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(seed, seconds=seconds, sampling_rate=sampling_rate), sampling_rate, format=form)
    return buffer.getvalue()


def write_gtzan_folder(
    folder: Path, ids: Sequence[str] = GTZAN_IDS, *, separator: str = ".", suffix: str = ".wav"
) -> Path:
    """GTZAN unpacked: `folder/blues/blues.00000.wav`; `jazz.00054` is as broken as it really is."""
    for index, track_id in enumerate(ids):
        genre, number = track_id.split(".")
        path = folder / genre / f"{genre}{separator}{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = audio_bytes(index, form="AU" if suffix == ".au" else "WAV")
        path.write_bytes(b"\0" * 100 if track_id == "jazz.00054" else content)
    return folder


def write_gtzan_table(path: Path, ids: Sequence[str] = GTZAN_IDS) -> Path:
    """GTZAN's features_30_sec.csv: file names, lengths, 57 columns of numbers, labels."""
    values = np.random.default_rng(0).standard_normal((len(ids), len(GTZAN_SUMMARY_COLUMNS)))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "length", *GTZAN_SUMMARY_COLUMNS, "label"])
        for track_id, row in zip(ids, values, strict=True):
            writer.writerow([f"{track_id}.wav", 661794, *row, track_id.split(".")[0]])
    return path


def write_gtzan_archive(path: Path, ids: Sequence[str] = GTZAN_IDS) -> Path:
    """The authors' archive: `genres/blues/blues.00000.wav`, with what macOS and Marsyas left in it."""
    files = {"genres/bextract.mf": b"list", "genres/blues/._blues.00000.wav": b"resource fork"}
    for index, track_id in enumerate(ids):
        broken = track_id == "jazz.00054"
        name = f"genres/{track_id.split('.')[0]}/{track_id}.wav"
        files[name] = b"\0" * 100 if broken else audio_bytes(index)
    return write_tar(path, files)


def write_tar(path: Path, files: Mapping[str, bytes], extra: Sequence[tarfile.TarInfo] = ()) -> Path:
    """A `.tar.gz` of these files, with folders in front of them and members of other kinds behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for parent in sorted({str(Path(name).parent) for name in files} - {".", "/", ".."}):
            member = tarfile.TarInfo(parent)
            member.type = tarfile.DIRTYPE
            tar.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
    return path


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    """A zip of these files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def zip_folder(folder: Path, path: Path) -> Path:
    """A zip of a folder, which is its first part, as the authors of FMA and MAESTRO pack theirs."""
    files = {p.relative_to(folder.parent).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return write_zip(path, files)


def write_gtzan_mirror(folder: Path, ids: Sequence[str] = GTZAN_IDS) -> Path:
    """`sanchit-gandhi/gtzan`: one split of file, audio (declared at a wrong rate) and genre as a class."""
    names = ["blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"]
    ids = [track_id for track_id in reversed(ids) if track_id != "jazz.00054"]
    rows = {
        "file": [f"/somewhere/genres/{track_id.split('.')[0]}/{track_id}.wav" for track_id in ids],
        "audio": [{"bytes": audio_bytes(index), "path": f"{track_id}.wav"} for index, track_id in enumerate(ids)],
        "genre": [names.index(track_id.split(".")[0]) for track_id in ids],
    }
    features = {"file": datasets.Value("string"), "audio": _audio(32000), "genre": datasets.ClassLabel(names=names)}
    return write_parquet(folder, {"train": rows}, features)


def write_fault_filtered_mirror(folder: Path, sides: Mapping[str, Sequence[str]], *, named: bool = True) -> Path:
    """`confit/gtzan-parquet`: three splits of audio, genre as text and label as a class; with or without file names."""
    names = ["blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"]
    parts = {}
    for side, ids in sides.items():
        genres = [track_id.split(".")[0] for track_id in ids]
        paths = [f"{track_id}.wav" if named else None for track_id in ids]
        parts[side] = {
            "audio": [{"bytes": audio_bytes(index), "path": path} for index, path in enumerate(paths)],
            "genre": genres,
            "label": [names.index(genre) for genre in genres],
        }
    features = {"audio": _audio(22050), "genre": datasets.Value("string"), "label": datasets.ClassLabel(names=names)}
    return write_parquet(folder, parts, features)


def write_fma_mirror(folder: Path, *, named: bool = False) -> Path:
    """`benjamin-paine/free-music-archive-small`: one split; audio, artist and genres as a list of classes."""
    rows = {
        "audio": [
            {"bytes": audio_bytes(i, form="MP3"), "path": f"{10 + i:06d}.mp3" if named else None} for i in range(3)
        ],
        "title": ["One", "Two", "Three"],
        "artist": ["Ann", "Björk", None],
        "genres": [[2, 0], [1], []],
    }
    features = {
        "audio": _audio(44100),
        "title": datasets.Value("string"),
        "artist": datasets.Value("string"),
        "genres": datasets.List(datasets.ClassLabel(names=["Ambient", "Folk", "Rock"])),
    }
    return write_parquet(folder, {"train": rows}, features)


def write_parquet(folder: Path, parts: Mapping[str, dict], features: Mapping) -> Path:
    """A repository of parquet files as the Hub has it: `data/train-00000-of-00001.parquet`, audio as bytes."""
    (folder / "data").mkdir(parents=True)
    # Without datasets, which would want to encode audio and refuses class numbers that have no name.
    schema = datasets.Features(features).arrow_schema
    for name, rows in parts.items():
        table = pyarrow.Table.from_pydict(rows, schema=schema)
        pyarrow.parquet.write_table(table, folder / "data" / f"{name}-00000-of-00001.parquet")
    return folder


def _audio(sampling_rate: int) -> datasets.Audio:
    return datasets.Audio(sampling_rate=sampling_rate, decode=False)


# Number, split, subset, top genre, all genres, artist.
FMA_TRACKS = (
    (2, "training", "medium", "Hip-Hop", [21], 1),
    (10, "training", "small", "Pop", [10], 6),
    (140, "validation", "small", "Folk", [17, 103], 54),
    (98565, "training", "small", "Rock", [12], 7),
    (1686, "test", "large", "", [12, 103], 60),
    (100478, "test", "small", "Rock", [12], 7),
)
FMA_GENRES = ((10, "Pop", 0), (12, "Rock", 0), (17, "Folk", 0), (21, "Hip-Hop", 0), (103, "Singer-Songwriter", 17))


def write_fma_metadata(folder: Path, *, drop: Sequence[tuple[str, str]] = ()) -> Path:
    """`fma_metadata`: tracks.csv with its header of three rows, genres.csv, features.csv."""
    folder.mkdir(parents=True)
    columns = [
        ("album", "title"), ("artist", "bio"), ("artist", "id"), ("set", "split"), ("set", "subset"),
        ("track", "genre_top"), ("track", "genres"), ("track", "genres_all"), ("track", "title"),
    ]  # fmt: skip
    columns = [column for column in columns if column not in drop]
    with (folder / "tracks.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", *(group for group, _ in columns)])
        writer.writerow(["", *(name for _, name in columns)])
        writer.writerow(["track_id", *("" for _ in columns)])
        for number, split, subset, top, genres, artist in FMA_TRACKS:
            row = {
                ("album", "title"): "Ünïcode, with a comma",
                ("artist", "bio"): "<p>First line\nsecond line</p>" + "x" * 140000,
                ("artist", "id"): artist,
                ("set", "split"): split,
                ("set", "subset"): subset,
                ("track", "genre_top"): top,
                ("track", "genres"): json.dumps(genres[:1]),
                ("track", "genres_all"): json.dumps(genres),
                ("track", "title"): 'A "title"',
            }
            writer.writerow([number, *(row[column] for column in columns)])
    with (folder / "genres.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["genre_id", "#tracks", "parent", "title", "top_level"])
        writer.writerows([genre_id, 1, parent, title, parent or genre_id] for genre_id, title, parent in FMA_GENRES)
    (folder / "features.csv").write_text("feature,chroma_cens\nstatistics,kurtosis\nnumber,01\ntrack_id,\n2,7.18\n")
    return folder


def write_fma_audio(folder: Path, numbers: Sequence[int] = (10, 140, 98565, 100478)) -> Path:
    """`fma_small`: `000/000010.mp3`."""
    for number in numbers:
        path = folder / f"{number // 1000:03d}" / f"{number:06d}.mp3"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(audio_bytes(number, seconds=0.5, sampling_rate=44100, form="MP3"))
    (folder / "checksums").write_text("")
    return folder


MAESTRO_ROWS = (
    ("Alban Berg", "Sonata Op. 1", "train", 2018, "2018/MIDI-Unprocessed_Chamber3_MID--AUDIO_10_R3_2018_wav--1"),
    ("Alban Berg", "Sonata Op. 1", "train", 2008, "2008/MIDI-Unprocessed_03_R2_2008_01-03_ORIG_MID--AUDIO_wav--2"),
    ("Frédéric Chopin", 'Étude "Black, Keys"', "validation", 2008, "2008/MIDI-Unprocessed_04_R1_2008_wav--1"),
    ("Franz Liszt", "Sonata in B Minor", "test", 2018, "2018/MIDI-Unprocessed_Recital_R1_2018_wav--3"),
)


def write_maestro(
    folder: Path, *, suffix: str = ".wav", seconds: float = 2.0, drop: Sequence[str] = (), stereo: bool = False
) -> Path:
    """`maestro-v3.0.0`: the csv, and a folder for each year."""
    columns = [
        "canonical_composer", "canonical_title", "split", "year", "midi_filename", "audio_filename", "duration"
    ]  # fmt: skip
    columns = [column for column in columns if column not in drop]
    folder.mkdir(parents=True)
    with (folder / "maestro-v3.0.0.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        for index, (composer, title, side, year, stem) in enumerate(MAESTRO_ROWS):
            row = (composer, title, side, year, f"{stem}.midi", f"{stem}.wav", seconds)
            writer.writerow(dict(zip(
                ("canonical_composer", "canonical_title", "split", "year", "midi_filename", "audio_filename", "duration"),
                row, strict=True,
            )))  # fmt: skip
            (folder / stem).parent.mkdir(exist_ok=True)
            waveform = tone(index, seconds=seconds, sampling_rate=44100)
            if stereo:
                waveform = np.stack([waveform, -0.5 * waveform], axis=1)
            soundfile.write(folder / f"{stem}{suffix}", waveform, 44100)
    return folder
