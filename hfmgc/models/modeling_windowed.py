"""The interface of all architectures: a window or a stack of windows in, one prediction per track out.

`XModel` maps the windows of a track to embeddings; `XForAudioClassification` adds a head, the vote and the loss.
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
    """Output for single windows.

    Args:
        embeddings: Input of the head [windows, hidden].
        hidden_states: Of a backbone of transformers, with `output_hidden_states`.
        attentions: Of a backbone of transformers, with `output_attentions`.
    """

    embeddings: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class TrackModelOutput(ModelOutput):
    """Embeddings of tracks.

    Args:
        window_embeddings: Of each window [tracks, windows, hidden]; zeros for padding.
        pooler_output: Mean over the windows that exist [tracks, hidden].
        hidden_states: With `output_hidden_states`, the input of the first layer or block and the output of each of them, in
            the order of the computation [existing windows, ...]; an exported or compiled graph returns those of all windows.
        attentions: With `output_attentions` and `attn_implementation="eager"`, the weights of each attention layer
            [existing windows, heads, tokens, tokens].
    """

    window_embeddings: Tensor | None = None
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class TrackClassifierOutput(ModelOutput):
    """Predictions for tracks.

    Args:
        loss: Mean over the batch, when labels were given.
        logits: Voted over the windows [tracks, labels]; their softmax (multi-label: sigmoid) is the voted probability.
        window_logits: Before the vote [tracks, windows, labels]; zeros for padding.
        routing: Expert of each window [tracks, windows], -1 for padding; None for architectures without experts.
        hidden_states: As in [`TrackModelOutput`].
        attentions: As in [`TrackModelOutput`].
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    window_logits: Tensor | None = None
    routing: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class WindowedPreTrainedModel(PreTrainedModel):
    """Base of `XModel` and `XForAudioClassification`."""

    config_class = WindowedConfig
    base_model_prefix = "model"
    main_input_name = "input_values"
    input_modalities = ("audio",)
    # Auto class -> `file.Class` of the architecture, by `register_auto_classes`.
    auto_map: ClassVar[dict[str, str]] = {}
    # The loss is the mean over a micro-batch; the Trainer divides by the number of micro-batches.
    accepts_loss_kwargs = False
    # False for models that do not use every parameter in every step; DistributedDataParallel needs to know.
    uses_all_parameters = True

    def __init__(self, config: WindowedConfig):
        super().__init__(config)
        # `from_pretrained` sets overrides after the config's own `__init__`.
        config.validate()

    def _init_weights(self, module: nn.Module) -> None:
        # Backbones of transformers within a model keep their own initialisation.
        if not initialize(module):
            super()._init_weights(module)

    def save_pretrained(self, save_directory: str | PathLike, **kwargs) -> None:
        """Save as transformers does, with all classes of the architecture in config.json."""
        # By default backbones of transformers are saved under the names of older versions, which `Trainer` cannot resume from.
        kwargs.setdefault("save_original_format", False)
        self.config.auto_map = {**(getattr(self.config, "auto_map", None) or {}), **self.auto_map}
        super().save_pretrained(save_directory, **kwargs)


class AttentionPreTrainedModel(WindowedPreTrainedModel):
    """Base of the architectures whose layers are attention layers of transformers."""

    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True


