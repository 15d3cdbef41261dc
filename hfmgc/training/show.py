"""Describe what a recipe would build, without building it."""

from pathlib import Path
from typing import Any

from ..data.names import distinct_names
from ..data.sources import open_source
from ..errors import ConfigError, HfmgcError, UnreachableDataError
from ..settings import read_config, read_settings
from ..text import format_size
from .arguments import RECIPE_GROUPS, DataArguments
from .check import CheckedRecipe, check_recipe
from .frozen_prefix import FrozenPrefix
from .prefix_store import stored_bytes
from .probe import ProbeArguments


def show_recipe(config: str, overrides: list[str]) -> tuple[dict[str, Any], str]:
    """Return what a recipe config would build, as plain values and as text.

    Parameters are counted on the meta device. Neither data nor a pre-trained backbone is downloaded: if the backbone's config
    is not in the local cache, the counts assume the default sizes, and a note says so.

    Raises:
        HfmgcError: If the recipe would be refused, with the same message.
    """
    if "pipelines" in read_config(Path(config)):
        raise ConfigError(
            f"{config}: a config of recipes/classical_baselines.py, which builds no network: run it with that recipe"
        )
    *groups, _ = read_settings([config, *overrides], (*RECIPE_GROUPS, ProbeArguments))
    genres, genres_note = _genres(groups[1])
    recipe = check_recipe(tuple(groups), genres=genres, local_files_only=True)
    (model_arguments, data_arguments, run), extractor = recipe.groups, recipe.extractor
    front_end = {name: value for name, value in extractor.to_dict().items() if name != "auto_map"}
    result = {
        "config": Path(config).name,
        "model_type": model_arguments.model_type,
        "parameters": recipe.parameters,
        "trainable_parameters": recipe.meta_model.num_parameters(only_trainable=True),
        "pretrained_backbone": model_arguments.pretrained_backbone,
        "model_name_or_path": model_arguments.model_name_or_path,
        "adapter": model_arguments.adapter,
        "front_end": {**front_end, "window_seconds": extractor.window_seconds},
        "data": {"name": data_arguments.data, "options": data_arguments.data_options, "genres": genres},
        "split": {
            "policy": data_arguments.split_policy,
            "ratios": data_arguments.split_ratios,
            "seed": data_arguments.split_seed,
        },
        "augmentation": data_arguments.augmentation,
        "training": {
            "epochs": run.num_train_epochs,
            "learning_rate": run.learning_rate,
            "batch_size": run.per_device_train_batch_size * run.gradient_accumulation_steps,
            "seed": run.seed,
        },
        "frozen_prefix": _frozen_prefix(recipe) if run.reuse_frozen_prefix else None,
        "notes": [*filter(None, [genres_note]), *recipe.notes],
    }
    return result, _as_text(result)


def _genres(arguments: DataArguments) -> tuple[list[str], str | None]:
    try:
        return distinct_names(open_source(arguments.data, arguments.data_options).genres()), None
    except UnreachableDataError:
        note = f"data {arguments.data} is not in the local cache"
    except HfmgcError as error:
        if arguments.data:
            raise
        note = str(error)
    return [f"genre {index}" for index in range(10)], f"{note}; the counts assume 10 genres"


def _frozen_prefix(recipe: CheckedRecipe) -> dict[str, Any]:
    """Return where the frozen prefix ends, and the size of its stored output per window."""
    prefix, dtype = FrozenPrefix(recipe.meta_model), recipe.groups[2].prefix_dtype
    window_bytes = stored_bytes(prefix.state_shape(*recipe.extractor.window_shape), dtype)
    return {"ends": prefix.description, "window_bytes": window_bytes, "dtype": dtype}


def _as_text(result: dict[str, Any]) -> str:
    front_end, split, training = result["front_end"], result["split"], result["training"]
    start = result["pretrained_backbone"] or result["model_name_or_path"] or "random weights"
    if "layout" in front_end:
        windows = f"{front_end['num_features']} columns ({front_end['layout']}) of whole tracks"
    else:
        most, windows = front_end["max_windows"], f"windows of {front_end['window_seconds']:.2f} s, "
        if front_end["window_policy"] == "all":
            windows += f"all of them with {front_end['window_overlap']:.0%} overlap"
        else:
            windows += f"{front_end['window_policy']}, {f'at most {most}' if most else 'as many as cover the track'}"
    # Published splits have neither ratios nor a seed.
    drawn = f" {split['ratios']}, seed {split['seed']}" if split["policy"] in ("stratified", "grouped") else ""
    rows = [
        ("model", f"{result['model_type']} from {start}"),
        ("parameters", f"{result['parameters']:,}"),
        ("trainable", f"{result['trainable_parameters']:,} (adapter: {result['adapter']})"),
        ("front end", f"{front_end['feature_extractor_type']}, {front_end['sampling_rate']} Hz, {windows}"),
        ("data", f"{result['data']['name'] or '(--data)'}, {len(result['data']['genres'])} genres"),
        ("split", f"{split['policy']}{drawn}"),
        ("augmentation", result["augmentation"]),
        (
            "training",
            f"{training['epochs']:g} epochs, batch {training['batch_size']}, learning rate {training['learning_rate']:g}, "
            f"seed {training['seed']}",
        ),
    ]
    if prefix := result["frozen_prefix"]:
        size = f"{format_size(prefix['window_bytes'])} a window ({prefix['dtype']})"
        rows.append(("frozen prefix", f"{prefix['ends']}, {size}"))
    rows += [("note", note) for note in result["notes"]]
    return "\n".join(f"{name:<14}{text}" for name, text in rows)
