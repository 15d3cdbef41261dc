"""Checkpoints in the package: `default_checkpoint` returns the folder of one."""

from pathlib import Path

from ..errors import CheckpointError, did_you_mean


FOLDER = Path(__file__).parent
# Settings name them package:NAME, because the path of the folder differs between machines.
PREFIX = "package:"


def default_checkpoint(name: str = "gtzan") -> Path:
    """Return the folder of a packaged checkpoint, which loads without a network.

    Args:
        name: `"msd"` is MusiCNN as its authors trained it, with 50 tags of the Million Song Dataset. `"gtzan"` is the
            same network with a head for the ten genres of GTZAN.

    Raises:
        CheckpointError: If there is no checkpoint of that name.

    Example:

    >>> import hfmgc
    >>> hfmgc.default_checkpoint("msd").name
    'msd'
    """
    names = sorted(path.parent.name for path in FOLDER.glob("*/config.json"))
    if name not in names:
        raise CheckpointError(f"checkpoint {PREFIX + name!r}: no such packaged checkpoint{did_you_mean(name, names)}")
    return FOLDER / name


def resolve_checkpoint(name_or_path: str) -> str:
    """Return the folder of `package:NAME`, and any other name or path unchanged.

    Raises:
        CheckpointError: If there is no packaged checkpoint of that name.
    """
    if name_or_path.startswith(PREFIX):
        return str(default_checkpoint(name_or_path.removeprefix(PREFIX)))
    return name_or_path
