"""Config of the convolutional recurrent network of the Divide and Conquer paper."""

from .config_checks import check_choice, check_numbers, check_rates, check_size_lists, check_sizes
from .configuration_windowed import WindowedConfig


# Frames of a snippet of so many seconds (22,050 Hz, hop 512).
SNIPPET_FRAMES = {30: 1292, 10: 431, 3: 130}
_FOUR_POOLS = {
    30: [[2, 2], [3, 3], [3, 3], [4, 4]],
    10: [[2, 2], [3, 3], [3, 3], [2, 4]],
    3: [[2, 2], [2, 2], [2, 2], [2, 12]],
}
_THREE_POOLS = {
    30: [[2, 2], [3, 3], [10, 10]],
    10: [[2, 2], [3, 3], [3, 10]],
    3: [[2, 2], [2, 2], [2, 16]],
}
_TWO_POOLS = {30: [[2, 2], [24, 32]], 10: [[2, 2], [8, 32]], 3: [[2, 2], [4, 32]]}
# Networks of Table I [code]: channels, pools by seconds, GRUs, L2. LRS is L2Reg without L2: the rest is the schedule's.
_PAPER_NETWORKS = {
    "base": ([16, 32, 64, 128], _FOUR_POOLS, [256, 256], 0.0),
    "l2reg": ([16, 32, 64, 128], _FOUR_POOLS, [256], 0.001),
    "lrs": ([16, 32, 64, 128], _FOUR_POOLS, [256], 0.0),
    "3conv": ([16, 32, 64], _THREE_POOLS, [128], 0.0),
    "2conv": ([16, 32], _TWO_POOLS, [64], 0.0),
}


