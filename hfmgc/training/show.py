"""What a recipe would build, said without building it."""

from pathlib import Path
from typing import Any

from ..data.names import distinct
from ..data.sources import open_source
from ..errors import HfmgcError, UnreachableError
from ..settings import read_settings
from .arguments import RECIPE_GROUPS, DataArguments, ModelArguments, RunArguments
from .assembly import (
    adapt_model,
    build_config,
    build_feature_extractor,
    check_windows,
    count_parameters,
    new_model,
    pretrained_backbone_config,
)
from .frozen_prefix import FrozenPrefix
from .prefix_store import stored_bytes
from .preparation import check_data_arguments
from .starting_point import adopt_checkpoint


def show_recipe(config: str, overrides: list[str]) -> tuple[dict[str, Any], str]:
    """Return what a recipe config would build, as plain values and as text.

    Parameters are counted on the meta device: nothing is downloaded but the config of a pre-trained backbone, and where
    that cannot be had, AST-base's sizes are taken and it is said so.

    Raises:
        ConfigError: If the recipe would be refused: a field that does not exist or fit, windows that the model does not take.
    """
    model_arguments, data_arguments, run = read_settings([config, *overrides], RECIPE_GROUPS)
    adopt_checkpoint(model_arguments, run)
    genres, genres_note = _genres(data_arguments)
    extractor = build_feature_extractor(model_arguments)
    check_data_arguments(data_arguments, model_arguments, extractor)
    model_config = build_config(model_arguments, genres)
    backbone_note = _use_backbone_sizes(model_config, model_arguments)
    model = new_model(model_arguments, model_config)
    check_windows(model, extractor, data_arguments.time_crop)
    parameters = count_parameters(model)[0]
    adapted = adapt_model(model, model_arguments)
    trained = count_parameters(adapted)[1]
    front_end = {name: value for name, value in extractor.to_dict().items() if name != "auto_map"}
    result = {
        "config": Path(config).name,
        "model_type": model_arguments.model_type,
        "parameters": parameters,
        "trainable_parameters": trained,
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
        "frozen_prefix": _frozen_prefix(adapted, run, extractor.window_shape) if run.reuse_frozen_prefix else None,
        "notes": [note for note in (genres_note, backbone_note) if note],
    }
    return result, _as_text(result)


def _genres(arguments: DataArguments) -> tuple[list[str], str | None]:
    try:
        return distinct(open_source(arguments.data, arguments.data_options).genres()), None
    except HfmgcError as error:
        if arguments.data:
            raise
        return [f"genre {index}" for index in range(10)], f"{error}; counted for 10 genres"


def _frozen_prefix(model: Any, run: RunArguments, window_shape: tuple[int, int]) -> dict[str, Any]:
    """Return where the frozen prefix ends, and what keeping its output takes."""
    prefix = FrozenPrefix(model)
    window_bytes = stored_bytes(prefix.state_shape(*window_shape), run.prefix_dtype)
    return {"ends": prefix.description, "window_bytes": window_bytes, "dtype": run.prefix_dtype}


def _use_backbone_sizes(config: Any, arguments: ModelArguments) -> str | None:
    if arguments.pretrained_backbone is None:
        return None
    try:
        config.backbone_config = pretrained_backbone_config(arguments, config)
    except UnreachableError:
        expected = config.sub_configs["backbone_config"].model_type
        return f"{arguments.pretrained_backbone} cannot be reached: counted with the default sizes of {expected}"
    return None


def _windows_text(front_end: dict[str, Any]) -> str:
    if front_end["window_policy"] == "all":
        return f"all of them with {front_end['window_overlap']:.0%} overlap"
    most = front_end["max_windows"]
    return f"{front_end['window_policy']}, " + (f"at most {most}" if most else "as many as cover the track")


def _split_text(split: dict[str, Any]) -> str:
    # Published splits have neither ratios nor a seed.
    drawn = split["policy"] in ("stratified", "grouped")
    return f"{split['policy']} {split['ratios']}, seed {split['seed']}" if drawn else split["policy"]


def _as_text(result: dict[str, Any]) -> str:
    front_end, split, training = result["front_end"], result["split"], result["training"]
    prefix = result["frozen_prefix"]
    start = result["pretrained_backbone"] or result["model_name_or_path"] or "random weights"
    rows = [
        ("model", f"{result['model_type']} from {start}"),
        ("parameters", f"{result['parameters']:,}"),
        ("trainable", f"{result['trainable_parameters']:,} (adapter: {result['adapter']})"),
        (
            "front end",
            f"{front_end['feature_extractor_type']}, {front_end['sampling_rate']} Hz, windows of "
            f"{front_end['window_seconds']:.2f} s, {_windows_text(front_end)}",
        ),
        ("data", f"{result['data']['name'] or '(--data)'}, {len(result['data']['genres'])} genres"),
        ("split", _split_text(split)),
        ("augmentation", result["augmentation"]),
        (
            "training",
            f"{training['epochs']:g} epochs, batch {training['batch_size']}, learning rate {training['learning_rate']:g}, "
            f"seed {training['seed']}",
        ),
        *(
            [
                (
                    "frozen prefix",
                    f"{prefix['ends']}, {prefix['window_bytes'] / 1e6:.3g} MB a window ({prefix['dtype']})",
                )
            ]
            if prefix
            else []
        ),
        *(("note", note) for note in result["notes"]),
    ]
    return "\n".join(f"{name:<14}{text}" for name, text in rows)
