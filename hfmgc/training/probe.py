"""Probes: a head fitted to the stored representations of a frozen encoder, in place of a training.

    trainer = fit_probe(groups, data, probe=ProbeArguments())

The head is scikit-learn's logistic regression, or the best of a grid of linear and one-hidden-layer heads. It becomes the
checkpoint's `classifier`, so that the result loads like any other.
"""

import itertools
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from sklearn.model_selection import StratifiedGroupKFold
from torch import nn
from tqdm.auto import tqdm
from transformers import PreTrainedConfig, PreTrainedModel, TrainerCallback

from ..data.names import comparable, genres_of
from ..errors import ConfigError, DataError
from ..evaluation.predictions import TrackPredictions
from ..evaluation.task import Task, task_of
from ..models.losses import classification_loss
from ..models.modeling_windowed import HiddenLayerClassifier, new_classifier
from ..settings import check_fields
from .arguments import Groups, RunArguments, check_fields_of, setting
from .fit import new_trainer
from .preparation import PreparedData
from .probe_heads import Head, HeadGrid, HeadTrainer, Representations, fit_logistic, voted, window_logits
from .trainer import TrackTrainer


# What makes a run a probe: the encoder is frozen, and each window is represented once.
PROBE_SETTINGS = {
    "freeze_backbone": True,
    "reuse_frozen_prefix": True,
    "training_windows": "fixed",
    "augmentation": "none",
}
FEW_TRACKS = 5
# Of a head without `max_steps`, and evaluations without `early_stopping_patience` (ours, for few tracks).
HEAD_STEPS, HEAD_PATIENCE = 512, 16


@dataclass
class ProbeArguments:
    """The head of a probe."""

    probe_head: str = setting(
        "logistic",
        f"logistic: logistic regression; torch: the best of probe_grid, each trained for at most max_steps ({HEAD_STEPS}), with "
        f"early_stopping_patience ({HEAD_PATIENCE}, in evaluations that are 8 steps apart).",
        choices=("logistic", "torch"),
    )
    probe_strengths: list[float] = setting(
        lambda: [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0],
        "Strengths of the logistic regression to choose from (scikit-learn's C; small values regularise more).",
    )
    probe_grid: dict[str, Any] = setting(
        dict, f"Values to choose from, where they differ from the CALM paper's 216: {', '.join(asdict(HeadGrid()))}."
    )
    probe_choice: str = setting(
        "auto",
        "cross_validation: of the training tracks, in which an artist is in one fold; validation: the validation side; auto: "
        "the first for logistic, the second for torch.",
        choices=("auto", "cross_validation", "validation"),
    )
    probe_folds: int = setting(5, "Folds of the cross-validation.", limits="[2, inf)")

    def __post_init__(self):
        check_fields_of(self)
        if not self.probe_strengths or min(self.probe_strengths) <= 0:
            raise ValueError(f"probe_strengths must be numbers above 0, not {self.probe_strengths}")
        self.grid  # noqa: B018 (raises for wrong entries)
        if self.probe_grid and self.probe_head != "torch":
            raise ValueError(
                f"probe_grid is for probe_head torch, not {self.probe_head}: set that too, or leave it out"
            )
        if self.probe_head == "torch" and self.probe_choice == "cross_validation":
            raise ValueError("probe_choice must be validation for probe_head torch, which stops early by that side")

    @property
    def grid(self) -> HeadGrid:
        """The grid of `probe_head torch`."""
        return HeadGrid(**check_fields(HeadGrid, self.probe_grid, "probe_grid"))

    @property
    def by_validation(self) -> bool:
        """Whether the validation side chooses the head."""
        return self.probe_choice == "validation" or self.probe_head == "torch"


