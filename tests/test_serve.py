"""The service example: it answers as the classifier does, and stays up after what is no audio."""

import importlib.util
import json
import threading
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import pytest
from stand_ins import audio_bytes

from hfmgc import TrackClassifier
from recipes import run_here


SCRIPT = Path(__file__).parent.parent / "recipes" / "serve.py"


@pytest.fixture
def service(tiny_checkpoint):
    """The checkpoint and the address of its service."""
    spec = importlib.util.spec_from_file_location("serve", SCRIPT)
    serve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(serve)
    checkpoint = str(tiny_checkpoint())
    server = serve.make_server(checkpoint, port=0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield checkpoint, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_answers_as_the_classifier_and_survives_what_is_no_audio(service, tmp_path):
    checkpoint, address = service
    song = audio_bytes(0, seconds=1.5, form="FLAC")
    (tmp_path / "song.flac").write_bytes(song)
    for body in (b"no audio", b""):
        with pytest.raises(HTTPError) as refused:
            urllib.request.urlopen(address, data=body, timeout=60)
        assert refused.value.code == 400
        assert json.load(refused.value)["error"].startswith("<bytes>: ")
    for size in ("many", "-5", str(2**40)):
        with pytest.raises(HTTPError) as refused:
            request = urllib.request.Request(address, data=b"", headers={"Content-Length": size})
            urllib.request.urlopen(request, timeout=60)
        assert "Content-Length" in json.load(refused.value)["error"]
    with urllib.request.urlopen(address, data=song, timeout=60) as answer:
        assert json.load(answer) == TrackClassifier(checkpoint).classify_file(tmp_path / "song.flac")


@pytest.mark.parametrize("arguments", [["missing/run"], ["missing/run", "99999"]])
def test_a_server_that_cannot_start_says_why_in_one_line(arguments):
    failed = run_here(SCRIPT, *arguments)
    assert failed.returncode == 1
    assert "missing/run" in failed.stderr.splitlines()[-1]
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize("arguments", [[], ["--help"], ["run", "no port"]])
def test_the_usage_is_shown_without_a_checkpoint_or_with_a_wrong_port(arguments):
    assert "serve.py CHECKPOINT" in run_here(SCRIPT, *arguments).stderr
