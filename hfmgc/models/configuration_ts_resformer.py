"""Config of TS-Resformer, its ablations and its baselines."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .config_fields import count, rate, size, sizes
from .configuration_windowed import WindowedConfig


@strict
class TSResformerConfig(WindowedConfig):
    r"""Config of [`TSResformerForAudioClassification`].

    The rows of the paper's tables, as fields that differ from the defaults (A: `time_frequency_attention=False`,
    S: `squeeze_excitation=False`; all keep the paired filters, which is ours):

    - Table 3: serial A S `arrangement="serial"`; Res-Transformer A S; with TF-attention S; with SE-Res A; TS-Resformer.
    - Table 4: `num_encoder_layers` 1 to 5.
    - Table 5: Transformer, LSTM, GRU, Bi-GRU `residual_branch=False` and `sequence_branch`; ResNet A S
      `sequence_branch="none"`; ResNet with LSTM, GRU or Bi-GRU A S and `sequence_branch`.
    - Figures 14 and 15: `filter_height` 2 to 15 with `filter_width=2`; `filter_width` 2 to 15 with `filter_height=2`.

    Args:
        num_bins (`int`, *optional*, defaults to 128):
            Mel bins of a window, and width of the sequence branch in parallel (section 3.1).
        residual_branch (`bool`, *optional*, defaults to `True`): Whether to use the convolutional branch (Table 5).
        sequence_branch (`str`, *optional*, defaults to `"transformer"`):
            `"transformer"`, `"lstm"`, `"gru"`, `"bi_gru"` (Table 5), `"bi_lstm"` (ours) or `"none"`.
        arrangement (`str`, *optional*, defaults to `"parallel"`):
            `"parallel"`: both branches take the spectrogram and are concatenated. `"serial"`: the sequence branch takes
            the residual branch's map, averaged over frequency, its channels as features (Table 3; details are ours).
        num_filters (`int`, *optional*, defaults to 32): Output channels of each of the paired filters (section 3.2.2).
        filter_height (`int`, *optional*, defaults to 6): Bins of the frequency filters, which are 2 frames wide (4.3.3).
        filter_width (`int`, *optional*, defaults to 10): Frames of the time filters, which are 2 bins high (4.3.3).
        time_frequency_attention (`bool`, *optional*, defaults to `True`): Whether to weight them (section 3.2.2).
        attention_channels (`int`, *optional*, defaults to 16): Hidden channels of that attention (section 3.2.2).
        initial_pool (`list[int]`, *optional*, defaults to `[4, 4]`):
            Max-pool [bins, frames] between the filters and the blocks (ours: full size is slow on a CPU).
        block_channels (`list[int]`, *optional*, defaults to `[64, 128, 128]`):
            Output channels of the residual blocks; all but the first halve both axes (ours).
        squeeze_excitation (`bool`, *optional*, defaults to `True`):
            Whether blocks weight their channels (section 3.2.3); their batch norm is ours.
        squeeze_reduction (`int`, *optional*, defaults to 16): Reduction of their bottleneck (ours; Hu et al., 2018).
        sequence_pool (`int`, *optional*, defaults to 4):
            Frames of the max-pool before the sequence branch in parallel (ours; in serial the blocks have pooled).
        num_encoder_layers (`int`, *optional*, defaults to 4):
            Transformer encoder layers (Table 4); 0 takes the mean of their input.
        num_attention_heads (`int`, *optional*, defaults to 4): Heads of each (section 3.2.4).
        feed_forward_size (`int`, *optional*, defaults to 512): Hidden width of their feed-forward nets (section 3.2.4).
        encoder_dropout (`float`, *optional*, defaults to 0.4): Dropout within them (section 3.2.4).
        recurrent_hidden_size (`int`, *optional*, defaults to 128): Width of a recurrence in each direction (ours).
        kwargs: See [`WindowedConfig`] (`voting`, `label_smoothing`) and `PreTrainedConfig` (`id2label`, ...).
    """

    model_type = "hfmgc-ts-resformer"
    # The names that transformers' encoder layer reads.
    attribute_map = {
        "intermediate_size": "feed_forward_size",
        "hidden_dropout": "encoder_dropout",
        "attention_dropout": "encoder_dropout",
        "activation_dropout": "encoder_dropout",
    }
    hidden_act = "relu"
    layer_norm_eps = 1e-5

    num_bins: int = size(default=128)
    residual_branch: bool = True
    sequence_branch: Literal["transformer", "lstm", "gru", "bi_lstm", "bi_gru", "none"] = "transformer"
    arrangement: Literal["parallel", "serial"] = "parallel"
    num_filters: int = size(default=32)
    filter_height: int = size(default=6)
    filter_width: int = size(default=10)
    time_frequency_attention: bool = True
    attention_channels: int = size(default=16)
    initial_pool: list[int] | tuple[int, ...] = sizes(default=(4, 4))
    block_channels: list[int] | tuple[int, ...] = sizes(default=(64, 128, 128))
    squeeze_excitation: bool = True
    squeeze_reduction: int = size(default=16)
    sequence_pool: int = size(default=4)
    num_encoder_layers: int = count(default=4)
    num_attention_heads: int = size(default=4)
    feed_forward_size: int = size(default=512)
    encoder_dropout: float | int = rate(default=0.4)
    recurrent_hidden_size: int = size(default=128)

    @property
    def hidden_size(self) -> int:
        """Features of a frame in the sequence branch."""
        return self.block_channels[-1] if self.arrangement == "serial" else self.num_bins

    def validate_branches(self) -> None:
        """Raise a ValueError unless the branches exist and fit together."""
        if len(self.initial_pool) != 2:
            raise ValueError(f"initial_pool must be [bins, frames], not {self.initial_pool}")
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
