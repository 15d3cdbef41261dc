"""Your own music: a dataset with an audio column, on the Hub or on disk."""

from dataclasses import dataclass
from typing import Any

import datasets

from ...errors import ConfigError, DataError, did_you_mean
from .contract import DatasetCard, TrackSource, track_row
from .hub import audio_fields, load_tables, map_to_tracks
from .tables import SIDE_NAMES, labels_of, occurring_labels, side_of


_OTHER_COLUMNS = ("label_column", "artist_column", "id_column", "split_column")


@dataclass
class HubDataset(TrackSource):
    """Any dataset with an audio column. Its splits train, validation and test are the official sides.

    A track's id is its value in `id_column`, or `<split>/<row>`.
    """

    card = DatasetCard(
        name="hub",
        citation="A dataset of the Hugging Face Hub; see its card.",
        licence="as its card says",
    )
    split_policies = ("official", "grouped", "stratified")

    repository: str  # on the Hub, or a parquet file, a folder of parquet files, or a folder written by `save_to_disk`
    repository_revision: str | None = None  # commit of the repository
    config: str | None = None  # configuration of the repository
    splits: str = ""  # splits to read, separated by commas; all by default
    audio_column: str = "audio"  # bytes or paths
    label_column: str = "label"  # class labels, text, or lists of either; "" for data without labels
    artist_column: str = ""
    id_column: str = ""
    split_column: str = ""  # the official sides, if the splits are something else

    @property
    def origin(self) -> str:
        return self.repository

    def genres(self) -> list[str]:
        """Return the labels that occur: class labels in the order of the classes, text sorted."""
        tables = {f"{self.location}, split {split!r}": table for split, table in self._tables().items()}
        return occurring_labels(tables, [self.label_column])

    def tracks(self) -> datasets.Dataset:
        columns = {option: getattr(self, option) for option in ("audio_column", *_OTHER_COLUMNS)}
        used = list(dict.fromkeys(filter(None, columns.values())))
        tables = {split: table.select_columns(used) for split, table in self._tables().items()}
        return map_to_tracks(tables, _track, self.location, columns=columns)

    def _tables(self) -> dict[str, datasets.Dataset]:
        tables = load_tables(
            "the dataset",
            self.repository,
            revision=self.revision,
            config=self.config,
            audio_column=self.audio_column,
            way_out="give the path of a copy on disk as repository",
        )
        names = [name.strip() for name in self.splits.split(",") if name.strip()] or list(tables)
        for name in names:
            if name not in tables:
                raise ConfigError(
                    f"data_options of hub: splits: {self.location} has no split {name!r}{did_you_mean(name, tables)}"
                )
            columns = tables[name].column_names
            for option in _OTHER_COLUMNS:
                column = getattr(self, option)
                if column and column not in columns:
                    raise DataError(
                        f"{self.location}: no column {column!r}{did_you_mean(column, columns)}: name another in "
                        f"data_options {{{option}: ...}}"
                    )
        return {name: tables[name] for name in names}


def _track(
    row: dict, index: int, where: str, split: str, classes: dict[str, list[str]], columns: dict[str, str]
) -> dict[str, Any]:
    place = f"{where}, row {index} of split {split!r}"
    path, content = audio_fields(row[columns["audio_column"]], place)
    label_column = columns["label_column"]
    labels = labels_of(row.get(label_column), classes.get(label_column), f"{place}, {label_column!r}")
    track_id, artist = row.get(columns["id_column"]), row.get(columns["artist_column"])
    if columns["split_column"]:
        side = side_of(str(row[columns["split_column"]] or ""), place)
    else:
        side = SIDE_NAMES.get(split.lower(), "")
    return track_row(
        f"{split}/{index:06d}" if track_id is None else str(track_id),
        labels,
        path=path,
        audio=content,
        artist="" if artist is None else str(artist),
        split=side,
    )
