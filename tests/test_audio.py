"""Decoding: every format and shape that libsndfile reads, and a short reason for what cannot be used."""

import io
import struct

import numpy as np
import pytest
import soundfile
from conftest import tone

from hfmgc.data.audio import AUDIO_SUFFIXES, FOREIGN_AUDIO_SUFFIXES, load_audio
from hfmgc.errors import AudioError


RATE = 16000


def peak_frequency(waveform: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return np.fft.rfftfreq(len(waveform), 1 / rate)[spectrum.argmax()]


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    length = min(len(one), len(other))
    return float(np.corrcoef(one[:length], other[:length])[0, 1])


def wav_bytes(waveform: np.ndarray, rate: int = RATE, **options) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, rate, format=options.pop("format", "WAV"), **options)
    return buffer.getvalue()


HALF_STEP = 1.01 / 65536  # of 16 bits, to which all audio is rounded


@pytest.mark.parametrize(
    ("name", "subtype", "error"),
    [
        ("a.wav", "PCM_16", 1e-4),
        ("a.wav", "PCM_24", HALF_STEP),
        ("a.wav", "PCM_32", HALF_STEP),
        ("a.wav", "PCM_U8", 0.01),
        ("a.wav", "FLOAT", HALF_STEP),
        ("a.wav", "DOUBLE", HALF_STEP),
        ("a.flac", "PCM_16", 1e-4),
        ("a.au", "PCM_16", 1e-4),
        ("a.aiff", "PCM_16", 1e-4),
        ("UPPER.WAV", "PCM_16", 1e-4),
    ],
)
def test_lossless_formats_give_the_samples(tmp_path, name, subtype, error):
    waveform = tone(0, seconds=0.5)
    soundfile.write(tmp_path / name, waveform, RATE, subtype=subtype)
    loaded = load_audio(tmp_path / name, RATE)
    assert loaded.dtype == np.float32
    assert loaded.flags.c_contiguous
    np.testing.assert_allclose(loaded, waveform, atol=error)


@pytest.mark.parametrize("name", ["a.ogg", "a.mp3"])
def test_lossy_formats_give_the_same_music(tmp_path, name):
    waveform = tone(0, seconds=1)
    soundfile.write(tmp_path / name, waveform, RATE)
    loaded = load_audio(tmp_path / name, RATE)
    assert abs(len(loaded) - len(waveform)) < 2500
    assert peak_frequency(loaded, RATE) == pytest.approx(peak_frequency(waveform, RATE), abs=3)
    assert loaded.std() == pytest.approx(waveform.std(), rel=0.1)


def test_the_suffixes_are_those_that_are_tested():
    assert {".wav", ".flac", ".ogg", ".mp3", ".au"} <= set(AUDIO_SUFFIXES)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_other_rates_are_resampled_and_keep_pitch_and_length(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(1, seconds=1, sampling_rate=rate), rate)
    loaded = load_audio(tmp_path / "a.wav", RATE)
    assert abs(len(loaded) - RATE) <= 1
    expected = peak_frequency(tone(1, seconds=1, sampling_rate=rate), rate)
    assert peak_frequency(loaded, RATE) == pytest.approx(expected, abs=2)
    assert loaded.std() == pytest.approx(tone(1, seconds=1, sampling_rate=rate).std(), rel=0.05)


def test_resampling_lets_nothing_alias():
    high = np.sin(2 * np.pi * 15000 * np.arange(44100) / 44100).astype(np.float32)
    both = (0.1 * tone(1, seconds=1, sampling_rate=44100) + 0.5 * high).astype(np.float32)
    loaded = load_audio(wav_bytes(both, 44100, subtype="FLOAT"), RATE)
    assert loaded.std() < 0.1


def test_channels_become_their_mean(tmp_path):
    left, right = tone(2, seconds=0.5), tone(3, seconds=0.5, frequency=880)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav", RATE), (left + right) / 2, atol=HALF_STEP)
    many = np.stack([left] * 5 + [right], axis=1)
    np.testing.assert_allclose(load_audio(wav_bytes(many, subtype="FLOAT"), RATE), many.mean(axis=1), atol=HALF_STEP)


def test_bytes_are_decoded_as_the_file_is(tmp_path):
    soundfile.write(tmp_path / "a.flac", tone(4, seconds=0.5), RATE)
    path = tmp_path / "a.flac"
    np.testing.assert_array_equal(load_audio(path.read_bytes(), RATE), load_audio(path, RATE))
    np.testing.assert_array_equal(load_audio(str(path), RATE), load_audio(path, RATE))


def test_a_wrong_suffix_and_any_name_do_no_harm(tmp_path):
    path = tmp_path / "Beyoncé - Ünïcödé 音楽 [live].mp3"
    path.write_bytes(wav_bytes(tone(5, seconds=0.2)))
    assert len(load_audio(path, RATE)) == 3200


