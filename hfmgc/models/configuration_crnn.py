"""Config of the convolutional recurrent network of the Divide and Conquer paper."""

import math
from dataclasses import field

from huggingface_hub.dataclasses import strict
from transformers.utils.type_validators import interval

from .config_fields import check_sizes, rate, size, sizes
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


@strict
class DivideAndConquerCRNNConfig(WindowedConfig):
    r"""Config of [`DivideAndConquerCRNNForAudioClassification`]; the defaults are the paper's Base network for 30 s.

    What the paper omits is taken from the authors' code, marked [code], as are the initial weights, Keras' defaults.

    Args:
        num_frames (`int`, *optional*, defaults to 1292):
            Frames of a window, against which the pools are checked: 1292, 431 or 130 in the paper for 30, 10 and 3 s
            [code]. Windows of other lengths work too if the pools leave at least one frame.
        num_bins (`int`, *optional*, defaults to 128): Mel bins (section II-B).
        channels (`list[int]`, *optional*, defaults to `[16, 32, 64, 128]`): Of each convolution [code].
        pools (`list[list[int]]`, *optional*, defaults to `[[2, 2], [3, 3], [3, 3], [4, 4]]`):
            [time, mel] of the max-pool after each convolution [code].
        gru_hidden_sizes (`list[int]`, *optional*, defaults to `[256, 256]`): Of the stacked GRUs [code].
        dense_size (`int`, *optional*, defaults to 64): Of the linear layer before the classifier [code].
        convolution_dropout (`float`, *optional*, defaults to 0.1): After each convolution block [code].
        dense_dropout (`float`, *optional*, defaults to 0.4): Before the classifier [code].
        l2 (`float`, *optional*, defaults to 0.0):
            Weight of the squared kernels of the convolutions and the dense layer in the training loss; 0.001 in L2Reg and
            Optim [code].
        batch_norm_epsilon (`float`, *optional*, defaults to 0.001): Keras' default [code].
        batch_norm_momentum (`float`, *optional*, defaults to 0.01): Share of the newest batch; Keras' momentum 0.99 [code].
        kwargs: See [`WindowedConfig`]. `voting` is `"mean"`: the paper's text says majority voting (section IV-B), its
            code takes the mean of the softmax over a track's snippets [code].
    """

    model_type = "hfmgc-crnn"

    num_frames: int = size(default=1292)
    num_bins: int = size(default=128)
    channels: list[int] | tuple[int, ...] = sizes(default=(16, 32, 64, 128))
    pools: list[list[int]] = field(default_factory=lambda: [list(pool) for pool in _FOUR_POOLS[30]])
    gru_hidden_sizes: list[int] | tuple[int, ...] = sizes(default=(256, 256))
    dense_size: int = size(default=64)
    convolution_dropout: float | int = rate(default=0.1)
    dense_dropout: float | int = rate(default=0.4)
    l2: float | int = interval(min=0, max=math.inf, exclude_max=True)(default=0.0)
    batch_norm_epsilon: float | int = interval(min=0, max=1, exclude_min=True)(default=0.001)
    batch_norm_momentum: float | int = interval(min=0, max=1, exclude_min=True)(default=0.01)

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
        if network not in _PAPER_NETWORKS:
            raise ValueError(f"network must be one of {', '.join(_PAPER_NETWORKS)}, not {network!r}")
        if seconds not in SNIPPET_FRAMES:
            raise ValueError(f"seconds must be one of {', '.join(map(str, SNIPPET_FRAMES))}, not {seconds!r}")
        channels, pools, gru_hidden_sizes, l2 = _PAPER_NETWORKS[network]
        paper = {
            "num_frames": SNIPPET_FRAMES[seconds],
            "channels": channels,
            "pools": [list(pool) for pool in pools[seconds]],
            "gru_hidden_sizes": gru_hidden_sizes,
            "dense_size": 32 if (network, seconds) == ("2conv", 3) else 64,
            "l2": l2,
        }
        return cls(**(paper | fields))

    def validate_pools(self) -> None:
        """Raise a ValueError unless each convolution has a pool that fits what is left of the window before it."""
        if len(self.pools) != len(self.channels):
            raise ValueError(f"pools must be one for each of the {len(self.channels)} channels, not {len(self.pools)}")
        if any(len(pool) != 2 for pool in self.pools):
            raise ValueError(f"pools must be pairs [time, mel], not {self.pools}")
        check_sizes(**{f"pools[{index}]": pool for index, pool in enumerate(self.pools)})
        for axis, name in enumerate(("num_frames", "num_bins")):
            left = getattr(self, name)
            for index, pool in enumerate(self.pools):
                left -= 2  # valid 3x3 convolution
                if left < pool[axis]:
                    raise ValueError(
                        f"pools[{index}] {pool} does not fit: {max(left, 0)} of {name} {getattr(self, name)} are left before it"
                    )
                left //= pool[axis]
