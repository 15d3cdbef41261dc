"""What the configs of all architectures share."""

from transformers import PreTrainedConfig


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
    """

    def __init__(self, voting: str = "mean", label_smoothing: float = 0.0, **kwargs):
        if voting not in VOTING_RULES:
            raise ValueError(f"voting must be one of {', '.join(VOTING_RULES)}, not {voting!r}")
        if kwargs.get("problem_type") not in PROBLEM_TYPES:
            raise ValueError(f"problem_type must be one of {PROBLEM_TYPES}, not {kwargs['problem_type']!r}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), not {label_smoothing}")
        if kwargs.get("id2label") and not kwargs.get("label2id"):
            kwargs["label2id"] = {label: int(index) for index, label in kwargs["id2label"].items()}
        self.voting = voting
        self.label_smoothing = label_smoothing
        super().__init__(**kwargs)
