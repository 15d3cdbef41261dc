"""`pipeline("music-genre-classification")` answers as the plain pipeline on the decoded waveform, whatever it is given."""

import functools
import io
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import tone
from test_registry import silently
from transformers import AudioClassificationPipeline, pipeline

from hfmgc.data.audio import load_audio
from hfmgc.errors import AudioError
from hfmgc.inference.predict import TrackClassifier


TASK = "music-genre-classification"


@pytest.fixture(scope="module")
def song(tmp_path_factory) -> Path:
    """3.1 s in stereo at 44.1 kHz, as FLAC."""
    path = tmp_path_factory.mktemp("songs") / "a song.flac"
    left, right = (tone(seed, seconds=3.1, sampling_rate=44100, frequency=300) for seed in (0, 1))
    soundfile.write(path, np.stack([left, right], axis=1), 44100)
    return path


@pytest.fixture
def checkpoint(tiny_checkpoint) -> str:
    return str(tiny_checkpoint())


@pytest.fixture
def server(song):
    """A server of the song's folder on this machine; the address."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(song.parent)))
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    thread.join()
    served.server_close()


def scores(answers: list[dict]) -> dict[str, float]:
    return {answer["label"]: answer["score"] for answer in answers}


def test_every_kind_of_input_has_the_answer_of_the_plain_pipeline_without_ffmpeg(
    checkpoint, song, server, monkeypatch
):
    monkeypatch.setenv("PATH", "")
    classifier = pipeline(TASK, model=checkpoint)
    waveform = load_audio(song, classifier.feature_extractor.sampling_rate)
    expected = pipeline("audio-classification", model=checkpoint)(waveform, top_k=None)
    stereo, rate = soundfile.read(song, dtype="float32")
    inputs = {
        "path": str(song),
        "path object": song,
        "bytes": song.read_bytes(),
        "memory": memoryview(song.read_bytes()),
        "http": f"{server}/a%20song.flac",
        "file": song.as_uri(),
        "waveform": waveform,
        "array": {"array": stereo.mean(axis=1), "sampling_rate": rate, "path": None},
        "raw": {"raw": waveform, "sampling_rate": 16000},
        "integers": {"array": np.round(waveform * 2**15).astype(np.int16), "sampling_rate": 16000},
        "waveform of integers": np.round(waveform * 2**31).astype(np.int32),
        "undecoded path": {"path": str(song), "bytes": None},
        "undecoded bytes": {"path": "a song.flac", "bytes": song.read_bytes()},
    }
    for kind, given in inputs.items():
        # Files are rounded to 16 bits; arrays are not.
        tolerance = 1e-4 if kind == "array" else 1e-6
        assert scores(classifier(given, top_k=None)) == pytest.approx(scores(expected), abs=tolerance), kind
    assert TrackClassifier(checkpoint).classify_file(song) == classifier(str(song), top_k=None)
    assert TrackClassifier(checkpoint).classify(waveform) == expected


def test_a_batch_has_the_answers_of_each_alone(checkpoint, song):
    classifier = pipeline(TASK, model=checkpoint)
    tracks = [str(song), {"array": tone(5, seconds=0.4, sampling_rate=8000), "sampling_rate": 8000}, song.read_bytes()]
    together = classifier(tracks, top_k=None, batch_size=2)
    for answers, track in zip(together, tracks, strict=True):
        assert scores(answers) == pytest.approx(scores(classifier(track, top_k=None)), abs=1e-5)
    assert [len(answers) for answers in classifier(tracks, top_k=1)] == [1, 1, 1]


def test_what_cannot_be_used_is_named(checkpoint, song, server, tmp_path):
    classifier = pipeline(TASK, model=checkpoint)
    (tmp_path / "broken.mp3").write_bytes(b"no audio")
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(16000), 16000, format="WAV")
    for given, name in (
        (str(tmp_path / "broken.mp3"), "broken.mp3"),
        (f"{server}/missing.flac", "missing.flac"),
        ("http://127.0.0.1:1/song.flac", "127.0.0.1:1"),
        (buffer.getvalue(), "silent"),
        ({"path": "deleted.wav", "bytes": None}, "deleted.wav"),
        ({"array": np.ones(16000)}, "sampling_rate"),
        ({"array": np.ones(16000), "sampling_rate": 0}, "sampling_rate"),
        ({"array": np.ones(16000), "sampling_rate": "16 kHz"}, "sampling_rate"),
        ({"array": np.ones((2, 16000)), "sampling_rate": 16000}, "channel"),
        (np.ones(16000, dtype=np.int64), "int64"),
    ):
        with pytest.raises(AudioError, match=name):
            classifier(given)
    with pytest.raises(AudioError, match="too short"):
        classifier(str(song), shortest_seconds=10)


def test_a_saved_pipeline_is_a_plain_checkpoint_without_code_of_the_pipeline(checkpoint, song, tmp_path):
    classifier = pipeline(TASK, model=checkpoint)
    classifier.save_pretrained(tmp_path / "saved")
    assert "custom_pipelines" not in json.loads((tmp_path / "saved" / "config.json").read_text())
    assert not (tmp_path / "saved" / "pipeline.py").exists()
    assert pipeline(TASK, model=str(tmp_path / "saved"))(str(song)) == classifier(str(song))


def test_the_plain_task_keeps_its_class(checkpoint):
    assert type(pipeline("audio-classification", model=checkpoint)) is AudioClassificationPipeline


def test_the_task_is_known_where_its_module_comes_first_and_brings_no_other_libraries(checkpoint, song):
    # tests/test_registry.py has the other orders of imports
    silently(
        """
import sys
import hfmgc.inference.pipeline
from transformers import pipeline
assert pipeline("music-genre-classification", model=sys.argv[1])(sys.argv[2])[0]["label"] in ("blues", "metal", "pop")
loaded = {"datasets", "sklearn", "matplotlib", "torchaudio", "torchcodec"} & set(sys.modules)
assert not loaded, loaded
""",
        checkpoint,
        song,
    )
