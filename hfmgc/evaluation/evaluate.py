"""Evaluate a saved checkpoint on any data."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainingArguments

from ..data.audio import SHORTEST_SECONDS
from ..data.corpus import decode_corpus
from ..data.features import TrackWindows, check_front_end, extract_features
from ..data.names import genres_of
from ..data.sources import open_source
from ..data.split_manifest import SplitManifest
from ..errors import DataError
from .checkpoints import checkpoint_file, load_checkpoint
from .predictions import predict_tracks
from .report import EvaluationReport
from .task import task_of
from .track_choice import choose_tracks


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
    """Evaluate a checkpoint on whole tracks.

    `load_checkpoint` describes `checkpoint`, and `open_source` describes `data`. Tracks of the checkpoint's split are
    recognised by their content, never by their names. `side` is one of

    - a side of that split;
    - `all`;
    - `unseen`: the tracks outside its training and validation sides;
    - `auto`: its evaluation side if `data` contain at least half of it, otherwise the unseen tracks.

    Raises:
        CheckpointError: If the checkpoint cannot be used.
        DataError: If the data cannot be used, have genres that the checkpoint lacks, or have one genre per track for a
            checkpoint that predicts several, or the reverse.
        ConfigError: If `data` have no track of the side, or the checkpoint does not record its training tracks.
    """
    model, extractor = load_checkpoint(checkpoint, revision)
    source = open_source(data, data_options, exclude=exclude)
    check_front_end(source, extractor)
    genres = [model.config.id2label[index] for index in range(model.config.num_labels)]
    corpus = decode_corpus(
        source, extractor.sampling_rate, labels=genres, num_proc=num_proc, shortest_seconds=shortest_seconds
    )
    task, labels = task_of(model.config.problem_type), genres_of(corpus.tracks)
    task.check_targets(labels, where=f"data {data!r} for checkpoint {checkpoint!r}")
    unknown = sorted({genre for names in labels for genre in names} - set(genres))
    if unknown:
        raise DataError(
            f"data {data!r} has genres that checkpoint {checkpoint!r} lacks: {', '.join(unknown)}: leave them out, or rename "
            f"them to genres of the checkpoint ({', '.join(genres)})"
        )
    split = checkpoint_file(checkpoint, "split.json", revision)
    manifest = SplitManifest.load(split) if split else None
    side, track_ids, notes = choose_tracks(corpus, manifest, side, extractor, num_proc=num_proc)
    corpus = replace(corpus, tracks=extract_features(corpus.tracks, extractor, num_proc=num_proc))
    features = TrackWindows(corpus.select(track_ids), extractor)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_eval_batch_size=batch_size,
            remove_unused_columns=False,
            label_names=["labels"],
            report_to="none",
            dataloader_pin_memory=False,
        )
        trainer = Trainer(model=model, args=arguments, data_collator=task.collator(model.config.label2id))
        predictions = predict_tracks(trainer, features)
    return EvaluationReport.from_predictions(
        predictions,
        genres,
        task,
        checkpoint=Path(checkpoint).resolve().name if Path(checkpoint).exists() else checkpoint,
        data=source.describe(),
        side=side,
        skipped=corpus.skipped_report(),
        notes=corpus.notes() + notes,
        model_type=model.config.model_type,
    )
