"""Where the windows of a track lie."""

import math

import numpy as np


WINDOW_POLICIES = ("even", "all", "random")
# What is left over is worth a window of its own from this share of a window on. "30 s" clips have 29.9 to 30.1 s: without
# it, nearly every one would get one more window that differs from another by milliseconds.
NEGLIGIBLE = 0.01


def window_starts(
    num_samples: int,
    window_samples: int,
    *,
    policy: str,
    max_windows: int | None = None,
    overlap: float = 0.0,
    generator: np.random.Generator | None = None,
) -> np.ndarray:
    """Return the first sample of each window of a track, in order of time, int64 [windows].

    A track that is not longer than a window has one window, at 0. Windows are spread a little wider, and so may leave
    less than `NEGLIGIBLE` of a window unheard between them, where the alternative is one more window for that much.

    Args:
        num_samples: Length of the track in samples.
        window_samples: Length of a window in samples.
        policy: `even`: as few windows as cover the whole track, evenly spaced from its first sample to its last; where
            that would be more than `max_windows`, that many with gaps between them. `all`: every window at a hop of
            `window_samples * (1 - overlap)`, and one more that ends with the track if something is left; `max_windows`
            does not apply. `random`: `max_windows` windows at random places (the AST report took 20).
        max_windows: See `policy`; None for no limit (`even`), and required for `random`.
        overlap: Overlap of neighbours under `all`, a share in [0, 1).
        generator: Source of the random places.
    """
    if num_samples <= window_samples:
        return np.zeros(1, dtype=np.int64)
    last = num_samples - window_samples
    if policy == "even":
        count = math.ceil(num_samples / window_samples)
        if 0 < num_samples % window_samples < NEGLIGIBLE * window_samples:
            count -= 1
        if max_windows is not None:
            count = min(count, max_windows)
        if count == 1:  # a single window hears the middle: openings are the least typical part of a track
            return np.array([last // 2], dtype=np.int64)
        return np.linspace(0, last, count).round().astype(np.int64)
    if policy == "all":
        # A fraction of a sample: rounded hops would add up, and a track that divides evenly would get one window more.
        hop = max(1.0, window_samples * (1 - overlap))
        count = 1 + math.floor(last / hop + 1e-9)
        if last - (count - 1) * hop >= NEGLIGIBLE * window_samples:
            return np.append((np.arange(count) * hop).round().astype(np.int64), last)
        if count == 1:
            return np.array([last // 2], dtype=np.int64)
        return np.linspace(0, last, count).round().astype(np.int64)
    if generator is None or max_windows is None:
        raise ValueError("random windows need max_windows and a generator")
    return np.sort(generator.integers(0, last + 1, size=max_windows))
