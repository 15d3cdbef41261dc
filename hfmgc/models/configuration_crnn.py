"""Config of the convolutional recurrent network of the Divide and Conquer paper."""

import math
from dataclasses import field

from huggingface_hub.dataclasses import strict
from transformers.utils.type_validators import interval

from .config_fields import check_sizes, rate, size, sizes
from .configuration_windowed import WindowedConfig


@strict
class DivideAndConquerCRNNConfig(WindowedConfig):
    r"""Config of [`DivideAndConquerCRNNForAudioClassification`]. The defaults are the paper's Base network for 30 s.

    The configs in `recipes/configs/divide_and_conquer` describe the other networks of Table I. [code] marks what the
    paper leaves open and its authors' code defines.

    Args:
        num_frames (`int`, *optional*, defaults to 1292):
            Frames of a window, used to check the pools. The paper's windows of 30, 10 and 3 s have 1292, 431 and 130
            frames [code]. The model accepts windows of any length of which the pools leave at least one frame.
        num_bins (`int`, *optional*, defaults to 128): Mel bins of a window (section II-B).
        channels (`list[int]`, *optional*, defaults to `[16, 32, 64, 128]`): Channels of each convolution [code].
        pools (`list[list[int]]`, *optional*, defaults to `[[2, 2], [3, 3], [3, 3], [4, 4]]`):
            Size [time, mel] of the max-pool after each convolution [code].
        gru_hidden_sizes (`list[int]`, *optional*, defaults to `[256, 256]`): Widths of the stacked GRUs [code].
        dense_size (`int`, *optional*, defaults to 64): Width of the linear layer before the classifier [code].
        convolution_dropout (`float`, *optional*, defaults to 0.1): Dropout rate after each convolution block [code].
        dense_dropout (`float`, *optional*, defaults to 0.4): Dropout rate before the classifier [code].
        l2 (`float`, *optional*, defaults to 0.0):
            Weight of the L2 penalty on the kernels of the convolutions and the dense layer. It is 0.001 in the
            networks L2Reg and Optim [code].
        batch_norm_epsilon (`float`, *optional*, defaults to 0.001): Keras' default [code].
        batch_norm_momentum (`float`, *optional*, defaults to 0.01):
            Weight of the newest batch in the running statistics; 0.01 corresponds to Keras' momentum of 0.99 [code].
        kwargs: See [`WindowedConfig`]. The default `voting` follows the code, which averages the softmax over the
            snippets of a track [code]. The text names majority voting (section IV-B).
    """

    model_type = "hfmgc-crnn"

    num_frames: int = size(default=1292)
    num_bins: int = size(default=128)
    channels: list[int] | tuple[int, ...] = sizes(default=(16, 32, 64, 128))
    pools: list[list[int]] = field(default_factory=lambda: [[2, 2], [3, 3], [3, 3], [4, 4]])
    gru_hidden_sizes: list[int] | tuple[int, ...] = sizes(default=(256, 256))
    dense_size: int = size(default=64)
    convolution_dropout: float | int = rate(default=0.1)
    dense_dropout: float | int = rate(default=0.4)
    l2: float | int = interval(min=0, max=math.inf, exclude_max=True)(default=0.0)
    batch_norm_epsilon: float | int = interval(min=0, max=1, exclude_min=True)(default=0.001)
    batch_norm_momentum: float | int = interval(min=0, max=1, exclude_min=True)(default=0.01)

    def validate_pools(self) -> None:
        """Raise a ValueError unless there is a pool for each convolution and all pools fit into a window."""
        if len(self.pools) != len(self.channels):
            raise ValueError(f"pools must have {len(self.channels)} entries, as channels does, not {len(self.pools)}")
        if any(len(pool) != 2 for pool in self.pools):
            raise ValueError(f"pools must be pairs [time, mel], not {self.pools}")
        check_sizes(**{f"pools[{index}]": pool for index, pool in enumerate(self.pools)})
        for axis, name in enumerate(("num_frames", "num_bins")):
            left = getattr(self, name)
            for index, pool in enumerate(self.pools):
                left -= 2  # valid 3x3 convolution
                if left < pool[axis]:
                    raise ValueError(
                        f"pools[{index}] {pool} does not fit: {max(left, 0)} of {name} {getattr(self, name)} are left"
                    )
                left //= pool[axis]
