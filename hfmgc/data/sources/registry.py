"""The datasets by name; a list of tracks by its suffix; anything else is a folder."""

import os
from pathlib import Path
from typing import Any

from ...errors import ConfigError, DataError, nearest
from ...settings import refuse_long_path
from ...text import as_text
from .contract import TrackSource, make_source
from .exclusions import read_exclusions
from .features import FeatureSet, is_feature_set
from .fma import FMA
from .folder import Folder
from .gtzan import GTZAN
from .hub_dataset import HubDataset
from .maestro import MAESTRO
from .manifest import MANIFEST_SUFFIXES, Manifest
from .synthetic import Synthetic
from .tables import NOT_UTF8


SOURCES: dict[str, type[TrackSource]] = {
    "fma": FMA,
    "gtzan": GTZAN,
    "hub": HubDataset,
    "maestro": MAESTRO,
    "synthetic": Synthetic,
}


def open_source(data: str, options: dict[str, Any] | None = None, *, exclude: str | Path | None = None) -> TrackSource:
    """Return the source that `data` names: a dataset, a list of tracks, or a folder with a subfolder for each genre.

    Args:
        data: A dataset's name or a path.
        options: Options of the dataset.
        exclude: List of tracks to leave out; see `exclusions.read_exclusions`.

    Raises:
        DataError: If it is neither, or the list cannot be read.
        ConfigError: If an option does not exist, or one that is needed is missing.
    """
    source = _open(data, dict(options or {}))
    if exclude:
        source.excluded = read_exclusions(exclude)
    return source


def _open(data: str, options: dict[str, Any]) -> TrackSource:
    if not data:
        raise ConfigError(f"data is empty: name a folder, or one of {', '.join(sorted(SOURCES))}")
    if data in SOURCES:
        return make_source(SOURCES[data], options)
    refuse_long_path("data", data)
    path, real = Path(data), os.path.realpath(data)
    if as_text(real) != real:
        raise DataError(f"data {as_text(data)}: {NOT_UTF8}")
    if not path.exists():
        kind = "file" if path.suffix.lower() in MANIFEST_SUFFIXES else "folder"
        raise DataError(f"data {data!r}: no such {kind}, and no dataset of that name{nearest(data, SOURCES)}")
    if path.is_file() and path.suffix.lower() in MANIFEST_SUFFIXES:
        return _at(Manifest, "file", data, options)
    if is_feature_set(path):
        return _at(FeatureSet, "path", data, options)
    return _at(Folder, "folder", data, options)


def _at(source_class: type[TrackSource], place: str, data: str, options: dict[str, Any]) -> TrackSource:
    """Return the source at a path; an option must not name another one."""
    if place in options:
        raise ConfigError(f"data_options: {place} is what data says ({data}): leave it out")
    return make_source(source_class, {place: data, **options})
