"""The positions of windows in a track, and the padding of short tracks; lengths are in frames or samples."""

import math

import numpy as np


# A remainder below this share of a window gets no window of its own. "30 s" clips last 29.9 to 30.1 s; without this, nearly
# every clip would get an extra window that differs from another by milliseconds.
NEGLIGIBLE_SHARE = 0.01


def window_starts(
    length: int,
    window_length: int,
    *,
    policy: str,
    max_windows: int | None = None,
    overlap: float = 0.0,
    generator: np.random.Generator | None = None,
) -> np.ndarray:
    """Return the start of each window of a track in ascending order, int64 [windows].

    A track no longer than a window has one window, at 0. A remainder below `NEGLIGIBLE_SHARE` of a window is left in small
    gaps between the windows.

    Args:
        length: Length of the track.
        window_length: Length of a window.
        policy: `even`: the fewest windows that cover the track, evenly spaced from its start to its end. If that takes more
            than `max_windows`, it is `max_windows` windows with gaps. `all`: a window at every hop of
            `window_length * (1 - overlap)`, and one at the end of the track if a part remains; `max_windows` does not
            apply. `random`: `max_windows` windows at random positions (the AST report took 20). `first`: one window, at
            the start.
        max_windows: See `policy`; None means no limit for `even`. `random` needs it.
        overlap: Overlap of neighbouring windows for `all`, as a share in [0, 1).
        generator: Draws the positions for `random`, which needs it.
    """
    if length <= window_length or policy == "first":
        return np.zeros(1, dtype=np.int64)
    last = length - window_length
    if policy == "random":
        return np.sort(generator.integers(0, last + 1, size=max_windows))
    if policy == "even":
        count = math.ceil(length / window_length)
        if 0 < length % window_length < NEGLIGIBLE_SHARE * window_length:
            count -= 1
        if max_windows is not None:
            count = min(count, max_windows)
    else:
        # Do not round the hop: the errors would add up, and a track that divides evenly would get an extra window.
        hop = max(1.0, window_length * (1 - overlap))
        count = 1 + math.floor(last / hop + 1e-9)
        if last - (count - 1) * hop >= NEGLIGIBLE_SHARE * window_length:
            return np.append((np.arange(count) * hop).round().astype(np.int64), last)
    if count == 1:  # take the middle: an opening is the least typical part of a track
        return np.array([last // 2], dtype=np.int64)
    return np.linspace(0, last, count).round().astype(np.int64)


def start_at(position: float, length: int, window_length: int) -> int:
    """Map `position` in [0, 1) to the start of a window; uniform positions give uniform starts."""
    return int(position * (max(0, length - window_length) + 1))


def fill(values: np.ndarray, length: int, *, loop: bool, padding: float) -> np.ndarray:
    """Extend `values` [rows, ...] to at least `length` rows: repeat them if `loop`, else append rows of `padding`."""
    missing = length - len(values)
    if missing <= 0:
        return values
    if loop:
        return np.resize(values, (length, *values.shape[1:]))
    return np.pad(values, ((0, missing), *((0, 0),) * (values.ndim - 1)), constant_values=padding)
