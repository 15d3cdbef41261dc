"""Base classes of all architectures: they take the windows of a track and return one prediction for the track.

`XModel` maps windows to embeddings. `XForAudioClassification` adds a classifier of windows, the vote and the loss.
"""

from dataclasses import dataclass
from os import PathLike
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput, can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from .configuration_windowed import WindowedConfig
from .initialization import initialize
from .losses import classification_loss
from .voting import vote


@dataclass
class WindowOutput(ModelOutput):
    """Output of `embed_windows`.

    Args:
        embeddings: One vector for each window [windows, embedding_size].
        hidden_states: Those of a transformers backbone, with `output_hidden_states`.
        attentions: Those of a transformers backbone, with `output_attentions`.
    """

    embeddings: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class TrackModelOutput(ModelOutput):
    """Embeddings of tracks.

    Args:
        window_embeddings: Embeddings of the windows [tracks, windows, embedding_size]; zeros for padding.
        pooler_output: Mean over each track's windows, without padding [tracks, embedding_size].
        hidden_states: With `output_hidden_states`, the input of the first layer and the outputs of all layers, in the
            order in which they run [windows of all tracks, ...]. Padding is left out, except in an exported or
            compiled graph.
        attentions: With `output_attentions` and `attn_implementation="eager"`, the weights of each attention layer
            [windows of all tracks, heads, tokens, tokens]. Padding is left out as in `hidden_states`.
    """

    window_embeddings: Tensor | None = None
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class TrackClassifierOutput(ModelOutput):
    """Predictions for tracks.

    Args:
        loss: Mean over the batch, if labels were given.
        logits: Result of the vote [tracks, labels]. Their softmax (multi-label: sigmoid) gives the voted
            probabilities.
        window_logits: Logits of the windows before the vote [tracks, windows, labels]; zeros for padding.
        routing: Index of each window's expert [tracks, windows], -1 for padding. None for architectures without
            experts.
        hidden_states: See [`TrackModelOutput`].
        attentions: See [`TrackModelOutput`].
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    window_logits: Tensor | None = None
    routing: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class WindowedPreTrainedModel(PreTrainedModel):
    """Base class of every model: weight initialisation, and checkpoints that include their code."""

    config_class = WindowedConfig
    base_model_prefix = "model"
    main_input_name = "input_values"
    input_modalities = ("audio",)
    # Auto class -> `file.Class` of the architecture; set by `register_auto_classes`.
    auto_map: ClassVar[dict[str, str]] = {}
    # The loss is the mean over a micro-batch; the Trainer divides by the number of micro-batches.
    accepts_loss_kwargs = False
    # Whether every training step gives every parameter a gradient. DistributedDataParallel needs to know if not.
    uses_all_parameters = True

    def __init__(self, config: WindowedConfig):
        super().__init__(config)
        # `from_pretrained` overrides fields after the config has validated itself.
        config.validate()

    def _init_weights(self, module: nn.Module) -> None:
        # A transformers backbone within the model initialises its own layers.
        if not initialize(module):
            super()._init_weights(module)

    def save_pretrained(self, save_directory: str | PathLike, **kwargs) -> None:
        """Save the checkpoint, and name all classes of the architecture in its config.json."""
        # transformers would save backbones under their former weight names, from which `Trainer` cannot resume.
        kwargs.setdefault("save_original_format", False)
        self.config.auto_map = {**(getattr(self.config, "auto_map", None) or {}), **self.auto_map}
        super().save_pretrained(save_directory, **kwargs)


class AttentionPreTrainedModel(WindowedPreTrainedModel):
    """Base class of architectures with attention layers from transformers."""

    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True


class WindowedModel(WindowedPreTrainedModel):
    """Base class of each `XModel`, which embeds windows.

    A subclass sets `config_class` and `embedding_size`, defines `embed_windows`, and calls `self.post_init()` at the
    end of `__init__`. If needed, it also sets:

    - `num_bins` (by default that of the config), `least_frames` and `least_bins`, the window sizes that it accepts. If
      its layers fix the number of frames, it extends `check_window`, with an error such as "expected 432 frames, got
      430".
    - `_can_record_outputs = {"hidden_states": XLayer}`, unless a transformers backbone returns hidden states itself.
    - `num_stages`, `stage_of`, `run_stages` and `state_shape`, if its computation splits into stages. Training with
      frozen first stages then computes their output once for each window and stores it.
    """

    embedding_size: int
    # Size of the smallest window that the layers can process.
    least_frames = 1
    least_bins = 1
    num_stages = 1
    # Checkpoints of a classifier also hold its head.
    _keys_to_ignore_on_load_unexpected = (r"^classifier\.",)

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Embed windows `input_values` [windows, frames, bins] as [windows, embedding_size]."""
        raise NotImplementedError(f"{type(self).__name__} must define embed_windows")

    @property
    def num_bins(self) -> int | None:
        """Bins of a window; None for any number."""
        return self.config.num_bins

    def check_window(self, frames: int, bins: int) -> None:
        """Raise a ValueError naming the expected size if the model cannot process windows of this size."""
        if self.num_bins is not None and bins != self.num_bins:
            raise ValueError(f"expected {self.num_bins} bins in the last dimension, got {bins}")
        if bins < self.least_bins:
            raise ValueError(f"expected at least {self.least_bins} bins in the last dimension, got {bins}")
        if frames < self.least_frames:
            raise ValueError(f"expected at least {self.least_frames} frames, got {frames}")

    def check_on_meta(self, frames: int, bins: int) -> None:
        """Check a window like `check_window`, for a model that was built on the meta device to check its settings."""
        self.check_window(frames, bins)

    def stage_of(self, parameter: str) -> int:
        """Return the stage (0-based) that a parameter or buffer belongs to."""
        return 0

    def num_frozen_stages(self) -> int:
        """Return the number of stages before the first stage with a trained parameter."""
        trained = (self.stage_of(name) for name, parameter in self.named_parameters() if parameter.requires_grad)
        return min(trained, default=self.num_stages)

    def run_stages(self, states: Tensor, first: int, stop: int) -> Tensor:
        """Run the stages from `first` up to, but not including, `stop`.

        Args:
            states: Windows [windows, frames, bins] if `first` is 0, otherwise the output of the stage before `first`.
            first: First stage to run.
            stop: Stage to stop before.

        Returns:
            States [windows, tokens, hidden]; after the last stage, the embeddings [windows, 1, embedding_size].
        """
        return self.embed_windows(states).embeddings.unsqueeze(1) if first < stop else states

    def state_shape(self, stages: int, frames: int, bins: int) -> tuple[int, int]:
        """Return the tokens and the hidden size of a window's states after the first `stages` stages."""
        return 1, self.embedding_size

    @capture_outputs
    def forward(
        self, input_values: Tensor, window_mask: Tensor | None = None, *, first_stage: int = 0, **kwargs
    ) -> TrackModelOutput | tuple:
        """Embed tracks.

        Args:
            input_values: One window per track [tracks, frames, bins], or a stack of windows per track
                [tracks, windows, frames, bins]. With `first_stage`, states [..., tokens, hidden] instead of windows.
            window_mask: True where a window exists, False for padding [tracks, windows]. By default all windows exist.
            first_stage: Stage at which `input_values` enter the model; see `run_stages`.
            kwargs: `output_hidden_states`, `output_attentions` and `return_dict`, by default as in the config. All
                other arguments are passed to the backbone.

        Raises:
            ValueError: If the shapes do not fit, or a track has no window.
        """
        input_values, window_mask = self._as_stacks(input_values, window_mask)
        if not first_stage:
            self.check_window(*input_values.shape[2:])
        tracks, windows = input_values.shape[:2]
        for name in ("output_hidden_states", "output_attentions"):
            kwargs.setdefault(name, getattr(self.config, name))
        # The shapes in an exported or compiled graph cannot depend on the mask, so the graph computes padding too.
        # Compiled training does not, because padding would change the statistics of batch norm.
        computes_padding = torch.compiler.is_compiling() and not self.training
        if window_mask is None or computes_padding:
            output = self._embed(input_values.flatten(0, 1), first_stage, **kwargs)
            embeddings = output.embeddings.unflatten(0, (tracks, windows))
            if window_mask is not None:
                embeddings = embeddings.masked_fill(~window_mask.unsqueeze(-1), 0)
        else:
            output = self._embed(input_values[window_mask], first_stage, **kwargs)
            embeddings = output.embeddings.new_zeros(tracks, windows, output.embeddings.shape[-1])
            embeddings = embeddings.masked_scatter(window_mask.unsqueeze(-1), output.embeddings)
        pooled = embeddings.mean(dim=1)
        if window_mask is not None:  # the mean above counts padding
            pooled = pooled * (windows / window_mask.sum(dim=1, keepdim=True)).to(pooled.dtype)
        return TrackModelOutput(
            window_embeddings=embeddings,
            pooler_output=pooled,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )

    def _embed(self, states: Tensor, first_stage: int, **kwargs) -> WindowOutput:
        if not first_stage:
            return self.embed_windows(states, **kwargs)
        return WindowOutput(embeddings=self.run_stages(states, first_stage, self.num_stages).squeeze(1))

    def _as_stacks(self, input_values: Tensor, window_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return stacks [tracks, windows, frames, bins] and their mask, which is None if there is no padding."""
        if input_values.ndim == 3:
            input_values = input_values.unsqueeze(1)
        if input_values.ndim != 4:
            raise ValueError(
                "input_values must be [tracks, frames, bins] or [tracks, windows, frames, bins], "
                f"not {list(input_values.shape)}"
            )
        if window_mask is None:
            return input_values, None
        window_mask = window_mask.bool()
        if window_mask.shape != input_values.shape[:2]:
            raise ValueError(
                f"window_mask must be [tracks, windows] = {list(input_values.shape[:2])}, not {list(window_mask.shape)}"
            )
        if not torch.compiler.is_compiling():
            if not window_mask.any(dim=1).all():
                raise ValueError("window_mask leaves a track without any window: each needs at least one")
            if window_mask.all():
                return input_values, None
        return input_values, window_mask


class HiddenLayerClassifier(nn.Module):
    """Linear -> ReLU -> Linear."""

    def __init__(self, embedding_size: int, hidden_size: int, num_labels: int):
        super().__init__()
        self.dense = nn.Linear(embedding_size, hidden_size)
        self.output = nn.Linear(hidden_size, num_labels)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map embeddings [windows, embedding_size] to logits [windows, labels]."""
        return self.output(self.dense(embeddings).relu())


def new_classifier(embedding_size: int, config: WindowedConfig) -> nn.Linear | HiddenLayerClassifier:
    """Return a linear classifier, with a hidden layer if the config sets `classifier_hidden_size`."""
    if config.classifier_hidden_size is None:
        return nn.Linear(embedding_size, config.num_labels)
    return HiddenLayerClassifier(embedding_size, config.classifier_hidden_size, config.num_labels)


class WindowedForAudioClassification(WindowedPreTrainedModel):
    """Base class of each `XForAudioClassification`, which classifies windows and lets them vote on their track.

    A subclass sets `config_class` and passes its `XModel` and its dropout rate to `__init__`. If its paper asks for more, it
    overrides `classify_windows`, `training_loss` or `begin_epoch`.
    """

    def __init__(
        self, config: WindowedConfig, model: WindowedModel, classifier: nn.Module | None = None, dropout: float = 0.0
    ):
        """Add dropout and a classifier of windows, by default that of `new_classifier`, to `model`."""
        super().__init__(config)
        self.model = model
        self.dropout = nn.Dropout(dropout)
        self.classifier = new_classifier(model.embedding_size, config) if classifier is None else classifier
        self.post_init()

    def train(self, mode: bool = True) -> Self:
        """Set the mode, but leave a frozen base model and frozen batch norms in evaluation mode.

        Dropout would change the output of a frozen base model, and batch norm its running statistics, which the
        checkpoint of an adapter does not contain.
        """
        super().train(mode)
        for module in self.modules():
            if module is self.model or isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                # FSDP leaves modules without parameters of their own.
                trained = [parameter.requires_grad for parameter in module.parameters()]
                if trained and not any(trained):
                    module.eval()
        return self

    def classify_windows(self, embeddings: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map embeddings [windows, embedding_size] to logits [windows, labels] and expert indices [windows] or None.

        The embeddings of padding are zeros. `forward` discards their logits.
        """
        return self.classifier(self.dropout(embeddings)), None

    def training_loss(self, loss: Tensor) -> Tensor:
        """Return the loss that training minimises, given the classification loss."""
        return loss

    def begin_epoch(self, epoch: int) -> None:
        """Prepare for an epoch (0-based). Called before each epoch, and when a run resumes."""

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        window_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs,
    ) -> TrackClassifierOutput | tuple:
        """Classify tracks. `labels` are label indices [tracks] or targets [tracks, labels]; see `classification_loss`.

        The other arguments and the errors are those of [`WindowedModel.forward`].
        """
        output = self.model(input_values, window_mask=window_mask, **kwargs)
        stacks = output.window_embeddings.shape[:2]
        window_logits, routing = self.classify_windows(output.window_embeddings.flatten(0, 1))
        window_logits = window_logits.unflatten(0, stacks)
        routing = None if routing is None else routing.unflatten(0, stacks)
        if window_mask is not None:
            window_mask = window_mask.bool()
            window_logits = window_logits.masked_fill(~window_mask.unsqueeze(-1), 0)
            routing = None if routing is None else routing.masked_fill(~window_mask, -1)

        multi_label = self.config.problem_type == "multi_label_classification"
        logits = vote(window_logits, window_mask, rule=self.config.voting, multi_label=multi_label)
        loss = None
        if labels is not None:
            loss = classification_loss(
                logits,
                labels,
                multi_label=multi_label,
                label_smoothing=self.config.label_smoothing,
                class_weights=self.config.class_weights,
            )
            if self.training:
                loss = self.training_loss(loss)
        return TrackClassifierOutput(
            loss=loss,
            logits=logits,
            window_logits=window_logits,
            routing=routing,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )


def register_auto_classes(**classes: type[WindowedPreTrainedModel]) -> None:
    """Register the classes of an architecture under their Auto classes (`AutoModel=XModel`, ...).

    Checkpoints then contain the code of all these classes, and load without hfmgc.
    """
    auto_map = {name: f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}" for name, cls in classes.items()}
    for name, cls in classes.items():
        cls.register_for_auto_class(name)
        cls.auto_map = auto_map
