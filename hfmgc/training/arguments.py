"""The settings of a recipe, in three groups. They do not change after `check.check_recipe`."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Self

from transformers import TrainingArguments

from ..data.audio import SHORTEST_SECONDS
from ..data.splits import POLICIES, check_policy, parse_ratios
from ..errors import ConfigError, did_you_mean
from ..evaluation.task import MULTI_LABEL, SINGLE_LABEL
from ..registry import ARCHITECTURES
from ..settings import check_fields
from .adapters import ADAPTER_ROLES, CONVOLUTIONS
from .spectrogram_augmentation import SpecAugment, SpectrogramEffects, WindowAugmentation


# Limits for inherited fields; transformers checks few of them.
_INHERITED_LIMITS = {
    "per_device_train_batch_size": "[1, inf)",
    "per_device_eval_batch_size": "[1, inf)",
    "gradient_accumulation_steps": "[1, inf)",
    "num_train_epochs": "(0, inf)",
    "learning_rate": "[0, inf)",
    "weight_decay": "[0, inf)",
    "warmup_steps": "[0, inf)",
    "dataloader_num_workers": "[0, inf)",
    "logging_steps": "(0, inf)",
    "eval_steps": "(0, inf)",
    "save_steps": "(0, inf)",
    "seed": f"[0, {2**32})",
}


def setting(default: Any, text: str, *, choices: tuple[str, ...] = (), limits: str = "") -> Any:
    """Return a dataclass field with its default (or a function that returns it) and its text in `--help`.

    `check_fields_of` rejects values that are not among the `choices` or within the `limits`, such as "[0, 1)".
    """
    kind = "default_factory" if callable(default) else "default"
    return field(**{kind: default}, metadata={"help": text, "choices": choices, "limits": limits})


def _field_names(group: type) -> str:
    return ", ".join(item.name for item in fields(group))


def changed_fields(group: Any) -> list[str]:
    """Return the names of a group's fields that differ from their defaults."""
    return [
        item.name
        for item in fields(group)
        if getattr(group, item.name) != (item.default if item.default_factory is MISSING else item.default_factory())
    ]


def check_fields_of(group: Any) -> None:
    """Raise a ValueError for a value that is not among the choices or within the limits of its field."""
    for item in fields(group):
        name, value = item.name, getattr(group, item.name)
        choices, limits = item.metadata.get("choices"), item.metadata.get("limits") or _INHERITED_LIMITS.get(name)
        # transformers checks the choices of its own fields.
        if choices and value not in choices and name in type(group).__annotations__:
            raise ValueError(f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}, not {value!r}")
        if limits and value is not None and not _is_within(value, limits):
            raise ValueError(f"{name} must {_limits_text(limits)}, not {value}")


def require_settings(groups: Iterable[Any], values: Mapping[str, Any], reason: str) -> None:
    """Raise a ConfigError for a field of `groups` whose value differs from that in `values`; it ends with `reason`."""
    for group in groups:
        for name in values.keys() & vars(group):
            if getattr(group, name) != values[name]:
                raise ConfigError(f"{name} must be {str(values[name]).lower()} {reason}")


def _is_within(value: float, limits: str) -> bool:
    low, high = map(float, limits[1:-1].split(","))
    return (value > low or (value == low and limits[0] == "[")) and (
        value < high or (value == high and limits[-1] == "]")
    )


def _limits_text(limits: str) -> str:
    low, high = limits[1:-1].split(", ")
    if high != "inf":
        return f"lie in {limits}"
    return f"be at least {low}" if limits[0] == "[" else f"be above {low}"


@dataclass
class ModelArguments:
    """The model to train."""

    model_type: str = setting("hfmgc-ast", f"Architecture: {', '.join(ARCHITECTURES)}.")
    model_name_or_path: str | None = setting(
        None, "Checkpoint saved by hfmgc to start from; its head is replaced if the genres differ."
    )
    model: dict[str, Any] = setting(dict, "Fields of the architecture's config.")
    front_end: dict[str, Any] = setting(dict, "Fields of the feature extractor: windows, normalisation, ...")
    pretrained_backbone: str | None = setting(None, "Checkpoint (Hub or folder) to take the backbone from.")
    freeze_backbone: bool = setting(False, "Train only the head (and the adapter, if any).")
    adapter: str = setting("none", "PEFT adapter; it freezes the backbone.", choices=("dora", "lora", "none"))
    adapter_targets: list[str] = setting(
        lambda: ["fc2"], f"Linear layers by role: {', '.join(ADAPTER_ROLES)}; or {CONVOLUTIONS}: all convolutions."
    )
    adapter_min_layer: int = setting(0, "First encoder layer with an adapter.")
    adapter_rank: int = setting(2, "Rank r of the update.", limits="[1, inf)")
    adapter_alpha: float = setting(4.0, "Strength: PEFT scales the update by alpha / r.", limits="(0, inf)")
    adapter_dropout: float = setting(0.0, "Dropout before the low-rank matrices.", limits="[0, 1)")

    def __post_init__(self):
        check_fields_of(self)
        if self.model_type not in ARCHITECTURES:
            raise ValueError(
                f"model_type {self.model_type!r} does not exist{did_you_mean(self.model_type, ARCHITECTURES)}"
            )
        if self.model_name_or_path is not None and self.pretrained_backbone is not None:
            raise ValueError("model_name_or_path and pretrained_backbone exclude each other: set only one of them")
        if self.pretrained_backbone is not None and self.model.get("backbone_config") is not None:
            raise ValueError(
                "model.backbone_config and pretrained_backbone exclude each other, because the checkpoint sets the sizes: "
                "add --model.backbone_config null or --pretrained_backbone null"
            )
        if not self.adapter_targets:
            raise ValueError(f"adapter_targets is empty: choose among {', '.join(ADAPTER_ROLES)}")
        for role in map(str, self.adapter_targets):
            if role not in (*ADAPTER_ROLES, CONVOLUTIONS):
                raise ValueError(
                    f"adapter_targets: no role {role!r}{did_you_mean(role, (*ADAPTER_ROLES, CONVOLUTIONS))}"
                )


