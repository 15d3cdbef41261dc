"""The datasets by name; anything else is a folder."""

from pathlib import Path
from typing import Any

from ...errors import ConfigError, DataError, nearest
from .contract import TrackSource, make_source
from .folder import Folder
from .gtzan import GTZAN
from .synthetic import Synthetic


SOURCES: dict[str, type[TrackSource]] = {"gtzan": GTZAN, "synthetic": Synthetic}


def open_source(data: str, options: dict[str, Any] | None = None) -> TrackSource:
    """Return the source that `data` names: a dataset's name, or a folder with one subfolder for each genre.

    Raises:
        DataError: If it is neither.
        ConfigError: If an option does not exist.
    """
    options = dict(options or {})
    if not data:
        raise ConfigError(f"data is empty: name a folder, or one of {', '.join(sorted(SOURCES))}")
    if data in SOURCES:
        return make_source(SOURCES[data], options)
    if not Path(data).exists():
        raise DataError(f"data {data!r}: no such folder, and no dataset of that name{nearest(data, SOURCES)}")
    return make_source(Folder, {"folder": data, **options})
