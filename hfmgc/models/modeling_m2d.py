"""M2D, the masked modeling duo (Niizumi et al., 2023), on transformers' ViT layers.

An online encoder sees the visible patches of a spectrogram, a predictor completes the masked ones, and a target encoder, the
moving average of the online one, sees only the masked patches and gives the representations to predict.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ViTConfig
from transformers import initialization as init
from transformers.models.vit.modeling_vit import ViTAttention, ViTLayer
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

# Deviation of the target's outputs below which they count as collapsed (ours): 1 % of the variance of random vectors.
COLLAPSED = 0.1


def sincos_positions(rows: int, steps: int, width: int, device: torch.device) -> Tensor:
    """Return fixed positions on two axes, float32 [1 + rows * steps, width]: zeros for the cls token, then the patches.

    The first half of the width encodes the time step of a patch and the second half its row, each by sines and cosines (as
    in MAE, He et al., 2022). They are computed in each call, because `from_pretrained` does not fill buffers that a
    checkpoint lacks.
    """
    rates = 10000.0 ** -(torch.arange(width // 4, device=device) / (width // 4))
    axes = [torch.arange(size, device=device).unsqueeze(1) * rates for size in (steps, rows)]
    time, frequency = (torch.cat((angles.sin(), angles.cos()), dim=1) for angles in axes)
    time, frequency = time.unsqueeze(0).expand(rows, -1, -1), frequency.unsqueeze(1).expand(-1, steps, -1)
    return F.pad(torch.cat((time, frequency), dim=2).flatten(0, 1), (0, 0, 1, 0))


def select(tokens: Tensor, indices: Tensor) -> Tensor:
    """Return the tokens [examples, selected, hidden] at `indices` [examples, selected] of [examples or 1, tokens, hidden]."""
    indices = indices.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
    return tokens.expand(indices.shape[0], -1, -1).gather(1, indices)


class M2DEmbeddings(nn.Module):
    """A cls token and linear embeddings of patches, with their positions; shared by both encoders."""

    def __init__(self, config: M2DConfig):
        super().__init__()
        self.patch_size = config.patch_size
        # On patches cut beforehand, so that dropped ones are not computed. The same as a convolution with this stride.
        self.projection = nn.Linear(config.patch_size**2, config.hidden_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))

    def forward(self, input_values: Tensor, selected: Tensor | None = None) -> Tensor:
        """Embed windows.

        Args:
            input_values: Spectrograms [windows, frames, bins].
            selected: Indices of the patches to embed [windows, selected patches]; the others are dropped. All by default.

        Returns:
            The cls token and the patches, [windows, 1 + selected patches, hidden].
        """
        size = self.patch_size
        windows, frames, bins = input_values.shape
        patches = to_patches(input_values, size).flatten(2)
        positions = sincos_positions(bins // size, frames // size, self.cls_token.shape[-1], input_values.device)
        positions = positions[1:].unsqueeze(0)  # that of the cls token is zero
        if selected is not None:
            patches, positions = select(patches, selected), select(positions, selected)
        embedded = self.projection(patches) + positions.to(self.cls_token.dtype)
        return torch.cat((self.cls_token.expand(windows, -1, -1), embedded), dim=1)


class M2DEncoder(nn.Module):
    """The layers and the last norm, which the online and the target encoder do not share."""

    def __init__(self, config: M2DConfig | ViTConfig):
        super().__init__()
        self.layers = nn.ModuleList(ViTLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        for layer in self.layers:
            # In MAE the three are one layer with three times as many outputs, and so a smaller bound.
            for projection in (layer.attention.q_proj, layer.attention.k_proj, layer.attention.v_proj):
                projection.initial_gain = math.sqrt(0.5)

    def forward(self, tokens: Tensor, **kwargs) -> Tensor:
        """Map `tokens` [windows, tokens, hidden] to [windows, tokens, hidden]; `kwargs` are passed to the attention."""
        for layer in self.layers:
            tokens = layer(tokens, **kwargs)
        return self.norm(tokens)


class M2DPredictor(nn.Module):
    """Predicts the target's representations of the masked patches from the online encoder's of the visible ones."""

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
        """Predict.

        Args:
            encoded: Output of the online encoder [examples, 1 + visible patches, hidden].
            visible: Indices of the visible patches [examples, visible patches].
            masked: Indices of the masked patches [examples, masked patches].
            grid: Rows and time steps of patches.

        Returns:
            [examples, masked patches, hidden]
        """
        tokens = self.input_projection(encoded)
        tokens = torch.cat((tokens, self.mask_token.expand(*masked.shape, -1)), dim=1)
        positions = sincos_positions(*grid, tokens.shape[-1], tokens.device).unsqueeze(0)
        # The order of the tokens does not matter to the layers: their positions tell them apart.
        order = torch.cat((torch.zeros_like(visible[:, :1]), visible + 1, masked + 1), dim=1)
        tokens = tokens + select(positions, order).to(self.mask_token.dtype)
        return self.output_projection(self.encoder(tokens)[:, -masked.shape[1] :])


class M2DPreTrainedModel(AttentionPreTrainedModel):
    """Base of the model, its pre-training and the classifier."""

    config_class = M2DConfig
    _no_split_modules = ("M2DEmbeddings", "ViTLayer")
    _supports_flex_attn = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # As MAE (the authors' code); the default of transformers covers the norms.
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

    The embedding of a window is the mean over time of the patches of a time step, concatenated (the authors' evaluation
    features): 5 x 768 = 3,840 values for ViT-B and 80 bins.
    """

    _can_record_outputs = {
        "hidden_states": ViTLayer,
        "attentions": ViTAttention,
    }
    # A pre-trained checkpoint has the parts of its objective too.
    _keys_to_ignore_on_load_unexpected = (
        *WindowedModel._keys_to_ignore_on_load_unexpected,
        r"^(target|predictor)\.",
    )

    def __init__(self, config: M2DConfig):
        super().__init__(config)
        self.embeddings = M2DEmbeddings(config)
        self.encoder = M2DEncoder(config)
        self.least_frames = config.patch_size
        self.embedding_size = config.num_bins // config.patch_size * config.hidden_size
        self.post_init()

    def check_window(self, frames: int, bins: int) -> None:
        """Refuse windows that are not cut into whole patches."""
        super().check_window(frames, bins)
        check_patches(frames, bins, self.config.patch_size)

    def grid(self, frames: int, bins: int) -> tuple[int, int]:
        """Return the rows and the time steps of a window's patches."""
        return bins // self.config.patch_size, frames // self.config.patch_size

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Embed log-mel spectrograms `input_values` [windows, frames, bins] as [windows, rows * hidden]."""
        patches = self.encoder(self.embeddings(input_values), **kwargs)[:, 1:]
        grid = self.grid(*input_values.shape[1:])
        return WindowOutput(embeddings=patches.unflatten(1, grid).mean(dim=2).flatten(1))


@dataclass
class M2DPreTrainingOutput(PreTrainingOutput):
    """Output of a pre-training step; `loss` is the mean over the masked patches.

    Args:
        predictions: Of the predictor [examples, masked patches, hidden].
        targets: Of the target encoder [examples, masked patches, hidden], not normalised.
        masked: Indices of the masked patches [examples, masked patches].
    """

    predictions: Tensor | None = None
    targets: Tensor | None = None
    masked: Tensor | None = None


def duo_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of 2 - 2 cos(prediction, target) over patches [..., hidden], in float32.

    Each target is first standardised over its values (the authors' code), so that its mean and scale do not matter.
    """
    return (2 - 2 * F.cosine_similarity(predictions.float(), standardized(targets), dim=-1)).mean()


