"""Run a script on CPUs under DeepSpeed, which would first compile a kernel of its own for most of a minute.

    python deepspeed_uncompiled.py SCRIPT [ARGUMENTS ...]

The kernel reduces tensors in inference only. Training communicates through gloo either way.
"""

import runpy
import sys
from pathlib import Path

import deepspeed


def main() -> None:
    """Report the kernel as incompatible with this machine, then run the script as Python does."""
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
