"""Probes: fit a head to the stored representations of a frozen encoder, without training the encoder.

The head is scikit-learn's logistic regression, or the best of a grid of linear and one-hidden-layer heads. It becomes the
checkpoint's `classifier`, so the result loads like any other checkpoint.
"""

import itertools
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from sklearn.model_selection import StratifiedGroupKFold
from torch import nn
from tqdm.auto import tqdm
from transformers import TrainerCallback

from ..data.names import genres_of, normalize_name
from ..errors import ConfigError, DataError
from ..evaluation.task import Task, task_of
from ..models.losses import classification_loss
from ..settings import check_fields
from .arguments import Groups, RunArguments, check_fields_of, require_settings, setting
from .fit import new_trainer
from .preparation import PreparedData
from .probe_heads import Head, HeadGrid, HeadTrainer, Representations, fit_logistic, window_logits
from .trainer import TrackTrainer


# A probe freezes the encoder, and computes the representation of each window once.
PROBE_SETTINGS = {
    "freeze_backbone": True,
    "reuse_frozen_prefix": True,
    "training_windows": "fixed",
    "augmentation": "none",
}
# A note warns of genres with fewer training tracks.
FEW_TRACKS = 5
# Defaults for `max_steps` and `early_stopping_patience` (ours, for few tracks).
HEAD_STEPS, HEAD_PATIENCE = 512, 16


@dataclass
class ProbeArguments:
    """The head of a probe."""

    probe_head: str = setting(
        "logistic",
        f"logistic: logistic regression; torch: the best head of probe_grid. Each head is trained for at most max_steps (by "
        f"default {HEAD_STEPS}) with early_stopping_patience (by default {HEAD_PATIENCE} evaluations, one every 8 steps).",
        choices=("logistic", "torch"),
    )
    probe_strengths: list[float] = setting(
        lambda: [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0],
        "Strengths of the logistic regression to choose from (scikit-learn's C; small values regularise more).",
    )
    probe_grid: dict[str, Any] = setting(
        dict, f"Lists that replace those of the CALM paper's 216 heads: {', '.join(asdict(HeadGrid()))}."
    )
    probe_choice: str = setting(
        "auto",
        "What chooses the head. cross_validation: of the training tracks, with each artist in one fold; validation: the "
        "validation side; auto: cross_validation for logistic, validation for torch.",
        choices=("auto", "cross_validation", "validation"),
    )
    probe_folds: int = setting(5, "Number of folds of the cross-validation.", limits="[2, inf)")

    def __post_init__(self):
        check_fields_of(self)
        if not self.probe_strengths or min(self.probe_strengths) <= 0:
            raise ValueError(f"probe_strengths must be numbers above 0, not {self.probe_strengths}")
        self.grid  # noqa: B018 (raises for wrong entries)
        if self.probe_grid and self.probe_head != "torch":
            raise ValueError("probe_grid needs probe_head torch: set it, or leave out probe_grid")
        if self.probe_head == "torch" and self.probe_choice == "cross_validation":
            raise ValueError(
                "probe_choice must be validation or auto for probe_head torch, because the validation side stops its training"
            )

    @property
    def grid(self) -> HeadGrid:
        """The grid of `probe_head torch`."""
        return HeadGrid(**check_fields(HeadGrid, self.probe_grid, "probe_grid"))

    @property
    def by_validation(self) -> bool:
        """Whether the validation side chooses the head."""
        return self.probe_choice == "validation" or self.probe_head == "torch"


def check_probe(groups: Groups) -> None:
    """Raise a ConfigError for settings that would train the encoder, or count variants of a track as tracks."""
    reason = "in a probe: leave it out, or use recipes/train_classifier.py"
    require_settings(groups, {**PROBE_SETTINGS, "adapter": "none"}, reason)


def fit_probe(
    groups: Groups,
    data: PreparedData,
    callbacks: Sequence[TrainerCallback] = (),
    *,
    probe: ProbeArguments,
    checkpoint: Path | None = None,
) -> TrackTrainer:
    """Fit the head, and return a Trainer with the model, as `fit` does. `checkpoint` is unused: probes save none.

    Raises:
        ConfigError: If the probe cannot replace the architecture's head.
    """
    run = groups[2].with_values(load_best_model_at_end=probe.by_validation)
    trainer = new_trainer((*groups[:2], run), data, callbacks)
    model = trainer.model
    if not isinstance(model.classifier, Head):
        raise ConfigError(
            f"probe_head {probe.probe_head} cannot replace the head of {model.config.model_type}: use "
            "recipes/train_classifier.py with freeze_backbone"
        )
    sides = _Sides(trainer, run)
    chosen = _best_trained(sides, probe.grid) if probe.probe_head == "torch" else _best_logistic(sides, probe)
    if chosen.layer is not None:
        model.model.select_layer(chosen.layer)
        chosen.record["hidden_layer"] = chosen.layer
    model.config.classifier_hidden_size = chosen.record.get("hidden_size") or None
    model.classifier = chosen.head.to(model.device)
    trainer.notes.append(chosen.note)
    smallest = min(Counter(name for names in genres_of(sides.tracks) for name in names).values())
    if smallest < FEW_TRACKS:
        trainer.notes.append(
            f"the smallest genre has {smallest} training track{'s' * (smallest > 1)}: the figures can change a lot with "
            "other tracks"
        )
    trainer.record = chosen.record
    if chosen.validation_score is not None:
        trainer.state.best_metric = abs(chosen.validation_score)
    if run.should_log:
        summary = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in trainer.record.items())
        print("\n".join(f"probe: {line}" for line in (summary, *trainer.notes)))
    return trainer


