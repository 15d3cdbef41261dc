"""Files of predictions (CSV, JSON Lines or parquet), which `hfmgc predict` resumes after an interruption."""

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
from ..files import atomic_write, file_state
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
    """Write the predictions for files to `output`, or resume an interrupted call; return the rows.

    The column `run` is a digest of the models, the settings and the files.

    Raises:
        ConfigError: If the suffix of `output` is not in `SUFFIXES`, or `output` exists with the predictions of another
            run.
        SaveError: If `output` cannot be written.
    """
    if output.suffix not in SUFFIXES:
        raise ConfigError(f"--output {output}: unknown format: name a file that ends in {', '.join(SUFFIXES)}")
    inputs = [
        [[network_digest(model, predictor.extractor), *_label_fields(model.config)] for model in predictor.models],
        [
            predictor.shortest_seconds,
            predictor.top_k,
            SONGS_PER_PART,
            predictor.timeline and str(predictor.timeline.folder),
        ],
        code_identity("decoding", "features"),
        [(file, file_state(file)) for file in files],
    ]
    digest = weights_digest(inputs)

    def compute(missing: list[range]) -> Iterator[pa.Table]:
        songs = predictor.predict([files[index] for part in missing for index in part])
        for part in missing:
            rows = [song.row | {"run": digest} for song in islice(songs, len(part))]
            yield pa.Table.from_pylist(rows, _SCHEMA)

    write_in_parts(output, digest, len(files), SONGS_PER_PART, compute, _join, _read_digest)
    return _read(output)


def _label_fields(config: PreTrainedConfig) -> list[Any]:
    """Return the fields of a config that turn the logits of windows into labels of a song."""
    return [config.id2label, config.problem_type, config.voting, getattr(config, "genres", None)]


def _join(output: Path, tables: list[pa.Table]) -> None:
    """Write the parts to one file, in the format that its suffix names."""
    table = pa.concat_tables(tables)
    if output.suffix == ".parquet":
        return write_table(output, table)
    with atomic_write(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = table.to_pylist()
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


def _read_digest(output: Path) -> str | None:
    """Return the digest in the first row of an existing file, or None."""
    try:
        return _read(output)[0]["run"]
    except (OSError, ValueError, LookupError, TypeError, csv.Error, pa.ArrowException):
        return None
