"""Tables of hand-made features: extracted from decoded tracks, or read from FMA's features.csv."""

import csv
import logging
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pandas as pd

from ..errors import ConfigError, DataError
from ..features.handmade_features import columns, extract_handmade_features, extract_summary_features
from .caching import cached_map
from .corpus import SkippedTrack


HANDMADE_KINDS = ("fma", "summary")
# Rows of features.csv in memory at once: 518 numbers each, the whole file has 106,574 of them.
_CSV_CHUNK = 2000
_HEADER_NAMES = ("feature", "statistics", "number")

logger = logging.getLogger(__name__)


def extract_handmade(
    tracks: datasets.Dataset,
    sampling_rate: int,
    *,
    kind: str = "fma",
    quirk: bool = False,
    num_proc: int | None = None,
    skipped: list[SkippedTrack] | None = None,
) -> datasets.Dataset:
    """Extract the hand-made features of each track; the result is cached by the fingerprint of the tracks.

    Args:
        tracks: Decoded tracks (`Corpus.tracks`), with columns track_id and waveform (float32 [samples]).
        sampling_rate: Theirs, in Hz.
        kind: `fma` for FMA's 518 (`column_names()`), `summary` for GTZAN's 57 (`GTZAN_SUMMARY_COLUMNS`).
        quirk: Of `fma`: the authors' assumption of 22,050 Hz (`QUIRK_FEATURES`).
        num_proc: Processes that extract.
        skipped: Tracks without features (too short for a frame) are left out and appended here; without a list they
            are an error.

    Returns:
        The columns of `tracks` (track_id, genre, artist, split and what else it has) without the waveform, and
        `features`, float32 [518] or [57].

    Raises:
        ConfigError: If `kind` is unknown, or `quirk` is asked of another than `fma`.
        DataError: If a column is missing, if tracks have no features and `skipped` is None, or if none has any.
    """
    if kind not in HANDMADE_KINDS:
        raise ConfigError(f"hand-made features are of kind {' or '.join(HANDMADE_KINDS)}, not {kind!r}")
    if quirk and kind != "fma":
        raise ConfigError(f"the sampling-rate quirk is one of FMA's features: leave it off for kind {kind!r}")
    missing = {"track_id", "waveform"} - set(tracks.column_names)
    if missing:
        raise DataError(f"the tracks have no column {', '.join(sorted(missing))}: decode them first (decode_corpus)")
    kept = {name: tracks.features[name] for name in tracks.features if name != "waveform"}
    extracted = cached_map(
        tracks,
        _extract_track,
        ("handmade features",),
        fn_kwargs={"sampling_rate": sampling_rate, "kind": kind, "quirk": quirk},
        features=datasets.Features(
            {**kept, "features": datasets.List(datasets.Value("float32")), "problem": datasets.Value("string")}
        ),
        remove_columns=["waveform"],
        num_proc=num_proc,
        desc=f"hand-made features ({kind})",
    )
    problems = extracted["problem"]
    unusable = [
        SkippedTrack(track_id, problem)
        for track_id, problem in zip(extracted["track_id"], problems, strict=True)
        if problem
    ]
    if unusable and (skipped is None or len(unusable) == len(extracted)):
        raise DataError(
            f"{len(unusable)} of {len(extracted)} tracks have no hand-made features, the first is "
            f"{unusable[0].track_id}: {unusable[0].reason}"
        )
    if unusable:
        logger.warning("%d tracks have no hand-made features and are left out", len(unusable))
        skipped.extend(unusable)
        extracted = extracted.select([row for row, problem in enumerate(problems) if not problem])
    return extracted.remove_columns("problem").with_format("numpy", columns=["features"], output_all_columns=True)


