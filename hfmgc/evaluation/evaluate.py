"""The report of any saved checkpoint on any data."""

import tempfile
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainingArguments
from transformers.utils import cached_file

from ..data.audio import SHORTEST_SECONDS
from ..data.collation import TrackCollator
from ..data.corpus import Corpus, decode_corpus
from ..data.features import check_front_end, extract_windows
from ..data.sources import open_source
from ..data.split_manifest import SIDES, SplitManifest
from ..data.targets import check_targets, genres_of, is_multi_label
from ..errors import ConfigError, DataError
from .checkpoints import load_checkpoint
from .predictions import predict_tracks
from .report import EvaluationReport


def evaluate_checkpoint(
    checkpoint: str,
    data: str,
    *,
    data_options: dict[str, Any] | None = None,
    exclude: str | None = None,
    shortest_seconds: float = SHORTEST_SECONDS,
    side: str = "auto",
    revision: str | None = None,
    batch_size: int = 8,
    num_proc: int = 1,
) -> EvaluationReport:
    """Judge a checkpoint by whole tracks.

    Args:
        checkpoint: Folder of a finished run, or a repository on the Hub.
        data: What training takes: a folder of genres or a dataset's name.
        data_options: Options of the dataset.
        exclude: List of tracks to leave out.
        shortest_seconds: Audio that is shorter is skipped.
        side: A side of the checkpoint's own split, `all`, or `auto`: the split's evaluation side where tracks of `data`
            are in the checkpoint's split, else all tracks.
        revision: Commit of the repository.
        batch_size: Tracks at a time.
        num_proc: Processes that decode and extract.

    Raises:
        CheckpointError: If the checkpoint cannot be used.
        DataError: If the data cannot be used, have genres that the checkpoint does not know, or one genre a track where
            the checkpoint names several, or the reverse.
        ConfigError: If a side is asked for and the checkpoint has no split of these data.
    """
    model, extractor = load_checkpoint(checkpoint, revision)
    source = open_source(data, data_options, exclude=exclude)
    check_front_end(source, extractor)
    corpus = decode_corpus(source, extractor.sampling_rate, num_proc=num_proc, shortest_seconds=shortest_seconds)
    genres = [model.config.id2label[index] for index in range(model.config.num_labels)]
    multi_label, labels = is_multi_label(model.config), genres_of(corpus.tracks)
    check_targets(labels, multi_label=multi_label, where=f"data {data!r} for checkpoint {checkpoint!r}")
    unknown = sorted({genre for names in labels for genre in names} - set(genres))
    if unknown:
        raise DataError(
            f"data {data!r} has genres that checkpoint {checkpoint!r} does not know: {', '.join(unknown)} "
            f"(it knows {', '.join(genres)}): rename or leave out their folders"
        )
    side, track_ids, notes = _choose_tracks(corpus, _manifest_of(checkpoint, revision), side)
    features = extract_windows(corpus.select(track_ids), extractor, num_proc=num_proc)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_eval_batch_size=batch_size,
            remove_unused_columns=False,
            label_names=["labels"],
            report_to="none",
            dataloader_pin_memory=False,
        )
        collator = TrackCollator(model.config.label2id, multi_label=multi_label)
        trainer = Trainer(model=model, args=arguments, data_collator=collator)
        predictions = predict_tracks(trainer, features)
    return EvaluationReport.from_predictions(
        predictions,
        genres,
        checkpoint=Path(checkpoint).resolve().name if Path(checkpoint).exists() else checkpoint,
        data=source.describe(),
        side=side,
        skipped=corpus.skipped_report(),
        notes=corpus.notes() + notes,
    )


def _manifest_of(checkpoint: str, revision: str | None) -> SplitManifest | None:
    """Return the split that a checkpoint was trained with, if it has one beside it."""
    path = cached_file(checkpoint, "split.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    return SplitManifest.load(Path(path)) if path else None


def _choose_tracks(corpus: Corpus, manifest: SplitManifest | None, side: str) -> tuple[str, list[str], list[str]]:
    """Return the name of the side, its track ids, and what the reader must be told."""
    available = list(corpus.tracks["track_id"])
    shared = _shared_tracks(corpus, manifest)
    if side == "auto" and not shared.intersection(manifest.sides[manifest.evaluation_side] if shared else ()):
        side = "all"  # other data, or only what it was trained on, which the note below says
    if side == "all" or not shared:
        if side in SIDES:
            raise ConfigError(f"--side {side}: the checkpoint has no split of these data; use --side all")
        # By their ids whatever the data are called: the same music may come as audio and as features.
        trained = len(set(available).intersection(manifest.sides["train"])) if manifest else 0
        notes = [f"{trained} of these tracks were trained on: not a measure of how the model does on new music"]
        return "all", available, notes if trained else []
    chosen = manifest.evaluation_side if side == "auto" else side
    track_ids = sorted(shared.intersection(manifest.sides.get(chosen, [])))
    if not track_ids:
        raise ConfigError(f"--side {chosen}: none of the tracks on that side of the checkpoint's split is there")
    notes = [f"the {chosen} side of the checkpoint's own split, {manifest.digest[:19]}"]
    if side == "auto":
        notes = [
            f"these are data that the checkpoint was trained on: only the {chosen} side of its split is judged "
            "(--side all for all tracks)"
        ]
    missing = len(manifest.sides[chosen]) - len(track_ids)
    if missing:
        notes.append(
            f"{missing} of the {len(manifest.sides[chosen])} tracks of that side are missing or unusable here"
        )
    new = len(set(available) - shared)
    if new:
        notes.append(f"{new} tracks that are not in the split are left out")
    return chosen, track_ids, notes


def _shared_tracks(corpus: Corpus, manifest: SplitManifest | None) -> set[str]:
    """Return the tracks of a corpus that the checkpoint's split knows: none, if it was trained on other data."""
    if manifest is None or manifest.dataset != corpus.source.card.name:
        return set()
    known = set().union(*manifest.sides.values())
    return known.intersection(corpus.tracks["track_id"])
