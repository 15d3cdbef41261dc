"""Config fields of all architectures."""

import math
from typing import Any, Literal, get_args

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.utils.type_validators import positive_int_field

from .config_fields import rate


VotingRule = Literal["mean", "majority"]
VOTING_RULES = get_args(VotingRule)


@strict
class WindowedConfig(PreTrainedConfig):
    r"""Base of the configs of models that classify a track from a stack of windows.

    Single fields are checked whenever they are set. Fields are checked against each other (`validate_...`) when a config is
    created or saved, and when a model is built from it. A subclass is decorated with `@strict`, or its own fields are
    not checked.

    Args:
        voting (`str`, *optional*, defaults to `"mean"`):
            How the predictions of a track's windows are combined: `"mean"` of their probabilities, or `"majority"` (AST
            report, section 4.4).
        label_smoothing (`float`, *optional*, defaults to 0.0):
            Share of the training target that is spread evenly over all genres.
        class_weights (`list[float]`, *optional*):
            Weight of each genre in the loss [labels]; equal by default.
        classifier_hidden_size (`int`, *optional*):
            Width of a hidden layer (ReLU) of the classifier, which recipes/probe.py sets; none by default. Architectures with
            a head of their own ignore it.
    """

    # A plain Trainer gathers only the tracks' logits, so that `np.argmax(predictions, axis=1)` works.
    keys_to_ignore_at_inference = ["window_logits", "routing", "hidden_states", "attentions"]  # noqa: RUF012 (a list, for the Trainer)

    voting: VotingRule = "mean"
    label_smoothing: float | int = rate(default=0.0)
    class_weights: list[float | int] | tuple[float | int, ...] | None = None
    classifier_hidden_size: int | None = positive_int_field(default=None)

    def __post_init__(self, **kwargs):
        if self.id2label and not self.label2id:
            self.label2id = {label: int(index) for index, label in self.id2label.items()}
        super().__post_init__(**kwargs)
        # Its setter selects the attention implementation that can return them.
        self.output_attentions = self.output_attentions

    def __setattr__(self, name: str, value: Any) -> None:
        # Lists, as JSON returns them.
        super().__setattr__(name, list(value) if isinstance(value, tuple) else value)

    def validate_labels(self) -> None:
        """Raise a ValueError unless the fields of the head and the loss fit the labels."""
        if self.problem_type == "regression":
            raise ValueError("problem_type must be single_label_classification or multi_label_classification")
        if self.label_smoothing and self.problem_type == "multi_label_classification":
            raise ValueError("label_smoothing must be 0 for problem_type multi_label_classification")
        weights = self.class_weights
        if weights is not None and (len(weights) != self.num_labels or not all(0 < w < math.inf for w in weights)):
            raise ValueError(f"class_weights must be {self.num_labels} positive numbers, one for each label")


# Saved checkpoints include the code, so they load without hfmgc; subclasses inherit this.
WindowedConfig.register_for_auto_class()
