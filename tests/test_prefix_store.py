"""The store of frozen layers' output: filled once, resumed after an interruption, shared, limited in size."""

import os
import pickle
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from forked import CONTEXT

from hfmgc.errors import ConfigError, HfmgcError
from hfmgc.training.prefix_store import WINDOWS, PrefixStore, check_space


SHAPE = (11, 5, 8)
WINDOW_BYTES = 5 * 8 * 4


class Layers:
    """Stands for the frozen layers: known states, and which windows were asked for."""

    def __init__(self):
        self.states = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
        self.asked: list[list[int]] = []

    def __call__(self, windows):
        self.asked.append(list(windows))
        return self.states[list(windows)]


def opened(place, layers, name="ours", dtype="float32", gigabytes=1.0, batch_size=4):
    store = PrefixStore(place / name, SHAPE, dtype)
    check_space([store], gigabytes)
    store.fill(layers, batch_size=batch_size, name="train", progress=False)
    return store


def assert_whole(store, layers):
    np.testing.assert_array_equal(store[:], layers.states.numpy())


def test_states_come_back_as_they_were_written_and_are_computed_once(tmp_path):
    layers = Layers()
    store = opened(tmp_path, layers)
    assert layers.asked == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert_whole(store, layers)
    assert store[3].shape == (5, 8) and store[3].dtype == np.float32
    assert store[2:4].shape == (2, 5, 8)
    reopened = opened(tmp_path, layers)
    assert len(layers.asked) == 3
    assert_whole(reopened, layers)


def test_bfloat16_halves_the_size_and_rounds(tmp_path):
    layers = Layers()
    store = opened(tmp_path, layers, dtype="bfloat16")
    assert (store.folder / WINDOWS).stat().st_size == store.nbytes == 11 * WINDOW_BYTES // 2
    expected = layers.states.to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(store[:], expected)
    assert not np.array_equal(expected, layers.states.numpy())


def test_a_store_reads_in_another_process(tmp_path):
    layers = Layers()
    store = opened(tmp_path, layers)
    store[0]
    assert_whole(pickle.loads(pickle.dumps(store)), layers)


def test_size_is_announced_before_it_is_filled(tmp_path, capsys):
    def layers(windows):
        assert "frozen layers, train: 11 windows take 1.8 kB (float32)" in capsys.readouterr().out
        return torch.zeros(len(windows), 5, 8)

    opened(tmp_path, layers, batch_size=11)


@pytest.mark.parametrize(
    ("size", "recomputed"),
    [
        (0, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]),
        (WINDOW_BYTES * 4 - 1, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]),
        (WINDOW_BYTES * 4, [[4, 5, 6, 7], [8, 9, 10]]),
        (WINDOW_BYTES * 5 + 3, [[4, 5, 6, 7], [8, 9, 10]]),
        (WINDOW_BYTES * 11 - 1, [[8, 9, 10]]),
        (WINDOW_BYTES * 11, []),
    ],
)
def test_a_store_that_is_cut_off_is_completed_in_whole_batches(tmp_path, size, recomputed):
    layers = Layers()
    folder = opened(tmp_path, layers).folder
    layers.asked.clear()
    os.truncate(folder / WINDOWS, size)
    store = PrefixStore(folder, SHAPE, "float32")
    assert store.is_complete() == (not recomputed)
    if recomputed:
        with pytest.raises(ValueError, match="mmap"):
            store[0]
    assert_whole(opened(tmp_path, layers), layers)
    assert layers.asked == recomputed
    layers.asked.clear()
    assert_whole(opened(tmp_path, layers), layers)
    assert layers.asked == []


def test_a_filling_that_fails_resumes(tmp_path):
    layers = Layers()

    def fail(windows):
        if windows[0] == 8:
            raise RuntimeError("interrupted")
        return layers(windows)

    with pytest.raises(RuntimeError):
        opened(tmp_path, fail)
    assert_whole(opened(tmp_path, layers), layers)
    assert layers.asked == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]


def test_bound_and_free_disk_are_refused_with_their_fields_before_anything_is_computed(tmp_path, monkeypatch):
    layers = Layers()
    with pytest.raises(ConfigError, match=r"^prefix_store_gigabytes 1e-06: .*11 windows takes 1\.8 kB"):
        opened(tmp_path, layers, gigabytes=1e-6)
    opened(tmp_path, layers, gigabytes=2e-6)
    with pytest.raises(ConfigError, match=r"^prefix_store_gigabytes .*other stores in .* take 1\.8 kB"):
        opened(tmp_path, layers, name="other", gigabytes=2e-6)
    usage = type(shutil.disk_usage(tmp_path))(total=10, used=9, free=1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ConfigError, match=r"^prefix_store .*: .* left"):
        opened(tmp_path, layers, name="other")
    assert len(layers.asked) == 3


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HfmgcError, match=r"file.*prefix_store"):
        opened(tmp_path / "file", Layers())


def test_states_that_are_no_numbers_are_refused(tmp_path):
    with pytest.raises(HfmgcError, match="windows 0 to 3"):
        opened(tmp_path, lambda windows: torch.full((len(windows), 5, 8), torch.nan))


def _fill_slowly(place, log):
    layers = Layers()

    def slow(windows):
        with log.open("a") as file:
            file.write(f"{next(iter(windows))}\n")
        time.sleep(0.3)
        return layers(windows)

    assert_whole(opened(place, slow), layers)


def started(*arguments):
    process = CONTEXT.Process(target=_fill_slowly, args=arguments)
    process.start()
    return process


def test_of_two_processes_one_fills_and_the_other_waits(tmp_path):
    processes = [started(tmp_path / "stores", tmp_path / "log") for _ in range(2)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "log").read_text().split() == ["0", "4", "8"]


def test_filling_that_was_killed_goes_on_where_it_was(tmp_path):
    process = started(tmp_path / "stores", tmp_path / "log")
    while not (tmp_path / "log").is_file() or len((tmp_path / "log").read_text().split()) < 2:
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    layers = Layers()
    assert_whole(opened(tmp_path / "stores", layers), layers)
    assert layers.asked == [[4, 5, 6, 7], [8, 9, 10]]