def check_probe(groups: Groups) -> None:
    """Refuse settings under which the encoder would be trained, or variants of a track would count as tracks.

    Raises:
        ConfigError: Naming the field.
    """
    model, data, run = groups
    for name, value, needed in (
        ("freeze_backbone", model.freeze_backbone, True),
        ("reuse_frozen_prefix", run.reuse_frozen_prefix, True),
        ("adapter", model.adapter, "none"),
        ("augmentation", data.augmentation, "none"),
    ):
        if value != needed:
            raise ConfigError(
                f"{name} must be {str(needed).lower()} in a probe: leave it out, or use recipes/train_classifier.py"
            )


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
        probe: Which heads, and how one is chosen.
        checkpoint: Not used: there are none of a probe.

    Raises:
        ConfigError: If the architecture has a head of its own.
    """
    run = groups[2].with_values(load_best_model_at_end=probe.by_validation)
    trainer = new_trainer((*groups[:2], run), data, callbacks)
    model = trainer.model
    if not isinstance(model.classifier, Head):
        raise ConfigError(
            f"probe_head {probe.probe_head}: {model.config.model_type} has a head of its own: use recipes/train_classifier.py "
            "with freeze_backbone"
        )
    sides = _Sides.of(trainer, run)
    if probe.probe_head == "torch":
        chosen = _best_trained(sides, probe.grid, run)
    elif probe.by_validation:
        chosen = _best_by_validation(sides, sorted(probe.probe_strengths))
    else:
        chosen = _best_by_folds(sides, sorted(probe.probe_strengths), probe.probe_folds, run.seed)
    _install(model, chosen)
    trainer.notes += [*chosen.notes, *_note_on_small_genres(sides.tracks)]
    trainer.record = {**chosen.record, **({} if chosen.layer is None else {"hidden_layer": chosen.layer})}
    if chosen.validation_score is not None:
        trainer.state.best_metric = abs(chosen.validation_score)
    if run.should_log:
        described = ", ".join(f"{name} {value}" for name, value in trainer.record.items())
        print("\n".join(f"probe: {note}" for note in (described, *trainer.notes)))
    return trainer


@dataclass(frozen=True)
class _Chosen:
    """The head that a probe ends with.

    `layer` is that of the encoder which it reads, where there is a choice, and `validation_score` its score there, if that
    side chose it.
    """

    head: Head
    layer: int | None
    record: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    validation_score: float | None = None


@dataclass(frozen=True)
class _Sides:
    """What a head is fitted to and chosen by; `layers` maps each layer of the encoder to its units."""

    config: PreTrainedConfig
    task: Task
    metric: str
    tracks: datasets.Dataset
    training: Representations
    validation: Representations
    layers: dict[int | None, slice]

    @classmethod
    def of(cls, trainer: TrackTrainer, run: RunArguments) -> "_Sides":
        """Return the sides of a Trainer whose datasets hold stored states."""
        config = trainer.model.config
        task = task_of(config.problem_type)
        validation = trainer.eval_dataset
        stacks = [validation[row]["input_values"] for row in range(len(validation))]
        layers = {None: slice(None)}
        if getattr(config, "hidden_layer", None) == "all":
            size = trainer.model.model.embedding_size // config.num_layers
            layers = {layer + 1: slice(layer * size, (layer + 1) * size) for layer in range(config.num_layers)}
        return cls(
            config=config,
            task=task,
            metric=task.best_metric(run.metric_for_best_model) or "loss",
            tracks=trainer.train_dataset.tracks,
            training=_representations(
                trainer.train_dataset.by_track(), trainer.train_dataset.tracks, config.label2id, task
            ),
            validation=_representations(stacks, validation.tracks, config.label2id, task),
            layers=layers,
        )

    def of_layer(self, layer: int | None) -> tuple[Representations, Representations]:
        """Return the training and the validation side as a layer represents them."""
        return self.training.columns(self.layers[layer]), self.validation.columns(self.layers[layer])

    def logistic(self, tracks: Representations, strength: float) -> nn.Linear:
        """Fit a logistic regression."""
        return fit_logistic(tracks, len(self.config.label2id), strength, class_weights=self.config.class_weights)

    def vote(self, logits: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the logits of tracks [tracks, labels] from those of their windows."""
        return voted(logits, rule=self.config.voting, multi_label=self.training.targets.ndim == 2)

    def validation_score(self, head: Head, layer: int | None) -> float:
        """Return the score of a head on the validation side."""
        validation = self.of_layer(layer)[1]
        return self.score(self.vote(window_logits(head, validation)), validation.targets)

    def score(self, logits: torch.Tensor, targets: np.ndarray) -> float:
        """Return the metric that chooses, the higher the better.

        Raises:
            DataError: If it is undefined for these tracks.
        """
        name = self.metric.removeprefix("eval_")
        if name == "loss":
            return -float(classification_loss(logits, torch.from_numpy(targets), multi_label=targets.ndim == 2))
        value = self.task.metrics(logits.numpy().astype(np.float64), targets)[name]
        if value is None:
            raise DataError(
                f"metric_for_best_model {name}: undefined, because no genre has both tracks with it and tracks without it "
                f"among the {len(targets)} that choose the head; choose macro_f1 or loss, or give more tracks"
            )
        return value


def _best_by_validation(sides: _Sides, strengths: list[float]) -> _Chosen:
    """Return the logistic regression that is best on the validation side."""
    scores, heads = {}, {}
    for layer, strength in itertools.product(sides.layers, strengths):
        head = heads[layer, strength] = sides.logistic(sides.of_layer(layer)[0], strength)
        scores[layer, strength] = sides.validation_score(head, layer)
    layer, strength = best = max(scores, key=scores.get)
    record = {"head": "logistic regression", "strength": strength, "chosen_by": "validation"}
    return _Chosen(heads[best], layer, record, [_note_on_ties(scores.values(), sides)], scores[best])


