"""Scripts in processes that start with the libraries imported: importing them takes longer than most runs of the tests."""

import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path
from unittest import mock


# The server imports what runs need, and each process is a fork of it.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["preloaded"])


class Forked:
    """A running script, with the members of `subprocess.Popen` that the tests use."""

    def __init__(self, script: Path, *arguments: str | Path, environment: dict[str, str] | None = None):
        self._folder = tempfile.TemporaryDirectory(prefix="hfmgc-forked-")
        self._outputs = [Path(self._folder.name) / name for name in ("stdout", "stderr")]
        self.args = [str(script), *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        self.process = CONTEXT.Process(target=_run, args=(self.args, environment, str(Path.cwd()), self._outputs))
        with mock.patch.dict(os.environ, PYTHONPATH=str(Path(__file__).parent)):  # where the server finds `preloaded`
            self.process.start()
        self.pid = self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.process.kill()

    def communicate(self) -> tuple[str, str]:
        """Wait for its end and return standard output and standard error."""
        self.process.join()
        out, err = (path.read_text(errors="replace") for path in self._outputs)
        return out, err

    def completed(self) -> subprocess.CompletedProcess:
        """Wait for its end and return what `subprocess.run` would."""
        out, err = self.communicate()
        return subprocess.CompletedProcess(self.args, self.returncode, out, err)


def run_forked(script: Path, *arguments: str | Path) -> subprocess.CompletedProcess:
    """Run a script to its end."""
    return Forked(script, *arguments).completed()


def distribute(
    processes: int, script: Path, *arguments: str | Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    """Run a script on several processes of this machine's CPU, as torchrun does: when one fails, the others are ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        **(environment or {}),
    }
    ranks = [
        Forked(script, *arguments, environment={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(processes)
    ]
    running = {rank.process.sentinel: rank for rank in ranks}
    while running:
        for sentinel in wait(list(running)):
            ended = running.pop(sentinel)
            ended.process.join()
            if ended.returncode:
                for rank in running.values():
                    rank.kill()
    outputs = [rank.communicate() for rank in ranks]
    code = max((rank.returncode for rank in ranks), key=abs)
    return subprocess.CompletedProcess(ranks[0].args, code, *map("".join, zip(*outputs, strict=True)))


def _run(arguments: Sequence[str], environment: dict[str, str], folder: str, outputs: Sequence[Path]) -> None:
    """Run a script in this process as `python SCRIPT` does."""
    for stream, path in zip((sys.stdout, sys.stderr), outputs, strict=True):
        with path.open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    multiprocessing.set_start_method("fork", force=True)  # the usual one; this process was given the server's
    multiprocessing.process._parent_process = None  # or `catch_signals` takes this for a worker
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv[:] = arguments
    sys.path.insert(0, str(Path(arguments[0]).parent))
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