class WindowedModel(WindowedPreTrainedModel):
    """Base of each `XModel`.

    An architecture sets `config_class` and `embedding_size`, defines `embed_windows`, and ends its `__init__` with
    `self.post_init()`. Windows have `config.num_bins` bins and any number of frames, unless it defines `num_bins`,
    `least_frames` or `least_bins`. Where its layers fix the number of frames, it extends `check_window`, with an error
    such as "expected 432 frames, got 430". `_can_record_outputs = {"hidden_states": XLayer}` names its layers, unless
    a backbone of transformers returns their hidden states and attentions itself.
    """

    embedding_size: int
    # The smallest window that the layers can process.
    least_frames = 1
    least_bins = 1
    # Parts of `embed_windows` that can be run one after another, so that training can store the output of frozen ones.
    num_stages = 1
    # A classifier's checkpoint has a head too.
    _keys_to_ignore_on_load_unexpected = (r"^classifier\.",)

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Map single windows `input_values` [windows, frames, bins] to embeddings [windows, embedding_size]."""
        # Abstract: every architecture defines it.
        raise NotImplementedError(f"{type(self).__name__} must define embed_windows")

    @property
    def num_bins(self) -> int | None:
        """Bins of a window; None: any number."""
        return self.config.num_bins

    def check_window(self, frames: int, bins: int) -> None:
        """Raise a ValueError that names the expected size if windows of this size cannot be processed."""
        if self.num_bins is not None and bins != self.num_bins:
            raise ValueError(f"expected {self.num_bins} bins in the last dimension, got {bins}")
        if bins < self.least_bins:
            raise ValueError(f"expected at least {self.least_bins} bins in the last dimension, got {bins}")
        if frames < self.least_frames:
            raise ValueError(f"expected at least {self.least_frames} frames, got {frames}")

    def check_on_meta(self, frames: int, bins: int) -> None:
        """Raise a ValueError when this model, built on the meta device to check settings, cannot process such a window."""
        self.check_window(frames, bins)

    def stage_of(self, parameter: str) -> int:
        """Return the stage, from 0, that a parameter or buffer belongs to."""
        return 0

    def num_frozen_stages(self) -> int:
        """Return how many of the first stages have no trained parameter."""
        trained = (self.stage_of(name) for name, parameter in self.named_parameters() if parameter.requires_grad)
        return min(trained, default=self.num_stages)

    def run_stages(self, states: Tensor, first: int, stop: int) -> Tensor:
        """Run some of the stages on single windows.

        Args:
            states: Windows [windows, frames, bins] if `first` is 0, else the output of the stage before it.
            first: First stage to run.
            stop: Stage to stop before.

        Returns:
            States [windows, tokens, hidden]; after the last stage the embeddings, as one token.
        """
        return self.embed_windows(states).embeddings.unsqueeze(1) if first < stop else states

    def state_shape(self, stages: int, frames: int, bins: int) -> tuple[int, int]:
        """Return the tokens and the hidden size of a window's states after so many stages."""
        return 1, self.embedding_size

    @capture_outputs
    def forward(
        self, input_values: Tensor, window_mask: Tensor | None = None, *, first_stage: int = 0, **kwargs
    ) -> TrackModelOutput | tuple:
        """Embed tracks.

        Args:
            input_values: One window per track [tracks, frames, bins] or stacks of them [tracks, windows, frames, bins].
                With `first_stage`, states [..., tokens, hidden] in place of windows.
            window_mask: Which windows exist [tracks, windows], where tracks have different numbers of windows.
            first_stage: Stage that `input_values` enter; 0: the first one. See `run_stages`.
            kwargs: `output_hidden_states`, `output_attentions` and `return_dict`, by default those of the config; others
                are passed to the backbone.

        Raises:
            ValueError: If the shapes do not fit, naming what was expected; if a track has no window.
        """
        input_values, window_mask = self._as_stacks(input_values, window_mask)
        if not first_stage:
            self.check_window(*input_values.shape[2:])
        tracks, windows = input_values.shape[:2]
        for name in ("output_hidden_states", "output_attentions"):
            kwargs.setdefault(name, getattr(self.config, name))
        # In training, batch norm must not see padding.
        as_graph = torch.compiler.is_compiling() and not self.training
        if window_mask is None or as_graph:
            # The shapes of an exported or compiled graph cannot depend on the mask, so it computes the padding too.
            output = self._embed(input_values.flatten(0, 1), first_stage, **kwargs)
            embeddings = output.embeddings.unflatten(0, (tracks, windows))
            if window_mask is not None:
                embeddings = embeddings.masked_fill(~window_mask.unsqueeze(-1), 0)
        else:
            # Padding is not computed.
            output = self._embed(input_values[window_mask], first_stage, **kwargs)
            embeddings = output.embeddings.new_zeros(tracks, windows, output.embeddings.shape[-1])
            embeddings = embeddings.masked_scatter(window_mask.unsqueeze(-1), output.embeddings)
        pooled = embeddings.mean(dim=1)
        if window_mask is not None:  # padding was counted as zeros
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
        """Check the shapes; return [tracks, windows, frames, bins] and a mask, or None where every window exists."""
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
                raise ValueError("window_mask leaves a track without any window")
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
        """Map embeddings [windows, hidden] to logits [windows, labels]."""
        return self.output(self.dense(embeddings).relu())


def new_classifier(embedding_size: int, config: WindowedConfig) -> nn.Linear | HiddenLayerClassifier:
    """Return the head that a config describes: a linear layer, or two with `classifier_hidden_size`."""
    if config.classifier_hidden_size is None:
        return nn.Linear(embedding_size, config.num_labels)
    return HiddenLayerClassifier(embedding_size, config.classifier_hidden_size, config.num_labels)


class WindowedForAudioClassification(WindowedPreTrainedModel):
    """Base of each `XForAudioClassification`: dropout and `classifier` for each window, vote and loss for the track.

    An architecture sets `config_class` and passes its `XModel` and the rate of its dropout to `__init__`. Where its paper needs it, it defines
    `classify_windows` (a head of several parts), `training_loss` and `begin_epoch` (what changes between epochs).
    """

    def __init__(
        self, config: WindowedConfig, model: WindowedModel, classifier: nn.Module | None = None, dropout: float = 0.0
    ):
        """Add a head to `model`: `dropout`, then `classifier`, by default that of `new_classifier`."""
        super().__init__(config)
        self.model = model
        self.dropout = nn.Dropout(dropout)
        self.classifier = new_classifier(model.embedding_size, config) if classifier is None else classifier
        self.post_init()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen base model and frozen batch norms stay in evaluation mode.

        The output of a frozen base model must not change, and an adapter does not save the running statistics of its base.
        """
        super().train(mode)
        for module in self.modules():
            if module is self.model or isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                # Empty where FSDP flattens the parameters.
                trained = [parameter.requires_grad for parameter in module.parameters()]
                if trained and not any(trained):
                    module.eval()
        return self

    def classify_windows(self, embeddings: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map embeddings [windows, hidden] to logits [windows, labels] and, with experts, their indices [windows].

        Padding is included, as zeros; its logits are dropped later.
        """
        return self.classifier(self.dropout(embeddings)), None

    def training_loss(self, loss: Tensor) -> Tensor:
        """Return the scalar that training minimises, given the classification loss; by default the same."""
        return loss

    def begin_epoch(self, epoch: int) -> None:
        """Prepare for an epoch of training, from 0; called before each epoch and when a run resumes."""

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        window_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs,
    ) -> TrackClassifierOutput | tuple:
        """Classify tracks; `labels` are genre indices [tracks] or targets [tracks, labels].

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
    """Register the classes of an architecture by Auto class (`AutoModel=XModel`, ...).

    Every checkpoint contains their code, so that it loads where hfmgc is not installed, and names all of the classes.
    """
    auto_map = {name: f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}" for name, cls in classes.items()}
    for name, cls in classes.items():
        cls.register_for_auto_class(name)
        cls.auto_map = auto_map
