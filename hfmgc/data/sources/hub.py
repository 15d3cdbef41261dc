"""Files and tables from the Hub or from a copy on disk, whose audio `datasets` never decodes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import constants, snapshot_download

from ...errors import DataError, HfmgcError, UnreachableDataError, first_line, saving_to
from ..caching import cached_map, reading_cache
from .contract import TRACK_FEATURES, public_location
from .tables import check_unique, class_names


def download(what: str, repository: str, patterns: list[str], revision: str | None) -> Path:
    """Download the files of a dataset's repository that match the patterns; return their folder.

    Raises:
        DataError: If the files cannot be downloaded; `what` names the dataset.
    """
    with _loading(what, repository):
        return Path(snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=patterns))


def load_tables(
    what: str,
    origin: str,
    *,
    revision: str | None = None,
    config: str | None = None,
    audio_column: str = "audio",
    way_out: str,
) -> dict[str, datasets.Dataset]:
    """Return the splits of a dataset by name.

    Args:
        what: Name of the dataset in errors.
        origin: A repository on the Hub, a parquet file, a folder of parquet files, or a folder written by
            `save_to_disk`.
        revision: Commit of the repository.
        config: Configuration of the repository.
        audio_column: Column of the audio, which each split must have. It is loaded as structs of bytes and path.
        way_out: Advice in errors, such as the option that names a copy on disk.

    Raises:
        DataError: If the dataset cannot be loaded, or lacks the audio column.
    """
    path = Path(origin)
    with _loading(what, origin, way_out), reading_cache():
        if is_saved_dataset(path):
            loaded = datasets.load_from_disk(origin)
        elif path.is_file():
            loaded = datasets.load_dataset("parquet", data_files=origin, split="train")
        else:
            loaded = datasets.load_dataset(origin, config, revision=None if path.is_dir() else revision)
    tables = dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {str(loaded.split or "train"): loaded}
    for split, table in tables.items():
        if audio_column not in table.column_names:
            raise DataError(
                f"{what} ({public_location(origin)}, split {split!r}): no column {audio_column!r}, only "
                f"{', '.join(table.column_names)}: name the audio column in data_options"
            )
        if isinstance(table.features[audio_column], datasets.Audio):
            tables[split] = table.cast_column(audio_column, datasets.Audio(decode=False))
    return tables


def is_saved_dataset(path: Path) -> bool:
    """Return whether a folder was written by `save_to_disk`."""
    return any((path / name).is_file() for name in ("dataset_dict.json", "dataset_info.json", "state.json"))


@contextmanager
def _loading(what: str, origin: str, way_out: str = "name a copy on disk in --data_options") -> Iterator[None]:
    """Turn every failure to download or load into a DataError."""
    try:
        with saving_to(constants.HF_HUB_CACHE, "or set HF_HOME or HF_HUB_CACHE to another folder"):
            yield
    except HfmgcError:
        raise
    except (
        Exception
    ) as error:  # the errors of datasets, pyarrow, huggingface_hub and its HTTP library share no base class
        if Path(origin).exists():
            kind, where, advice = DataError, public_location(origin), "check that it holds parquet files with rows"
        else:
            kind, where, advice = UnreachableDataError, f"{origin} on the Hub", "check the network and HF_HUB_OFFLINE"
        raise kind(
            f"{what} could not be loaded from {where} ({type(error).__name__}: {first_line(error)}): {advice}, or {way_out}"
        ) from error


def map_to_tracks(
    tables: dict[str, datasets.Dataset], track_of: Callable[..., dict], where: str, **arguments: Any
) -> datasets.Dataset:
    """Convert the rows of all splits to one table of tracks, which is cached.

    Args:
        tables: Name of each split -> its table.
        track_of: A module-level function that converts a row to a row of `track_row`. It is called with the row and
            its number, and the keyword arguments `where`, `split` (the name), `classes` (column -> class names) and
            `arguments`.
        where: Name of the dataset in errors.
        arguments: Passed to `track_of`.

    Raises:
        DataError: If a track id is repeated.
    """
    parts = []
    for split, table in tables.items():
        classes = {name: names for name, feature in table.features.items() if (names := class_names(feature))}
        parts.append(
            cached_map(
                table,
                track_of,
                ("tables",),
                with_indices=True,
                fn_kwargs={"where": where, "split": split, "classes": classes, **arguments},
                features=TRACK_FEATURES,
                remove_columns=table.column_names,
                desc=f"{where}: reading the table",
            )
        )
    tracks = datasets.concatenate_datasets(parts)
    check_unique(tracks["track_id"], where)
    return tracks


def audio_fields(value: object, where: str) -> tuple[str | None, bytes | None]:
    """Return the path and the bytes in the value of an audio column: a struct, a path, or bytes.

    Both are None for a row without audio, which decoding skips and reports.

    Raises:
        DataError: If the column holds other values; the message begins with `where`.
    """
    if isinstance(value, dict) and ("bytes" in value or "path" in value):
        return value.get("path"), value.get("bytes")
    if value is None or isinstance(value, (str, bytes)):
        return value if isinstance(value, str) else None, value if isinstance(value, bytes) else None
    raise DataError(f"{where}: neither bytes nor a path in the audio column: name another column in data_options")
