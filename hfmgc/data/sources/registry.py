"""The datasets by name; a list of tracks by its suffix; anything else is a folder."""

from pathlib import Path
from typing import Any

from ...errors import ConfigError, DataError, nearest
from .contract import TrackSource, make_source
from .fma import FMA
from .folder import Folder
from .gtzan import GTZAN
from .hub_dataset import HubDataset
from .maestro import MAESTRO
from .manifest import MANIFEST_SUFFIXES, Manifest
from .synthetic import Synthetic


SOURCES: dict[str, type[TrackSource]] = {
    "fma": FMA,
    "gtzan": GTZAN,
    "hub": HubDataset,
    "maestro": MAESTRO,
    "synthetic": Synthetic,
}


def open_source(data: str, options: dict[str, Any] | None = None) -> TrackSource:
    """Return the source that `data` names: a dataset, a list of tracks, or a folder with a subfolder for each genre.

    Raises:
        DataError: If it is neither.
        ConfigError: If an option does not exist, or one that is needed is missing.
    """
    options = dict(options or {})
    if not data:
        raise ConfigError(f"data is empty: name a folder, or one of {', '.join(sorted(SOURCES))}")
    if data in SOURCES:
        return make_source(SOURCES[data], options)
    path = Path(data)
    if not path.exists():
        kind = "file" if path.suffix.lower() in MANIFEST_SUFFIXES else "folder"
        raise DataError(f"data {data!r}: no such {kind}, and no dataset of that name{nearest(data, SOURCES)}")
    if path.is_file() and path.suffix.lower() in MANIFEST_SUFFIXES:
        return make_source(Manifest, {"file": data, **options})
    return make_source(Folder, {"folder": data, **options})
