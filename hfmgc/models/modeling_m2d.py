"""M2D, the Masked Modeling Duo (Niizumi et al., 2023), built from transformers' ViT layers.

The online encoder reads the visible patches of a spectrogram. From its output, the predictor predicts the
representations of the masked patches. The target encoder, a moving average of the online encoder, computes them from
the masked patches alone.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ViTConfig
from transformers import initialization as init
from transformers.models.vit.modeling_vit import ViTAttention, ViTLayer
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding
from transformers.utils import can_return_tuple, logging

from .configuration_m2d import M2DConfig
from .modeling_pretraining import PreTrainingModel, PreTrainingOutput, draw_per_example
from .modeling_windowed import (
    AttentionPreTrainedModel,
    WindowedForAudioClassification,
    WindowedModel,
    WindowOutput,
    register_auto_classes,
)
from .spectrogram_patches import check_patches, to_patches


logger = logging.get_logger(__name__)

# Deviation below which the targets count as collapsed: they have less than 1 % of the variance of random vectors
# (ours).
COLLAPSED = 0.1


def sincos_positions(rows: int, steps: int, width: int, device: torch.device) -> Tensor:
    """Return MAE's fixed positions, float32 [1 + rows * steps, width]: zeros for the cls token, then the patches.

    The first half of the width encodes the time step and the second half the row of a patch (the authors' code).
    Positions are computed in each call, because `from_pretrained` does not fill buffers that a checkpoint lacks.
    """
    positions = build_2d_sinusoidal_position_embedding(rows, steps, width, cls_token=True, device=device)
    return positions.roll(width // 2, dims=1)  # transformers encodes the row first


def select(tokens: Tensor, indices: Tensor) -> Tensor:
    """Select tokens of [examples or 1, tokens, hidden] by `indices` [examples, selected]."""
    indices = indices.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
    return tokens.expand(indices.shape[0], -1, -1).gather(1, indices)


class M2DEmbeddings(nn.Module):
    """A cls token and linear embeddings of patches with their positions; both encoders share them."""

    def __init__(self, config: M2DConfig):
        super().__init__()
        self.patch_size = config.patch_size
        # Equivalent to a strided convolution, but masked patches need not be computed.
        self.projection = nn.Linear(config.patch_size**2, config.hidden_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))

    def forward(self, input_values: Tensor, selected: Tensor | None = None) -> Tensor:
        """Embed the patches of windows.

        Args:
            input_values: Spectrograms [windows, frames, bins].
            selected: Indices of the patches to embed [windows, selected patches]; all patches by default.

        Returns:
            The cls token and the patches, [windows, 1 + selected patches, hidden].
        """
        size = self.patch_size
        windows, frames, bins = input_values.shape
        patches = to_patches(input_values, size).flatten(2)
        positions = sincos_positions(bins // size, frames // size, self.cls_token.shape[-1], input_values.device)
        positions = positions[1:].unsqueeze(0)  # the cls token's position is zero
        if selected is not None:
            patches, positions = select(patches, selected), select(positions, selected)
        embedded = self.projection(patches) + positions.to(self.cls_token.dtype)
        return torch.cat((self.cls_token.expand(windows, -1, -1), embedded), dim=1)


class M2DEncoder(nn.Module):
    """Transformer layers and a final norm."""

    def __init__(self, config: M2DConfig | ViTConfig):
        super().__init__()
        self.layers = nn.ModuleList(ViTLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        for layer in self.layers:
            # In MAE one layer computes all three projections, so its Glorot bound is smaller.
            for projection in (layer.attention.q_proj, layer.attention.k_proj, layer.attention.v_proj):
                projection.initial_gain = math.sqrt(0.5)

    def forward(self, tokens: Tensor, **kwargs) -> Tensor:
        """Map tokens [windows, tokens, hidden] to states of the same shape; `kwargs` are passed to the attention."""
        for layer in self.layers:
            tokens = layer(tokens, **kwargs)
        return self.norm(tokens)


class M2DPredictor(nn.Module):
    """A narrower encoder that predicts the target's representations of the masked patches."""

    def __init__(self, config: M2DConfig):
        super().__init__()
        width = config.predictor_hidden_size
        layers = ViTConfig(
            hidden_size=width,
            num_hidden_layers=config.predictor_num_hidden_layers,
            num_attention_heads=config.predictor_num_attention_heads,
            intermediate_size=4 * width,
            hidden_act=config.hidden_act,
            layer_norm_eps=config.layer_norm_eps,
            attn_implementation=config._attn_implementation,
        )
        self.input_projection = nn.Linear(config.hidden_size, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder = M2DEncoder(layers)
        self.output_projection = nn.Linear(width, config.hidden_size)

    def forward(self, encoded: Tensor, visible: Tensor, masked: Tensor, grid: tuple[int, int]) -> Tensor:
        """Predict the representations of masked patches.

        Args:
            encoded: Output of the online encoder [examples, 1 + visible patches, hidden].
            visible: Indices of the visible patches [examples, visible patches].
            masked: Indices of the masked patches [examples, masked patches].
            grid: Rows and time steps of the patches of a window.

        Returns:
            Predictions [examples, masked patches, hidden].
        """
        tokens = self.input_projection(encoded)
        tokens = torch.cat((tokens, self.mask_token.expand(*masked.shape, -1)), dim=1)
        positions = sincos_positions(*grid, tokens.shape[-1], tokens.device).unsqueeze(0)
        # Tokens may be in any order, because each gets the embedding of its position.
        order = torch.cat((torch.zeros_like(visible[:, :1]), visible + 1, masked + 1), dim=1)
        tokens = tokens + select(positions, order).to(self.mask_token.dtype)
        return self.output_projection(self.encoder(tokens)[:, -masked.shape[1] :])


class M2DPreTrainedModel(AttentionPreTrainedModel):
    """Base class of the M2D models, with MAE's initial weights (the authors' code)."""

    config_class = M2DConfig
    _no_split_modules = ("M2DEmbeddings", "ViTLayer")
    _supports_flex_attn = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight, gain=getattr(module, "initial_gain", 1.0))
            init.zeros_(module.bias)
        elif isinstance(module, M2DEmbeddings):
            init.normal_(module.cls_token, std=0.02)
        elif isinstance(module, M2DPredictor):
            init.normal_(module.mask_token, std=0.02)
        else:
            super()._init_weights(module)


class M2DModel(M2DPreTrainedModel, WindowedModel):
    """The online encoder.

    The states of the patches in a time step are concatenated and averaged over time (the authors' evaluation
    features). With ViT-B and 80 bins, an embedding has 5 * 768 = 3840 values.
    """

    _can_record_outputs = {"hidden_states": ViTLayer, "attentions": ViTAttention}
    # Pre-training checkpoints also hold the weights of the objective.
    _keys_to_ignore_on_load_unexpected = (*WindowedModel._keys_to_ignore_on_load_unexpected, r"^(target|predictor)\.")

    def __init__(self, config: M2DConfig):
        super().__init__(config)
        self.embeddings = M2DEmbeddings(config)
        self.encoder = M2DEncoder(config)
        self.least_frames = config.patch_size
        self.embedding_size = config.num_bins // config.patch_size * config.hidden_size
        self.post_init()

    def check_window(self, frames: int, bins: int) -> None:
        """Also check that whole patches cover the window."""
        super().check_window(frames, bins)
        check_patches(frames, bins, self.config.patch_size)

    def grid(self, frames: int, bins: int) -> tuple[int, int]:
        """Return the number of rows and of time steps of a window's patches."""
        return bins // self.config.patch_size, frames // self.config.patch_size

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Embed log-mel spectrograms `input_values` [windows, frames, bins] as [windows, rows * hidden_size]."""
        patches = self.encoder(self.embeddings(input_values), **kwargs)[:, 1:]
        grid = self.grid(*input_values.shape[1:])
        return WindowOutput(embeddings=patches.unflatten(1, grid).mean(dim=2).flatten(1))


@dataclass
class M2DPreTrainingOutput(PreTrainingOutput):
    """Output of a pre-training step; `loss` is the mean over the masked patches.

    Args:
        predictions: Output of the predictor [examples, masked patches, hidden].
        targets: Output of the target encoder, before standardisation [examples, masked patches, hidden].
        masked: Indices of the masked patches [examples, masked patches].
    """

    predictions: Tensor | None = None
    targets: Tensor | None = None
    masked: Tensor | None = None


def duo_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of 2 - 2 cos(prediction, target) over patches [..., hidden], in float32.

    Targets are standardised first (the authors' code).
    """
    return (2 - 2 * F.cosine_similarity(predictions.float(), standardize(targets), dim=-1)).mean()


def standardize(targets: Tensor) -> Tensor:
    """Give each target [..., hidden] zero mean and unit variance over its values, in float32."""
    targets = targets.float()
    variance, mean = torch.var_mean(targets, dim=-1, keepdim=True)
    return (targets - mean) / (variance + 1e-6).sqrt()


def deviation_between_examples(values: Tensor, positions: Tensor, num_positions: int) -> Tensor:
    """Return the standard deviation of patches at the same position in different examples, a scalar.

    Patches differ by their positions alone, so the deviation over all patches would not reveal a collapse.

    Args:
        values: Patches [examples, patches, hidden].
        positions: Position of each patch, int64 [examples, patches].
        num_positions: Number of positions in a window.
    """
    values, positions = values.flatten(0, 1), positions.flatten()
    counts = positions.new_zeros(num_positions).index_add_(0, positions, torch.ones_like(positions))
    sums = values.new_zeros(num_positions, values.shape[1]).index_add_(0, positions, values)
    residuals = values - (sums / counts.clamp(min=1).unsqueeze(1))[positions]
    degrees_of_freedom = (len(values) - (counts > 0).sum()).clamp(min=1)
    return (residuals.square().sum(dim=0) / degrees_of_freedom).sqrt().mean()


class M2DForPreTraining(M2DPreTrainedModel, PreTrainingModel):
    """The online encoder `model`, the predictor and the target encoder.

    Both encoders share the embeddings, but start from different layers. The layers of the target encoder get no
    gradients: they follow those of the online encoder as a moving average.
    """

    frozen_parts = ("target",)

    def __init__(self, config: M2DConfig):
        super().__init__(config)
        self.model = M2DModel(config)
        self.predictor = M2DPredictor(config)
        self.target = M2DEncoder(config)
        # Deviation of the standardised targets in the latest training step.
        self._deviation: Tensor | None = None
        self.post_init()

    @can_return_tuple
    def forward(self, input_values: Tensor, seeds: Tensor | None = None, **kwargs) -> M2DPreTrainingOutput | tuple:
        """Predict the representations of the masked patches of spectrograms.

        Args:
            input_values: Spectrograms [examples, frames, bins].
            seeds: Seed of each example's mask, int64 [examples]. By default torch's generator draws the masks.
            kwargs: `return_dict`.

        Raises:
            ValueError: If the windows do not fit, or no patch would be visible or masked.
        """
        self.check_window(*input_values.shape[1:])
        grid = self.model.grid(*input_values.shape[1:])
        patches = math.prod(grid)
        visible, masked = self.draw_masks(len(input_values), patches, seeds, input_values.device)
        encoded = self.model.encoder(self.model.embeddings(input_values, visible))
        predictions = self.predictor(encoded, visible, masked, grid)
        with torch.no_grad():
            targets = self.target(self.model.embeddings(input_values, masked))[:, 1:]
            if self.training and len(targets) > 1:
                self._deviation = deviation_between_examples(standardize(targets), masked, patches)
        return M2DPreTrainingOutput(
            loss=duo_loss(predictions, targets), predictions=predictions, targets=targets, masked=masked
        )

    def check_window(self, frames: int, bins: int) -> None:
        """Also check that at least one patch of the window is visible and one masked."""
        super().check_window(frames, bins)
        patches = math.prod(self.model.grid(frames, bins))
        visible = self._num_visible(patches)
        if not 0 < visible < patches:
            raise ValueError(
                f"mask_ratio {self.config.mask_ratio} leaves {visible} of {patches} patches visible: at least one must be "
                "visible and one masked"
            )

    def _num_visible(self, patches: int) -> int:
        return round(patches * (1 - self.config.mask_ratio))

    def draw_masks(
        self, examples: int, patches: int, seeds: Tensor | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Return the sorted indices of each example's visible and masked patches, both int64 [examples, patches]."""
        orders = draw_per_example(lambda generator: torch.randperm(patches, generator=generator), examples, seeds)
        visible, masked = orders.to(device).tensor_split([self._num_visible(patches)], dim=1)
        return visible.sort().values, masked.sort().values

    @torch.no_grad()
    def after_optimizer_step(self, step: int, total_steps: int) -> None:
        """Move the target encoder towards the online encoder."""
        start, end = self.config.ema_decay_start, self.config.ema_decay_end
        decay = start + (end - start) * step / max(1, total_steps - 1)
        for mean, value in zip(self.target.parameters(), self.model.encoder.parameters(), strict=True):
            mean.lerp_(value.to(mean.dtype), 1 - decay)

    def monitored(self) -> dict[str, float]:
        """Return the deviation of the standardised targets between the examples of the latest batch.

        It is about 1 if the targets differ like random vectors. Near 0, they are the same for all music: training has
        collapsed to a low loss from which the encoder learns nothing, and a warning is logged.
        """
        if self._deviation is None:
            return {}
        deviation = self._deviation.item()
        if deviation < COLLAPSED:
            logger.warning(
                f"target_deviation {deviation:.1e}: training collapsed to nearly the same targets for all examples: "
                "lower learning_rate, or raise ema_decay_start or the batch size"
            )
        return {"target_deviation": deviation}


class M2DForAudioClassification(M2DPreTrainedModel, WindowedForAudioClassification):
    """The online encoder with a linear classifier (ours)."""

    def __init__(self, config: M2DConfig):
        super().__init__(config, M2DModel(config))


register_auto_classes(
    AutoModel=M2DModel,
    AutoModelForAudioClassification=M2DForAudioClassification,
    AutoModelForPreTraining=M2DForPreTraining,
)
