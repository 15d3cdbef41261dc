"""`hfmgc.load_dataset`: loads any dataset of the toolkit, and splits it by a policy, which is checked and recorded."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
from transformers.utils import logging

from .data.audio import SHORTEST_SECONDS
from .data.check import CHECK_RATE
from .data.corpus import decode_corpus
from .data.leaks import make_split
from .data.names import genres_of
from .data.sources import open_source
from .data.sources.contract import TrackSource
from .data.splits import check_split
from .errors import ConfigError, saving_to


logger = logging.get_logger(__name__)


def load_dataset(
    name_or_path: str | os.PathLike,
    split_policy: str = "stratified",
    sampling_rate: int | None = None,
    *,
    split_ratios: str = "8:1:1",
    split_seed: int = 0,
    split_fold: int = 1,
    split_manifest: str | os.PathLike | None = None,
    save_manifest: str | os.PathLike | None = None,
    allow_leaks: bool = False,
    exclude: str | os.PathLike | None = None,
    shortest_seconds: float = SHORTEST_SECONDS,
    num_proc: int | None = None,
    **options: Any,
) -> datasets.DatasetDict:
    """Load a dataset as the recipes do: skip unusable files, split whole tracks, check the split for leaks.

    The columns are `track_id`, `artist` ("" if unknown), `genre` (`ClassLabel`), `genres` (all genres of the track, as
    a list of `ClassLabel`), and one of

    - `waveform`, with a `sampling_rate`: float32 [samples], mono;
    - `audio`, without a `sampling_rate`: `Audio(decode=False)`, a path or the bytes of a file;
    - `features`, for stored features with or without a `sampling_rate`: as they were stored.

    `datasets` caches decoded tracks and fingerprints. The checks need decoded audio, so without a `sampling_rate` they
    decode it at 16 kHz. Skipped tracks and notes about the data and the split are logged as warnings.

    Args:
        name_or_path: Name of a dataset, such as `gtzan`, or the path of a manifest, of stored features or of a folder
            with one subfolder for each genre.
        split_policy: One of the policies of the dataset: `stratified`, `grouped`, `official`, `fault_filtered` or
            `artist_folds`.
        sampling_rate: Rate of the waveforms in Hz.
        split_ratios: train:validation:test, for `stratified` and `grouped`.
        split_seed: Seed of `stratified` and `grouped`.
        split_fold: Number of the fold that is the test side under `artist_folds`, from 1.
        split_manifest: Path of a saved manifest (a run's `split.json`). Its split is repeated exactly, and the policy
            ignored.
        save_manifest: Path at which to save the manifest of this split; `SplitManifest.load` reads it.
        allow_leaks: Record artists and recordings that are on two sides, instead of refusing the split.
        exclude: Path of a list of tracks to exclude.
        shortest_seconds: Skip shorter audio.
        num_proc: Number of processes that decode and fingerprint.
        options: Options of the dataset, as in a recipe's `data_options`: `folder=...`, `subset=...`.

    Returns:
        The sides that have tracks: `train`, `validation` and, for most policies, `test`.

    Raises:
        DataError: If the data cannot be found or no track can be used.
        SplitError: If the split is impossible or leaks.
        ConfigError: If the policy or an option does not exist.

    Example:

    >>> import hfmgc
    >>> music = hfmgc.load_dataset("synthetic", sampling_rate=16000, tracks_per_genre=3, seconds=2, split_ratios="1:1:1")
    >>> music.num_rows
    {'train': 10, 'validation': 10, 'test': 10}
    >>> track = music["train"][0]
    >>> track["waveform"].shape, music["train"].features["genre"].int2str(track["genre"])
    ((32000,), 'blues')
    """
    if sampling_rate is not None and sampling_rate < 1:
        raise ConfigError(f"sampling_rate: must be at least 1 Hz, not {sampling_rate}: omit it for undecoded audio")
    options = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in options.items()}
    source = open_source(os.fspath(name_or_path), options, exclude=exclude)
    if split_manifest is None:
        check_split(source, policy=split_policy, ratios=split_ratios)
    corpus = decode_corpus(source, sampling_rate or CHECK_RATE, num_proc=num_proc, shortest_seconds=shortest_seconds)
    manifest = make_split(
        corpus,
        policy=split_policy,
        ratios=split_ratios,
        seed=split_seed,
        fold=split_fold,
        manifest=split_manifest,
        allow_leaks=allow_leaks,
        num_proc=num_proc,
    )
    for note in [*source.notes(), *corpus.notes(), *manifest.notes()]:
        logger.warning(note)
    if corpus.skipped:
        logger.warning(corpus.summary())
    if save_manifest is not None:
        with saving_to(Path(save_manifest)):
            manifest.save(Path(save_manifest))
    tracks = _add_class_labels(corpus.tracks, corpus.genres)
    if sampling_rate is None and "waveform" in tracks.column_names:
        tracks = _restore_audio(tracks, source)
    corpus = replace(corpus, tracks=tracks)
    return datasets.DatasetDict({side: corpus.select(ids) for side, ids in manifest.sides.items() if ids})


def _add_class_labels(tracks: datasets.Dataset, genres: list[str]) -> datasets.Dataset:
    """Turn `genre` and `genres` into class labels, without `cast`, which would copy the waveforms."""
    label = datasets.ClassLabel(names=genres)
    columns = {
        "genre": label.str2int(tracks["genre"]),
        "genres": [label.str2int(names) for names in genres_of(tracks)],
    }
    features = {"genre": label, "genres": datasets.List(label)}
    labelled = tracks.remove_columns([name for name in (*columns, "split") if name in tracks.column_names])
    for name, column in columns.items():
        labelled = labelled.add_column(name, column, feature=features[name])
    return labelled.with_format(**tracks.format)


def _restore_audio(tracks: datasets.Dataset, source: TrackSource) -> datasets.Dataset:
    """Replace the waveforms by `audio`, the paths or bytes from the source."""
    source_tracks = source.tracks()
    row_of = {track_id: row for row, track_id in enumerate(source_tracks["track_id"][:])}
    audio = source_tracks.select_columns("audio").select([row_of[track_id] for track_id in tracks["track_id"][:]])
    audio = audio.cast_column("audio", datasets.Audio(decode=False))
    return datasets.concatenate_datasets([tracks.with_format(None).remove_columns("waveform"), audio], axis=1)
