"""MAESTRO: the official split from its csv, and crops that never hold a recording."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import tone
from dataset_hub import DatasetHub
from stand_ins import MAESTRO_ROWS, write_maestro, zip_folder

from hfmgc.data.audio import load_audio
from hfmgc.data.sources import open_source
from hfmgc.data.sources.contract import TRACK_FEATURES
from hfmgc.data.sources.crops import crop_stream, open_recording
from hfmgc.data.sources.crops import read_crop as read_open_crop
from hfmgc.errors import AudioError, ConfigError, DataError


IDS = sorted(row[4] for row in MAESTRO_ROWS)


def maestro(folder, **options):
    return open_source("maestro", {"audio": str(folder), **options})


def read_crop(path, start, seconds, sampling_rate):
    with open_recording(str(path), "recording") as file:
        return read_open_crop(file, start, seconds, sampling_rate, "recording")


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
    recording = next(r for r in source.recordings() if r.side == "validation")
    assert recording.audio_filename == f"{recording.track_id}.wav"


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


def test_crops_repeat_and_differ_between_epochs_and_seeds(tmp_path):
    source = maestro(write_maestro(tmp_path / "maestro", stereo=True))
    crops = lambda **options: list(source.crops(0.5, 16000, per_track=2, **options))  # noqa: E731
    first = crops()
    assert sorted(crop["track_id"] for crop in first) == sorted(IDS * 2)
    assert all(crop["waveform"].shape == (8000,) and crop["waveform"].dtype == np.float32 for crop in first)
    again = crops()
    assert [(c["track_id"], float(c["start"])) for c in again] == [(c["track_id"], float(c["start"])) for c in first]
    np.testing.assert_array_equal(again[3]["waveform"], first[3]["waveform"])
    starts = {float(c["start"]) for c in first}
    assert len(starts) == 8
    assert max(starts) <= 1.5
    assert not starts & {float(c["start"]) for c in crops(epoch=1)}
    assert not starts & {float(c["start"]) for c in crops(seed=1)}


def test_crops_are_of_the_side_asked_for(tmp_path):
    source = maestro(write_maestro(tmp_path / "maestro"))
    for side in ("train", "validation", "test"):
        wanted = sorted(row[4] for row in MAESTRO_ROWS if row[2] == side)
        assert sorted(crop["track_id"] for crop in source.crops(0.1, 16000, side=side)) == wanted
    with pytest.raises(ConfigError, match="no side 'dev'"):
        source.crops(0.1, 16000, side="dev")


def test_workers_share_the_crops_and_change_none(tmp_path):
    source = maestro(write_maestro(tmp_path / "maestro"))
    stream = source.crops(0.2, 16000)
    whole = {crop["track_id"]: crop["start"] for crop in stream}
    assert stream.num_shards == 4
    parts = [{crop["track_id"]: crop["start"] for crop in stream.shard(2, index)} for index in range(2)]
    assert [len(part) for part in parts] == [2, 2]
    assert parts[0] | parts[1] == whole


@pytest.mark.parametrize("rate", [44100, 22050, 16000])
def test_a_crop_is_what_the_whole_recording_has_there(tmp_path, rate):
    stereo = np.stack([tone(1, seconds=3, sampling_rate=44100), tone(2, seconds=3, sampling_rate=44100)], axis=1)
    soundfile.write(tmp_path / "a.flac", stereo, 44100)
    whole = load_audio(tmp_path / "a.flac", rate)
    for start in (0.0, 1.0, 2.5):
        crop = read_crop(str(tmp_path / "a.flac"), start, 0.5, rate)
        expected = whole[round(start * rate) :][: round(0.5 * rate)]
        np.testing.assert_allclose(crop, expected, atol=2e-3)


def test_a_crop_reads_no_more_than_it_needs(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "long.wav", np.tile(tone(1, seconds=1, sampling_rate=8000), 600), 8000)
    read, frames = soundfile.SoundFile.read, []
    monkeypatch.setattr(
        soundfile.SoundFile,
        "read",
        lambda self, count=-1, **options: frames.append(count) or read(self, count, **options),
    )
    assert len(read_crop(str(tmp_path / "long.wav"), 300.0, 2.0, 16000)) == 32000
    assert len(frames) == 1
    assert 16000 <= frames[0] <= 17000


def test_what_a_short_recording_lacks_is_zero(tmp_path):
    soundfile.write(tmp_path / "short.wav", np.full(100, 0.5), 8000)
    crop = read_crop(str(tmp_path / "short.wav"), 0.0, 0.1, 8000)
    assert crop.shape == (800,)
    np.testing.assert_allclose(crop[:100], 0.5, atol=1e-4)
    assert not crop[100:].any()


def test_broken_recordings_are_named_and_passed_over(tmp_path, caplog):
    folder = write_maestro(tmp_path / "maestro")
    (folder / f"{IDS[0]}.wav").write_bytes(b"no music")
    (folder / f"{IDS[1]}.wav").unlink()
    soundfile.write(folder / f"{IDS[2]}.wav", np.zeros(0), 8000)
    assert [crop["track_id"] for crop in maestro(folder).crops(0.1, 16000)] == [IDS[3]]
    assert f"no crops of {IDS[0]}: cannot be decoded" in caplog.text
    assert f"no crops of {IDS[1]}: no such file" in caplog.text
    assert f"no crops of {IDS[2]}: no samples" in caplog.text


@pytest.mark.parametrize("wrong", [{"seconds": 0}, {"sampling_rate": 0}, {"per_track": 0}])
def test_crops_of_nothing_are_refused(wrong):
    with pytest.raises(ConfigError, match="must be above 0"):
        crop_stream({}, **{"seconds": 1.0, "sampling_rate": 16000, **wrong})


def test_the_hub_gives_tracks_and_streams_crops_without_fetching_recordings(tmp_path, monkeypatch, caplog):
    folder = write_maestro(tmp_path / "repository" / "maestro-v3.0.0", seconds=100.0)
    with DatasetHub() as hub:
        commit = hub.add("ddPn08/maestro-v3.0.0", tmp_path / "repository")
        hub.use_here(monkeypatch, tmp_path / "home")
        source = open_source("maestro", {"repository_revision": commit})
        crops = list(source.crops(0.5, 16000))
        assert not list((tmp_path / "home").rglob("*.wav"))
        assert (source.revision, source.notes()) == (commit, [])
        tracks = source.tracks()
    assert "no crops of" not in caplog.text
    local = list(maestro(folder).crops(0.5, 16000))
    assert [crop["track_id"] for crop in crops] == [crop["track_id"] for crop in local]
    for crop, other in zip(crops, local, strict=True):
        np.testing.assert_array_equal(crop["waveform"], other["waveform"])
    assert list(tracks["track_id"]) == IDS
    assert all(Path(audio["path"]).is_file() for audio in tracks["audio"])
    recordings = sum(path.stat().st_size for path in folder.rglob("*.wav"))
    assert 0 < sum(hub.parts) < recordings / 2


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


@pytest.mark.parametrize("suffix", [".au", ".raw", ".gsm"])
def test_a_crop_goes_by_content_and_not_by_name(tmp_path, suffix):
    noise = tmp_path / f"noise{suffix}"
    noise.write_bytes(np.random.default_rng(0).bytes(40000))
    with pytest.raises(AudioError, match="cannot be decoded"):
        read_crop(str(noise), 0.0, 0.1, 8000)
    music = tmp_path / f"music{suffix}"
    soundfile.write(music, np.full(8000, 0.5), 8000, format="WAV")
    np.testing.assert_allclose(read_crop(str(music), 0.0, 0.1, 8000), 0.5, atol=1e-4)
