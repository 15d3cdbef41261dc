"""The heads of a probe, fitted to arrays: logistic regressions, and linear or one-hidden-layer heads trained with Adam.

Heads are fitted to standardised windows. The standardisation is then folded into the first layer, so the finished head
reads the windows themselves.
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
# Bias of a genre without training tracks, whose probability is then practically 0.
ABSENT = -30.0
# Units with a smaller deviation, as a share of the largest one, are ignored.
LEAST_DEVIATION = 1e-3
# Training steps between evaluations on the validation side (from the paper's code).
STEPS_PER_EVALUATION = 8


@dataclass(frozen=True)
class Representations:
    """Tracks as vectors.

    Args:
        windows: For each track, the representations of its windows [windows, hidden].
        targets: Genre indices [tracks]; with several genres per track zeros and ones [tracks, labels].
    """

    windows: list[np.ndarray]
    targets: np.ndarray

    def select(self, rows: Sequence[int]) -> "Representations":
        """Return some of the tracks."""
        return Representations([self.windows[row] for row in rows], self.targets[rows])

    def columns(self, units: slice) -> "Representations":
        """Return all tracks with only these units."""
        return Representations([stack[:, units] for stack in self.windows], self.targets)

    @property
    def window_weights(self) -> np.ndarray:
        """The weights of all windows; those of a track sum to 1."""
        return np.concatenate([np.full(len(stack), 1 / len(stack)) for stack in self.windows])

    @property
    def window_targets(self) -> np.ndarray:
        """The targets of all windows, which are those of their tracks."""
        return np.repeat(self.targets, [len(stack) for stack in self.windows], axis=0)

    def standardization(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean and the deviation of each unit [hidden]; each track has the same weight.

        The deviation of a dead unit, which can be as small as 1e-20, becomes infinite: dividing by it would amplify noise.
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
            logits=vote_by_track(logits, rule=rule, multi_label=self.targets.ndim == 2).double().numpy(),
            window_logits=[stack.numpy() for stack in logits],
        )


@torch.no_grad()
def window_logits(head: Head, tracks: Representations) -> list[Tensor]:
    """Return the logits of each track's windows [windows, labels]."""
    return [head(torch.from_numpy(stack)) for stack in tracks.windows]


def vote_by_track(logits: Sequence[Tensor], *, rule: str = "mean", multi_label: bool = False) -> Tensor:
    """Return the logits of tracks [tracks, labels] from the logits of their windows."""
    return vote(*pad_stacks(logits), rule=rule, multi_label=multi_label)


