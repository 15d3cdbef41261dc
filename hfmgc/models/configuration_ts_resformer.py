"""Config of TS-Resformer, its ablations and its baselines."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .config_fields import count, rate, size, sizes
from .configuration_windowed import WindowedConfig


@strict
class TSResformerConfig(WindowedConfig):
    r"""Config of [`TSResformerForAudioClassification`].

    The ablations and baselines of the paper are the following changes of the defaults. "Plain" stands for
    `time_frequency_attention=False` and `squeeze_excitation=False`. All of them keep the paired filters (ours).

    - Table 3: serial: plain and `arrangement="serial"`; Res-Transformer: plain; TF-attention:
      `squeeze_excitation=False`; SE-Res: `time_frequency_attention=False`; TS-Resformer: the defaults.
    - Table 4: `num_encoder_layers` from 1 to 5.
    - Table 5: Transformer, LSTM, GRU and Bi-GRU: `residual_branch=False` and `sequence_branch`; ResNet: plain and
      `sequence_branch="none"`; ResNet with LSTM, GRU or Bi-GRU: plain and `sequence_branch`.
    - Figure 14: `filter_height` from 2 to 15 and `filter_width=2`.
    - Figure 15: `filter_width` from 2 to 15 and `filter_height=2`.

    Args:
        num_bins (`int`, *optional*, defaults to 128): Mel bins of a window (section 3.1).
        residual_branch (`bool`, *optional*, defaults to `True`): Whether to build the residual branch (Table 5).
        sequence_branch (`str`, *optional*, defaults to `"transformer"`):
            `"transformer"`, `"lstm"`, `"gru"`, `"bi_gru"` (Table 5), `"bi_lstm"` (ours) or `"none"`.
        arrangement (`str`, *optional*, defaults to `"parallel"`):
            `"parallel"`: both branches read the spectrogram, and their outputs are concatenated. `"serial"`: the
            sequence branch reads the output of the residual branch, averaged over frequency (Table 3; the details are
            ours).
        num_filters (`int`, *optional*, defaults to 32):
            Number of frequency filters and of time filters (section 3.2.2).
        filter_height (`int`, *optional*, defaults to 6):
            Height of the frequency filters in bins (section 4.3.3). They are 2 frames wide.
        filter_width (`int`, *optional*, defaults to 10):
            Width of the time filters in frames (section 4.3.3). They are 2 bins high.
        time_frequency_attention (`bool`, *optional*, defaults to `True`):
            Whether attention weights the outputs of the filters (section 3.2.2).
        attention_channels (`int`, *optional*, defaults to 16): Hidden channels of this attention (section 3.2.2).
        initial_pool (`list[int]`, *optional*, defaults to `[4, 4]`):
            Size [bins, frames] of the max-pool after the filters (ours; without it, the network is slow on a CPU).
        block_channels (`list[int]`, *optional*, defaults to `[64, 128, 128]`):
            Output channels of the residual blocks. All blocks but the first halve both axes (ours).
        squeeze_excitation (`bool`, *optional*, defaults to `True`):
            Whether squeeze-and-excitation weights the channels of the residual blocks (section 3.2.3).
        squeeze_reduction (`int`, *optional*, defaults to 16):
            Factor by which squeeze-and-excitation reduces the channels (ours; Hu et al., 2018).
        sequence_pool (`int`, *optional*, defaults to 4):
            Frames of the max-pool before a parallel sequence branch (ours).
        num_encoder_layers (`int`, *optional*, defaults to 4):
            Number of transformer encoder layers (Table 4). With 0, the branch averages its input over time.
        num_attention_heads (`int`, *optional*, defaults to 4): Attention heads of each encoder layer (section 3.2.4).
        feed_forward_size (`int`, *optional*, defaults to 512):
            Width of the feed-forward blocks of the encoder layers (section 3.2.4).
        encoder_dropout (`float`, *optional*, defaults to 0.4): Dropout rate in the encoder layers (section 3.2.4).
        recurrent_hidden_size (`int`, *optional*, defaults to 128): Width of the LSTM or GRU in each direction (ours).
        kwargs: See [`WindowedConfig`].
    """

    model_type = "hfmgc-ts-resformer"
    # Names that transformers' encoder layer reads.
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
        """Width of the input of the sequence branch."""
        return self.block_channels[-1] if self.arrangement == "serial" else self.num_bins

    def validate_branches(self) -> None:
        """Raise a ValueError unless there is a branch and the fields of the branches fit together."""
        if len(self.initial_pool) != 2:
            raise ValueError(f"initial_pool must be [bins, frames], not {self.initial_pool}")
        if not self.residual_branch and self.sequence_branch == "none":
            raise ValueError("residual_branch is False and sequence_branch is 'none': set at least one of them")
        serial = self.arrangement == "serial"
        if serial and not (self.residual_branch and self.sequence_branch != "none"):
            raise ValueError("arrangement 'serial' needs residual_branch and a sequence_branch")
        if self.residual_branch and self.initial_pool[0] > self.num_bins:
            raise ValueError(f"initial_pool {self.initial_pool} exceeds num_bins {self.num_bins}")
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
