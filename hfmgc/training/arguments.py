"""The fields of a recipe, in groups."""

import math
import typing
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from transformers import TrainingArguments

from ..data.audio import SHORTEST_SECONDS
from ..data.splits import POLICIES, parse_ratios
from ..errors import nearest
from ..evaluation.task import MULTI_LABEL, SINGLE_LABEL
from ..registry import ARCHITECTURES
from ..settings import coerce
from .adapters import ADAPTER_ROLES
from .spectrogram_augmentation import SpecAugment
from .spectrogram_effects import SpectrogramEffects


def changed_fields(group: Any) -> list[str]:
    """Return the names of a group's fields that differ from their defaults."""
    return [
        one.name
        for one in fields(group)
        if getattr(group, one.name) != (one.default if one.default_factory is MISSING else one.default_factory())
    ]


def check_choices(group: Any) -> None:
    """Refuse a value that is not among the `choices` of its field, which `--help` lists; of inherited fields none."""
    for one in fields(group):
        choices, value = one.metadata.get("choices"), getattr(group, one.name)
        if choices and one.name in type(group).__annotations__ and value not in choices:
            raise ValueError(f"{one.name} must be {', '.join(choices[:-1])} or {choices[-1]}, not {value!r}")


@dataclass
class ModelArguments:
    """What is trained."""

    model_type: str = field(default="hfmgc-ast", metadata={"help": f"Architecture: {', '.join(ARCHITECTURES)}."})
    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Checkpoint of ours (folder or Hub) to start from: architecture, sizes, front end and weights are "
            "its; the head is new where the genres are others."
        },
    )
    model_revision: str | None = field(default=None, metadata={"help": "Its commit on the Hub."})
    model: dict[str, Any] = field(default_factory=dict, metadata={"help": "Fields of the architecture's config."})
    front_end: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "Fields of the feature extractor: window length and policy, short tracks, normalisation."},
    )
    pretrained_backbone: str | None = field(
        default=None,
        metadata={"help": "Checkpoint (Hub or folder) that the backbone starts from; none: random weights."},
    )
    pretrained_backbone_revision: str | None = field(default=None, metadata={"help": "Its commit on the Hub."})
    freeze_backbone: bool = field(default=False, metadata={"help": "Train the head alone (and the adapter, if any)."})
    adapter: str = field(
        default="none", metadata={"choices": ("dora", "lora", "none"), "help": "An adapter freezes the backbone."}
    )
    adapter_targets: list[str] = field(
        default_factory=lambda: ["fc2"],
        metadata={"help": f"Linear layers of an encoder layer by role: {', '.join(ADAPTER_ROLES)}."},
    )
    adapter_min_layer: int = field(default=0, metadata={"help": "First encoder layer that is adapted."})
    adapter_rank: int = field(default=2, metadata={"help": "Rank r of the update."})
    adapter_alpha: float = field(default=4.0, metadata={"help": "Strength; PEFT scales the update by alpha / r."})
    adapter_dropout: float = field(default=0.0, metadata={"help": "Dropout before the low-rank matrices."})

    def __post_init__(self):
        check_choices(self)
        if self.model_type not in ARCHITECTURES:
            raise ValueError(f"model_type {self.model_type!r} does not exist{nearest(self.model_type, ARCHITECTURES)}")
        if self.model_name_or_path is not None and self.pretrained_backbone is not None:
            raise ValueError(
                "model_name_or_path and pretrained_backbone exclude each other: a model has one beginning"
            )
        if not self.adapter_targets:
            raise ValueError(f"adapter_targets is empty: choose among {', '.join(ADAPTER_ROLES)}")
        for role in map(str, self.adapter_targets):
            if role not in ADAPTER_ROLES:
                raise ValueError(f"adapter_targets: no role {role!r}{nearest(role, ADAPTER_ROLES)}")
        if self.pretrained_backbone is not None and self.model.get("backbone_config") is not None:
            raise ValueError(
                "model.backbone_config and pretrained_backbone exclude each other: the checkpoint has sizes of its own "
                "(--model.backbone_config null, or --pretrained_backbone null)"
            )
        if self.adapter_rank < 1:
            raise ValueError(f"adapter_rank must be at least 1, not {self.adapter_rank}")
        if not self.adapter_alpha > 0:
            raise ValueError(f"adapter_alpha must be above 0, not {self.adapter_alpha}")
        if not 0 <= self.adapter_dropout < 1:
            raise ValueError(f"adapter_dropout must lie in [0, 1), not {self.adapter_dropout}")


