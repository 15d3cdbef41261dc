"""Probes: a linear head fitted to the stored representations of a frozen encoder, in place of a training.

    trainer = fit_probe(groups, data, probe=ProbeArguments())

The head is scikit-learn's logistic regression on the windows of the training tracks, in which each track has the same
weight. Its standardisation is folded into the checkpoint's `classifier`, so that the result loads like any other.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from torch import nn
from transformers import TrainerCallback

from ..data.names import comparable, genres_of
from ..errors import ConfigError
from ..evaluation.predictions import TrackPredictions
from ..evaluation.task import Task, task_of
from ..models.losses import classification_loss
from ..models.voting import vote
from .arguments import Groups, check_fields_of, setting
from .fit import fit, new_trainer
from .preparation import PreparedData
from .trainer import TrackTrainer


# What makes a run a probe: the encoder is frozen, and each window is represented once.
PROBE_SETTINGS = {
    "freeze_backbone": True,
    "reuse_frozen_prefix": True,
    "training_windows": "fixed",
    "augmentation": "none",
}
# Bias of a genre without training tracks: its probability is practically 0.
ABSENT = -30.0
FEW_TRACKS = 5
# Of a unit that the head reads, as a share of the largest one.
LEAST_DEVIATION = 1e-3


@dataclass
class ProbeArguments:
    """The head of a probe."""

    probe_head: str = setting(
        "logistic",
        "logistic: logistic regression; torch: the model's own head, trained with the settings of the Trainer.",
        choices=("logistic", "torch"),
    )
    probe_strengths: list[float] = setting(
        lambda: [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0],
        "Strengths of the logistic regression to choose from (scikit-learn's C; small values regularise more).",
    )
    probe_choice: str = setting(
        "cross_validation",
        "cross_validation: of the training tracks, in which an artist is in one fold; validation: the validation side.",
        choices=("cross_validation", "validation"),
    )
    probe_folds: int = setting(5, "Folds of the cross-validation.", limits="[2, inf)")

    def __post_init__(self):
        check_fields_of(self)
        if not self.probe_strengths or min(self.probe_strengths) <= 0:
            raise ValueError(f"probe_strengths must be numbers above 0, not {self.probe_strengths}")


def check_probe(groups: Groups) -> None:
    """Refuse settings under which the encoder would be trained.

    Raises:
        ConfigError: Naming the field.
    """
    model, _, run = groups
    for name, value in (("freeze_backbone", model.freeze_backbone), ("reuse_frozen_prefix", run.reuse_frozen_prefix)):
        if not value:
            raise ConfigError(f"{name} must be true in a probe: leave it out, or use recipes/train_classifier.py")
    if model.adapter != "none":
        raise ConfigError("adapter must be none in a probe: leave it out, or use recipes/train_classifier.py")


def fit_probe(
    groups: Groups,
    data: PreparedData,
    callbacks: Sequence[TrainerCallback] = (),
    *,
    probe: ProbeArguments,
    checkpoint: Path | None = None,
) -> TrackTrainer:
    """Fit the head; return a Trainer with the model, as `fit` does.

    Args:
        groups: Checked settings, which `check_probe` accepts.
        data: As prepared for them.
        callbacks: For the Trainer.
        probe: Which head, and how its strength is chosen.
        checkpoint: Checkpoint of an earlier start to resume from, where the Trainer trains the head.

    Raises:
        ConfigError: If the model's head is not linear.
    """
    if probe.probe_head == "torch":
        return fit(groups, data, callbacks, checkpoint=checkpoint)
    by_validation = probe.probe_choice == "validation"
    run = groups[2].with_values(load_best_model_at_end=by_validation)
    trainer = new_trainer((*groups[:2], run), data, callbacks)
    model = trainer.model
    if not isinstance(model.classifier, nn.Linear):
        raise ConfigError(
            f"probe_head logistic: the head of {model.config.model_type} is not a linear layer: set probe_head torch"
        )
    task, label2id = task_of(model.config.problem_type), model.config.label2id
    metric = task.best_metric(run.metric_for_best_model) or "loss"
    tracks = trainer.train_dataset.tracks
    training = _representations(trainer.train_dataset.by_track(), tracks, label2id, task)
    strengths, notes, record = sorted(probe.probe_strengths), [], {"head": "logistic regression"}

    def fitted(part: Representations, strength: float) -> nn.Linear:
        return fit_logistic(part, len(label2id), strength, class_weights=model.config.class_weights)

    def score(logits: torch.Tensor, targets: np.ndarray) -> float:
        return _score(logits, targets, task, metric)

    artists = [comparable(artist) for artist in tracks["artist"][:]]
    groups_of = [
        artist or f"track {track_id}" for artist, track_id in zip(artists, tracks["track_id"][:], strict=True)
    ]
    folds = [] if by_validation else _folds(training.targets, groups_of, probe.probe_folds, run.seed)
    if by_validation:
        validation = trainer.eval_dataset
        stacks = [validation[row]["input_values"] for row in range(len(validation))]
        held_out = _representations(stacks, validation.tracks, label2id, task)
        answers = {c: voted(fitted(training, c), held_out, rule=model.config.voting) for c in strengths}
        strength = max(strengths, key=lambda c: score(answers[c], held_out.targets))
        trainer.state.best_metric = abs(score(answers[strength], held_out.targets))
    elif folds:
        heads = {c: [fitted(training.select(rows), c) for rows, _ in folds] for c in strengths}
        answers = {
            c: _held_out(training, folds, heads[c], lambda head, part: voted(head, part, rule=model.config.voting))
            for c in strengths
        }
        strength = max(strengths, key=lambda c: score(torch.stack(answers[c]), training.targets))
        by_artist = any(artists)
        predictions = TrackPredictions(
            track_ids=tracks["track_id"][:],
            references=training.targets,
            logits=torch.stack(answers[strength]).double().numpy(),
            window_logits=[one.numpy() for one in _held_out(training, folds, heads[strength], window_logits)],
        )
        found = _main_measure(task, task.results(predictions, list(label2id))["metrics"])
        record |= {"cross_validation": found, "folds": len(folds), "folds_by": "artist" if by_artist else "track"}
        notes.append(
            f"cross-validation of the {len(tracks)} training tracks in {len(folds)} folds: {found}; it chose the strength "
            f"among {len(strengths)}, so it is a little optimistic"
            + ("" if by_artist else "; artists are not known, so tracks of one artist can be in several folds")
        )
    else:
        strength = strengths[len(strengths) // 2]
        notes.append(
            f"too few training tracks for a cross-validation: probe_strengths {strength:g} was not chosen by data"
        )
    smallest = min(Counter(name for names in genres_of(tracks) for name in names).values())
    if smallest < FEW_TRACKS:
        notes.append(
            f"the smallest genre has {smallest} training track{'s' * (smallest > 1)}: the figures can change a lot with "
            "other tracks"
        )
    model.classifier.load_state_dict(fitted(training, strength).state_dict())
    trainer.notes = notes
    trainer.record = {
        **record,
        "strength": strength,
        "chosen_by": probe.probe_choice if by_validation or folds else None,
    }
    if run.should_log:
        print("\n".join(f"probe: {note}" for note in (f"strength {strength:g}", *notes)))
    return trainer


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


def fit_logistic(
    tracks: Representations, num_labels: int, strength: float, *, class_weights: Sequence[float] | None = None
) -> nn.Linear:
    """Return the logistic regression on standardised windows as a linear layer on the windows themselves.

    Args:
        tracks: For the fit. Each track has the same weight, however many windows it has.
        num_labels: Outputs of the layer.
        strength: scikit-learn's C.
        class_weights: Weight of the tracks of each genre; with several genres per track each output is fitted alone, so
            that weights change nothing.
    """
    counts = [len(windows) for windows in tracks.windows]
    windows, targets = np.concatenate(tracks.windows), np.repeat(tracks.targets, counts, axis=0)
    weights = np.repeat(1 / np.array(counts), counts)
    mean = np.average(windows.astype(np.float64), axis=0, weights=weights)
    deviation = np.sqrt(np.average((windows - mean) ** 2, axis=0, weights=weights))
    # Dead units have deviations down to 1e-20: divided by them, noise would decide.
    scale = np.where(deviation > LEAST_DEVIATION * deviation.max(), deviation, np.inf)
    windows = ((windows - mean) / scale).astype(np.float32)

    def regression(labels: np.ndarray, sample_weights: np.ndarray) -> LogisticRegression:
        return LogisticRegression(C=strength, max_iter=1000).fit(windows, labels, sample_weight=sample_weights)

    weight, bias = np.zeros((num_labels, windows.shape[1])), np.full(num_labels, ABSENT)
    if targets.ndim == 2:
        for label in range(num_labels):
            if targets[:, label].min() < targets[:, label].max():
                one = regression(targets[:, label].astype(int), weights)
                weight[label], bias[label] = one.coef_[0], one.intercept_[0]
            elif targets[0, label]:
                bias[label] = -ABSENT
    else:
        present = np.unique(targets)
        bias[present] = 0.0
        if class_weights is not None:
            weights = weights * np.asarray(class_weights)[targets]
        if len(present) > 1:
            found = regression(targets, weights)
            coefficients, intercepts = found.coef_, found.intercept_
            if len(present) == 2:  # one row that separates the two
                coefficients = np.concatenate([-coefficients, coefficients]) / 2
                intercepts = np.concatenate([-intercepts, intercepts]) / 2
            weight[present], bias[present] = coefficients, intercepts
    weight = weight / scale
    bias = bias - weight @ mean
    layer = nn.Linear(weight.shape[1], num_labels)
    layer.load_state_dict({"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()})
    return layer


def _representations(
    stacks: list[np.ndarray], tracks: datasets.Dataset, label2id: dict[str, int], task: Task
) -> Representations:
    """Return tracks with the stored states of their windows [windows, 1, hidden]."""
    nothing = np.zeros((1, 1), np.float32)
    examples = [
        {"input_values": nothing, "genre": genre, "genres": genres}
        for genre, genres in zip(tracks["genre"][:], genres_of(tracks), strict=True)
    ]
    targets = task.collator(label2id)(examples)["labels"].numpy()
    return Representations([stack.squeeze(1) for stack in stacks], targets)


@torch.no_grad()
def window_logits(head: nn.Linear, tracks: Representations) -> list[torch.Tensor]:
    """Return the logits of each track's windows [windows, labels]."""
    return [head(torch.from_numpy(stack)) for stack in tracks.windows]


