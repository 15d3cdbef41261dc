"""Tables from the Hub or from a copy of one on disk, with audio that datasets never decodes."""

from pathlib import Path

import datasets
from huggingface_hub import constants

from ...errors import DataError, HfmgcError, saving_to
from ..caching import reading_cache


def is_local(repository: str) -> bool:
    """Tell whether what was given for a repository is a folder or a file here."""
    return Path(repository).exists()


def shown_location(repository: str) -> str:
    """Return the repository's name, or the last part of a local path: its parents are not published."""
    return Path(repository).resolve().name if is_local(repository) else repository


def unpinned_notes(repository: str, revision: str | None) -> list[str]:
    """Return what a reader of results must be told of a repository without a commit; nothing of a copy on disk."""
    if revision or is_local(repository):
        return []
    return [f"{repository} is not pinned to a commit: set repository_revision to repeat results"]


def load_tables(
    what: str,
    repository: str,
    *,
    revision: str | None = None,
    config: str | None = None,
    audio_column: str = "audio",
    way_out: str = "",
) -> dict[str, datasets.Dataset]:
    """Return the splits of a dataset by their names; `audio_column` holds structs of bytes and path.

    Args:
        what: The dataset as errors call it.
        repository: A repository of the Hub, a folder of parquet files, a parquet file, or a folder that
            `save_to_disk` wrote.
        revision: Commit of the repository.
        config: Configuration of the repository.
        audio_column: Column that has to be there.
        way_out: What errors advise, beside looking at the network.

    Raises:
        DataError: If it cannot be loaded or has no such column, naming the place and the way out.
    """
    try:
        with saving_to(constants.HF_HUB_CACHE, "or set HF_HOME or HF_HUB_CACHE to another folder"):
            loaded = _load(repository, revision, config)
    except HfmgcError:
        raise
    except Exception as error:  # of datasets, pyarrow, the Hub's client or its library of HTTP: no base in common
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        place = "" if is_local(repository) else " on the Hub"
        advice = (
            "check that it holds parquet files with rows" if place == "" else "check the network and HF_HUB_OFFLINE"
        )
        if way_out:
            advice += f", or {way_out}"
        raise DataError(
            f"{what} could not be loaded from {shown_location(repository)}{place} ({reason}): {advice}"
        ) from error
    tables = dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {str(loaded.split or "train"): loaded}
    for side, table in tables.items():
        if audio_column not in table.column_names:
            raise DataError(
                f"{what} ({shown_location(repository)}, split {side!r}) has no column {audio_column!r}, only "
                f"{', '.join(table.column_names)}: name the audio column in data_options"
            )
        if isinstance(table.features[audio_column], datasets.Audio):
            tables[side] = table.cast_column(audio_column, datasets.Audio(decode=False))
    return tables


def _load(repository: str, revision: str | None, config: str | None) -> datasets.Dataset | datasets.DatasetDict:
    path = Path(repository)
    if path.is_file():
        with reading_cache():
            return datasets.load_dataset("parquet", data_files=str(path), split="train")
    if path.is_dir() and any(
        (path / name).exists() for name in ("dataset_dict.json", "dataset_info.json", "state.json")
    ):
        return datasets.load_from_disk(str(path))
    with reading_cache():
        return datasets.load_dataset(repository, config, revision=None if path.is_dir() else revision)


def audio_fields(value: object, where: str) -> tuple[str | None, bytes | None]:
    """Return path and bytes of an audio value as it is stored: a struct, a path, or bytes.

    Neither of them is there in a broken row: decoding sets it aside and says so.

    Raises:
        DataError: If the column holds something else.
    """
    if value is None:
        return None, None
    if isinstance(value, dict) and ("bytes" in value or "path" in value):
        return value.get("path"), value.get("bytes")
    if isinstance(value, str):
        return value, None
    if isinstance(value, bytes):
        return None, value
    raise DataError(f"{where} has neither bytes nor a path in its audio column: name another with data_options")
