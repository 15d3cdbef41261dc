"""Random draws that depend only on a key.

The crop, augmentation and noise of an example are drawn from (seed, epoch, example id), never from a global state.
Therefore runs repeat and resume exactly, whatever the number of workers and processes.
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


def example_generator(*key: int | str) -> np.random.Generator:
    """Return the generator for a key such as `(seed, epoch, track_id, "crop")`.

    Equal keys give equal streams on every machine; different keys give independent streams.
    """
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


@contextmanager
def seeded_globals(generator: np.random.Generator) -> Iterator[None]:
    """Seed the global `random` and `numpy.random` from `generator`, and restore both afterwards.

    For libraries that draw from the global state, such as audiomentations.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(int(generator.integers(2**63)))
    np.random.seed(int(generator.integers(2**32)))
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