def _best_by_folds(sides: _Sides, strengths: list[float], count: int, seed: int) -> _Chosen:
    """Return the logistic regression whose strength (and layer) is best in a cross-validation of the training tracks."""
    tracks, targets, record = sides.tracks, sides.training.targets, {"head": "logistic regression"}
    artists = [comparable(artist) for artist in tracks["artist"]]
    groups = [artist or f"track {track_id}" for artist, track_id in zip(artists, tracks["track_id"], strict=True)]
    folds = _folds(targets, groups, count, seed)
    points = list(itertools.product(sides.layers, strengths))
    if not folds:
        layer, strength = points[len(points) // 2]
        what = f"probe_strengths {strength:g}" + ("" if layer is None else f" and hidden_layer {layer}")
        record |= {"strength": strength, "chosen_by": None}
        notes = [f"too few training tracks for a cross-validation: {what} was not chosen by data"]
        return _Chosen(sides.logistic(sides.of_layer(layer)[0], strength), layer, record, notes)

    def held_out_logits(layer: int | None, strength: float) -> list[torch.Tensor]:
        """Return the logits of each track's windows by the head of the fold that holds the track out."""
        training, logits = sides.of_layer(layer)[0], {}
        for rows, held_out in folds:
            head = sides.logistic(training.select(rows), strength)
            logits |= zip(held_out.tolist(), window_logits(head, training.select(held_out)), strict=True)
        return [logits[row] for row in range(len(targets))]

    logits = {point: held_out_logits(*point) for point in points}
    layer, strength = best = max(points, key=lambda point: sides.score(sides.vote(logits[point]), targets))
    predictions = TrackPredictions(
        track_ids=list(tracks["track_id"]),
        references=targets,
        logits=sides.vote(logits[best]).double().numpy(),
        window_logits=[one.numpy() for one in logits[best]],
    )
    found = _main_measure(sides.task, sides.task.results(predictions, list(sides.config.label2id))["metrics"])
    by_artist = any(artists)
    record |= {
        "cross_validation": found,
        "folds": len(folds),
        "folds_by": "artist" if by_artist else "track",
        "strength": strength,
        "chosen_by": "cross_validation",
    }
    note = (
        f"cross-validation of the {len(tracks)} training tracks in {len(folds)} folds: {found}; it chose among "
        f"{len(points)} {'strengths' if layer is None else 'strengths and layers'}, so it is a little optimistic"
        + ("" if by_artist else "; artists are not known, so tracks of one artist can be in several folds")
    )
    return _Chosen(sides.logistic(sides.of_layer(layer)[0], strength), layer, record, [note])


def _best_trained(sides: _Sides, grid: HeadGrid, run: RunArguments) -> _Chosen:
    """Return the head of a grid that is best on the validation side; its lower loss breaks ties."""
    points, ranks, best = grid.points(), {}, None
    with tqdm(total=len(sides.layers) * len(points), desc="probe heads", disable=run.disable_tqdm) as progress:
        for layer in sides.layers:
            training, validation = sides.of_layer(layer)
            trainer = HeadTrainer(
                training,
                validation,
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
    record = {
        "head": f"one hidden layer of {chosen.settings.hidden_size} units"
        if chosen.settings.hidden_size
        else "linear",
        **asdict(chosen.settings),
        "steps": chosen.steps,
        "grid": len(ranks),
        "chosen_by": "validation",
    }
    scores = [score for score, _ in ranks.values()]
    return _Chosen(chosen.head, best[0], record, [_note_on_ties(scores, sides)], ranks[best][0])


def _install(model: PreTrainedModel, chosen: _Chosen) -> None:
    """Make the head the model's classifier, and the layer that it reads the model's representation."""
    if chosen.layer is not None:
        model.model.select_layer(chosen.layer)
    hidden = chosen.head.dense.out_features if isinstance(chosen.head, HiddenLayerClassifier) else None
    model.config.classifier_hidden_size = hidden
    model.classifier = new_classifier(model.model.embedding_size, model.config).to(model.device)
    model.classifier.load_state_dict(chosen.head.state_dict())


def _note_on_ties(scores: Iterable[float], sides: _Sides) -> str:
    """Say how many heads the validation side chose among, and how many of them are equally good there."""
    scores = list(scores)
    count, tracks = scores.count(max(scores)), len(sides.validation.windows)
    equal = f"; {count} of them are equally good there" if count > 1 else ""
    return f"the head was chosen among {len(scores)} by the {tracks} tracks of the validation side{equal}"


def _note_on_small_genres(tracks: datasets.Dataset) -> list[str]:
    smallest = min(Counter(name for names in genres_of(tracks) for name in names).values())
    if smallest >= FEW_TRACKS:
        return []
    return [
        f"the smallest genre has {smallest} training track{'s' * (smallest > 1)}: the figures can change a lot with other "
        "tracks"
    ]


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


def _main_measure(task: Task, metrics: Mapping[str, Any]) -> str:
    key = task.measures[0].key
    if metrics[key] is None:
        return f"{key} undefined"
    low, high = metrics.get(f"{key}_interval") or (None, None)
    return f"{key} {metrics[key]:.3f}" + ("" if low is None else f" (95 % interval {low:.3f} to {high:.3f})")
