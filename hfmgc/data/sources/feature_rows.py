"""Rows of stored features: converting parts to one type, and finding broken rows."""

from collections import Counter
from typing import Any

import datasets
import numpy as np

from ...errors import DataError
from ..caching import cached_map
from .contract import LABEL_FEATURES


# Rows in memory while a part is cast; the spectrogram of a track takes a few megabytes.
CAST_BATCH_SIZE = 16


def kind_of(feature: Any) -> tuple[int, str]:
    """Return how deeply a column's lists are nested, and the type of its values."""
    depth = len(getattr(feature, "shape", ()))
    while hasattr(feature, "feature"):
        feature = feature.feature
        depth += 1 + len(getattr(feature, "shape", ()))
    return depth, str(getattr(feature, "dtype", ""))


def stored_tracks(rows: list[dict[str, Any]], features: datasets.Dataset) -> datasets.Dataset:
    """Return rows of `track_row` without their audio, beside the table of their features."""
    labels = [{name: row[name] for name in LABEL_FEATURES} for row in rows]
    listed = datasets.Dataset.from_list(labels, datasets.Features(LABEL_FEATURES))
    return datasets.concatenate_datasets([listed, features], axis=1)


def with_one_type(parts: dict[str, datasets.Dataset]) -> list[datasets.Dataset]:
    """Return tables, by the names of their files, whose columns `features` have one type, ready to be concatenated.

    Arrays of different fixed sizes become lists; numbers get the widest precision.

    Raises:
        DataError: If they differ in the number of dimensions or in the kind of numbers: levels 0..255 are not fractions.
    """
    tables = list(parts.values())
    if all(table.features["features"] == tables[0].features["features"] for table in tables):
        return tables
    (first, (depth, number)), *others = [(name, kind_of(part.features["features"])) for name, part in parts.items()]
    for name, (other_depth, other_number) in others:
        if other_depth != depth or other_number.startswith("float") != number.startswith("float"):
            raise DataError(
                f"{name} holds features of {other_depth} dimensions as {other_number}, {first} of {depth} as {number}: "
                "extract them alike, or load one of the files alone"
            )
    feature = datasets.Value(np.result_type(number, *(other for _, (_, other) in others)).name)
    for _ in range(depth):
        feature = datasets.List(feature)
    kinds = datasets.Features({**tables[0].features, "features": feature})
    return [table.cast(kinds, batch_size=CAST_BATCH_SIZE) for table in tables]


def feature_problems(tracks: datasets.Dataset, num_proc: int | None = None) -> list[str]:
    """Return the problem of the features in each row, or "".

    Broken are features that are missing, empty, ragged, NaN or infinite, and those whose size (the number of bins, of
    slices also of frames) differs from that of the majority.
    """
    if not len(tracks):
        return []
    found = cached_map(
        tracks.select_columns(["features"]).with_format("numpy"),
        _check_row,
        ("checks",),
        features=datasets.Features({"problem": datasets.Value("string"), "size": datasets.Value("string")}),
        remove_columns=["features"],
        num_proc=num_proc,
        desc="checking the features",
    ).with_format(None)
    problems, sizes = found["problem"][:], found["size"][:]
    counts = Counter(size for size in sizes if size)
    usual, count = counts.most_common(1)[0] if counts else ("", 0)
    if 2 * count > sum(counts.values()):
        for row, size in enumerate(sizes):
            if size not in ("", usual):
                problems[row] = f"{size}, where most have {usual}"
    return problems


def _check_row(row: dict[str, Any]) -> dict[str, str]:
    values = row["features"]
    values = np.zeros(0) if values is None else np.asarray(values)
    problem = size = ""
    if values.size == 0:
        problem = "empty features"
    elif values.dtype == object:
        problem = "frames of different length, or missing values"
    elif values.dtype.kind == "f" and not np.isfinite(values).all():
        problem = "NaN or infinite features"
    elif values.ndim == 3:
        size = f"slices of {values.shape[1]} frames and {values.shape[2]} bins"
    else:
        # Levels are [bins, frames], fractions [frames, bins]: see `as_features`.
        levels = values.dtype.kind in "iu"
        size = f"{values.shape[0 if levels else 1]} bins"
        if levels and (values.min() < 0 or values.max() > 255):
            problem, size = "levels outside 0..255", ""
    return {"problem": problem, "size": size}
