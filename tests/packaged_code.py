"""Copy the code of the packaged checkpoints from the package, after a change in `models/` or `features/`.

python tests/packaged_code.py
"""

import shutil
from pathlib import Path


PACKAGE = Path(__file__).parent.parent / "hfmgc"


def copies() -> list[tuple[Path, Path]]:
    """Return each code file of a packaged checkpoint with the file that it is a copy of."""
    sources = {path.name: path for room in ("models", "features") for path in (PACKAGE / room).glob("*.py")}
    return [(path, sources[path.name]) for path in sorted((PACKAGE / "checkpoints").glob("*/*.py"))]


if __name__ == "__main__":
    for copy, source in copies():
        shutil.copyfile(source, copy)
