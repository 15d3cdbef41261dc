"""Files are written whole or not at all, and a lock keeps other processes out for as long as its holder lives."""

import subprocess
import sys

import pytest

from hfmgc.errors import ConfigError, SaveError
from hfmgc.files import atomic_write, file_lock, write_text


def test_a_file_is_replaced_only_when_it_is_whole(tmp_path):
    path = tmp_path / "some.json"
    write_text(path, "Größe")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as temporary:
        temporary.write_text("half")
        assert temporary != path and path.read_text(encoding="utf-8") == "Größe"
        raise KeyboardInterrupt
    assert path.read_text(encoding="utf-8") == "Größe" and list(tmp_path.iterdir()) == [path]
    with atomic_write(path) as temporary:
        temporary.write_text("other")
    assert path.read_text() == "other" and list(tmp_path.iterdir()) == [path]


HOLD = """
import sys; from pathlib import Path; from hfmgc.files import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_keeps_others_out_until_its_process_is_killed(tmp_path):
    lock = tmp_path / "new" / ".lock"
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="in use"), file_lock(lock, in_use="in use"):
            pass
        process.kill()
    with file_lock(lock, in_use="in use"):
        pass


def test_a_lock_that_cannot_be_written_names_its_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="file"), file_lock(tmp_path / "file" / ".lock"):
        pass
