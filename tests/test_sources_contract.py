"""Every source keeps to the contract, whatever it reads and from wherever it comes."""

import re

import pytest
import stand_ins
from conftest import write_music

from hfmgc.data.sources import SOURCES, open_source
from hfmgc.data.sources.contract import TRACK_FEATURES
from hfmgc.data.splits import POLICIES
from hfmgc.errors import ConfigError


def _folder(path):
    return str(write_music(path / "music", tracks=2, seconds=0.1)), {}


def _manifest(path):
    write_music(path / "music", {"blues": 2}, seconds=0.1)
    text = "path,label\nmusic/blues/blues.001.wav,blues\nmusic/blues/blues.000.wav,blues\n"
    (path / "tracks.csv").write_text(text)
    return str(path / "tracks.csv"), {}


def _fma(path):
    stand_ins.write_fma_metadata(path / "fma_metadata")
    audio = stand_ins.write_fma_audio(path / "fma_small")
    return "fma", {"audio": str(audio), "metadata": str(path / "fma_metadata")}


# How each source is opened on a stand-in; a source without a line here fails the last test of this file.
WAYS = {
    "folder": _folder,
    "manifest": _manifest,
    "synthetic": lambda path: ("synthetic", {"tracks_per_genre": 1, "seconds": 1.0}),
    "gtzan folder": lambda path: ("gtzan", {"folder": str(stand_ins.write_gtzan_folder(path / "genres"))}),
    "gtzan archive": lambda path: ("gtzan", {"archive": str(stand_ins.write_gtzan_archive(path / "genres.tar.gz"))}),
    "gtzan mirror": lambda path: ("gtzan", {"repository": str(stand_ins.write_gtzan_mirror(path / "mirror"))}),
    "fma": _fma,
    "fma mirror": lambda path: ("fma", {"repository": str(stand_ins.write_fma_mirror(path / "mirror"))}),
    "maestro": lambda path: ("maestro", {"audio": str(stand_ins.write_maestro(path / "maestro"))}),
    "hub": lambda path: (
        "hub",
        {"repository": str(stand_ins.write_gtzan_mirror(path / "hub")), "label_column": "genre"},
    ),
    "table": lambda path: ("table", {"file": str(stand_ins.write_gtzan_table(path / "features_30_sec.csv"))}),
}


@pytest.fixture(params=sorted(WAYS))
def opened(request, tmp_path):
    """Data, options and source, for each way."""
    data, options = WAYS[request.param](tmp_path)
    return data, options, open_source(data, options)


def test_a_source_keeps_to_the_contract(opened, tmp_path):
    data, options, source = opened
    card = source.card
    assert re.fullmatch(r"[a-z]+", card.name), "lower-case letters"
    assert len(card.citation) > 20, "authors and title, or what the data are"
    assert card.licence
    assert all(re.fullmatch(r"|[0-9a-f]{40}", revision) for revision in card.repositories.values())
    assert all(
        re.fullmatch(r"sha1:[0-9a-f]{40}|sha256:[0-9a-f]{64}", checksum) for checksum in card.checksums.values()
    )
    assert source.split_policies
    assert set(source.split_policies) <= set(POLICIES)

    genres = source.genres()
    assert len(set(genres)) == len(genres)
    assert open_source(data, options).genres() == genres

    tracks = source.tracks()
    content = "features" if card.name == "table" else "audio"
    expected = {name: kind for name, kind in TRACK_FEATURES.items() if name != "audio"}
    assert {name: kind for name, kind in tracks.features.items() if name != content} == expected
    if content == "audio":
        assert tracks.features == TRACK_FEATURES
    assert len(tracks) > 0
    ids = list(tracks["track_id"])
    assert len(set(ids)) == len(ids)
    assert all(ids)
    assert not any(str(tmp_path) in track_id for track_id in ids), "track ids are published: no absolute paths"
    again = open_source(data, options).tracks()
    assert list(again["track_id"]) == ids
    assert again._fingerprint == tracks._fingerprint, "what was decoded before is found again"
    for row in tracks:
        assert len(row["features"]) == 1 if content == "features" else row["audio"]["path"] or row["audio"]["bytes"]
        assert row["genre"] in ("", *genres)
        assert set(row["genres"]) <= set(genres)
        assert row["genre"] == next(iter(row["genres"]), "")
        assert row["split"] in ("", "train", "validation", "test")
        assert isinstance(row["artist"], str)
    # The sides of lists and tables are their owner's; a mirror without sides says so in its notes.
    has_sides = "official" in source.split_policies and card.name not in ("manifest", "hub", "table")
    if has_sides and not source.notes():
        assert {"train", "validation"} <= set(tracks["split"]), "`official` needs the side of each track"

    for track_id, reason in card.known_bad.items():
        assert source.known_problem(track_id) == reason
        assert reason
    assert source.known_problem("no such track") is None
    described = source.describe()
    assert {"name", "location", "revision", "licence", "citation", "synthetic", "notes"} <= set(described)
    assert str(tmp_path) not in str(described)


def test_a_source_refuses_options_that_it_does_not_have(opened):
    data, options, _ = opened
    with pytest.raises(ConfigError, match="no field 'repositry'"):
        open_source(data, {**options, "repositry": "x"})


def test_there_is_a_stand_in_for_every_source():
    lacking = set(SOURCES) - {way.split()[0] for way in WAYS}
    assert not lacking, "add a line to WAYS for each; the first word of its key is the name"
    assert {name: source.card.name for name, source in SOURCES.items()} == {name: name for name in SOURCES}
