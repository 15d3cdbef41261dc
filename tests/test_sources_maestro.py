"""MAESTRO: recordings, composers and the official split, from its CSV."""

from pathlib import Path

import pytest
from dataset_hub import DatasetHub
from stand_ins import MAESTRO_ROWS, write_maestro, zip_folder

from hfmgc.data.audio import load_audio
from hfmgc.data.sources import open_source
from hfmgc.data.sources.contract import TRACK_FEATURES
from hfmgc.errors import AudioError, DataError


IDS = sorted(row[4] for row in MAESTRO_ROWS)


def maestro(folder, **options):
    return open_source("maestro", {"audio": str(folder), **options})


def test_the_csv_gives_sides_and_composers_and_no_genre(tmp_path):
    source = maestro(write_maestro(tmp_path / "maestro-v3.0.0"))
    tracks = source.tracks()
    assert tracks.features == TRACK_FEATURES
    assert list(tracks["track_id"]) == IDS
    expected = {row[4]: (row[0], row[2]) for row in MAESTRO_ROWS}
    assert {row["track_id"]: (row["artist"], row["split"]) for row in tracks} == expected
    assert set(tracks["genre"]) == {""}
    assert source.genres() == []
    assert source.card.licence == "CC-BY-NC-SA-4.0"
    assert all(row["audio"]["path"].endswith(f"{row['track_id']}.wav") for row in tracks)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3"])
def test_copies_in_smaller_formats_and_around_the_folder_are_found(tmp_path, suffix):
    write_maestro(tmp_path / "around" / "maestro-v3.0.0", suffix=suffix)
    tracks = maestro(tmp_path / "around").tracks()
    assert {row["audio"]["path"].endswith(suffix) for row in tracks} == {True}
    assert len(load_audio(tracks[0]["audio"]["path"], 16000)) > 16000


def test_the_authors_zip_is_unpacked_and_compared(tmp_path):
    archive = zip_folder(write_maestro(tmp_path / "maestro-v3.0.0"), tmp_path / "zips" / "maestro-v3.0.0.zip")
    assert list(maestro(archive, verify=False).tracks()["track_id"]) == IDS
    moved = archive.rename(tmp_path / "maestro-v3.0.0.zip")
    with pytest.raises(DataError, match=r"sha256 [0-9a-f]{64}, not the expected 6680fea5be23"):
        maestro(moved).tracks()


def test_a_missing_recording_stays_in_the_table(tmp_path):
    folder = write_maestro(tmp_path / "maestro")
    (folder / f"{IDS[1]}.wav").unlink()
    tracks = maestro(folder).tracks()
    assert list(tracks["track_id"]) == IDS
    with pytest.raises(AudioError, match="no such file"):
        load_audio(tracks[1]["audio"]["path"], 16000)


def test_a_csv_elsewhere_can_be_named(tmp_path):
    folder = write_maestro(tmp_path / "maestro")
    moved = (folder / "maestro-v3.0.0.csv").rename(tmp_path / "list.csv")
    assert list(maestro(folder, metadata=str(moved)).tracks()["track_id"]) == IDS
    with pytest.raises(DataError, match=r"maestro-v3\.0\.0\.csv: no such file"):
        maestro(folder).tracks()


def test_missing_columns_and_bad_rows_are_named(tmp_path):
    folder = write_maestro(tmp_path / "maestro", drop=["split", "audio_filename"])
    with pytest.raises(DataError, match=r"maestro-v3\.0\.0\.csv: .*split, audio_filename"):
        maestro(folder).tracks()
    path = write_maestro(tmp_path / "other") / "maestro-v3.0.0.csv"
    good = path.read_text(encoding="utf-8")
    for old, new, said in [
        (f"{IDS[0]}.wav", "../../evil.wav", r"line \d: audio_filename '../../evil.wav'"),
        (f"{IDS[0]}.wav", "/etc/evil.wav", "audio_filename '/etc/evil.wav'"),
        ("validation", "holdout", "'holdout' is not a side"),
        (f"{IDS[0]}.wav", f"{IDS[1]}.wav", "occurs more than once"),
    ]:
        assert old in good
        path.write_text(good.replace(old, new), encoding="utf-8")
        with pytest.raises(DataError, match=said):
            maestro(tmp_path / "other").tracks()


def test_recordings_of_the_hub_are_downloaded_at_the_commit(tmp_path, monkeypatch):
    write_maestro(tmp_path / "repository" / "maestro-v3.0.0")
    with DatasetHub() as hub:
        commit = hub.add("ddPn08/maestro-v3.0.0", tmp_path / "repository")
        hub.use_here(monkeypatch, tmp_path / "home")
        source = open_source("maestro", {"repository_revision": commit})
        assert (source.revision, source.notes()) == (commit, [])
        tracks = source.tracks()
    assert list(tracks["track_id"]) == IDS
    assert all(Path(audio["path"]).is_file() for audio in tracks["audio"])


def test_without_network_the_way_out_is_named():
    source = open_source("maestro")
    assert "not pinned" in source.notes()[0]
    with pytest.raises(DataError, match=r"MAESTRO could not be loaded from ddPn08/maestro-v3\.0\.0 on the Hub"):
        source.tracks()


def test_composers_may_be_on_two_official_sides_and_nowhere_else(tmp_path):
    source = maestro(tmp_path)
    assert "not composers" in source.artist_waiver("official", "Alban Berg")
    assert source.artist_waiver("grouped", "Alban Berg") is None
    with pytest.raises(DataError, match="is neither a folder nor a zip"):
        maestro(tmp_path / "gone").tracks()
