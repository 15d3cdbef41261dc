"""The report of any saved checkpoint on any data."""

import tempfile
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainingArguments

from ..data.collation import TrackCollator
from ..data.corpus import Corpus, decode_corpus
from ..data.features import extract_windows
from ..data.sources import open_source
from ..data.split_manifest import SIDES, SplitManifest
from ..errors import ConfigError, DataError
from .checkpoints import load_checkpoint
from .predictions import predict_tracks
from .report import EvaluationReport


def evaluate_checkpoint(
    checkpoint: str,
    data: str,
    *,
    data_options: dict[str, Any] | None = None,
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
        side: A side of the checkpoint's own split, `all`, or `auto`: the split's evaluation side where `data` are those
            that the checkpoint was trained on (all of the split's tracks are among them), else all tracks.
        revision: Commit of the repository.
        batch_size: Tracks at a time.
        num_proc: Processes that decode and extract.

    Raises:
        CheckpointError: If the checkpoint cannot be used.
        DataError: If the data cannot be used, or have genres that the checkpoint does not know.
        ConfigError: If a side is asked for and the checkpoint has no split of these data.
    """
    model, extractor = load_checkpoint(checkpoint, revision)
    source = open_source(data, data_options)
    corpus = decode_corpus(source, extractor.sampling_rate, num_proc=num_proc)
    genres = [model.config.id2label[index] for index in range(model.config.num_labels)]
    unknown = sorted(set(corpus.tracks["genre"]) - set(genres))
    if unknown:
        raise DataError(
            f"data {data!r} has genres that checkpoint {checkpoint!r} does not know: {', '.join(unknown)} "
            f"(it knows {', '.join(genres)}): rename or leave out their folders"
        )
    side, track_ids, notes = _choose_tracks(corpus, _manifest_of(checkpoint), side)
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
        trainer = Trainer(model=model, args=arguments, data_collator=TrackCollator(model.config.label2id))
        predictions = predict_tracks(trainer, features)
    return EvaluationReport.from_predictions(
        predictions,
        genres,
        checkpoint=Path(checkpoint).resolve().name if Path(checkpoint).exists() else checkpoint,
        data=source.describe(),
        side=side,
        skipped=corpus.skipped_report(),
        notes=notes,
    )


def _manifest_of(checkpoint: str) -> SplitManifest | None:
    path = Path(checkpoint) / "split.json"
    return SplitManifest.load(path) if path.is_file() else None


def _choose_tracks(corpus: Corpus, manifest: SplitManifest | None, side: str) -> tuple[str, list[str], list[str]]:
    """Return the name of the side, its track ids, and what the reader must be told."""
    available = list(corpus.tracks["track_id"])
    same_data = (
        manifest is not None
        and manifest.dataset == corpus.source.card.name
        and manifest.revision == corpus.source.revision
        and set(available).issuperset(track_id for members in manifest.sides.values() for track_id in members)
    )
    if side in SIDES:
        if not same_data:
            raise ConfigError(f"--side {side}: the checkpoint has no split of these data; use --side all")
        if not manifest.sides.get(side):
            raise ConfigError(f"--side {side}: the checkpoint's split has no tracks there")
        return side, manifest.sides[side], [f"the {side} side of the checkpoint's own split, {manifest.digest[:19]}"]
    if side == "auto" and same_data:
        side = manifest.evaluation_side
        note = (
            f"these are the data that the checkpoint was trained on: only the {side} side of its split is judged "
            "(--side all for all tracks)"
        )
        return side, manifest.sides[side], [note]
    notes = []
    if same_data:
        trained = len(manifest.sides["train"])
        notes.append(f"{trained} of these tracks were trained on: not a measure of how the model does on new music")
    return "all", available, notes
