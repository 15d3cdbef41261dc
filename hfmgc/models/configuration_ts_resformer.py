"""Config of TS-Resformer, its ablations and its baselines."""

from .config_checks import check_choice, check_flags, check_rates, check_size_lists, check_sizes
from .configuration_windowed import WindowedConfig


SEQUENCE_BRANCHES = ("transformer", "lstm", "gru", "bi_lstm", "bi_gru", "none")
ARRANGEMENTS = ("parallel", "serial")


_SIZES = (
    "num_bins", "num_filters", "filter_height", "filter_width", "attention_channels", "squeeze_reduction", "sequence_pool",
    "num_attention_heads", "feed_forward_size", "recurrent_hidden_size",
)  # fmt: skip
_FLAGS = ("residual_branch", "time_frequency_attention", "squeeze_excitation")


class TSResformerConfig(WindowedConfig):
    r"""Config of [`TSResformerForAudioClassification`].

    The rows of the paper's tables, as fields that differ from the defaults (A: `time_frequency_attention=False`,
    S: `squeeze_excitation=False`; the paired filters stay everywhere, which is ours):

    - Table 3: serial A S `arrangement="serial"`; Res-Transformer A S; with TF-attention S; with SE-Res A; TS-Resformer.
    - Table 4: `num_encoder_layers` 1 to 5.
    - Table 5: Transformer, LSTM, GRU, Bi-GRU `residual_branch=False` and `sequence_branch`; ResNet A S
      `sequence_branch="none"`; ResNet with LSTM, GRU or Bi-GRU A S and `sequence_branch`.
    - Figures 14 and 15: `filter_height` 2 to 15 with `filter_width=2`; `filter_width` 2 to 15 with `filter_height=2`.

    Args:
        num_bins (`int`, *optional*, defaults to 128):
            Mel bins of a window, and width of the sequence branch in parallel (section 3.1).
        residual_branch (`bool`, *optional*, defaults to `True`): Whether there is the convolutional branch (Table 5).
        sequence_branch (`str`, *optional*, defaults to `"transformer"`):
            `"transformer"`, `"lstm"`, `"gru"`, `"bi_gru"` (Table 5), `"bi_lstm"` (ours) or `"none"`.
        arrangement (`str`, *optional*, defaults to `"parallel"`):
            `"parallel"`: both branches hear the spectrogram and are concatenated. `"serial"`: the sequence branch hears
            the residual branch's map, averaged over frequency, its channels as features (Table 3; how is ours).
        num_filters (`int`, *optional*, defaults to 32): Output channels of each of the paired filters (section 3.2.2).
        filter_height (`int`, *optional*, defaults to 6): Bins of the frequency filters, which are 2 frames wide (4.3.3).
        filter_width (`int`, *optional*, defaults to 10): Frames of the time filters, which are 2 bins high (4.3.3).
        time_frequency_attention (`bool`, *optional*, defaults to `True`): Whether they are weighted (section 3.2.2).
        attention_channels (`int`, *optional*, defaults to 16): Hidden channels of that attention (section 3.2.2).
        initial_pool (`list[int]`, *optional*, defaults to `[4, 4]`):
            Max-pool [bins, frames] between the filters and the blocks (ours: at full size they are slow on a CPU).
        block_channels (`list[int]`, *optional*, defaults to `[64, 128, 128]`):
            Output channels of the residual blocks; all but the first halve both axes (ours).
        squeeze_excitation (`bool`, *optional*, defaults to `True`):
            Whether blocks weigh their channels (section 3.2.3); their batch norm is ours.
        squeeze_reduction (`int`, *optional*, defaults to 16): By how much that narrows them (ours; Hu et al., 2018).
        sequence_pool (`int`, *optional*, defaults to 4):
            Frames of the max-pool before the sequence branch in parallel (ours; in serial the blocks have pooled).
        num_encoder_layers (`int`, *optional*, defaults to 4):
            Transformer encoder layers (Table 4); 0 leaves the mean of what they would hear.
        num_attention_heads (`int`, *optional*, defaults to 4): Heads of each (section 3.2.4).
        feed_forward_size (`int`, *optional*, defaults to 512): Hidden width of their feed-forward nets (section 3.2.4).
        encoder_dropout (`float`, *optional*, defaults to 0.4): Dropout within them (section 3.2.4).
        recurrent_hidden_size (`int`, *optional*, defaults to 128): Width of a recurrence in each direction (ours).
        kwargs: See [`WindowedConfig`] (`voting`, `label_smoothing`) and `PreTrainedConfig` (`id2label`, ...).

    Raises:
        ValueError: For an impossible field, naming it.

    Example:

    ```python
    >>> from hfmgc.models.configuration_ts_resformer import TSResformerConfig
    >>> from hfmgc.models.modeling_ts_resformer import TSResformerForAudioClassification

    >>> model = TSResformerForAudioClassification(TSResformerConfig(num_labels=8))
    >>> model.num_parameters()
    1423804
    ```
    """

    model_type = "hfmgc-ts-resformer"
    # transformers' names, by which its encoder layer reads them.
    attribute_map = {  # noqa: RUF012 (transformers reads it as a plain class attribute)
        "intermediate_size": "feed_forward_size",
        "hidden_dropout": "encoder_dropout",
        "attention_dropout": "encoder_dropout",
        "activation_dropout": "encoder_dropout",
    }
    hidden_act = "relu"
    layer_norm_eps = 1e-5

    def __init__(
        self,
        num_bins: int = 128,
        residual_branch: bool = True,
        sequence_branch: str = "transformer",
        arrangement: str = "parallel",
        num_filters: int = 32,
        filter_height: int = 6,
        filter_width: int = 10,
        time_frequency_attention: bool = True,
        attention_channels: int = 16,
        initial_pool: list[int] | tuple[int, int] = (4, 4),
        block_channels: list[int] | tuple[int, ...] = (64, 128, 128),
        squeeze_excitation: bool = True,
        squeeze_reduction: int = 16,
        sequence_pool: int = 4,
        num_encoder_layers: int = 4,
        num_attention_heads: int = 4,
        feed_forward_size: int = 512,
        encoder_dropout: float = 0.4,
        recurrent_hidden_size: int = 128,
        **kwargs,
    ):
        self.num_bins = num_bins
        self.residual_branch = residual_branch
        self.sequence_branch = sequence_branch
        self.arrangement = arrangement
        self.num_filters = num_filters
        self.filter_height = filter_height
        self.filter_width = filter_width
        self.time_frequency_attention = time_frequency_attention
        self.attention_channels = attention_channels
        self.initial_pool = initial_pool
        self.block_channels = block_channels
        self.squeeze_excitation = squeeze_excitation
        self.squeeze_reduction = squeeze_reduction
        self.sequence_pool = sequence_pool
        self.num_encoder_layers = num_encoder_layers
        self.num_attention_heads = num_attention_heads
        self.feed_forward_size = feed_forward_size
        self.encoder_dropout = encoder_dropout
        self.recurrent_hidden_size = recurrent_hidden_size
        super().__init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        """Features of a frame that the sequence branch reads, which an encoder keeps."""
        return self.block_channels[-1] if self.arrangement == "serial" else self.num_bins

    def validate(self) -> None:
        """Raise a ValueError that names the field from which no model can be built."""
        super().validate()
        check_size_lists(initial_pool=self.initial_pool, block_channels=self.block_channels)
        check_sizes(**{name: getattr(self, name) for name in _SIZES})
        check_sizes(0, num_encoder_layers=self.num_encoder_layers)
        check_rates(encoder_dropout=self.encoder_dropout)
        check_flags(**{name: getattr(self, name) for name in _FLAGS})
        if len(self.initial_pool) != 2:
            raise ValueError(f"initial_pool must be [bins, frames], not {self.initial_pool}")
        self._check_branches()

    def _check_branches(self) -> None:
        """Raise a ValueError unless the branches exist and fit together."""
        check_choice("sequence_branch", self.sequence_branch, SEQUENCE_BRANCHES)
        check_choice("arrangement", self.arrangement, ARRANGEMENTS)
        if not self.residual_branch and self.sequence_branch == "none":
            raise ValueError("residual_branch is False and sequence_branch is 'none': at least one must be on")
        serial = self.arrangement == "serial"
        if serial and not (self.residual_branch and self.sequence_branch != "none"):
            raise ValueError("arrangement 'serial' needs residual_branch and a sequence_branch")
        if self.residual_branch and self.initial_pool[0] > self.num_bins:
            raise ValueError(f"initial_pool {self.initial_pool} pools more than num_bins {self.num_bins}")
        if self.residual_branch and self.squeeze_excitation and min(self.block_channels) < self.squeeze_reduction:
            raise ValueError(
                f"block_channels {self.block_channels} must each be at least squeeze_reduction {self.squeeze_reduction}"
            )
        if self.sequence_branch == "transformer":
            name = "block_channels[-1]" if serial else "num_bins"
            if self.hidden_size % self.num_attention_heads:
                raise ValueError(
                    f"{name} {self.hidden_size} is not divisible by num_attention_heads {self.num_attention_heads}"
                )


# The code travels with every checkpoint, so that it loads where hfmgc is not installed.
TSResformerConfig.register_for_auto_class()
