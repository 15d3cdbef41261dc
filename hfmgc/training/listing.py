"""List the architectures with their papers, sizes and recipes."""

from pathlib import Path
from typing import Any

from ..registry import ARCHITECTURES
from ..settings import read_config


CONFIGS = Path("recipes/configs")
NUM_GENRES = 10
# The default of `ModelArguments`, whose import takes seconds.
DEFAULT_MODEL_TYPE = "hfmgc-ast"


def list_architectures(configs: Path = CONFIGS) -> tuple[dict[str, Any], str]:
    """Return every architecture, as plain values and as text, with the configs in a folder that train it.

    Raises:
        ConfigError: If a config cannot be read.
    """
    files = _configs_by_architecture(configs)
    rows = [
        {
            "model_type": model_type,
            "paper": architecture.paper,
            "parameters": architecture.parameters,
            "recipe": architecture.recipe,
            "configs": None if files is None else files.get(model_type, []),
        }
        for model_type, architecture in ARCHITECTURES.items()
    ]
    return {"num_genres": NUM_GENRES, "architectures": rows}, "\n".join(_as_text(row) for row in rows)


def _configs_by_architecture(folder: Path) -> dict[str, list[str]] | None:
    """Return the configs in a folder by their model type, without base configs (`_*`); None without such a folder."""
    if not folder.is_dir():
        return None
    configs: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*.yaml")):
        if path.name.startswith("_"):
            continue
        values = read_config(path)
        if "pipelines" not in values:  # configs of recipes/classical_baselines.py have pipelines
            configs.setdefault(values.get("model_type", DEFAULT_MODEL_TYPE), []).append(path.as_posix())
    return configs


def _as_text(row: dict[str, Any]) -> str:
    count = f" (configs here: {len(row['configs'])})" if row["configs"] else ""
    indent = " " * 26
    return f"{row['model_type']:<26}{row['parameters']:,} parameters\n{indent}{row['paper']}\n{indent}{row['recipe']}{count}"
