"""The interface that all architectures share: one window or a stack of windows in, one answer per track out."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput
from transformers.utils.output_capturing import capture_outputs

from .configuration_windowed import WindowedConfig
from .initialization import initialize
from .losses import classification_loss
from .voting import vote


@dataclass
class WindowOutput(ModelOutput):
    """Output for single windows.

    Args:
        logits: [windows, labels].
        hidden_states: Of a backbone of transformers, when asked for.
        attentions: Of a backbone of transformers, when asked for.
        routing: Which of its experts each window went to, where the architecture has experts [windows].
    """

    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    routing: Tensor | None = None


@dataclass
class TrackClassifierOutput(ModelOutput):
    """Output for tracks.

    Args:
        loss: Mean over the batch, when labels were given.
        logits: Voted over the windows [tracks, labels]; their softmax (multi-label: sigmoid) is the voted probability.
        window_logits: Before the vote [tracks, windows, labels]; zeros where `window_mask` says that there is no window.
        routing: Which of its experts each window went to [tracks, windows], -1 where there is no window; None for
            architectures without experts.
        hidden_states: With `output_hidden_states`, what the first layer or block reads and what each of them returns, in
            the order of the computation [existing windows, ...]; in an exported or compiled graph of all windows.
        attentions: With `output_attentions`, the weights of each attention layer [existing windows, heads, tokens,
            tokens]; only `attn_implementation="eager"` has them.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    window_logits: Tensor | None = None
    routing: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class WindowedPreTrainedModel(PreTrainedModel):
    """Base of all classifiers.

    An architecture writes `forward_window`, and `check_window` to name its input's sizes; `_can_record_outputs` names its
    layers, unless a backbone of transformers returns their hidden states and attentions itself; where its paper asks for it,
    `penalty` (a term of the training loss) and `begin_epoch` (what changes as training goes on).
    """

    config_class = WindowedConfig
    main_input_name = "input_values"
    input_modalities = ("audio",)
    # The loss is the mean over a micro-batch; the Trainer divides by the number of micro-batches.
    accepts_loss_kwargs = False
    # False for architectures that leave parameters out of some steps: DistributedDataParallel must be told.
    uses_all_parameters = True

    def __init__(self, config: WindowedConfig):
        super().__init__(config)
        # `from_pretrained` sets overrides after the config's own `__init__`.
        config.validate()

    def forward_window(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Classify single windows: `input_values` [windows, frames, bins] -> logits [windows, labels]."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_window")

    def check_window(self, frames: int, bins: int) -> None:
        """Raise a ValueError that names what was expected when a window of this size cannot be processed."""

    def penalty(self) -> Tensor | None:
        """Return what is added to the loss while training (regularisation of named weights), a scalar, or None."""
        return None

    def begin_epoch(self, epoch: int) -> None:
        """Be told before each epoch of training, the first being 0; also the one that a resumed run goes on with."""

    def _init_weights(self, module: nn.Module) -> None:
        # Backbones of transformers that stand within a model keep their own way.
        if not initialize(module):
            super()._init_weights(module)

    @capture_outputs
    def forward(
        self,
        input_values: Tensor,
        window_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs,
    ) -> TrackClassifierOutput | tuple:
        """Classify tracks.

        Args:
            input_values: One window per track [tracks, frames, bins] or stacks of them [tracks, windows, frames, bins].
            window_mask: Which windows exist [tracks, windows], where tracks have different numbers of them.
            labels: Genre indices [tracks] or targets [tracks, labels].
            kwargs: `output_hidden_states`, `output_attentions` and `return_dict`, which the config gives by default; others
                are passed to the backbone.

        Raises:
            ValueError: If the shapes do not fit, naming what was expected; if a track has no window.
        """
        input_values, window_mask = self._as_stacks(input_values, window_mask)
        tracks, windows = input_values.shape[:2]
        for name in ("output_hidden_states", "output_attentions"):
            kwargs.setdefault(name, getattr(self.config, name))
        # In training, batch norm must not hear what pads a stack, so such a batch is never computed whole.
        as_graph = torch.compiler.is_compiling() and not self.training
        if window_mask is None or as_graph:
            # How many windows exist depends on the data, which an exported or compiled graph cannot: it computes all.
            output = self.forward_window(input_values.flatten(0, 1), **kwargs)
            window_logits = output.logits.unflatten(0, (tracks, windows))
            routing = None if output.routing is None else output.routing.unflatten(0, (tracks, windows))
            if window_mask is not None:
                window_logits = window_logits.masked_fill(~window_mask.unsqueeze(-1), 0)
                routing = None if routing is None else routing.masked_fill(~window_mask, -1)
        else:
            # Only windows that exist are computed; what pads the stack costs nothing.
            output = self.forward_window(input_values[window_mask], **kwargs)
            window_logits = output.logits.new_zeros(tracks, windows, output.logits.shape[-1])
            window_logits = window_logits.masked_scatter(window_mask.unsqueeze(-1), output.logits)
            routing = None
            if output.routing is not None:
                routing = output.routing.new_full((tracks, windows), -1).masked_scatter(window_mask, output.routing)

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
            penalty = self.penalty() if self.training else None
            if penalty is not None:
                loss = loss + penalty
        return TrackClassifierOutput(
            loss=loss,
            logits=logits,
            window_logits=window_logits,
            routing=routing,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )

    def _as_stacks(self, input_values: Tensor, window_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Check the shapes; return [tracks, windows, frames, bins] and a mask, or None where every window exists."""
        if input_values.ndim == 3:
            input_values = input_values.unsqueeze(1)
        if input_values.ndim != 4:
            raise ValueError(
                "input_values must be [tracks, frames, bins] or [tracks, windows, frames, bins], "
                f"not {list(input_values.shape)}"
            )
        self.check_window(*input_values.shape[2:])
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