@dataclass
class WindowArguments:
    """How tracks are read, and how training windows are drawn from them."""

    shortest_seconds: float = setting(SHORTEST_SECONDS, "Shorter audio is skipped.", limits="[0, inf)")
    windows_per_track: int = setting(1, "Random windows per training track and epoch.", limits="[1, inf)")
    time_crop: float = setting(1.0, "Share of a window's frames to train on, at a random position.", limits="(0, 1]")
    spec_augment: dict[str, Any] = setting(dict, f"Masks over windows: {_field_names(SpecAugment)}.")
    spectrogram_effects: dict[str, Any] = setting(dict, f"Effects on windows: {_field_names(SpectrogramEffects)}.")
    preprocessing_num_proc: int | None = setting(None, "Processes that decode and extract.", limits="[1, inf)")

    def __post_init__(self):
        check_fields_of(self)
        self.window_augmentation  # noqa: B018 (raises for wrong entries)

    @property
    def window_augmentation(self) -> WindowAugmentation:
        """The crop, effects and masks that training applies to each window."""
        effects, masks = (
            kind(**check_fields(kind, fields, name)) if fields else None
            for kind, fields, name in (
                (SpectrogramEffects, self.spectrogram_effects, "spectrogram_effects"),
                (SpecAugment, self.spec_augment, "spec_augment"),
            )
        )
        return WindowAugmentation(self.time_crop, effects, masks)


@dataclass
class DataArguments(WindowArguments):
    """The data to train on."""

    data: str = setting(
        "", "Name of a dataset (gtzan, synthetic, ...), or path of a folder of genres, a manifest, ..."
    )
    data_options: dict[str, Any] = setting(dict, "Options of the dataset.")
    exclude: str | None = setting(None, "List of tracks to leave out, written by `hfmgc check --write_exclusions`.")
    split_policy: str = setting("stratified", f"One of {', '.join(POLICIES)}; each dataset supports some of them.")
    split_ratios: str = setting("8:1:1", "train:validation:test, in quotes in YAML.")
    split_seed: int = setting(0, "Seed of the split; `seed` is that of the training.")
    split_fold: int = setting(1, "Published fold to use with artist_folds.")
    split_manifest: str | None = setting(None, "split.json of an earlier run, to repeat its split exactly.")
    allow_leaks: bool = setting(False, "Train even if artists or recordings are on two sides of the split; recorded.")
    fit_statistics: str = setting(
        "none", "Fit the front end's mean and deviation to the training side.", choices=("none", "overall", "per_bin")
    )
    augmentation: str = setting(
        "fresh",
        "fresh: drawn for each example; offline: six stored variants of each track (AST report).",
        choices=("fresh", "offline", "none"),
    )
    augmentation_probability: float | None = setting(
        None, "Share of augmented examples with fresh; null: 6 of 7, as in the AST report.", limits="[0, 1]"
    )
    training_windows: str = setting(
        "random",
        "random: drawn in each epoch; fixed: the windows that evaluation uses, extracted once.",
        choices=("random", "fixed"),
    )
    mixup_alpha: float = setting(0.0, "Parameter of mixup's Beta distribution; 0: no mixup.", limits="[0, inf)")
    class_weights: str = setting(
        "none", "balanced: each genre contributes equally to the loss.", choices=("none", "balanced")
    )

    def __post_init__(self):
        super().__post_init__()
        check_policy(self.split_policy)
        parse_ratios(self.split_ratios)
        if self.training_windows == "fixed" and self.windows_per_track != 1:
            raise ValueError("windows_per_track applies only to training_windows random: leave it out")
        if self.training_windows == "fixed" and self.augmentation == "fresh":
            raise ValueError(
                "augmentation must be none or offline with training_windows fixed, which are extracted once "
                "(spec_augment works)"
            )


