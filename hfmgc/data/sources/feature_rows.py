"""Tables of stored features: joining labels and features, unifying types, finding broken rows."""

from collections import Counter
from typing import Any

import datasets
import numpy as np

from ...errors import DataError
from ..caching import cached_map
from .contract import LABEL_FEATURES


# Rows that are cast at a time; the spectrogram of a track takes a few megabytes.
CAST_BATCH_SIZE = 16


def depth_and_type(feature: Any) -> tuple[int, str]:
    """Return the number of dimensions of a column of arrays or nested lists, and the type of its values."""
    depth = len(getattr(feature, "shape", ()))
    while hasattr(feature, "feature"):
        feature = feature.feature
        depth += 1 + len(getattr(feature, "shape", ()))
    return depth, str(getattr(feature, "dtype", ""))


def join_features(rows: list[dict[str, Any]], features: datasets.Dataset) -> datasets.Dataset:
    """Return the rows of `track_row`, without audio, joined with the table of their features."""
    labels = [{name: row[name] for name in LABEL_FEATURES} for row in rows]
    tracks = datasets.Dataset.from_list(labels, datasets.Features(LABEL_FEATURES))
    return datasets.concatenate_datasets([tracks, features], axis=1)


def unify_types(parts: dict[str, datasets.Dataset]) -> list[datasets.Dataset]:
    """Cast the columns `features` of tables (file name -> table) to one type, so that the tables can be concatenated.

    Arrays of different fixed sizes become lists, and numbers get the widest precision.

    Raises:
        DataError: If the features differ in the number of dimensions, or are levels 0..255 in one table and floats in
            another.
    """
    tables = list(parts.values())
    if all(table.features["features"] == tables[0].features["features"] for table in tables):
        return tables
    kinds = {name: depth_and_type(part.features["features"]) for name, part in parts.items()}
    first, (depth, dtype) = next(iter(kinds.items()))
    for name, (other_depth, other_dtype) in kinds.items():
        if other_depth != depth or other_dtype.startswith("float") != dtype.startswith("float"):
            raise DataError(
                f"{name}: features of {other_depth} dimensions as {other_dtype}, but {first} has {depth} as {dtype}: "
                "extract them in the same way, or load one file"
            )
    feature = datasets.Value(np.result_type(*(dtype for _, dtype in kinds.values())).name)
    for _ in range(depth):
        feature = datasets.List(feature)
    features = datasets.Features({**tables[0].features, "features": feature})
    return [table.cast(features, batch_size=CAST_BATCH_SIZE) for table in tables]


def feature_problems(tracks: datasets.Dataset, num_proc: int | None = None) -> list[str]:
    """Return the problem of the features in each row, or "".

    Features are broken if they are missing, empty, ragged, NaN or infinite. They are also broken if their number of
    bins (and for slices of frames) differs from that of most tracks.
    """
    if not len(tracks):
        return []
    checks = cached_map(
        tracks.select_columns(["features"]).with_format("numpy"),
        _check_row,
        ("checks",),
        features=datasets.Features({"problem": datasets.Value("string"), "size": datasets.Value("string")}),
        remove_columns=["features"],
        num_proc=num_proc,
        desc="checking the features",
    ).with_format(None)
    problems, sizes = checks["problem"][:], checks["size"][:]
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
        # Levels are [bins, frames], floats [frames, bins]: see `as_features`.
        levels = values.dtype.kind in "iu"
        size = f"{values.shape[0 if levels else 1]} bins"
        if levels and (values.min() < 0 or values.max() > 255):
            problem, size = "levels outside 0..255", ""
    return {"problem": problem, "size": size}