@dataclass
class DataArguments:
    """What it is trained on."""

    data: str = field(default="", metadata={"help": "A dataset's name (gtzan, synthetic) or a folder of genres."})
    data_options: dict[str, Any] = field(default_factory=dict, metadata={"help": "Options of the dataset."})
    exclude: str | None = field(
        default=None,
        metadata={
            "help": "List of tracks to leave out (CSV, JSON or text: track_id, reason), such as `hfmgc check DATA "
            "--write_exclusions FILE` writes."
        },
    )
    shortest_seconds: float = field(default=SHORTEST_SECONDS, metadata={"help": "Audio that is shorter is skipped."})
    split_policy: str = field(
        default="stratified",
        metadata={"help": f"How tracks are divided: {', '.join(POLICIES)}; each dataset has some of them."},
    )
    split_ratios: str = field(default="8:1:1", metadata={"help": "train:validation:test, in quotes in YAML."})
    split_seed: int = field(default=0, metadata={"help": "Seed of the split, apart from the training's."})
    split_fold: int = field(default=1, metadata={"help": "Which published fold, for artist_folds."})
    split_manifest: str | None = field(
        default=None, metadata={"help": "split.json of an earlier run, to repeat its split exactly."}
    )
    allow_leaks: bool = field(
        default=False,
        metadata={"help": "Train although the leak guard found artists or recordings on two sides; recorded."},
    )
    fit_statistics: str = field(
        default="none",
        metadata={
            "choices": ("none", "overall", "per_bin"),
            "help": "Compute the front end's mean and deviation from the training side: over all values, or for each bin.",
        },
    )
    augmentation: str = field(
        default="fresh",
        metadata={
            "choices": ("fresh", "offline", "none"),
            "help": "fresh: drawn for each example; offline: six variants of each track, once (AST report).",
        },
    )
    augmentation_probability: float | None = field(
        default=None, metadata={"help": "Share of augmented examples under fresh; none: 6 of 7, as in the report."}
    )
    training_windows: str = field(
        default="random",
        metadata={
            "choices": ("random", "fixed"),
            "help": "random: drawn in each epoch; fixed: the front end's own windows of each track, extracted once (the "
            "slices of the papers).",
        },
    )
    windows_per_track: int = field(default=1, metadata={"help": "Random windows of each training track in an epoch."})
    time_crop: float = field(
        default=1.0, metadata={"help": "Share of a window's frames that training hears, from a random place."}
    )
    spec_augment: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "Masks over training windows: time_masks, time_mask_frames, frequency_masks, frequency_mask_bins."
        },
    )
    spectrogram_effects: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "Another tempo, pitch and equalisation of each training window: tempo, pitch_bins, equalizer_bands, "
            "equalizer_strength."
        },
    )
    mixup_alpha: float = field(
        default=0.0, metadata={"help": "Of mixup's Beta distribution (tracks and genres are mixed); 0: no mixup."}
    )
    class_weights: str = field(
        default="none",
        metadata={
            "choices": ("none", "balanced"),
            "help": "balanced: each genre has the same weight in the loss, however many training tracks it has.",
        },
    )
    preprocessing_num_proc: int | None = field(default=None, metadata={"help": "Processes that decode and extract."})

    def __post_init__(self):
        check_choices(self)
        parse_ratios(self.split_ratios)
        if self.preprocessing_num_proc is not None and self.preprocessing_num_proc < 1:
            raise ValueError(f"preprocessing_num_proc must be at least 1, not {self.preprocessing_num_proc}")
        if not self.shortest_seconds >= 0:
            raise ValueError(f"shortest_seconds must be at least 0, not {self.shortest_seconds}")
        if self.windows_per_track < 1:
            raise ValueError(f"windows_per_track must be at least 1, not {self.windows_per_track}")
        if self.augmentation_probability is not None and not 0 <= self.augmentation_probability <= 1:
            raise ValueError(f"augmentation_probability must lie in [0, 1], not {self.augmentation_probability}")
        if self.training_windows == "fixed" and self.windows_per_track != 1:
            raise ValueError("windows_per_track is for random training_windows; fixed ones are as many as there are")
        if self.training_windows == "fixed" and self.augmentation == "fresh":
            raise ValueError(
                "training_windows fixed are extracted once: augmentation must be none or offline (spec_augment works)"
            )
        if not 0 < self.time_crop <= 1:
            raise ValueError(f"time_crop must lie in (0, 1], not {self.time_crop}")
        if not 0 <= self.mixup_alpha < math.inf:
            raise ValueError(f"mixup_alpha must be at least 0, not {self.mixup_alpha}")
        self.masks, self.effects  # noqa: B018 (refuses what is wrong with them)

    @property
    def masks(self) -> SpecAugment | None:
        """The recipe's SpecAugment."""
        return _instance(SpecAugment, self.spec_augment, "spec_augment")

    @property
    def effects(self) -> SpectrogramEffects | None:
        """The recipe's effects on spectrograms."""
        return _instance(SpectrogramEffects, self.spectrogram_effects, "spectrogram_effects")


