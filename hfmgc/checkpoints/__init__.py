"""Checkpoints that come with the package: `default_checkpoint` returns their folders."""

import os
from pathlib import Path

from ..errors import nearest


FOLDER = Path(__file__).parent


def default_checkpoint(name: str = "msd") -> Path:
    """Return the folder of a packaged checkpoint, which loads like any other without a network.

    Args:
        name: `"msd"`: MusiCNN with the 50 tags of the Million Song Dataset on which its authors trained it.

    Raises:
        ValueError: If there is no checkpoint of that name.

    Example:

    >>> import hfmgc
    >>> hfmgc.default_checkpoint("msd").name
    'msd'
    """
    names = sorted(path.parent.name for path in FOLDER.glob("*/config.json"))
    if name not in names:
        raise ValueError(f"no packaged checkpoint {name!r}{nearest(name, names)}")
    return FOLDER / name


def packaged_checkpoint(name_or_path: str | os.PathLike) -> str:
    """Return the folder of the packaged checkpoint of this name, or `name_or_path` if there is none."""
    name_or_path = os.fspath(name_or_path)
    is_packaged = os.sep not in name_or_path and (FOLDER / name_or_path / "config.json").is_file()
    return str(FOLDER / name_or_path) if is_packaged and not Path(name_or_path).exists() else name_or_path