def test_quiet_music_is_not_silent():
    loaded = load_audio(wav_bytes(tone(6, seconds=0.2) * 1e-3, subtype="FLOAT"), RATE)
    assert 1e-4 < np.abs(loaded).max() < 1e-3


def test_one_sample_is_audio():
    assert load_audio(wav_bytes(np.array([0.5]), subtype="FLOAT"), RATE).tolist() == [0.5]


@pytest.mark.parametrize(
    ("waveform", "reason"),
    [
        (np.zeros(RATE), "silent (the mean of its channels stays below -80 dB)"),
        (np.full(RATE, 5e-5), "silent (the mean of its channels stays below -80 dB)"),
        (np.zeros(0), "no samples"),
        (np.array([0.1, np.nan, 0.1]), "NaN or infinite samples"),
        (np.array([0.1, -np.inf, 0.1]), "NaN or infinite samples"),
    ],
)
def test_what_cannot_be_used_has_a_short_reason_and_a_name(waveform, reason):
    with pytest.raises(AudioError) as error:
        load_audio(wav_bytes(waveform, subtype="FLOAT"), RATE, name="blues/a.wav")
    assert error.value.reason == reason
    assert error.value.name == "blues/a.wav"
    assert str(error.value) == f"blues/a.wav: {reason}"


@pytest.mark.parametrize(
    "content",
    [b"no music at all" * 50, b"RIFF\x24\0\0\0WAVEfmt ", b"ID3\x04" + bytes(200), b"fLaC" + bytes(100), b"\0" * 4096],
    ids=["text", "cut header", "empty mp3", "broken flac", "zeros"],
)
@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".flac"])
def test_what_is_no_audio_is_refused_with_the_reason_of_the_decoder(tmp_path, content, suffix):
    (tmp_path / f"broken{suffix}").write_bytes(content)
    with pytest.raises(AudioError) as error:
        load_audio(tmp_path / f"broken{suffix}", RATE)
    assert error.value.reason.startswith(("cannot be decoded (", "no samples", "silent"))
    assert "\n" not in str(error.value)
    with pytest.raises(AudioError, match="<bytes>"):
        load_audio(content, RATE)


@pytest.mark.parametrize("suffix", FOREIGN_AUDIO_SUFFIXES)
def test_audio_of_other_formats_gets_the_command_that_converts_it(tmp_path, suffix):
    path = tmp_path / f"my song{suffix.upper()}"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(200))
    with pytest.raises(AudioError) as error:
        load_audio(path, RATE)
    assert error.value.reason.endswith(f"ffmpeg -i 'my song{suffix.upper()}' 'my song.flac'")
    with pytest.raises(AudioError) as error:
        load_audio(path.rename(tmp_path / "song.wav"), RATE)
    assert "ffmpeg" not in error.value.reason


def test_an_empty_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    for source, reason in (
        (tmp_path / "empty.wav", "empty file (0 bytes)"),
        (b"", "empty file (0 bytes)"),
        (tmp_path / "gone.wav", "no such file"),
        (tmp_path / ("long" * 1000 + ".wav"), "no such file (File name too long)"),
        (tmp_path, "not a file"),
    ):
        with pytest.raises(AudioError) as error:
            load_audio(source, RATE)
        assert error.value.reason == reason


def test_a_file_cut_off_in_the_middle_is_refused_or_gives_what_there_is():
    whole = wav_bytes(tone(7, seconds=1))
    assert len(load_audio(whole[: len(whole) // 2], RATE)) == pytest.approx(RATE / 2, rel=0.01)
    compressed = wav_bytes(tone(7, seconds=1), format="FLAC")
    try:
        loaded = load_audio(compressed[: len(compressed) // 2], RATE)
    except AudioError as error:
        assert error.reason.startswith("cannot be decoded")
    else:
        assert correlation(loaded[:4000], tone(7, seconds=1)[:4000]) > 0.99


def test_a_file_too_short_to_resample_is_refused():
    with pytest.raises(AudioError, match=r"too short|no samples"):
        load_audio(wav_bytes(np.array([0.5]), 192000, subtype="FLOAT"), 8000)


def test_a_header_that_claims_more_than_the_file_holds_is_not_believed():
    content = bytearray(wav_bytes(tone(8, seconds=0.5)))
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", 2**31 - 2)
    assert len(load_audio(bytes(content), RATE)) == RATE // 2


def test_what_is_only_named_au_is_no_sound(tmp_path):
    path = tmp_path / "damaged.au"
    path.write_bytes(np.random.default_rng(0).bytes(20000))
    with pytest.raises(AudioError, match="cannot be decoded"):
        load_audio(path, 16000)


def test_a_wave_is_one_whatever_its_name_says(tmp_path):
    waveform = tone(0, seconds=0.5)
    for suffix in (".raw", ".au", ".mp3", ""):
        path = tmp_path / f"wave{suffix}"
        soundfile.write(path, waveform, RATE, format="WAV", subtype="FLOAT")
        np.testing.assert_allclose(load_audio(path, RATE), waveform, atol=HALF_STEP)
