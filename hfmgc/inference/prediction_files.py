"""Predictions in a file (CSV, JSON lines or parquet) that an interrupted `hfmgc predict` resumes."""

import csv
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedConfig

from ..data.caching import code_identity
from ..errors import ConfigError
from ..evaluation.checkpoints import network_digest, weights_digest
from ..files import atomic_write
from .parts import write_in_parts, write_table
from .songs import SongPredictor


SUFFIXES = (".csv", ".jsonl", ".parquet")
SONGS_PER_PART = 8
_SCORED = ("genres", "tags")
_SCORES = pa.list_(pa.struct({"label": pa.string(), "score": pa.float32()}))
_SCHEMA = pa.schema(
    {
        "file": pa.string(),
        "genre": pa.string(),
        "genres": _SCORES,
        "tags": _SCORES,
        "windows": pa.int32(),
        "agreeing": pa.int32(),
        "seconds": pa.float32(),
        "heard_seconds": pa.float32(),
        "note": pa.string(),
        "problem": pa.string(),
        "run": pa.string(),
    }
)


def write_predictions(predictor: SongPredictor, files: Sequence[str], output: Path) -> list[dict[str, Any]]:
    """Write the predictions for files to `output`, resuming an interrupted call; return its rows.

    The column `run` is a digest of the models, the settings and the files.

    Raises:
        ConfigError: If `output` has a suffix that is not in `SUFFIXES`, or exists with the predictions of another run.
        SaveError: If it cannot be written.
    """
    if output.suffix not in SUFFIXES:
        raise ConfigError(f"--output {output}: its name must end in {', '.join(SUFFIXES)}")
    described = [
        [[network_digest(model, predictor.extractor), *_answers(model.config)] for model in predictor.models],
        [
            predictor.shortest_seconds,
            predictor.top_k,
            SONGS_PER_PART,
            predictor.timeline and str(predictor.timeline.folder),
        ],
        code_identity("decoding", "features"),
        [(file, _size_and_time(file)) for file in files],
    ]
    digest = weights_digest(described)

    def compute(missing: list[range]) -> Iterator[pa.Table]:
        songs = predictor.predict([files[index] for part in missing for index in part])
        for part in missing:
            rows = [song.row | {"run": digest} for song in islice(songs, len(part))]
            yield pa.Table.from_pylist(rows, _SCHEMA)

    def join(parts: list[Path]) -> None:
        _write(output, [pq.read_table(part) for part in parts])

    write_in_parts(output, digest, len(files), SONGS_PER_PART, compute, join, _recorded_digest)
    return _read(output)


def _answers(config: PreTrainedConfig) -> list[Any]:
    """Return the fields of a config that decide what the logits of a song's windows mean."""
    return [config.id2label, config.problem_type, config.voting, getattr(config, "genres", None)]


def _size_and_time(file: str) -> tuple[int, int] | None:
    try:
        status = Path(file).stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def _write(output: Path, tables: list[pa.Table]) -> None:
    if output.suffix == ".parquet":
        return write_table(output, tables, _SCHEMA)
    with atomic_write(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = (row for table in tables for row in table.to_pylist())
        if output.suffix == ".jsonl":
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, _SCHEMA.names)
            writer.writeheader()
            for row in rows:
                scores = {name: "; ".join(f"{s['label']} {s['score']:.4f}" for s in row[name]) for name in _SCORED}
                writer.writerow(row | scores)


def _read(output: Path) -> list[dict[str, Any]]:
    if output.suffix == ".parquet":
        return pq.read_table(output).to_pylist()
    with output.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)) if output.suffix == ".csv" else [json.loads(line) for line in file]


def _recorded_digest(output: Path) -> str | None:
    """Return the digest in an existing output; None if it has none."""
    try:
        return _read(output)[0]["run"]
    except (OSError, ValueError, LookupError, TypeError, csv.Error, pa.ArrowException):
        return None