def voted(head: nn.Linear, tracks: Representations, *, rule: str = "mean") -> torch.Tensor:
    """Return the logits of the tracks [tracks, labels]."""
    multi_label = tracks.targets.ndim == 2
    logits = window_logits(head, tracks)
    return torch.cat([vote(one[None], rule=rule, multi_label=multi_label) for one in logits])


def _score(logits: torch.Tensor, targets: np.ndarray, task: Task, metric: str) -> float:
    """Return a validation metric of voted logits, the higher the better; an undefined one is the lowest."""
    if metric.removeprefix("eval_") == "loss":
        return -float(classification_loss(logits, torch.from_numpy(targets), multi_label=targets.ndim == 2))
    value = task.metrics(logits.numpy().astype(np.float64), targets)[metric.removeprefix("eval_")]
    return -np.inf if value is None else value


def _folds(targets: np.ndarray, groups: list[str], count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return rows to fit to and held-out rows of each fold; none where there are too few tracks."""
    strata = targets if targets.ndim == 1 else targets.argmax(axis=-1)
    largest = max(len({groups[row] for row in np.flatnonzero(strata == label)}) for label in np.unique(strata))
    count = min(count, largest if targets.ndim == 1 else len(set(groups)))
    if count < 2:
        return []
    if np.bincount(strata).max() < count:  # several genres per track, and none of them is frequent
        strata = np.zeros_like(strata)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=UserWarning)  # rare genres may have fewer tracks than folds
        return list(StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(strata, strata, groups))


def _held_out(
    tracks: Representations,
    folds: list[tuple[np.ndarray, np.ndarray]],
    heads: list[nn.Linear],
    answer: Callable[[nn.Linear, Representations], Sequence[torch.Tensor]],
) -> list[torch.Tensor]:
    """Return the answer on each track by the head of the fold that holds it out."""
    answers: dict[int, torch.Tensor] = {}
    for (_, rows), head in zip(folds, heads, strict=True):
        answers |= dict(zip(rows.tolist(), answer(head, tracks.select(rows)), strict=True))
    return [answers[row] for row in range(len(tracks.windows))]


def _main_measure(task: Task, metrics: Mapping[str, Any]) -> str:
    key = task.measures[0].key
    if metrics[key] is None:
        return f"{key} undefined"
    low, high = metrics.get(f"{key}_interval") or (None, None)
    return f"{key} {metrics[key]:.3f}" + ("" if low is None else f" (95 % interval {low:.3f} to {high:.3f})")