@dataclass
class RunArguments(TrainingArguments):
    """How to train: transformers' TrainingArguments with the defaults of this toolkit."""

    output_dir: str = setting("", "Folder of the run.")
    overwrite: bool = setting(False, "Replace an earlier run in output_dir.")
    license: str | None = setting(
        None, "Licence for the model card, as the Hub names it (apache-2.0, cc-by-nc-4.0, ...)."
    )
    resume_from_checkpoint: str | bool | None = setting(None, "Folder of a checkpoint; true or last: the newest one.")
    early_stopping_patience: int | None = setting(
        None, "Stop after this many evaluations without an improvement; null: never.", limits="[1, inf)"
    )
    weight_averaging: float = setting(
        0.0, "Decay (such as 0.99) of a moving average of the weights, evaluated and saved; 0: none.", limits="[0, 1)"
    )
    decay_from_epoch: int | None = setting(
        None, "First epoch (from 0) of a decay of the learning rate; replaces lr_scheduler_type.", limits="[0, inf)"
    )
    epoch_decay: float = setting(0.1, "Each of these epochs multiplies by exp(-epoch_decay).", limits="[0, inf)")
    channels_last: bool = setting(False, "Channels-last memory layout; benchmarks/architectures.py measures it.")
    reuse_frozen_prefix: bool = setting(
        False, "Store the output of the frozen lower layers and train on it: same result at a fraction of the cost."
    )
    prefix_store: str | None = setting(
        None, "Folder for these outputs, shared by all runs; null: hfmgc/frozen_prefix in HF_HOME."
    )
    prefix_dtype: str = setting("float32", "bfloat16 halves the store and rounds.", choices=("float32", "bfloat16"))
    prefix_store_gigabytes: float = setting(20.0, "Largest size of prefix_store in GB.", limits="(0, inf)")
    eval_strategy: str = setting("epoch", "When the validation side is evaluated.", choices=("no", "steps", "epoch"))
    save_strategy: str = setting("epoch", "When a checkpoint is saved.", choices=("no", "steps", "epoch", "best"))
    save_total_limit: int | None = setting(2, "Number of checkpoints to keep.")
    load_best_model_at_end: bool = setting(True, "End the run with the weights of its best checkpoint.")
    metric_for_best_model: str | None = setting(
        "auto",
        f"Metric that chooses the best checkpoint. With one genre per track: {', '.join(SINGLE_LABEL.best_metrics)}. "
        f"With several: {', '.join(MULTI_LABEL.best_metrics)}. auto: the first of them.",
    )
    restore_callback_states_from_checkpoint: bool = setting(True, "Keep the count of early stopping after a resume.")
    remove_unused_columns: bool = setting(False, "Must stay false: the collator needs the genres.")
    label_names: list[str] | None = setting(lambda: ["labels"], "Inputs that are labels; PEFT hides their names.")

    def __post_init__(self):
        if not self.output_dir:
            raise ValueError("output_dir is not set: name the folder of the run")
        self.changed = changed_fields(self)  # before TrainingArguments resolves defaults
        check_fields_of(self)
        self._check_combinations()
        super().__post_init__()
        # On a CPU, pinning memory only prints a warning in each epoch.
        self.dataloader_pin_memory = self.dataloader_pin_memory and self.device.type != "cpu"

    def _check_combinations(self) -> None:
        """Reject settings that would end in a traceback or in a wrong result."""
        unsupported = {
            "dataloader_drop_last": "leaves out tracks of the validation side: set false",
            "label_smoothing_factor": "ignores class weights, penalties and mixup: set model.label_smoothing instead",
            "remove_unused_columns": "removes the genres of the examples: set false",
            # Workers draw their seeds once; after a resume they would draw different ones.
            "dataloader_persistent_workers": "makes a resumed run differ from an uninterrupted one: set false",
        }
        for name, reason in unsupported.items():
            if getattr(self, name):
                raise ValueError(f"{name} {reason}")
        if self.decay_from_epoch is not None and self.warmup_steps:
            raise ValueError("decay_from_epoch starts at the full learning rate: leave out warmup_steps")
        if self.weight_averaging and (self.fsdp or self.deepspeed):
            raise ValueError("weight_averaging does not work with deepspeed or fsdp: leave it out")
        if self.push_to_hub and not self.hub_model_id:
            raise ValueError("push_to_hub needs hub_model_id: set it to USER/NAME")

    def with_values(self, **values: Any) -> Self:
        """Return a copy with other values; `dataclasses.replace` would resolve the defaults of transformers twice."""
        changed = copy.copy(self)
        vars(changed).update(values)
        return changed


Groups = tuple[ModelArguments, DataArguments, RunArguments]
RECIPE_GROUPS = (ModelArguments, DataArguments, RunArguments)