def standardized(targets: Tensor) -> Tensor:
    """Standardise each target [..., hidden] over its values, in float32, by the unbiased variance plus 1e-6."""
    targets = targets.float()
    variance, mean = torch.var_mean(targets, dim=-1, keepdim=True)
    return (targets - mean) / (variance + 1e-6).sqrt()


def deviation_between_examples(values: Tensor, positions: Tensor, num_positions: int) -> Tensor:
    """Return the deviation of `values` [examples, patches, hidden] around their means at the same position, a scalar.

    Positions alone make patches differ, so that a deviation over all patches would not show a collapse. `positions` are those
    of the patches [examples, patches].
    """
    values, positions = values.flatten(0, 1), positions.flatten()
    counts = positions.new_zeros(num_positions).index_add_(0, positions, torch.ones_like(positions))
    sums = values.new_zeros(num_positions, values.shape[1]).index_add_(0, positions, values)
    residuals = values - (sums / counts.clamp(min=1).unsqueeze(1))[positions]
    degrees_of_freedom = (len(values) - (counts > 0).sum()).clamp(min=1)
    return (residuals.square().sum(dim=0) / degrees_of_freedom).sqrt().mean()


class M2DForPreTraining(M2DPreTrainedModel, PreTrainingModel):
    """The online encoder `model` with predictor and target encoder.

    The target encoder shares the embeddings of the online one. It has initial weights of its own, is not trained by
    gradients, and follows the online encoder as a moving average of layers and last norm.
    """

    frozen_parts = ("target",)

    def __init__(self, config: M2DConfig):
        super().__init__(config)
        self.model = M2DModel(config)
        self.predictor = M2DPredictor(config)
        self.target = M2DEncoder(config)
        # Deviation of the target's outputs in the latest training step.
        self._deviation: Tensor | None = None
        self.post_init()

    @can_return_tuple
    def forward(self, input_values: Tensor, seeds: Tensor | None = None, **kwargs) -> M2DPreTrainingOutput | tuple:
        """Predict the target's representations of the masked patches of spectrograms [examples, frames, bins].

        `seeds`, int64 [examples], are those of the masks; by default they are drawn by torch's generator.

        Raises:
            ValueError: If the windows do not fit, or `mask_ratio` leaves no visible or no masked patch.
        """
        self.check_window(*input_values.shape[1:])
        grid = self.model.grid(*input_values.shape[1:])
        visible, masked = self.draw_masks(len(input_values), grid[0] * grid[1], seeds, input_values.device)
        encoded = self.model.encoder(self.model.embeddings(input_values, visible))
        predictions = self.predictor(encoded, visible, masked, grid)
        with torch.no_grad():
            targets = self.target(self.model.embeddings(input_values, masked))[:, 1:]
            if self.training and len(targets) > 1:
                self._deviation = deviation_between_examples(standardized(targets), masked, grid[0] * grid[1])
        return M2DPreTrainingOutput(
            loss=duo_loss(predictions, targets), predictions=predictions, targets=targets, masked=masked
        )

    def check_window(self, frames: int, bins: int) -> None:
        """Refuse windows that are not cut into whole patches, or of which no patch would be visible or masked."""
        super().check_window(frames, bins)
        rows, steps = self.model.grid(frames, bins)
        if not 0 < self._num_visible(rows * steps) < rows * steps:
            raise ValueError(
                f"mask_ratio {self.config.mask_ratio} leaves {self._num_visible(rows * steps)} of {rows * steps} patches "
                "visible: at least one must be visible and one masked"
            )

    def _num_visible(self, patches: int) -> int:
        return round(patches * (1 - self.config.mask_ratio))

    def draw_masks(
        self, examples: int, patches: int, seeds: Tensor | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Return the indices of the visible and of the masked patches of each example, sorted, int64 [examples, ...]."""
        orders = draw_per_example(lambda generator: torch.randperm(patches, generator=generator), examples, seeds)
        visible, masked = orders.to(device).tensor_split([self._num_visible(patches)], dim=1)
        return visible.sort().values, masked.sort().values

    @torch.no_grad()
    def after_optimizer_step(self, step: int, total_steps: int) -> None:
        """Move the target towards the online encoder."""
        start, end = self.config.ema_decay_start, self.config.ema_decay_end
        decay = start + (end - start) * step / max(1, total_steps - 1)
        for mean, value in zip(self.target.parameters(), self.model.encoder.parameters(), strict=True):
            mean.lerp_(value.to(mean.dtype), 1 - decay)

    def monitored(self) -> dict[str, float]:
        """Return the deviation of the target's standardised outputs between the examples of the latest batch.

        It is about 1 if they differ as random vectors do, and 0 if they do not depend on the music: such a collapse, in
        which the loss is low and nothing is learned, is logged as a warning.
        """
        if self._deviation is None:
            return {}
        deviation = self._deviation.item()
        if deviation < COLLAPSED:
            logger.warning(
                f"collapse: the target's outputs are nearly the same for all examples (target_deviation {deviation:.1e}); "
                "lower learning_rate, or raise ema_decay_start or the batch size"
            )
        return {"target_deviation": deviation}


class M2DForAudioClassification(M2DPreTrainedModel, WindowedForAudioClassification):
    """M2D with a linear classifier on the evaluation features (ours)."""

    def __init__(self, config: M2DConfig):
        super().__init__(config, M2DModel(config))


register_auto_classes(
    AutoModel=M2DModel,
    AutoModelForAudioClassification=M2DForAudioClassification,
    AutoModelForPreTraining=M2DForPreTraining,
)
