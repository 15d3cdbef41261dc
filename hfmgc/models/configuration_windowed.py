"""What the configs of all architectures share."""

import math
from numbers import Real
from typing import Any

from transformers import PreTrainedConfig

from .config_checks import check_choice, check_rates


VOTING_RULES = ("mean", "majority")
PROBLEM_TYPES = (None, "single_label_classification", "multi_label_classification")


class WindowedConfig(PreTrainedConfig):
    r"""Base of the configs of models that hear a track as a stack of windows.

    Args:
        voting (`str`, *optional*, defaults to `"mean"`):
            How a track's windows become one answer: `"mean"` of their probabilities, or `"majority"` (AST report,
            section 4.4).
        label_smoothing (`float`, *optional*, defaults to 0.0):
            Share of the training target that is spread evenly over all genres.
        class_weights (`list[float]`, *optional*):
            What each genre counts for in the loss [labels]; all the same by default.
    """

    # A plain Trainer gathers the tracks' logits alone, so that `np.argmax(predictions, axis=1)` works.
    keys_to_ignore_at_inference = ["window_logits", "routing", "hidden_states", "attentions"]  # noqa: RUF012 (a list, for the Trainer)

    def __init__(
        self,
        voting: str = "mean",
        label_smoothing: float = 0.0,
        class_weights: list[float] | None = None,
        **kwargs,
    ):
        if kwargs.get("id2label") and not kwargs.get("label2id"):
            kwargs["label2id"] = {label: int(index) for index, label in kwargs["id2label"].items()}
        self.voting = voting
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights
        super().__init__(**kwargs)
        # Once more through its setter, which chooses the attention that has them.
        self.output_attentions = self.output_attentions
        self.validate()

    def __setattr__(self, name: str, value: Any) -> None:
        # As JSON gives them back.
        super().__setattr__(name, list(value) if isinstance(value, tuple) else value)

    def validate(self) -> None:
        """Raise a ValueError that names the field from which no model can be built.

        Every config extends it. transformers sets the overrides of `from_pretrained` after `__init__`, so a model calls
        it again when it is built; `save_pretrained` does so of itself.
        """
        super().validate()
        check_choice("voting", self.voting, VOTING_RULES)
        if self.problem_type not in PROBLEM_TYPES:
            raise ValueError(f"problem_type must be one of {PROBLEM_TYPES}, not {self.problem_type!r}")
        check_rates(label_smoothing=self.label_smoothing)
        if self.label_smoothing and self.problem_type == "multi_label_classification":
            raise ValueError("label_smoothing must be 0 for problem_type multi_label_classification")
        if self.class_weights is not None and not (
            isinstance(self.class_weights, list)
            and len(self.class_weights) == self.num_labels
            and all(isinstance(weight, Real) and 0 < weight < math.inf for weight in self.class_weights)
        ):
            raise ValueError(f"class_weights must be {self.num_labels} positive numbers, one for each label")