def pad_stacks(stacks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return stacks as one tensor padded with zeros, and a mask of the rows that are no padding [stacks, rows]."""
    masks = [torch.ones(len(stack), dtype=torch.bool) for stack in stacks]
    return tuple(nn.utils.rnn.pad_sequence(tensors, batch_first=True) for tensors in (stacks, masks))


def fold_standardization(head: Head, mean: np.ndarray, deviation: np.ndarray) -> Head:
    """Change a head for standardised windows into a head for the windows themselves, in place, and return it."""
    first = head if isinstance(head, nn.Linear) else head.dense
    with torch.no_grad():
        weight = first.weight.double() / torch.from_numpy(deviation)
        first.bias.copy_(first.bias.double() - weight @ torch.from_numpy(mean))
        first.weight.copy_(weight)
    return head


def fit_logistic(
    tracks: Representations, num_labels: int, strength: float, *, class_weights: Sequence[float] | None = None
) -> nn.Linear:
    """Fit a logistic regression to standardised windows; return it as a linear layer for the windows themselves.

    Each track has the same weight, however many windows it has. `strength` is scikit-learn's C. With several genres per
    track, each output is fitted separately, so `class_weights` have no effect.
    """
    mean, deviation = tracks.standardization()
    windows = ((np.concatenate(tracks.windows) - mean) / deviation).astype(np.float32)
    weights, targets = tracks.window_weights, tracks.window_targets

    def coefficients(labels: np.ndarray, sample_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        regression = LogisticRegression(C=strength, max_iter=1000).fit(windows, labels, sample_weight=sample_weights)
        return regression.coef_, regression.intercept_

    weight, bias = np.zeros((num_labels, windows.shape[1])), np.full(num_labels, ABSENT)
    if targets.ndim == 2:
        for label in range(num_labels):
            if targets[:, label].min() < targets[:, label].max():
                weight[[label]], bias[[label]] = coefficients(targets[:, label].astype(int), weights)
            elif targets[0, label]:
                bias[label] = -ABSENT
    else:
        present = np.unique(targets)
        bias[present] = 0.0
        if class_weights is not None:
            weights = weights * np.asarray(class_weights)[targets]
        if len(present) == 2:  # scikit-learn returns one row, for the second genre
            rows, biases = coefficients(targets, weights)
            weight[present], bias[present] = np.concatenate([-rows, rows]) / 2, np.concatenate([-biases, biases]) / 2
        elif len(present) > 2:
            weight[present], bias[present] = coefficients(targets, weights)
    layer = nn.Linear(weight.shape[1], num_labels)
    layer.load_state_dict({"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()})
    return fold_standardization(layer, mean, deviation)


@dataclass(frozen=True)
class HeadSettings:
    """How to train a head with Adam."""

    standardize: bool
    hidden_size: int  # 0: no hidden layer
    batch_size: int  # in tracks
    learning_rate: float
    dropout: float  # of the windows and of the hidden layer
    l2: float  # weight decay, added to the gradient


@dataclass(frozen=True)
class HeadGrid:
    """Values to choose from for each of the `HeadSettings`; by default the 216 combinations of the CALM paper."""

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
                raise ValueError(f"probe_grid.{name} {values}: the list is empty, or a value is out of range")

    def points(self) -> list[HeadSettings]:
        """Return all combinations."""
        return [HeadSettings(*values) for values in itertools.product(*asdict(self).values())]


@dataclass
class TrainedHead:
    """A head and its best evaluation, whose weights the head has after the training.

    Args:
        best: Weights at the best evaluation.
        loss: Validation loss at the best evaluation.
        steps: Steps before the best evaluation.
        stale: Number of evaluations since then.
    """

    head: Head
    settings: HeadSettings
    best: dict[str, Tensor]
    loss: float = math.inf
    steps: int = 0
    stale: int = 0

    def record_loss(self, step: int, loss: float) -> None:
        """Record the validation loss at a step."""
        self.stale += 1
        if loss < self.loss:
            self.loss, self.steps, self.stale = loss, step, 0
            self.best = copy.deepcopy(self.head.state_dict())


@dataclass
class HeadTrainer:
    """Trains heads on the same tracks. Each step reads one random window of each track in the batch.

    A head stops after `max_steps`, or after `patience` evaluations without a lower loss on the validation side, with an
    evaluation every `STEPS_PER_EVALUATION` steps. `config` defines labels, voting and loss. All heads use the same `seed` for
    initial weights, batches, windows and dropout.
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
        held_out = pad_stacks([torch.from_numpy(stack).float() for stack in self.validation.windows])
        self._held_out, self._mask = (tensor.to(self.device) for tensor in held_out)

    def fit(self, points: Sequence[HeadSettings]) -> Iterator[list[TrainedHead]]:
        """Train a head with each of the settings; yield groups of finished heads.

        Settings that differ only in learning rate and weight decay form a group, whose heads are trained together: they share
        batches and dropout, so a step costs much less than separate steps. Batch sizes above the size of the training side
        are equivalent.
        """
        equivalent: dict[HeadSettings, list[HeadSettings]] = {}
        for point in points:
            effective = replace(point, batch_size=min(point.batch_size, len(self._counts)))
            equivalent.setdefault(effective, []).append(point)
        for _, group in itertools.groupby(sorted(equivalent, key=_group_key), _group_key):
            with torch.random.fork_rng(devices=[]):
                heads = self._fit(list(group))
            yield [replace(head, settings=point) for head in heads for point in equivalent[head.settings]]

    def _fit(self, points: list[HeadSettings]) -> list[TrainedHead]:
        """Train the heads of a group."""
        common = points[0]
        mean, deviation = self._standardization
        if not common.standardize:
            mean, deviation = np.zeros_like(mean), np.ones_like(deviation)
        shift, scale = (torch.from_numpy(values).float().to(self.device) for values in (mean, deviation))
        windows, held_out = ((tensor - shift) / scale for tensor in (self._windows, self._held_out))
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
                    run.record_loss(step, self._validation_loss(run.head, held_out))
                active = [run for run in active if run.stale != self.patience]
            if step == self.max_steps or not active:
                break
            tracks = torch.randperm(len(self._counts))[: common.batch_size].to(self.device)
            draws = torch.rand(len(tracks)).to(self.device)
            batch = windows[self._first[tracks] + (draws * self._counts[tracks]).long()]
            # Dropout masks of the windows and of the hidden layer, which all heads share.
            masks = [
                F.dropout(torch.ones(len(batch), units), common.dropout).to(self.device)
                for units in (size, common.hidden_size)
            ]
            logits = [_logits_with_dropout(run.head, batch * masks[0], masks[1]) for run in active]
            optimizer.zero_grad()  # Adam skips stopped heads, which get no gradient
            sum(self._loss(values, self._targets[tracks]) for values in logits).backward()
            optimizer.step()
        for run in runs:
            run.head.load_state_dict(run.best)
            fold_standardization(run.head.cpu(), mean, deviation)
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


def _group_key(point: HeadSettings) -> tuple:
    return point.standardize, point.hidden_size, point.batch_size, point.dropout


def _logits_with_dropout(head: Head, windows: Tensor, hidden_mask: Tensor) -> Tensor:
    """Return the logits of windows [windows, labels]; `hidden_mask` is the dropout mask of a hidden layer."""
    if isinstance(head, nn.Linear):
        return head(windows)
    return head.output(head.dense(windows).relu() * hidden_mask)
