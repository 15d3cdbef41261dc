"""Ctrl-C and SIGTERM: one line, 130 or 143, and no word of the workers."""

import signal
import subprocess
import sys

import datasets
import pytest
from conftest import write_music
from forked import run_forked
from fresh import run_fresh

from hfmgc.data.caching import cached_map
from hfmgc.data.corpus import decode_track
from hfmgc.stopping import Terminated, catch_signals, exit_code, release_signals
from recipes import FINETUNE_AST, SEARCH, TRAIN_CLASSIFIER, tiny_settings, write_config


# Both send the signal from within the command, so that it comes at the same place however fast the machine is.
WHILE_DECODING = """
import os, signal, sys, time
from hfmgc.data import check, corpus

def stopped(*arguments, **options):
    os.killpg(os.getpgrp(), signal.SIGINT)  # as a terminal does: to the workers too
    time.sleep(60)

check.decode_audio = corpus.decode_audio = stopped
from hfmgc.cli import main
sys.exit(main(sys.argv[1:]))
"""
WHILE_IMPORTING = """
import os, runpy, sys
_, module, number, script = sys.argv

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), int(number))

sys.meta_path.insert(0, Stop())
sys.path.insert(0, os.path.dirname(script))
sys.argv = [script]
runpy.run_path(script, run_name="__main__")
"""


def run(code: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run code in a process group of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )


@pytest.mark.launches
@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_with_workers_is_one_line(tmp_path, processes):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=3, seconds=0.3)
    result = run_fresh(WHILE_DECODING, "check", music, "--num_proc", processes)
    assert result.returncode == 130, result.stderr
    assert result.stderr.strip().splitlines()[-1] == "interrupted"
    assert "Traceback" not in result.stderr
    assert "ForkPoolWorker" not in result.stderr


@pytest.mark.launches
@pytest.mark.parametrize(
    ("script", "module", "number"),
    [
        (TRAIN_CLASSIFIER, "torch", signal.SIGINT),
        (FINETUNE_AST, "transformers", signal.SIGTERM),
        (SEARCH, "torch", signal.SIGINT),
    ],
)
def test_a_recipe_stopped_during_its_imports_is_one_line(script, module, number):
    result = run(WHILE_IMPORTING, module, int(number), script)
    assert result.returncode == 128 + number, result.stderr
    assert result.stderr == "interrupted\n"


@pytest.mark.launches
def test_sigterm_ends_a_run_as_ctrl_c_does(tmp_path):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=4, seconds=0.5)
    config = write_config(tmp_path / "run.yaml", tiny_settings(music, tmp_path / "out"))
    ends = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        script = tmp_path / f"{number.name}.py"
        script.write_text(
            "import os, runpy, sys\nfrom transformers import Trainer\n"
            f"Trainer.training_step = lambda *arguments, **options: os.kill(os.getpid(), {int(number)})\n"
            f"sys.path[0] = {str(FINETUNE_AST.parent)!r}\n"
            f"runpy.run_path({str(FINETUNE_AST)!r}, run_name='__main__')\n"
        )
        result = run_forked(script, config, "--output_dir", tmp_path / number.name)
        assert "Traceback" not in result.stderr
        ends[number] = (result.returncode, result.stderr.strip().splitlines()[-1])
    line = "stopped; --resume_from_checkpoint last resumes"
    assert ends == {signal.SIGINT: (130, line), signal.SIGTERM: (143, line)}


def test_the_handlers_of_the_program_around_it_are_restored():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    catch_signals(importing=True)
    catch_signals()
    with pytest.raises(Terminated) as stopped:
        signal.raise_signal(signal.SIGTERM)
    assert exit_code(stopped.value) == 143
    with pytest.raises(KeyboardInterrupt) as stopped:
        signal.raise_signal(signal.SIGINT)
    assert exit_code(stopped.value) == 130
    release_signals()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_timeout_of_workers_after_ctrl_c_does_not_hide_the_interruption(monkeypatch):
    """As `datasets` ends a map with several processes: it waits for its workers before it raises."""

    def interrupted_map(*arguments, **options):
        try:
            raise KeyboardInterrupt
        finally:
            raise TimeoutError

    monkeypatch.setattr(datasets.Dataset, "map", interrupted_map)
    with pytest.raises(KeyboardInterrupt):
        cached_map(datasets.Dataset.from_dict({"audio": ["a"]}), decode_track, ("decoding",))
