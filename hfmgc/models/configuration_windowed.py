"""What the configs of all architectures share."""

from transformers import PreTrainedConfig


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
        if voting not in ("mean", "majority"):
            raise ValueError(f"voting must be 'mean' or 'majority', not {voting!r}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), not {label_smoothing}")
        if kwargs.get("id2label") and not kwargs.get("label2id"):
            kwargs["label2id"] = {label: int(index) for index, label in kwargs["id2label"].items()}
        self.voting = voting
        self.label_smoothing = label_smoothing
        super().__init__(**kwargs)