@dataclass(frozen=True)
class _ChosenHead:
    """The head that a probe ends with.

    Args:
        head: The head.
        layer: The layer of the encoder that the head reads; None if there is no choice.
        record: Entries of `run.yaml`.
        note: How the head was chosen, for the report.
        validation_score: The score on the validation side, if that side chose the head.
    """

    head: Head
    layer: int | None
    record: dict[str, Any]
    note: str
    validation_score: float | None = None


class _Sides:
    """The data of a probe: heads are fitted to the training side, and may be chosen by the validation side.

    `layers` maps each layer of the encoder to its units; its only key is None if there is no choice.
    """

    def __init__(self, trainer: TrackTrainer, run: RunArguments):
        """Read the sides of a Trainer whose datasets hold stored states."""
        self.run, self.config = run, trainer.model.config
        self.task = task_of(self.config.problem_type)
        self.metric = self.task.best_metric(run.metric_for_best_model) or "loss"
        self.tracks, validation = trainer.train_dataset.tracks, trainer.eval_dataset
        self.training = self._representations(trainer.train_dataset.by_track(), self.tracks)
        self.validation = self._representations(validation.by_track(), validation.tracks)
        self.layers: dict[int | None, slice] = {None: slice(None)}
        if getattr(self.config, "hidden_layer", None) == "all":
            size = trainer.model.model.embedding_size // self.config.num_layers
            self.layers = {
                layer + 1: slice(layer * size, (layer + 1) * size) for layer in range(self.config.num_layers)
            }

    def _representations(self, stacks: list[np.ndarray], tracks: datasets.Dataset) -> Representations:
        """Return tracks with the stored states of their windows [windows, 1, hidden]."""
        placeholder = np.zeros((1, 1), np.float32)  # the collator also stacks inputs
        examples = [
            {"input_values": placeholder, "genre": genre, "genres": genres}
            for genre, genres in zip(tracks["genre"], genres_of(tracks), strict=True)
        ]
        targets = self.task.collator(self.config.label2id)(examples)["labels"].numpy()
        return Representations([stack.squeeze(1) for stack in stacks], targets)

    def logistic(self, layer: int | None, strength: float, rows: Sequence[int] | None = None) -> nn.Linear:
        """Fit a logistic regression to the training tracks, or to some `rows` of them."""
        tracks = self.training if rows is None else self.training.select(rows)
        return fit_logistic(
            tracks.columns(self.layers[layer]),
            len(self.config.label2id),
            strength,
            class_weights=self.config.class_weights,
        )

    def validation_score(self, head: Head, layer: int | None) -> float:
        """Return the score of a head on the validation side."""
        return self.score(self.validation, window_logits(head, self.validation.columns(self.layers[layer])))

    def score(self, tracks: Representations, logits: Sequence[torch.Tensor]) -> float:
        """Return the metric that chooses the head, with the sign that makes higher values better.

        Raises:
            DataError: If it is undefined for these tracks.
        """
        track_logits = tracks.predictions((), logits, rule=self.config.voting).logits
        if self.metric == "loss":
            targets = torch.from_numpy(tracks.targets)
            return -float(
                classification_loss(torch.from_numpy(track_logits).float(), targets, multi_label=targets.ndim == 2)
            )
        value = self.task.metrics(track_logits, tracks.targets)[self.metric]
        if value is None:
            raise DataError(
                f"metric_for_best_model {self.metric}: undefined, because no genre has both tracks with it and tracks "
                f"without it among the {len(track_logits)} that choose the head: choose macro_f1 or loss, or add tracks"
            )
        return value

    def choice_note(self, scores: Collection[float]) -> str:
        """Return a note with the number of heads that the validation side chose among, and the number of best ones."""
        ties = list(scores).count(max(scores))
        equal = f"; {ties} of them are equally good there" if ties > 1 else ""
        tracks = len(self.validation.windows)
        return f"the head was chosen among {len(scores)} by the {tracks} tracks of the validation side{equal}"


