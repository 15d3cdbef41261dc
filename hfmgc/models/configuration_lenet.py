"""Config of LeNet-5 for spectrograms."""

from .config_checks import check_choice, check_rates, check_sizes
from .configuration_windowed import WindowedConfig


ACTIVATIONS = ("tanh", "relu")
SUBSAMPLINGS = ("average", "max")
# Two convolutions of 5x5 and two poolings of 2x2 leave one place of so many.
SMALLEST_SIDE = 16


class LeNetConfig(WindowedConfig):
    r"""Config of [`LeNetForAudioClassification`], the first baseline of the Divide and Conquer paper (section III-B).

    The paper gives neither sizes nor a figure for it; the sizes of the layers are LeNet-5's own (LeCun et al., 1998).

    Args:
        num_bins (`int`, *optional*, defaults to 128): Mel bins (paper, section II-B).
        activation (`str`, *optional*, defaults to `"tanh"`): `"tanh"` (LeCun et al., without its scale) or `"relu"` (ours).
        subsampling (`str`, *optional*, defaults to `"average"`):
            `"average"` (LeCun et al., without its trainable factors) or `"max"` (ours) of 2x2.
        dropout (`float`, *optional*, defaults to 0.0): Before the classifier (ours; LeNet-5 has none).
        kwargs: See [`WindowedConfig`].

    Raises:
        ValueError: If a field is impossible, naming it.

    Example:

    ```python
    >>> from hfmgc.models.configuration_lenet import LeNetConfig
    >>> from hfmgc.models.modeling_lenet import LeNetForAudioClassification

    >>> LeNetForAudioClassification(LeNetConfig(num_labels=10)).num_parameters()
    61706
    ```
    """

    model_type = "hfmgc-lenet"

    def __init__(
        self,
        num_bins: int = 128,
        activation: str = "tanh",
        subsampling: str = "average",
        dropout: float = 0.0,
        **kwargs,
    ):
        self.num_bins = num_bins
        self.activation = activation
        self.subsampling = subsampling
        self.dropout = dropout
        super().__init__(**kwargs)

    def validate(self) -> None:
        """Raise a ValueError that names the field from which no model can be built."""
        super().validate()
        check_sizes(SMALLEST_SIDE, num_bins=self.num_bins)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("subsampling", self.subsampling, SUBSAMPLINGS)
        check_rates(dropout=self.dropout)


# The code travels with every checkpoint, so that it loads where hfmgc is not installed.
LeNetConfig.register_for_auto_class()