class DivideAndConquerCRNNConfig(WindowedConfig):
    r"""Config of [`DivideAndConquerCRNNForAudioClassification`]; the defaults are the paper's Base network for 30 s.

    What the text leaves out is taken from the authors' code, marked [code]; so are the first weights, Keras' defaults.

    Args:
        num_frames (`int`, *optional*, defaults to 1292):
            Frames of a window, for which the pools are checked: 1292, 431 or 130 in the paper for 30, 10 and 3 s [code].
            Windows of other lengths are taken too, while the pools leave a frame of them.
        num_bins (`int`, *optional*, defaults to 128): Mel bins (section II-B).
        channels (`list[int]`, *optional*, defaults to `[16, 32, 64, 128]`): Of each convolution [code].
        pools (`list[list[int]]`, *optional*, defaults to `[[2, 2], [3, 3], [3, 3], [4, 4]]`):
            [time, mel] of the max-pool behind each convolution [code].
        gru_hidden_sizes (`list[int]`, *optional*, defaults to `[256, 256]`): Of each GRU, one upon the other [code].
        dense_size (`int`, *optional*, defaults to 64): Of the linear layer before the classifier [code].
        convolution_dropout (`float`, *optional*, defaults to 0.1): Behind each convolution block [code].
        dense_dropout (`float`, *optional*, defaults to 0.4): Before the classifier [code].
        l2 (`float`, *optional*, defaults to 0.0):
            Factor of the sum of squares of the convolutions' and the dense layer's kernels, which is added to the loss
            while training; 0.001 in L2Reg and Optim [code].
        batch_norm_epsilon (`float`, *optional*, defaults to 0.001): Keras' default [code].
        batch_norm_momentum (`float`, *optional*, defaults to 0.01): Share of the newest batch; Keras' momentum 0.99 [code].
        kwargs: See [`WindowedConfig`]. `voting` stays `"mean"`: the paper's text says majority voting (section IV-B), its
            code takes the mean of the softmax over a track's snippets [code].

    Raises:
        ValueError: If a field is impossible, naming it; for pools, what is left of the axis.

    Example:

    ```python
    >>> from hfmgc.models.configuration_crnn import DivideAndConquerCRNNConfig
    >>> from hfmgc.models.modeling_crnn import DivideAndConquerCRNNForAudioClassification

    >>> config = DivideAndConquerCRNNConfig.from_paper("3conv", seconds=10, num_labels=16)
    >>> DivideAndConquerCRNNForAudioClassification(config).num_parameters()
    107312
    ```
    """

    model_type = "hfmgc-crnn"

    def __init__(
        self,
        num_frames: int = 1292,
        num_bins: int = 128,
        channels: list[int] | tuple[int, ...] = (16, 32, 64, 128),
        pools: list[list[int]] | None = None,
        gru_hidden_sizes: list[int] | tuple[int, ...] = (256, 256),
        dense_size: int = 64,
        convolution_dropout: float = 0.1,
        dense_dropout: float = 0.4,
        l2: float = 0.0,
        batch_norm_epsilon: float = 0.001,
        batch_norm_momentum: float = 0.01,
        **kwargs,
    ):
        self.num_frames = num_frames
        self.num_bins = num_bins
        self.channels = channels
        pools = _FOUR_POOLS[30] if pools is None else pools
        self.pools = [list(pool) if isinstance(pool, (list, tuple)) else pool for pool in pools]
        self.gru_hidden_sizes = gru_hidden_sizes
        self.dense_size = dense_size
        self.convolution_dropout = convolution_dropout
        self.dense_dropout = dense_dropout
        self.l2 = l2
        self.batch_norm_epsilon = batch_norm_epsilon
        self.batch_norm_momentum = batch_norm_momentum
        super().__init__(**kwargs)

    @classmethod
    def from_paper(cls, network: str, seconds: int = 30, **fields) -> "DivideAndConquerCRNNConfig":
        """Return the config of a network of Table I for snippets of 30, 10 or 3 s.

        Args:
            network: `"base"`, `"l2reg"`, `"lrs"`, `"3conv"` or `"2conv"`.
            seconds: Length of a snippet.
            fields: Override the network's own.

        Raises:
            ValueError: If the paper has no such network or length.
        """
        check_choice("network", network, tuple(_PAPER_NETWORKS))
        if seconds not in SNIPPET_FRAMES:
            raise ValueError(f"seconds must be one of {', '.join(map(str, SNIPPET_FRAMES))}, not {seconds!r}")
        channels, pools, gru_hidden_sizes, l2 = _PAPER_NETWORKS[network]
        paper = {
            "num_frames": SNIPPET_FRAMES[seconds],
            "channels": channels,
            "pools": pools[seconds],
            "gru_hidden_sizes": gru_hidden_sizes,
            "dense_size": 32 if (network, seconds) == ("2conv", 3) else 64,
            "l2": l2,
        }
        return cls(**(paper | fields))

    def validate(self) -> None:
        """Raise a ValueError that names the field from which no model can be built."""
        super().validate()
        check_size_lists(channels=self.channels, gru_hidden_sizes=self.gru_hidden_sizes)
        check_sizes(num_frames=self.num_frames, num_bins=self.num_bins, dense_size=self.dense_size)
        check_rates(convolution_dropout=self.convolution_dropout, dense_dropout=self.dense_dropout)
        check_numbers(
            l2=self.l2, batch_norm_epsilon=self.batch_norm_epsilon, batch_norm_momentum=self.batch_norm_momentum
        )
        if self.batch_norm_epsilon <= 0:
            raise ValueError(f"batch_norm_epsilon must be above 0, not {self.batch_norm_epsilon}")
        if not 0 < self.batch_norm_momentum <= 1:
            raise ValueError(f"batch_norm_momentum must lie in (0, 1], not {self.batch_norm_momentum}")
        if len(self.pools) != len(self.channels):
            raise ValueError(f"pools must be one for each of the {len(self.channels)} channels, not {len(self.pools)}")
        if any(not isinstance(pool, list) or len(pool) != 2 for pool in self.pools):
            raise ValueError(f"pools must be pairs [time, mel], not {self.pools}")
        check_size_lists(**{f"pools[{index}]": pool for index, pool in enumerate(self.pools)})
        for axis, field, size in ((0, "num_frames", self.num_frames), (1, "num_bins", self.num_bins)):
            left = size
            for index, pool in enumerate(self.pools):
                left -= 2  # valid 3x3 convolution
                if left < pool[axis]:
                    raise ValueError(
                        f"pools[{index}] {pool} does not fit: of {field} {size}, {max(left, 0)} are left before it"
                    )
                left //= pool[axis]


# The code travels with every checkpoint, so that it loads where hfmgc is not installed.
DivideAndConquerCRNNConfig.register_for_auto_class()