def _best_logistic(sides: _Sides, probe: ProbeArguments) -> _ChosenHead:
    """Return the logistic regression with the best strength (and layer), chosen by the validation side or in folds."""
    points = list(itertools.product(sides.layers, sorted(probe.probe_strengths)))
    artists, ids = [normalize_name(artist) for artist in sides.tracks["artist"]], sides.tracks["track_id"]
    groups = [artist or f"track {track_id}" for artist, track_id in zip(artists, ids, strict=True)]
    record, validation_score = {"chosen_by": None}, None
    if probe.by_validation:
        scores = {point: sides.validation_score(sides.logistic(*point), point[0]) for point in points}
        best = max(scores, key=scores.get)
        record, validation_score = {"chosen_by": "validation"}, scores[best]
        note = sides.choice_note(scores.values())
    elif folds := _folds(sides.training.targets, groups, probe.probe_folds, sides.run.seed):
        logits = {point: _held_out_logits(sides, folds, *point) for point in points}
        best = max(points, key=lambda point: sides.score(sides.training, logits[point]))
        predictions = sides.training.predictions(ids, logits[best], rule=sides.config.voting)
        figure = _main_figure(sides.task, sides.task.results(predictions, list(sides.config.label2id))["metrics"])
        by_artist = any(artists)
        record = {
            "chosen_by": "cross_validation",
            "cross_validation": figure,
            "folds": len(folds),
            "folds_by": "artist" if by_artist else "track",
        }
        note = (
            f"cross-validation of the {len(sides.tracks)} training tracks in {len(folds)} folds: {figure}; it chose among "
            f"{len(points)} {'strengths' if None in sides.layers else 'strengths and layers'}, so it is a little optimistic"
            + ("" if by_artist else "; artists are not known, so tracks of one artist can be in several folds")
        )
    else:
        best = points[len(points) // 2]
        middle = f"probe_strengths {best[1]:g}" + ("" if best[0] is None else f", hidden_layer {best[0]}")
        note = f"too few training tracks for a cross-validation: {middle} is the middle of the choices"
    layer, strength = best
    record = {"head": "logistic regression", "strength": strength, **record}
    return _ChosenHead(sides.logistic(layer, strength), layer, record, note, validation_score)


def _held_out_logits(
    sides: _Sides, folds: list[tuple[np.ndarray, np.ndarray]], layer: int | None, strength: float
) -> list[torch.Tensor]:
    """Return the logits of each track's windows by the head that was fitted without the track."""
    tracks, logits = sides.training.columns(sides.layers[layer]), {}
    for rows, held_out in folds:
        head = sides.logistic(layer, strength, rows)
        logits |= zip(held_out.tolist(), window_logits(head, tracks.select(held_out)), strict=True)
    return [logits[row] for row in range(len(tracks.targets))]


def _best_trained(sides: _Sides, grid: HeadGrid) -> _ChosenHead:
    """Return the head of a grid that is best on the validation side; lower losses break ties."""
    run, points, ranks, best = sides.run, grid.points(), {}, None
    with tqdm(total=len(sides.layers) * len(points), desc="probe heads", disable=run.disable_tqdm) as progress:
        for layer, units in sides.layers.items():
            trainer = HeadTrainer(
                sides.training.columns(units),
                sides.validation.columns(units),
                sides.config,
                max_steps=run.max_steps if run.max_steps > 0 else HEAD_STEPS,
                patience=run.early_stopping_patience or HEAD_PATIENCE,
                seed=run.seed,
                device=run.device,
            )
            for trained in itertools.chain.from_iterable(trainer.fit(points)):
                point = layer, trained.settings
                ranks[point] = (sides.validation_score(trained.head, layer), -trained.loss)
                if best is None or ranks[point] > ranks[best]:
                    best, chosen = point, trained
                progress.update()
    hidden_size = chosen.settings.hidden_size
    record = {
        "head": f"one hidden layer of {hidden_size} units" if hidden_size else "linear",
        **asdict(chosen.settings),
        "steps": chosen.steps,
        "grid": len(ranks),
        "chosen_by": "validation",
    }
    scores = [score for score, _ in ranks.values()]
    return _ChosenHead(chosen.head, best[0], record, sides.choice_note(scores), ranks[best][0])


def _folds(targets: np.ndarray, groups: list[str], count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the rows to fit to and the held-out rows of each fold; an empty list if there are too few tracks."""
    strata = targets if targets.ndim == 1 else targets.argmax(axis=-1)
    largest = max(len({groups[row] for row in np.flatnonzero(strata == label)}) for label in np.unique(strata))
    count = min(count, largest if targets.ndim == 1 else len(set(groups)))
    if count < 2:
        return []
    if np.bincount(strata).max() < count:  # several genres per track, all of them rare: do not stratify
        strata = np.zeros_like(strata)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=UserWarning)  # rare genres may have fewer tracks than folds
        return list(StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(strata, strata, groups))


def _main_figure(task: Task, metrics: Mapping[str, Any]) -> str:
    """Return the task's main measure with its interval, as text."""
    key = task.measures[0].key
    if metrics[key] is None:
        return f"{key} undefined"
    low, high = metrics.get(f"{key}_interval") or (None, None)
    return f"{key} {metrics[key]:.3f}" + ("" if low is None else f" (95 % interval {low:.3f} to {high:.3f})")
