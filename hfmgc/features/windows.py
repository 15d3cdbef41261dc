"""How time is cut: where the windows of a track lie, and what fills a track that is shorter than one.

All positions are counted in the same unit, frames or samples.
"""

import math

import numpy as np


WINDOW_POLICIES = ("even", "all", "random")
# What is left over is worth a window of its own from this share of a window on. "30 s" clips have 29.9 to 30.1 s: without
# it, nearly every one would get one more window that differs from another by milliseconds.
NEGLIGIBLE = 0.01


def window_starts(
    length: int,
    window_length: int,
    *,
    policy: str,
    max_windows: int | None = None,
    overlap: float = 0.0,
    generator: np.random.Generator | None = None,
) -> np.ndarray:
    """Return where each window of a track starts, in order of time, int64 [windows].

    A track that is not longer than a window has one window, at 0. Windows are spread a little wider, and so may leave
    less than `NEGLIGIBLE` of a window unheard between them, where the alternative is one more window for that much.

    Args:
        length: Of the track.
        window_length: Of a window.
        policy: `even`: as few windows as cover the whole track, evenly spaced from its start to its end; where
            that would be more than `max_windows`, that many with gaps between them. `all`: every window at a hop of
            `window_length * (1 - overlap)`, and one more that ends with the track if something is left; `max_windows`
            does not apply. `random`: `max_windows` windows at random places (the AST report took 20).
        max_windows: See `policy`; None for no limit (`even`), and required for `random`.
        overlap: Overlap of neighbours under `all`, a share in [0, 1).
        generator: Source of the random places.
    """
    if length <= window_length:
        return np.zeros(1, dtype=np.int64)
    last = length - window_length
    if policy == "even":
        count = math.ceil(length / window_length)
        if 0 < length % window_length < NEGLIGIBLE * window_length:
            count -= 1
        if max_windows is not None:
            count = min(count, max_windows)
        if count == 1:  # a single window hears the middle: openings are the least typical part of a track
            return np.array([last // 2], dtype=np.int64)
        return np.linspace(0, last, count).round().astype(np.int64)
    if policy == "all":
        # A fraction of a sample: rounded hops would add up, and a track that divides evenly would get one window more.
        hop = max(1.0, window_length * (1 - overlap))
        count = 1 + math.floor(last / hop + 1e-9)
        if last - (count - 1) * hop >= NEGLIGIBLE * window_length:
            return np.append((np.arange(count) * hop).round().astype(np.int64), last)
        if count == 1:
            return np.array([last // 2], dtype=np.int64)
        return np.linspace(0, last, count).round().astype(np.int64)
    if generator is None or max_windows is None:
        raise ValueError("random windows need max_windows and a generator")
    return np.sort(generator.integers(0, last + 1, size=max_windows))


def start_at(place: float, length: int, window_length: int) -> int:
    """Map `place` in [0, 1) to the start of a window; a uniform `place` gives a uniform start."""
    return int(place * (max(0, length - window_length) + 1))


def fill(values: np.ndarray, length: int, *, loop: bool, padding: float) -> np.ndarray:
    """Return `values` [rows, ...], time along the first axis, made at least `length` rows long.

    Args:
        values: What is filled.
        length: Rows of a window.
        loop: Whether what is shorter is repeated from its start, or followed by `padding`.
        padding: What follows it.
    """
    missing = length - len(values)
    if missing <= 0:
        return values
    if loop:
        return np.resize(values, (length, *values.shape[1:]))
    return np.pad(values, ((0, missing), *((0, 0),) * (values.ndim - 1)), constant_values=padding)
