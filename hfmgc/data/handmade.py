"""Tables of hand-made features, computed from decoded tracks or read from FMA's features.csv."""

from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pandas as pd

from ..errors import DataError, first_line
from ..features.handmade_features import columns, extract_handmade_features, extract_summary_features
from .caching import cached_map
from .corpus import SkippedTrack


FEATURES = datasets.List(datasets.Value("float32"))
# Rows of features.csv in memory at once, of 106,574.
_CSV_CHUNK = 2000
_HEADER_NAMES = ["feature", "statistics", "number"]


def extract_handmade(
    tracks: datasets.Dataset,
    sampling_rate: int,
    *,
    kind: str = "fma",
    quirk: bool = False,
    num_proc: int | None = None,
) -> tuple[datasets.Dataset, list[SkippedTrack]]:
    """Extract the hand-made features of each decoded track of a `Corpus`, cached.

    `kind` is `fma` for FMA's 518 (`column_names()`) or `summary` for GTZAN's 57 (`GTZAN_SUMMARY_COLUMNS`). With `quirk`, FMA's
    assume 22,050 Hz as the authors did (`QUIRK_FEATURES`).

    Returns:
        The columns of `tracks` with `features`, float32 [518] or [57], in place of the waveform; and the skipped tracks,
        such as those shorter than a frame.
    """
    kept = {name: kind for name, kind in tracks.features.items() if name != "waveform"}
    extracted = cached_map(
        tracks,
        _extract_track,
        ("handmade features",),
        fn_kwargs={"sampling_rate": sampling_rate, "kind": kind, "quirk": quirk},
        features=datasets.Features({**kept, "features": FEATURES, "problem": datasets.Value("string")}),
        remove_columns=["waveform"],
        num_proc=num_proc,
        desc=f"hand-made features ({kind})",
    )
    problems = extracted["problem"][:]
    pairs = zip(extracted["track_id"][:], problems, strict=True)
    skipped = [SkippedTrack(track_id, problem) for track_id, problem in pairs if problem]
    usable = extracted.select([row for row, problem in enumerate(problems) if not problem]).remove_columns("problem")
    return usable.with_format("numpy", columns=["features"], output_all_columns=True), skipped


def _extract_track(track: dict, sampling_rate: int, kind: str, quirk: bool) -> dict:
    try:
        if kind == "summary":
            features = extract_summary_features(track["waveform"], sampling_rate)
        else:
            features = extract_handmade_features(track["waveform"], sampling_rate, fma_sampling_rate_quirk=quirk)
    except ValueError as error:
        # Returned, because an exception would end the map.
        return {"features": np.zeros(0, np.float32), "problem": str(error)}
    return {"features": features, "problem": ""}


def read_fma_features_csv(path: str | Path) -> datasets.Dataset:
    """Read FMA's features.csv, of fma_metadata.zip, in parts and cached.

    Returns:
        A table of track_id (as in the FMA source, `"000002"`) and features, float32 [518] in the order of `columns()`.

    Raises:
        DataError: If the file is missing or empty, has another header, an id that is no number, or a value that is no
            finite number.
    """
    path = Path(path)
    try:
        header = pd.read_csv(path, nrows=3, header=None, dtype=str, keep_default_na=False)
    except (OSError, UnicodeDecodeError, pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}): take it from fma_metadata.zip") from error
    found = [tuple(header[column]) for column in header.columns[1:]]
    different = sorted(set(found) ^ set(columns()))
    if list(header[0]) != _HEADER_NAMES or different or len(found) != len(columns()):
        names = ", ".join("-".join(column) for column in different[:3])
        raise DataError(
            f"{path} does not have the three header rows and {len(columns())} columns of FMA's features.csv, but "
            f"{len(found)} columns{f' (missing or unknown: {names})' if names else ''}: take it from fma_metadata.zip"
        )
    status = path.stat()
    try:
        table = datasets.Dataset.from_generator(
            _read_rows,
            features=datasets.Features({"track_id": datasets.Value("string"), "features": FEATURES}),
            # Size and time are part of the cache's key, so a changed file is read again.
            gen_kwargs={"path": str(path.resolve()), "version": (status.st_size, status.st_mtime_ns)},
        )
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, DataError):
            raise error.__cause__ from None
        raise DataError(
            f"{path} cannot be read ({first_line(error.__cause__)}): take it from fma_metadata.zip"
        ) from error
    return table.with_format("numpy", columns=["features"], output_all_columns=True)


def _read_rows(path: str, version: tuple[int, int]) -> Iterator[dict]:
    empty = True
    for chunk in pd.read_csv(path, header=[0, 1, 2], index_col=0, chunksize=_CSV_CHUNK, low_memory=False):
        values = chunk[columns()].apply(pd.to_numeric, errors="coerce").to_numpy(np.float32)
        for number, row in zip(chunk.index, values, strict=True):
            empty = False
            if not str(number).isdecimal():
                raise DataError(f"{path}: {str(number)!r} is no track id of FMA: delete its row")
            if not np.isfinite(row).all():
                column = "-".join(columns()[np.flatnonzero(~np.isfinite(row))[0]])
                raise DataError(f"{path}: track {int(number):06d} has no finite number in {column}: delete its row")
            yield {"track_id": f"{int(number):06d}", "features": row}
    if empty:
        raise DataError(f"{path} has a header and no tracks")