def _instance(target: type, fields: dict[str, Any], group: str) -> Any:
    """Return the dataclass that a mapping of the recipe describes, or None where it is empty."""
    if not fields:
        return None
    known = typing.get_type_hints(target)
    for name in fields:
        if name not in known:
            raise ValueError(f"{group} has no entry {name!r}{nearest(str(name), known)}")
    return target(**{name: coerce(name, value, known[name], group) for name, value in fields.items()})


@dataclass
class RunArguments(TrainingArguments):
    """How it is trained: transformers' TrainingArguments with the defaults of this toolkit."""

    output_dir: str = field(default="", metadata={"help": "Folder of the run."})
    overwrite: bool = field(default=False, metadata={"help": "Replace an earlier run in output_dir."})
    license: str | None = field(
        default=None,
        metadata={
            "help": "Licence of the checkpoint for its model card, as the Hub names it (apache-2.0, cc-by-nc-4.0, ...); "
            "none: the card says that none is stated."
        },
    )
    resume_from_checkpoint: str | bool | None = field(
        default=None,
        metadata={"help": "true or last: go on from the last checkpoint of output_dir; or a checkpoint's folder."},
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations without a better one; none: never."}
    )
    weight_averaging: float = field(
        default=0.0,
        metadata={
            "help": "Decay of an exponential average of the weights, such as 0.99; the average is what is evaluated and "
            "kept. 0: none."
        },
    )
    decay_from_epoch: int | None = field(
        default=None,
        metadata={
            "help": "Constant learning rate until this epoch (from 0), then times exp(-epoch_decay) with each epoch, in "
            "place of lr_scheduler_type (divide-and-conquer paper: 8)."
        },
    )
    epoch_decay: float = field(default=0.1, metadata={"help": "See decay_from_epoch."})
    channels_last: bool = field(
        default=False,
        metadata={"help": "Lay convolutions out with channels last; benchmarks/architectures.py measures it."},
    )
    reuse_frozen_prefix: bool = field(
        default=False,
        metadata={
            "help": "Compute the frozen layers below the first trained one once for each window, keep what they make on "
            "disk, and train only what is above: the same result at a fraction of the cost."
        },
    )
    prefix_store: str | None = field(
        default=None,
        metadata={"help": "Folder where that is kept, for all runs together; none: hfmgc/frozen_prefix in HF_HOME."},
    )
    prefix_dtype: str = field(
        default="float32",
        metadata={"choices": ("float32", "bfloat16"), "help": "bfloat16: half the size, rounded to 8 bits."},
    )
    prefix_store_gigabytes: float = field(
        default=20.0, metadata={"help": "Most that prefix_store may hold, earlier runs' included."}
    )
    eval_strategy: str = field(
        default="epoch",
        metadata={"choices": ("no", "steps", "epoch"), "help": "When the validation side is evaluated."},
    )
    save_strategy: str = field(
        default="epoch",
        metadata={"choices": ("no", "steps", "epoch", "best"), "help": "When a checkpoint is saved."},
    )
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints that are kept."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Whether the best checkpoint is the result."})
    metric_for_best_model: str | None = field(
        default="auto",
        metadata={
            "help": "The metric that chooses the best checkpoint. With one genre per track: "
            f"{', '.join(SINGLE_LABEL.best_metrics)}. With several: {', '.join(MULTI_LABEL.best_metrics)}. auto: the "
            "first of them."
        },
    )
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "So that a resumed run stops early where an undisturbed one would."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Our collator takes what it needs."})
    label_names: list[str] | None = field(
        default_factory=lambda: ["labels"], metadata={"help": "Which inputs are labels (PEFT hides it)."}
    )

    def __post_init__(self):
        if not self.output_dir:
            raise ValueError("output_dir is not set: name the folder of the run")
        self.changed = changed_fields(self)  # before TrainingArguments resolves defaults
        check_choices(self)
        self._check_fields()
        super().__post_init__()
        # Pinning memory for an accelerator that is not there only warns, once for each epoch.
        self.dataloader_pin_memory = self.dataloader_pin_memory and self.device.type != "cpu"

    def _check_fields(self) -> None:
        """Refuse what would end in a traceback, or in a run that only looks finished."""
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("learning_rate", "weight_decay", "dataloader_num_workers", "warmup_steps"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        for name in ("logging_steps", "eval_steps", "save_steps"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.dataloader_drop_last:  # of the Trainer's evaluation as well
            raise ValueError("dataloader_drop_last must stay false: it would leave out tracks of the validation side")
        if not 0 <= self.weight_averaging < 1:
            raise ValueError(f"weight_averaging must lie in [0, 1), not {self.weight_averaging}")
        if self.decay_from_epoch is not None and not (self.decay_from_epoch >= 0 and self.epoch_decay >= 0):
            raise ValueError(
                f"decay_from_epoch and epoch_decay must be at least 0, not {self.decay_from_epoch}, {self.epoch_decay}"
            )
        if self.decay_from_epoch is not None and self.warmup_steps:
            raise ValueError("decay_from_epoch begins with the full learning rate: leave out warmup_steps")
        if not self.prefix_store_gigabytes > 0:
            raise ValueError(f"prefix_store_gigabytes must be above 0, not {self.prefix_store_gigabytes}")
        if self.weight_averaging and (self.fsdp or self.deepspeed):
            raise ValueError("weight_averaging: not with deepspeed or fsdp, which divide the weights")
        if self.label_smoothing_factor:
            raise ValueError(
                "label_smoothing_factor would leave out class weights, penalties and mixed genres: set "
                "model.label_smoothing"
            )
        if self.num_train_epochs <= 0 and self.max_steps <= 0:
            raise ValueError(
                f"num_train_epochs must be above 0, not {self.num_train_epochs}: nothing would be trained"
            )
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in [0, 2**32), not {self.seed}")
        if self.early_stopping_patience is not None and self.early_stopping_patience < 1:
            raise ValueError(f"early_stopping_patience must be at least 1, not {self.early_stopping_patience}")
        metric, known = (
            (self.metric_for_best_model or "auto").removeprefix("eval_"),
            (*SINGLE_LABEL.best_metrics, *MULTI_LABEL.best_metrics),
        )
        if metric not in ("auto", *known):
            raise ValueError(f"metric_for_best_model: no metric {metric!r}{nearest(metric, known)}")
        if self.remove_unused_columns:
            raise ValueError("remove_unused_columns must stay false: the genre of an example would be removed")
        if self.dataloader_persistent_workers:
            # They draw their seed once for a run; a resumed run draws it again, and dropout is shifted from then on.
            raise ValueError(
                "dataloader_persistent_workers would keep a resumed run from repeating an undisturbed one"
            )
        if self.push_to_hub and not self.hub_model_id:
            raise ValueError("push_to_hub needs hub_model_id USER/NAME")


RECIPE_GROUPS = (ModelArguments, DataArguments, RunArguments)
