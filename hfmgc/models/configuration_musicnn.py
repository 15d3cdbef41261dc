"""Config of MusiCNN."""

from .config_checks import check_choice, check_rates, check_size_lists, check_sizes
from .configuration_windowed import WindowedConfig


REPRESENTATIONS = ("penultimate", "pooled")


class MusiCNNConfig(WindowedConfig):
    r"""Config of [`MusiCNNForAudioClassification`], the musically motivated CNN of Pons and Serra (2019).

    The defaults are the sizes of the published checkpoints: 787,159 parameters with 50 labels.

    Args:
        num_bins (`int`, *optional*, defaults to 96): Mel bands of a frame.
        timbral_channels (`int`, *optional*, defaults to 204): Filters of each timbral branch.
        timbral_heights (`list[int]`, *optional*, defaults to `[38, 67]`):
            Mel bands that the filters of each timbral branch span; the published network has 0.4 and 0.7 of the bands.
        timbral_width (`int`, *optional*, defaults to 7): Frames that they span.
        temporal_channels (`int`, *optional*, defaults to 51): Filters of each temporal branch.
        temporal_widths (`list[int]`, *optional*, defaults to `[128, 64, 32]`): Frames that the filters of each branch span.
        midend_channels (`int`, *optional*, defaults to 64): Filters of each of the three convolutions over time.
        midend_width (`int`, *optional*, defaults to 7): Frames that they span.
        hidden_size (`int`, *optional*, defaults to 200): Units of the dense layer.
        dropout (`float`, *optional*, defaults to 0.5): Before the dense layer and before the classifier.
        representation (`str`, *optional*, defaults to `"penultimate"`):
            What the classifier reads: `"penultimate"`, the dense layer after batch norm [hidden_size], or `"pooled"`, maximum
            and mean over time of all features [2 x (front end + 3 x midend_channels)], without the dense layer.
        kwargs: See [`WindowedConfig`].

    Raises:
        ValueError: If a field is impossible, naming it.

    Example:

    ```python
    >>> from hfmgc.models.configuration_musicnn import MusiCNNConfig
    >>> from hfmgc.models.modeling_musicnn import MusiCNNForAudioClassification

    >>> MusiCNNForAudioClassification(MusiCNNConfig(num_labels=50)).num_parameters()
    787159
    ```
    """

    model_type = "hfmgc-musicnn"

    def __init__(
        self,
        num_bins: int = 96,
        timbral_channels: int = 204,
        timbral_heights: list[int] | tuple[int, ...] = (38, 67),
        timbral_width: int = 7,
        temporal_channels: int = 51,
        temporal_widths: list[int] | tuple[int, ...] = (128, 64, 32),
        midend_channels: int = 64,
        midend_width: int = 7,
        hidden_size: int = 200,
        dropout: float = 0.5,
        representation: str = "penultimate",
        **kwargs,
    ):
        self.num_bins = num_bins
        self.timbral_channels = timbral_channels
        self.timbral_heights = timbral_heights
        self.timbral_width = timbral_width
        self.temporal_channels = temporal_channels
        self.temporal_widths = temporal_widths
        self.midend_channels = midend_channels
        self.midend_width = midend_width
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.representation = representation
        super().__init__(**kwargs)

    def validate(self) -> None:
        """Raise a ValueError that names the field from which no model can be built."""
        super().validate()
        check_sizes(
            num_bins=self.num_bins,
            timbral_channels=self.timbral_channels,
            timbral_width=self.timbral_width,
            temporal_channels=self.temporal_channels,
            midend_channels=self.midend_channels,
            midend_width=self.midend_width,
            hidden_size=self.hidden_size,
        )
        check_size_lists(timbral_heights=self.timbral_heights, temporal_widths=self.temporal_widths)
        check_rates(dropout=self.dropout)
        check_choice("representation", self.representation, REPRESENTATIONS)
        if max(self.timbral_heights) > self.num_bins:
            raise ValueError(f"timbral_heights {self.timbral_heights} must not exceed num_bins {self.num_bins}")
        for name in ("timbral_width", "midend_width"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"{name} must be odd, so that padding keeps the frames, not {getattr(self, name)}")


# The code travels with every checkpoint, so that it loads where hfmgc is not installed.
MusiCNNConfig.register_for_auto_class()
