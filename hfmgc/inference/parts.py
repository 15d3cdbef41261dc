"""Writes results for many tracks in parts, so that the same command resumes after an interruption.

Finished parts are stored in `OUTPUT.parts` and joined to `OUTPUT` at the end. Their names contain a digest of
everything that the results depend on.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ConfigError, saving_to
from ..files import atomic_write


def write_in_parts(
    output: Path,
    digest: str,
    items: int,
    part_size: int,
    compute: Callable[[list[range]], Iterator[pa.Table]],
    join: Callable[[Path, list[pa.Table]], None],
    read_digest: Callable[[Path], str | None],
) -> None:
    """Write the results for `items` items to `output`, unless it holds them already.

    Args:
        output: File to write.
        digest: Digest of everything that the results depend on.
        items: Number of items.
        part_size: Items per part.
        compute: Yields a table for each of the given ranges of items.
        join: Writes `output` from the tables of all parts.
        read_digest: Returns the digest in an existing `output`, or None.

    Raises:
        ConfigError: If `output` exists with another digest.
        SaveError: If a part or `output` cannot be written.
    """
    if output.exists() and read_digest(output) != digest:
        raise ConfigError(
            f"{output}: holds results for other files, settings or models: choose another file, or remove this one"
        )
    parts = output.with_name(f"{output.name}.parts")
    with saving_to(output.parent):
        if not output.exists():
            parts.mkdir(parents=True, exist_ok=True)
            ranges = [range(start, min(start + part_size, items)) for start in range(0, items, part_size)]
            files = {part: parts / f"{digest}-{part.start:08d}.parquet" for part in ranges}
            missing = [part for part in ranges if not files[part].exists()]
            for part, table in zip(missing, compute(missing), strict=True):
                write_table(files[part], table)
            join(output, [pq.read_table(file) for file in files.values()])
        if parts.is_dir():
            shutil.rmtree(parts)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table to a parquet file, atomically."""
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary)
