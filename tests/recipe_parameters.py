"""The parameter counts of the recipe configs, which `test_recipe_configs.py` compares.

    python tests/recipe_parameters.py

counts them at full size, without weights, and writes `tests/recipe_parameters.json`. Look at its changes before you commit.
"""

import json
import os
from pathlib import Path


os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported; AST-base has its paper's sizes

from hfmgc.settings import read_config


FOLDER = Path(__file__).parents[1] / "recipes" / "configs"
FILES = {path.relative_to(FOLDER).as_posix(): path for path in sorted(FOLDER.rglob("*.yaml"))}
# Files that begin with an underscore hold what others share, and are no configs by themselves.
_CONFIGS = [name for name in FILES if not FILES[name].name.startswith("_")]
# Those of recipes/pretrain.py have a list of sources, those of recipes/classical_baselines.py have `pipelines`.
_FIELDS = {name: read_config(FILES[name]) for name in _CONFIGS}
PRETRAINING_CONFIGS = [name for name, fields in _FIELDS.items() if isinstance(fields.get("data"), list)]
CLASSICAL_CONFIGS = [name for name, fields in _FIELDS.items() if "pipelines" in fields]
CONFIGS = [name for name in _CONFIGS if name not in {*PRETRAINING_CONFIGS, *CLASSICAL_CONFIGS}]
COUNTS = Path(__file__).with_suffix(".json")


def main() -> None:
    """Write the counts of all configs."""
    from hfmgc.training.show import show_recipe

    counts = {name: show_recipe(str(FILES[name]), [])[0]["parameters"] for name in CONFIGS}
    COUNTS.write_text(json.dumps(counts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
