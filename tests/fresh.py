"""Code in new processes that have torch imported, and neither hfmgc nor a library of Hugging Face.

    python fresh.py

For each line of JSON on standard input it runs code in a fork of this process, and answers with its exit code, or at once.
"""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import TextIO


def run_fresh(code: str, *arguments: object, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """Run code as `python -c` does: variables of the environment count for all libraries but torch."""
    with tempfile.TemporaryDirectory(prefix="hfmgc-fresh-") as folder:
        out, err = (Path(folder) / name for name in ("stdout", "stderr"))
        argv = ["-c", *map(str, arguments)]
        streams = [os.devnull, str(out), str(err)]
        code = _ask(code, argv, str(Path.cwd()), {**os.environ, **(environment or {})}, streams, True)
        return subprocess.CompletedProcess(argv, code, out.read_text(), err.read_text())


def start_fresh(code: str, *arguments: object, folder: Path) -> tuple[TextIO, TextIO]:
    """Start code as `python -c` does, in a folder; return its standard input and output."""
    streams = [str(folder / name) for name in ("stdin", "stdout")]
    for stream in streams:
        os.mkfifo(stream)
    _ask(code, ["-c", *map(str, arguments)], str(folder), dict(os.environ), streams, False)
    return Path(streams[0]).open("w"), Path(streams[1]).open()  # in the order in which the process opens them


def _ask(*wish: object) -> int:
    server = _server()
    print(json.dumps(wish), file=server.stdin, flush=True)
    return int(server.stdout.readline())


@cache
def _server() -> subprocess.Popen:
    server = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.communicate)
    return server


def main() -> None:
    """Fork until nobody asks any more."""
    import torch._dynamo
    import torch.distributed.tensor  # noqa: F401 (transformers imports it)

    assert not {"transformers", "huggingface_hub", "datasets", "hfmgc"} & set(sys.modules)
    for line in sys.stdin:
        code, argv, folder, environment, streams, wait = json.loads(line)
        pid = os.fork()
        if pid == 0:
            for number, stream in enumerate(streams):
                os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY), number)
            os.setsid()  # signals to its process group reach nobody else
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(folder)
            sys.path[0] = ""
            sys.argv = argv
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
            return
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if wait else 0, flush=True)


if __name__ == "__main__":
    main()
