"""The heads of a probe, fitted to arrays: logistic regressions, and linear or one-hidden-layer heads trained with Adam.

Each of them reads standardised windows; the standardisation is folded into its first layer.
"""

import copy
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F

from ..evaluation.predictions import TrackPredictions
from ..models.configuration_windowed import WindowedConfig
from ..models.losses import classification_loss
from ..models.modeling_windowed import HiddenLayerClassifier
from ..models.voting import vote


Head = nn.Linear | HiddenLayerClassifier
# Bias of a genre without training tracks: its probability is practically 0.
ABSENT = -30.0
# Of a unit that the head reads, as a share of the largest one.
LEAST_DEVIATION = 1e-3
# Training steps between two evaluations on the validation side (the paper's code).
STEPS_PER_EVALUATION = 8


@dataclass(frozen=True)
class Representations:
    """Tracks for a probe.

    Args:
        windows: For each track, the representations of its windows [windows, hidden].
        targets: Genre indices [tracks]; with several genres per track zeros and ones [tracks, labels].
    """

    windows: list[np.ndarray]
    targets: np.ndarray

    def select(self, rows: Sequence[int]) -> "Representations":
        """Return some of the tracks."""
        return Representations([self.windows[row] for row in rows], self.targets[rows])

    def columns(self, chosen: slice) -> "Representations":
        """Return the tracks with some of the units."""
        return Representations([stack[:, chosen] for stack in self.windows], self.targets)

    @property
    def window_weights(self) -> np.ndarray:
        """A weight for each window; those of a track have the sum 1."""
        return np.concatenate([np.full(len(stack), 1 / len(stack)) for stack in self.windows])

    @property
    def window_targets(self) -> np.ndarray:
        """The targets of the track of each window."""
        return np.repeat(self.targets, [len(stack) for stack in self.windows], axis=0)

    def standardization(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean and the deviation of each unit [hidden], in which each track has the same weight.

        The deviation of a dead unit is infinite. Theirs go down to 1e-20: divided by them, noise would decide.
        """
        windows, weights = np.concatenate(self.windows), self.window_weights
        mean = np.average(windows.astype(np.float64), axis=0, weights=weights)
        deviation = np.sqrt(np.average((windows - mean) ** 2, axis=0, weights=weights))
        return mean, np.where(deviation > LEAST_DEVIATION * deviation.max(), deviation, np.inf)

    def predictions(self, track_ids: Iterable[str], logits: Sequence[Tensor], *, rule: str) -> TrackPredictions:
        """Return the predictions for the tracks from the logits of their windows."""
        return TrackPredictions(
            track_ids=list(track_ids),
            references=self.targets,
            logits=voted(logits, rule=rule, multi_label=self.targets.ndim == 2).double().numpy(),
            window_logits=[one.numpy() for one in logits],
        )


@torch.no_grad()
def window_logits(head: Head, tracks: Representations) -> list[Tensor]:
    """Return the logits of each track's windows [windows, labels]."""
    return [head(torch.from_numpy(stack)) for stack in tracks.windows]


def voted(logits: Sequence[Tensor], *, rule: str = "mean", multi_label: bool = False) -> Tensor:
    """Return the logits of tracks [tracks, labels] from those of their windows."""
    return vote(*padded(logits), rule=rule, multi_label=multi_label)


def padded(stacks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return stacks as one tensor with zeros as padding, and which of their rows exist [stacks, rows]."""
    mask = [torch.ones(len(stack), dtype=torch.bool) for stack in stacks]
    return tuple(nn.utils.rnn.pad_sequence(one, batch_first=True) for one in (stacks, mask))


def folded(head: Head, mean: np.ndarray, deviation: np.ndarray) -> Head:
    """Return a head for standardised windows as one for the windows themselves."""
    first = head if isinstance(head, nn.Linear) else head.dense
    with torch.no_grad():
        weight = first.weight.double() / torch.from_numpy(deviation)
        first.bias.copy_(first.bias.double() - weight @ torch.from_numpy(mean))
        first.weight.copy_(weight)
    return head


def fit_logistic(
    tracks: Representations, num_labels: int, strength: float, *, class_weights: Sequence[float] | None = None
) -> nn.Linear:
    """Return the logistic regression on standardised windows as a linear layer on the windows themselves.

    Each track has the same weight, however many windows it has. `strength` is scikit-learn's C. With several genres per
    track each output is fitted alone, so that `class_weights` change nothing.
    """
    mean, deviation = tracks.standardization()
    windows = ((np.concatenate(tracks.windows) - mean) / deviation).astype(np.float32)
    weights, targets = tracks.window_weights, tracks.window_targets

    def fitted(labels: np.ndarray, sample_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = LogisticRegression(C=strength, max_iter=1000).fit(windows, labels, sample_weight=sample_weights)
        return found.coef_, found.intercept_

    weight, bias = np.zeros((num_labels, windows.shape[1])), np.full(num_labels, ABSENT)
    if targets.ndim == 2:
        for label in range(num_labels):
            if targets[:, label].min() < targets[:, label].max():
                weight[[label]], bias[[label]] = fitted(targets[:, label].astype(int), weights)
            elif targets[0, label]:
                bias[label] = -ABSENT
    else:
        present = np.unique(targets)
        bias[present] = 0.0
        if class_weights is not None:
            weights = weights * np.asarray(class_weights)[targets]
        if len(present) == 2:  # one row separates the two
            rows, biases = fitted(targets, weights)
            weight[present], bias[present] = np.concatenate([-rows, rows]) / 2, np.concatenate([-biases, biases]) / 2
        elif len(present) > 2:
            weight[present], bias[present] = fitted(targets, weights)
    layer = nn.Linear(weight.shape[1], num_labels)
    layer.load_state_dict({"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()})
    return folded(layer, mean, deviation)


@dataclass(frozen=True)
class HeadSettings:
    """How one head is trained, with Adam."""

    standardize: bool
    hidden_size: int  # 0: no hidden layer
    batch_size: int  # tracks of a step
    learning_rate: float
    dropout: float  # of the windows and of the hidden layer
    l2: float  # weight decay that is added to the gradient


@dataclass(frozen=True)
class HeadGrid:
    """Values of each of the `HeadSettings` to choose from; by default the 216 points of the CALM paper."""

    standardize: list[bool] = field(default_factory=lambda: [False, True])
    hidden_size: list[int] = field(default_factory=lambda: [0, 512])
    batch_size: list[int] = field(default_factory=lambda: [64, 256])
    learning_rate: list[float] = field(default_factory=lambda: [1e-5, 1e-4, 1e-3])
    dropout: list[float] = field(default_factory=lambda: [0.25, 0.5, 0.75])
    l2: list[float] = field(default_factory=lambda: [0.0, 1e-4, 1e-3])

    def __post_init__(self):
        lowest = {"batch_size": 1, "learning_rate": 1e-12}
        for name, values in asdict(self).items():
            if not values or min(values) < lowest.get(name, 0) or (name == "dropout" and max(values) >= 1):
                raise ValueError(f"probe_grid.{name}: impossible values {values}")

    def points(self) -> list[HeadSettings]:
        """Return all combinations."""
        return [HeadSettings(*values) for values in itertools.product(*asdict(self).values())]


@dataclass
class TrainedHead:
    """A head, in the end with the weights of the step with its lowest validation loss."""

    head: Head
    settings: HeadSettings
    best: dict[str, Tensor]
    loss: float = math.inf
    steps: int = 0
    stale: int = 0  # evaluations since then

    def evaluated(self, step: int, loss: float) -> None:
        """Record the validation loss at a step."""
        self.stale += 1
        if loss < self.loss:
            self.loss, self.steps, self.stale = loss, step, 0
            self.best = copy.deepcopy(self.head.state_dict())


@dataclass
class HeadTrainer:
    """Trains heads on the same tracks; a step reads one random window of each track of its batch.

    A head stops after `max_steps`, or after `patience` evaluations, one every `STEPS_PER_EVALUATION` steps, without a lower
    loss on the validation side. Labels, voting and loss are those of `config`. All heads have the same `seed`, of the initial
    weights, batches, windows and dropout.
    """

    training: Representations
    validation: Representations
    config: WindowedConfig
    max_steps: int
    patience: int | None
    seed: int
    device: torch.device | str = "cpu"

    def __post_init__(self):
        self._multi_label = self.training.targets.ndim == 2
        self._standardization = self.training.standardization()
        self._windows = torch.from_numpy(np.concatenate(self.training.windows)).float().to(self.device)
        counts = torch.tensor([len(stack) for stack in self.training.windows], device=self.device)
        self._counts, self._first = counts, counts.cumsum(0) - counts
        self._targets, self._held_out_targets = (
            torch.from_numpy(side.targets).to(self.device) for side in (self.training, self.validation)
        )
        held_out = padded([torch.from_numpy(stack).float() for stack in self.validation.windows])
        self._held_out, self._mask = (tensor.to(self.device) for tensor in held_out)

    def fit(self, points: Sequence[HeadSettings]) -> Iterator[list[TrainedHead]]:
        """Train a head with each of the settings; yield them as they are done, several at a time.

        Those that differ in learning rate and weight decay alone are trained together: they read the same batches with the
        same dropout, and a step costs much less than one step for each. Batches larger than the training side are all equal.
        """
        alike: dict[HeadSettings, list[HeadSettings]] = {}
        for point in points:
            alike.setdefault(replace(point, batch_size=min(point.batch_size, len(self._counts))), []).append(point)
        for _, together in itertools.groupby(sorted(alike, key=_inputs_of), _inputs_of):
            with torch.random.fork_rng(devices=[]):
                heads = self._fit(list(together))
            yield [replace(head, settings=point) for head in heads for point in alike[head.settings]]

    def _fit(self, points: list[HeadSettings]) -> list[TrainedHead]:
        common = points[0]
        mean, deviation = self._standardization
        if not common.standardize:
            mean, deviation = np.zeros_like(mean), np.ones_like(deviation)
        shift, scale = (torch.from_numpy(one).float().to(self.device) for one in (mean, deviation))
        windows, held_out = ((one - shift) / scale for one in (self._windows, self._held_out))
        size = windows.shape[-1]
        runs = [self._new_head(size, point) for point in points]
        optimizer = torch.optim.Adam(
            [
                {"params": run.head.parameters(), "lr": run.settings.learning_rate, "weight_decay": run.settings.l2}
                for run in runs
            ],
            fused=True,
        )
        torch.manual_seed(self.seed)
        active = runs
        for step in range(self.max_steps + 1):
            if step % STEPS_PER_EVALUATION == 0 or step == self.max_steps:
                for run in active:
                    run.evaluated(step, self._validation_loss(run.head, held_out))
                active = [run for run in active if run.stale != self.patience]
            if step == self.max_steps or not active:
                break
            tracks = torch.randperm(len(self._counts))[: common.batch_size].to(self.device)
            draws = torch.rand(len(tracks)).to(self.device)
            batch = windows[self._first[tracks] + (draws * self._counts[tracks]).long()]
            # 0 for a share of the units, and more than 1 for the others; the same for all heads.
            masks = [
                F.dropout(torch.ones(len(batch), units), common.dropout).to(self.device)
                for units in (size, common.hidden_size)
            ]
            logits = [_masked(run.head, batch * masks[0], masks[1]) for run in active]
            optimizer.zero_grad()  # without a gradient, Adam leaves stopped heads as they are
            sum(self._loss(one, self._targets[tracks]) for one in logits).backward()
            optimizer.step()
        for run in runs:
            run.head.load_state_dict(run.best)
            folded(run.head.cpu(), mean, deviation)
        return runs

    def _new_head(self, size: int, settings: HeadSettings) -> TrainedHead:
        torch.manual_seed(self.seed)
        labels, hidden_size = self.config.num_labels, settings.hidden_size
        head = HiddenLayerClassifier(size, hidden_size, labels) if hidden_size else nn.Linear(size, labels)
        head.to(self.device)
        return TrainedHead(head, settings, copy.deepcopy(head.state_dict()))

    @torch.no_grad()
    def _validation_loss(self, head: Head, held_out: Tensor) -> float:
        logits = vote(head(held_out), self._mask, rule=self.config.voting, multi_label=self._multi_label)
        return float(self._loss(logits, self._held_out_targets))

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return classification_loss(
            logits,
            targets,
            multi_label=self._multi_label,
            label_smoothing=self.config.label_smoothing,
            class_weights=self.config.class_weights,
        )


def _inputs_of(point: HeadSettings) -> tuple:
    return point.standardize, point.hidden_size, point.batch_size, point.dropout


def _masked(head: Head, windows: Tensor, hidden_mask: Tensor) -> Tensor:
    """Return the logits of windows [windows, labels] with dropout of the hidden layer, if there is one."""
    if isinstance(head, nn.Linear):
        return head(windows)
    return head.output(head.dense(windows).relu() * hidden_mask)
