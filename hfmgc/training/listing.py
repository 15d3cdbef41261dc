"""Which architectures there are, with their papers, sizes and recipes."""

from pathlib import Path
from typing import Any

import torch

from ..registry import ARCHITECTURES
from .arguments import ModelArguments
from .build import count_parameters
from .settings import read_config


# Of a checkout; the registry's recipes are within it too.
CONFIGS = Path("recipes/configs")
NUM_GENRES = 10


def list_architectures(configs: Path = CONFIGS) -> tuple[dict[str, Any], str]:
    """Return every architecture, as plain values and as text.

    Parameters are those of the default config with `NUM_GENRES` genres, counted on the meta device.

    Args:
        configs: Folder of recipe configs; where it exists, each architecture is listed with those that train it.

    Raises:
        ConfigError: If one of them cannot be read.
    """
    files = _configs_by_architecture(configs)
    rows = []
    for model_type, architecture in ARCHITECTURES.items():
        with torch.device("meta"):
            model = architecture.load("model")(architecture.load("config")(num_labels=NUM_GENRES))
        parameters, trained = count_parameters(model)
        rows.append(
            {
                "model_type": model_type,
                "paper": architecture.paper,
                "parameters": parameters,
                "trainable_parameters": trained,
                "recipe": architecture.recipe,
                "configs": None if files is None else files[model_type],
            }
        )
    return {"num_genres": NUM_GENRES, "architectures": rows}, "\n".join(_as_text(row) for row in rows)


def _configs_by_architecture(folder: Path) -> dict[str, list[str]] | None:
    """Return model type -> the configs in a folder that train it; those with an underscore only serve as bases."""
    if not folder.is_dir():
        return None
    found: dict[str, list[str]] = {model_type: [] for model_type in ARCHITECTURES}
    for path in sorted(folder.rglob("*.yaml")):
        if not path.name.startswith("_"):
            model_type = read_config(path).get("model_type", ModelArguments.model_type)
            found.setdefault(str(model_type), []).append(path.as_posix())
    return found


def _as_text(row: dict[str, Any]) -> str:
    trained = row["trainable_parameters"]
    size = f"{row['parameters']:,} parameters"
    if trained != row["parameters"]:
        size += f", {trained:,} of them trained"
    count = f" (configs here: {len(row['configs'])})" if row["configs"] else ""
    indent = " " * 20
    return f"{row['model_type']:<20}{size}\n{indent}{row['paper']}\n{indent}{row['recipe']}{count}"
