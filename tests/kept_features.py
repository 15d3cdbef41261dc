"""Helpers of the tests about features kept from before: small tables in the layouts that are in use."""

from pathlib import Path

import datasets
import numpy as np

import hfmgc.cli
from hfmgc.data.sources import open_source


FIELDS = {"preset": "gtzan_decimated", "window_frames": 64}
NAMES = ["blues", "classical", "pop"]
RATE = 22050


def log_mel_rows(labels: list[int], *, seed: int = 0, prefix: str = "t", frames: int = 40) -> dict:
    """Rows as `gtzan_logmel` has them: a track id, a label, and levels [128, frames] that differ by label."""
    generator = np.random.default_rng(seed)
    mel = [generator.integers(40 * max(label, 0), 200, (128, frames), dtype=np.uint8) for label in labels]
    return {"track_id": [f"{prefix}.{row:02d}" for row in range(len(labels))], "genre": labels, "log_mel": mel}


def write_log_mel(path: Path, labels: list[int], *, frames: int = 40, **options) -> Path:
    """Write a stand-in of a file of `gtzan_logmel`: uint8 Array2D and a ClassLabel of which one name is not used."""
    features = datasets.Features(
        {
            "track_id": datasets.Value("string"),
            "genre": datasets.ClassLabel(names=NAMES),
            "log_mel": datasets.Array2D((128, frames), "uint8"),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = log_mel_rows(labels, frames=frames, **options)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))
    return path


def write_sides(folder: Path) -> Path:
    """Write train, validation and test parquet files."""
    write_log_mel(folder / "train.parquet", [0, 0, 0, 2, 2, 2], seed=1, prefix="train")
    write_log_mel(folder / "validation.parquet", [2, 0], seed=2, prefix="validation")
    write_log_mel(folder / "test.parquet", [0, 2, 2], seed=3, prefix="test")
    return folder


def write_table(path: Path, **columns) -> Path:
    """Write a parquet file of two tracks with spectrograms [3, 4]; a column given as None is left out."""
    mel = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32).tolist()
    rows = {"track_id": ["a", "b"], "genre": ["blues", "pop"], "mel": mel, **columns}
    datasets.Dataset.from_dict({name: value for name, value in rows.items() if value is not None}).to_parquet(
        str(path)
    )
    return path


def tracks_of(path: Path, **options) -> datasets.Dataset:
    return open_source(str(path), options).tracks()


def fails(capsys, *arguments: object) -> str:
    """Return the one line that a command ends with."""
    capsys.readouterr()
    assert hfmgc.cli.main([str(argument) for argument in arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    line = err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line
