"""Results for many tracks in one file, written in parts so that the same command resumes after an interruption.

Finished parts are stored in `OUTPUT.parts` and joined to `OUTPUT` at the end. Each is named by a digest of everything that
its values depend on.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ConfigError, saving_to
from ..files import atomic_write


# In the metadata of a parquet file: the digest of everything that its values depend on.
DIGEST = b"hfmgc_digest"


def write_in_parts(
    output: Path,
    digest: str,
    items: int,
    part_size: int,
    compute: Callable[[list[range]], Iterator[pa.Table]],
    join: Callable[[list[Path]], None],
    finished_digest: Callable[[Path], str | None],
) -> None:
    """Write the results of `items` items to `output`, unless they are there.

    Args:
        output: File to write.
        digest: Of everything that the results depend on.
        items: Number of items.
        part_size: Items of a part.
        compute: Returns the table of each of the given ranges of items.
        join: Writes `output` from the files of all parts.
        finished_digest: Returns the digest of an existing output; another one is a ConfigError.

    Raises:
        ConfigError: If `output` exists with other content.
        SaveError: If a part or `output` cannot be written.
    """
    if output.exists() and finished_digest(output) != digest:
        raise ConfigError(
            f"{output} holds other results (of other files, settings or models): choose another file, or remove it"
        )
    parts = output.with_name(f"{output.name}.parts")
    with saving_to(output.parent):
        if not output.exists():
            parts.mkdir(parents=True, exist_ok=True)
            ranges = [range(start, min(start + part_size, items)) for start in range(0, items, part_size)]
            files = {items_: parts / f"{digest}-{items_.start:08d}.parquet" for items_ in ranges}
            missing = [items_ for items_ in ranges if not files[items_].exists()]
            for items_, table in zip(missing, compute(missing), strict=True):
                write_table(files[items_], [table], table.schema)
            join(list(files.values()))
        if parts.is_dir():
            shutil.rmtree(parts)


def write_table(path: Path, tables: Sequence[pa.Table], schema: pa.Schema) -> None:
    """Write tables to one parquet file, atomically."""
    with atomic_write(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for table in tables:
            writer.write_table(table.replace_schema_metadata(schema.metadata))


def parquet_digest(path: Path) -> str | None:
    """Return the digest in a parquet file's metadata; None if it has none or cannot be read."""
    try:
        return (pq.read_schema(path).metadata or {}).get(DIGEST, b"").decode()
    except (OSError, pa.ArrowException):
        return None
