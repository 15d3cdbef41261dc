"""Config fields of all architectures."""

import math
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.utils.type_validators import positive_int_field

from .config_fields import rate


VotingRule = Literal["mean", "majority"]


@strict
class WindowedConfig(PreTrainedConfig):
    r"""Base class of the configs. Their models classify the windows of a track, which vote on the track.

    A field is checked whenever it is set. Methods called `validate_...` check several fields together: when a config
    is created or saved, and when a model is built from it. Without the decorator `@strict`, the fields of a subclass
    are not checked.

    In all configs and models, "(ours)" marks a choice that the cited paper leaves open.

    Args:
        voting (`str`, *optional*, defaults to `"mean"`):
            How the windows of a track vote: `"mean"` averages their probabilities; `"majority"` takes the most
            frequent prediction (AST report, section 4.4).
        label_smoothing (`float`, *optional*, defaults to 0.0):
            Share of the training target that is spread evenly over all genres.
        class_weights (`list[float]`, *optional*):
            Weight of each genre in the loss [labels]. By default all weights are 1.
        classifier_hidden_size (`int`, *optional*):
            Width of a hidden layer (ReLU) in the classifier; by default the classifier is linear. `recipes/probe.py`
            sets this field. Architectures that define their own head ignore it.
    """

    # The plain Trainer of transformers then gathers only the logits of tracks, as its metrics expect.
    keys_to_ignore_at_inference = ["window_logits", "routing", "hidden_states", "attentions"]

    voting: VotingRule = "mean"
    label_smoothing: float | int = rate(default=0.0)
    class_weights: list[float | int] | tuple[float | int, ...] | None = None
    classifier_hidden_size: int | None = positive_int_field(default=None)

    def __post_init__(self, **kwargs):
        if self.id2label and not self.label2id:
            self.label2id = {label: int(index) for index, label in self.id2label.items()}
        super().__post_init__(**kwargs)
        # Assigning it selects "eager" attention, the only implementation that returns attentions.
        self.output_attentions = self.output_attentions

    def __setattr__(self, name: str, value: Any) -> None:
        # JSON has no tuples. With lists only, a config equals its saved copy.
        super().__setattr__(name, list(value) if isinstance(value, tuple) else value)

    def validate_labels(self) -> None:
        """Raise a ValueError unless the loss fits the task and the labels."""
        if self.problem_type == "regression":
            raise ValueError("problem_type must be single_label_classification or multi_label_classification")
        if self.label_smoothing and self.problem_type == "multi_label_classification":
            raise ValueError("label_smoothing must be 0 for problem_type multi_label_classification")
        weights = self.class_weights
        if weights is not None and (len(weights) != self.num_labels or not all(0 < w < math.inf for w in weights)):
            raise ValueError(f"class_weights must be {self.num_labels} positive numbers, one for each label")


# Saved checkpoints include this code, so that they load without hfmgc. Subclasses inherit the registration.
WindowedConfig.register_for_auto_class()
