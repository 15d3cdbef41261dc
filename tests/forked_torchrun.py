"""torchrun with two processes of this machine that are forks of this one, instead of Pythons that import everything anew.

python forked_torchrun.py SCRIPT [ARGUMENTS ...]
"""

import runpy
import sys
from pathlib import Path

from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def run(arguments: list[str]) -> None:
    """Run the script as Python does."""
    sys.argv = arguments
    sys.path[0] = str(Path(arguments[0]).parent)
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    # What `torchrun --standalone` makes of its arguments.
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        start_method="fork",
    )
    elastic_launch(config, run)(sys.argv[1:])
