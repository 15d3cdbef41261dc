"""Tables of hand-crafted features, computed from decoded tracks or read from FMA's features.csv."""

import logging
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pandas as pd

from ..errors import ConfigError, DataError, first_line
from ..features.handmade_features import columns, extract_handmade_features, extract_summary_features
from .caching import cached_map
from .corpus import SkippedTrack


HANDMADE_KINDS = ("fma", "summary")
# Rows of features.csv in memory at once, of 106,574.
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
    """Extract the hand-crafted features of each track, cached.

    Args:
        tracks: Decoded tracks (`Corpus.tracks`).
        sampling_rate: Of their waveforms in Hz.
        kind: `fma` for FMA's 518 (`column_names()`), `summary` for GTZAN's 57 (`GTZAN_SUMMARY_COLUMNS`).
        quirk: With `fma`, assume 22,050 Hz as the authors did (`QUIRK_FEATURES`).
        num_proc: Worker processes.
        skipped: Tracks that are too short for a frame are appended here; without a list they are an error.

    Returns:
        The columns of `tracks` with `features`, float32 [518] or [57], in place of the waveform.

    Raises:
        ConfigError: If `kind` is unknown, or `quirk` is set for `summary`.
        DataError: If a column is missing, or tracks are too short and `skipped` is None, or all are.
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
        logger.warning("%d tracks have no hand-made features and are skipped", len(unusable))
        skipped.extend(unusable)
        extracted = extracted.select([row for row, problem in enumerate(problems) if not problem])
    return extracted.remove_columns("problem").with_format("numpy", columns=["features"], output_all_columns=True)


def read_fma_features_csv(path: str | Path) -> datasets.Dataset:
    """Read FMA's features.csv, of fma_metadata.zip, in parts and cached.

    Returns:
        A table of track_id (as in the FMA source, `"000002"`) and features, float32 [518] in the order of `columns()`.

    Raises:
        DataError: If the file is missing or empty, has another header, an id that is no number, or a value that is no
            finite number.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; features.csv is in FMA's fma_metadata.zip")
    _check_header(path)
    stat = path.stat()
    features = datasets.Features(
        {"track_id": datasets.Value("string"), "features": datasets.List(datasets.Value("float32"))}
    )
    try:
        table = datasets.Dataset.from_generator(
            _read_rows,
            features=features,
            # Size and time are part of the cache's key, so that a changed file is read again.
            gen_kwargs={"path": str(path.resolve()), "version": (stat.st_size, stat.st_mtime_ns)},
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
        # Returned, because an exception would end the map.
        return {"features": np.zeros(0, np.float32), "problem": str(error)}
    return {"features": features, "problem": ""}


def _check_header(path: Path) -> None:
    """Refuse a file without the three header rows and the 518 columns of features.csv."""
    try:
        header = pd.read_csv(path, nrows=3, header=None, dtype=str, keep_default_na=False)
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path}: empty") from error
    except (UnicodeDecodeError, pd.errors.ParserError) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({first_line(error)})") from error
    names = tuple(header[0])
    if names != _HEADER_NAMES:
        raise DataError(
            f"{path}: its first three rows should begin with {', '.join(_HEADER_NAMES)}, as in FMA's features.csv, not "
            f"with {', '.join(map(repr, names))}"
        )
    found, wanted = [tuple(header[column]) for column in header.columns[1:]], columns()
    missing = [column for column in wanted if column not in found]
    unknown = sorted(set(found) - set(wanted))
    if missing or unknown or len(found) != len(wanted):
        lacks = f"lacks {len(missing)}, the first {'-'.join(missing[0])}" if missing else "lacks none"
        more = f"; {len(unknown)} unknown, the first {'-'.join(unknown[0])}" if unknown else ""
        raise DataError(
            f"{path}: has {len(found)} columns where FMA's features.csv has {len(wanted)}; it {lacks}{more}: take the "
            "file of fma_metadata.zip"
        )


def _read_rows(path: str, version: tuple[int, int]) -> Iterator[dict]:
    wanted = columns()
    empty = True
    try:
        for chunk in pd.read_csv(path, header=[0, 1, 2], index_col=0, chunksize=_CSV_CHUNK, low_memory=False):
            values = chunk[wanted].apply(pd.to_numeric, errors="coerce").to_numpy(np.float32)
            for number, row in zip(chunk.index, values, strict=True):
                empty = False
                if not str(number).isdecimal():
                    raise DataError(f"{path}: {str(number)!r} is no track id of FMA: leave its row out")
                track_id = f"{int(number):06d}"
                bad = np.flatnonzero(~np.isfinite(row))
                if len(bad):
                    column = "-".join(wanted[bad[0]])
                    raise DataError(f"{path}: track {track_id}: no finite number in {column}; leave its row out")
                yield {"track_id": track_id, "features": row}
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: its rows do not fit its header ({first_line(error)})") from error
    if empty:
        raise DataError(f"{path}: has a header and no tracks")
