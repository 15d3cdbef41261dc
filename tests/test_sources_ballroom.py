"""Ballroom: artists from file names, sides from the list."""

import pytest
from stand_ins import BALLROOM_SIDES, write_ballroom

from hfmgc import load_dataset
from hfmgc.data.sources import open_source
from hfmgc.errors import DataError


def test_artists_and_sides(tmp_path):
    source = open_source("ballroom", {"folder": str(write_ballroom(tmp_path / "b"))})
    tracks = source.tracks()
    assert source.genres() == ["Tango", "Waltz"]
    assert tracks["artist"][0] == "Tango Band 0"
    assert list(tracks["split"]) == list(BALLROOM_SIDES) * 2


def test_unlisted_and_missing_files_stay(tmp_path):
    folder = write_ballroom(tmp_path / "b")
    (folder / "audio/Waltz/Waltz Band 0-Song 0.wav").rename(folder / "audio/Waltz/New-Song.wav")
    tracks = open_source("ballroom", {"folder": str(folder)}).tracks()
    sides = dict(zip(tracks["track_id"], tracks["split"], strict=True))
    assert sides["Waltz/New-Song.wav"] == "" and sides["Waltz/Waltz Band 0-Song 0.wav"] == "train"


@pytest.mark.parametrize("policy", ["official", "grouped"])
def test_it_loads(tmp_path, policy):
    folder = write_ballroom(tmp_path / "b", seconds=1.5)
    options = {"split_ratios": "4:1:1"} if policy == "grouped" else {}
    loaded = load_dataset("ballroom", folder=str(folder), split_policy=policy, **options)
    assert {side: len(table) for side, table in loaded.items()} == {"train": 8, "validation": 2, "test": 2}


def test_a_folder_without_audio_is_refused(tmp_path):
    with pytest.raises(DataError, match="audio"):
        open_source("ballroom", {"folder": str(tmp_path)}).tracks()