def read_fma_features_csv(path: str | Path) -> datasets.Dataset:
    """Read FMA's features.csv, whose header has three rows (feature, statistics, number) and, as pandas writes it, a
    fourth with the index's name. It is read in parts and cached, so memory stays flat.

    Args:
        path: The file, of fma_metadata.zip.

    Returns:
        A table of track_id (as the FMA source has them, `"000002"`) and features, float32 [518] in the order of
        `columns()`, whatever the order of the file.

    Raises:
        DataError: If the file is missing or empty, its header is another (what lacks is named), a track id is no
            number, or a value is no finite number (its track and column are named).
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; features.csv is in FMA's fma_metadata.zip")
    order, header_rows = _read_header(path)
    stat = path.stat()
    features = datasets.Features(
        {"track_id": datasets.Value("string"), "features": datasets.List(datasets.Value("float32"))}
    )
    try:
        table = datasets.Dataset.from_generator(
            _read_rows,
            features=features,
            # Size and time of the file are part of the cache's key: another file of this name is read anew.
            gen_kwargs={
                "path": str(path.resolve()),
                # A tuple: the library reads a list as one shard for each of its items.
                "order": tuple(order),
                "header_rows": header_rows,
                "version": (stat.st_size, stat.st_mtime_ns),
            },
        )
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, DataError):
            raise error.__cause__ from None
        raise
    return table.with_format("numpy", columns=["features"], output_all_columns=True)


def _extract_track(track: dict, sampling_rate: int, kind: str, quirk: bool) -> dict:
    waveform = np.asarray(track["waveform"], dtype=np.float32)
    try:
        if kind == "summary":
            features = extract_summary_features(waveform, sampling_rate)
        else:
            features = extract_handmade_features(waveform, sampling_rate, fma_sampling_rate_quirk=quirk)
    except ValueError as error:
        # Told as a value: an exception with arguments of its own does not come back from another process.
        return {"features": np.zeros(0, np.float32), "problem": str(error)}
    return {"features": features, "problem": ""}


def _read_header(path: Path) -> tuple[list[int], int]:
    """Return where the 518 columns lie among those of the file (the first holds the ids), and the header's rows."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            rows = [row for row, _ in zip(csv.reader(file), range(4), strict=False)]
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    names = tuple(row[0].strip() if row else "" for row in rows[:3])
    if names != _HEADER_NAMES:
        raise DataError(
            f"{path}: its first three rows should begin with {', '.join(_HEADER_NAMES)}, as in FMA's features.csv, "
            f"but begin with {', '.join(repr(name) for name in names) or 'nothing'}"
        )
    found = list(zip(*(row[1:] for row in rows[:3]), strict=False))
    positions = {column: position for position, column in enumerate(found, start=1)}
    wanted = columns()
    missing = [column for column in wanted if column not in positions]
    unknown = sorted(set(found) - set(wanted))
    if missing or unknown or len(found) != len(wanted) or len({len(row) for row in rows[:3]}) != 1:
        lacks = f"lacks {len(missing)}, the first {'-'.join(missing[0])}" if missing else "lacks none"
        more = f"; {len(unknown)} unknown, the first {'-'.join(unknown[0])}" if unknown else ""
        raise DataError(
            f"{path}: has {len(found)} columns where FMA's features.csv has {len(wanted)}; it {lacks}{more}: take the "
            "file of fma_metadata.zip"
        )
    # The row with the name of the index has nothing else in it.
    named_index = len(rows) == 4 and not any(cell.strip() for cell in rows[3][1:])
    if len(rows) < 4:
        raise DataError(f"{path}: has a header and no tracks")
    return [positions[column] for column in wanted], 4 if named_index else 3


def _read_rows(path: str, order: tuple[int, ...], header_rows: int, version: tuple[int, int]) -> Iterator[dict]:
    names = ["-".join(column) for column in columns()]
    try:
        for chunk in pd.read_csv(path, header=None, skiprows=header_rows, chunksize=_CSV_CHUNK, dtype={0: str}):
            values = chunk[list(order)].apply(pd.to_numeric, errors="coerce").to_numpy(np.float32)
            for number, row in zip(chunk[0], values, strict=True):
                if not str(number).isdecimal():
                    raise DataError(f"{path}: {str(number)!r} is no track id of FMA: leave its row out")
                track_id = f"{int(number):06d}"
                bad = np.flatnonzero(~np.isfinite(row))
                if len(bad):
                    raise DataError(
                        f"{path}: track {track_id}: no finite number in {names[bad[0]]}; leave its row out"
                    )
                yield {"track_id": track_id, "features": row}
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path}: has a header and no tracks") from error
    except (pd.errors.ParserError, UnicodeDecodeError, KeyError) as error:
        raise DataError(
            f"{path}: its rows do not fit its header ({error}): take the file of fma_metadata.zip"
        ) from error
