"""Opening the source that `--data` names: a dataset by its name, or files on disk by their kind."""

import os
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ...errors import ConfigError, DataError, did_you_mean
from ...settings import check_path_length
from ...text import to_unicode
from .contract import NOT_UTF8, TrackSource, make_source
from .exclusions import read_exclusions
from .feature_table import FeatureTable
from .features import FeatureSet, is_feature_set
from .fma import FMA
from .folder import AudioFolder, Folder
from .gtzan import GTZAN
from .hub_dataset import HubDataset
from .maestro import MAESTRO
from .manifest import Manifest
from .synthetic import Synthetic
from .tables import LIST_SUFFIXES


logger = logging.get_logger(__name__)

SOURCES: dict[str, type[TrackSource]] = {
    "fma": FMA,
    "gtzan": GTZAN,
    "hub": HubDataset,
    "maestro": MAESTRO,
    "synthetic": Synthetic,
    "table": FeatureTable,
}


def open_source(
    data: str,
    options: dict[str, Any] | None = None,
    *,
    exclude: str | Path | None = None,
    labelled: bool = True,
) -> TrackSource:
    """Return the source that `data` names: a dataset, or the path of a manifest, stored features, or a folder of genres.

    `exclude` is the path of a list of tracks to exclude; see `exclusions.read_exclusions`. Unless `labelled`, a folder may
    hold its audio files anywhere, and stored features need no genres.

    Raises:
        DataError: If there are no such data, or the list cannot be read.
        ConfigError: If an option is unknown or missing.
    """
    source = _open(data, dict(options or {}), labelled)
    if isinstance(source, FeatureSet):
        source.labelled = labelled
    if exclude:
        source.excluded = read_exclusions(exclude)
        if not source.excluded:
            logger.warning(f"the exclusion list {Path(exclude).name} has no rows: no tracks are excluded")
    return source


def _open(data: str, options: dict[str, Any], labelled: bool) -> TrackSource:
    if not data:
        raise ConfigError(f"data is empty: name a folder, or one of {', '.join(sorted(SOURCES))}")
    if data in SOURCES:
        return make_source(SOURCES[data], options)
    check_path_length("data", data)
    path, real = Path(data), os.path.realpath(data)
    if to_unicode(real) != real:
        raise DataError(f"data {to_unicode(data)}: {NOT_UTF8}")
    is_list = path.suffix.lower() in LIST_SUFFIXES
    if not path.exists():
        kind = "file" if is_list else "folder"
        raise DataError(f"data {data!r}: no such {kind}, and no dataset of that name{did_you_mean(data, SOURCES)}")
    source_class, option = Folder if labelled else AudioFolder, "folder"
    if path.is_file() and is_list:
        source_class, option = Manifest, "file"
    elif is_feature_set(path):
        source_class, option = FeatureSet, "path"
    if option in options:
        raise ConfigError(f"data_options: remove {option}: data already names the path ({data})")
    return make_source(source_class, {option: data, **options})
