"""Mini: genres and artists come from its csv, and bad rows are named."""

import pytest
from stand_ins import MINI_ROWS, write_mini

from hfmgc.data.audio import load_audio
from hfmgc.data.sources import open_source
from hfmgc.errors import AudioError, ConfigError, DataError


def mini(folder):
    return open_source("mini", {"folder": str(folder)})


def test_the_csv_gives_genres_and_artists(tmp_path):
    source = mini(write_mini(tmp_path / "mini"))
    assert source.genres() == ["blues", "rock"]
    tracks = source.tracks()
    assert [(f"{row['track_id']}.wav", row["genre"], row["artist"]) for row in tracks] == list(MINI_ROWS)
    assert all(len(load_audio(row["audio"]["path"], 16000)) == 32000 for row in tracks)


def test_a_missing_file_stays_in_the_table(tmp_path):
    folder = write_mini(tmp_path / "mini")
    (folder / "audio" / "two.wav").unlink()
    tracks = mini(folder).tracks()
    assert tracks[1]["track_id"] == "two"
    with pytest.raises(AudioError, match="no such file"):
        load_audio(tracks[1]["audio"]["path"], 16000)


def test_bad_rows_and_missing_files_are_named(tmp_path):
    folder = write_mini(tmp_path / "mini")
    path = folder / "labels.csv"
    good = path.read_text(encoding="utf-8")
    for old, new, said in [
        ("one.wav", "../one.wav", r"line 2: file '../one.wav' is not the name of a WAV file"),
        ("one.wav", "two.wav", "track id 'two' occurs more than once"),
        ("artist", "singer", r"labels\.csv has no column artist"),
    ]:
        path.write_text(good.replace(old, new), encoding="utf-8")
        with pytest.raises(DataError, match=said):
            mini(folder).tracks()
    path.write_text("file,genre,artist\n")
    with pytest.raises(DataError, match=r"labels\.csv of mini has no rows"):
        mini(folder).tracks()
    with pytest.raises(DataError, match=r"labels\.csv: no such file"):
        mini(tmp_path / "gone").genres()
    with pytest.raises(ConfigError, match="'folder' is missing"):
        open_source("mini")
