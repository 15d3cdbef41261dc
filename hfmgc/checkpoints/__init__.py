"""Checkpoints that come with the package: `default_checkpoint` returns their folders."""

from pathlib import Path

from ..errors import CheckpointError, did_you_mean


FOLDER = Path(__file__).parent
# In settings: package:NAME. A folder's path would differ between machines.
PREFIX = "package:"


def default_checkpoint(name: str = "gtzan") -> Path:
    """Return the folder of a packaged checkpoint, which loads like any other without a network.

    Args:
        name: `"msd"`: MusiCNN with the 50 tags of the Million Song Dataset on which its authors trained it.
            `"gtzan"`: the same network with a head for the ten genres of GTZAN.

    Raises:
        ValueError: If there is no checkpoint of that name.

    Example:

    >>> import hfmgc
    >>> hfmgc.default_checkpoint("msd").name
    'msd'
    """
    names = sorted(path.parent.name for path in FOLDER.glob("*/config.json"))
    if name not in names:
        raise ValueError(f"no packaged checkpoint {name!r}{did_you_mean(name, names)}")
    return FOLDER / name


def resolve_checkpoint(name_or_path: str) -> str:
    """Return the folder of `package:NAME`; other names and paths as they are.

    Raises:
        CheckpointError: If there is no packaged checkpoint of that name.
    """
    if not name_or_path.startswith(PREFIX):
        return name_or_path
    try:
        return str(default_checkpoint(name_or_path.removeprefix(PREFIX)))
    except ValueError as error:
        raise CheckpointError(f"checkpoint {name_or_path!r}: {error}") from error
