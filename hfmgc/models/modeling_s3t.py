"""S3T (Zhao et al., 2022): a Swin Transformer on spectrograms, pre-trained by MoCo v2's contrast of two views."""

import math

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from transformers import SwinModel
from transformers import initialization as init
from transformers.utils import can_return_tuple

from .configuration_s3t import S3TConfig
from .modeling_pretraining import PreTrainingModel, PreTrainingOutput
from .modeling_windowed import (
    AttentionPreTrainedModel,
    WindowedForAudioClassification,
    WindowedModel,
    WindowOutput,
    register_auto_classes,
)


class S3TPreTrainedModel(AttentionPreTrainedModel):
    """Base class of the model, the pre-training model and the classifier."""

    config_class = S3TConfig
    _no_split_modules = ("SwinStage",)
    _supports_flash_attn = False


class S3TModel(S3TPreTrainedModel, WindowedModel):
    """transformers' `SwinModel` on spectrograms; the embedding is the mean over the patches of the last stage.

    A square window is treated like an image. Windows of any other shape also work (ours): a grid of patches that is
    smaller than an attention window is padded, and attention windows are shifted unless one of them covers the whole
    grid. A plain `SwinModel` would shrink its attention windows permanently when it meets a short input.

    `attentions` are those of the last block of each stage [windows * attention windows, heads, patches, patches].
    """

    # Pre-training checkpoints also hold the weights of the objective.
    _keys_to_ignore_on_load_unexpected = (
        *WindowedModel._keys_to_ignore_on_load_unexpected,
        r"^(projection|key_model|key_projection)\.",
        r"^queue",
    )

    def __init__(self, config: S3TConfig):
        super().__init__(config)
        self.backbone = SwinModel(config.backbone_config)
        self.embedding_size = config.backbone_config.hidden_size
        self.post_init()

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Embed spectrograms `input_values` [windows, frames, bins] as [windows, hidden]."""
        images = input_values.transpose(1, 2).unsqueeze(1)  # [windows, 1, bins, frames]
        self._set_shifts(*images.shape[2:])
        output = self.backbone(images, return_dict=True, always_partition=True, **kwargs)
        return WindowOutput(
            embeddings=output.pooler_output, hidden_states=output.hidden_states, attentions=output.attentions
        )

    def _set_shifts(self, height: int, width: int) -> None:
        """Shift the attention windows of every second block, unless one of them covers the stage's whole grid."""
        window = self.config.backbone_config.window_size
        patch = self.backbone.embeddings.patch_embeddings.patch_size
        grid = [-(-height // patch[0]), -(-width // patch[1])]
        for stage in self.backbone.encoder.layers:
            for index, block in enumerate(stage.blocks):
                block.shift_size = window // 2 if index % 2 and max(grid) > window else 0
            grid = [-(-side // 2) for side in grid]


class S3TForPreTraining(S3TPreTrainedModel, PreTrainingModel):
    """MoCo v2 (Chen et al., 2020): a query must match the key of the same example better than the keys in a queue.

    The query encoder embeds one view of an example and the key encoder the other. The query encoder `model` is
    trained. The key encoder is its exponential moving average, updated after each optimizer step, when the step's
    keys, from all micro-batches and processes, replace the oldest keys in the queue.

    MoCo shuffles keys between processes, because batch statistics could reveal which key belongs to a query. Nothing
    is shuffled here: Swin has only layer norms and MoCo v2's projection has no norm, so there are no batch statistics.

    The loss rises at first, while keys replace the random vectors in the new queue.
    """

    views = 2
    frozen_parts = ("key_model", "key_projection")

    def __init__(self, config: S3TConfig):
        super().__init__(config)
        self.model, self.key_model = S3TModel(config), S3TModel(config)
        width = self.model.embedding_size
        self.projection, self.key_projection = (
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, config.projection_size))
            for _ in range(2)
        )
        self.register_buffer("queue", torch.zeros(config.queue_length, config.projection_size))
        self.register_buffer("queue_position", torch.zeros((), dtype=torch.int64))
        # Keys of the micro-batches since the last optimizer step.
        self._new_keys: list[Tensor] = []
        self._monitored: dict[str, Tensor] = {}
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:  # all submodules are initialised by now
            for key, query in zip(*self._parameter_pairs(), strict=True):
                init.copy_(key, query)
            init.copy_(self.queue, F.normalize(torch.randn_like(self.queue), dim=-1))
            init.zeros_(self.queue_position)

    def _parameter_pairs(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the parameters of the key encoder, and those of the query encoder in the same order."""
        return (
            [*self.key_model.parameters(), *self.key_projection.parameters()],
            [*self.model.parameters(), *self.projection.parameters()],
        )

    @can_return_tuple
    def forward(self, input_values: Tensor, seeds: Tensor | None = None, **kwargs) -> PreTrainingOutput | tuple:
        """Return the contrastive loss.

        Args:
            input_values: Two views of each example [examples, 2, frames, bins].
            seeds: Unused, because nothing is drawn.
            kwargs: Passed to both encoders.

        Raises:
            ValueError: If the shapes do not fit.
        """
        if input_values.ndim != 4 or input_values.shape[1] != self.views:
            raise ValueError(
                f"input_values must be [examples, {self.views}, frames, bins], not {list(input_values.shape)}"
            )
        queries = _unit_vectors(self.model, self.projection, input_values[:, 0], **kwargs)
        with torch.no_grad():
            keys = _unit_vectors(self.key_model, self.key_projection, input_values[:, 1], **kwargs)
        # Autocast would compute the similarities in half precision.
        with torch.autocast(input_values.device.type, enabled=False):
            positives = (queries * keys).sum(dim=-1, keepdim=True)
            negatives = queries @ self.queue.float().T
            logits = torch.cat((positives, negatives), dim=-1) / self.config.temperature
            loss = F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))
        if self.training:
            self._new_keys.append(keys)
            self._monitored["contrast_accuracy"] = (logits.detach().argmax(dim=-1) == 0).float().mean()
        return PreTrainingOutput(loss=loss)

    @torch.no_grad()
    def after_optimizer_step(self, step: int, total_steps: int) -> None:
        """Update the key encoder and the queue. All processes must call this."""
        for key, query in zip(*self._parameter_pairs(), strict=True):
            key.lerp_(query, 1 - self.config.momentum)

        new_keys = _gather(torch.cat(self._new_keys))
        self._new_keys.clear()
        # After a smaller batch, such as the last of an epoch, the next keys may wrap around the end of the queue.
        rows = (self.queue_position + torch.arange(len(new_keys), device=self.queue.device)) % len(self.queue)
        self.queue[rows] = new_keys.to(self.queue.dtype)
        self.queue_position.add_(len(new_keys)).remainder_(len(self.queue))
        self._monitored["key_deviation"] = new_keys.std(dim=0, correction=0).mean() * math.sqrt(new_keys.shape[-1])

    def monitored(self) -> dict[str, float]:
        """Return metrics of the latest step.

        `contrast_accuracy` is the share of queries that are most similar to their own key. `key_deviation` is the
        standard deviation of the keys over the batch: 1 if they point evenly in all directions, 0 if they collapsed to
        one vector.
        """
        return {name: value.item() for name, value in self._monitored.items()}

    def check_data(self, num_examples: int | None, global_batch: int) -> None:
        """Raise a ValueError if the queue does not fit the data or the batch."""
        length = self.config.queue_length
        if num_examples is not None and length > num_examples:
            raise ValueError(
                f"queue_length {length} exceeds the {num_examples} examples, so an example would be its own negative: "
                "lower it"
            )
        if length % global_batch:
            raise ValueError(
                f"queue_length {length} must be a multiple of the global batch of {global_batch} examples"
            )


class S3TForAudioClassification(S3TPreTrainedModel, WindowedForAudioClassification):
    """S3T with dropout and a linear classifier."""

    def __init__(self, config: S3TConfig):
        super().__init__(config, S3TModel(config), dropout=config.dropout)


def _unit_vectors(encoder: S3TModel, projection: nn.Module, windows: Tensor, **kwargs) -> Tensor:
    """Return normalised projections of windows [examples, frames, bins], float32 [examples, projection_size]."""
    return F.normalize(projection(encoder(windows, **kwargs).pooler_output).float(), dim=-1)


def _gather(keys: Tensor) -> Tensor:
    """Return the keys of all processes in the order of their ranks; every process has the same number of keys."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return keys
    parts = [torch.empty_like(keys) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, keys.contiguous())
    return torch.cat(parts)


register_auto_classes(
    AutoModel=S3TModel,
    AutoModelForPreTraining=S3TForPreTraining,
    AutoModelForAudioClassification=S3TForAudioClassification,
)
