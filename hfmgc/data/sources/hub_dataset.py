"""Your own music: a dataset of the Hub, or a copy of one on disk, with a column of audio."""

from dataclasses import dataclass
from typing import Any

import datasets

from ...errors import ConfigError, DataError, nearest
from ..caching import cached_map
from .contract import TRACK_FEATURES, DatasetCard, TrackSource, track_row
from .hub_tables import audio_fields, is_local, load_tables, shown_location, unpinned_notes
from .tables import SIDE_NAMES, check_unique, class_names, class_of, refuse_other_than_text, side_of


_OPTIONAL = ("artist_column", "id_column", "split_column")


@dataclass
class HubDataset(TrackSource):
    """Any dataset with an audio column; its splits train, validation and test are the official sides.

    A track's id is what `id_column` says, or `<split>/<row>`.

    Attributes:
        repository: A repository of the Hub, a folder of parquet files, a parquet file, or a folder of `save_to_disk`.
        repository_revision: Commit of the repository.
        config: Configuration of the repository.
        splits: The splits to read, between commas; all by default.
        audio_column: Column of the audio (bytes or path; never decoded by datasets).
        label_column: Column of the labels: classes, names, or lists of them; "" where there are none (pre-training).
        artist_column: Column of the artists.
        id_column: Column of the track ids.
        split_column: Column of the sides, where the splits do not tell them.
    """

    card = DatasetCard(
        name="hub",
        citation="A dataset of the Hugging Face Hub; see its card.",
        licence="as its card says",
        homepage="https://huggingface.co/datasets",
    )
    split_policies = ("official", "grouped", "stratified")

    repository: str
    repository_revision: str | None = None
    config: str | None = None
    splits: str = ""
    audio_column: str = "audio"
    label_column: str = "label"
    artist_column: str = ""
    id_column: str = ""
    split_column: str = ""

    @property
    def location(self) -> str:
        """The repository, or the name of what is on disk."""
        return shown_location(self.repository)

    @property
    def revision(self) -> str | None:
        """The commit of the repository."""
        return None if is_local(self.repository) else self.repository_revision

    def notes(self) -> list[str]:
        """Say when the repository is not pinned."""
        return unpinned_notes(self.repository, self.repository_revision)

    def genres(self) -> list[str]:
        """Return the names of the classes in their order, or the labels sorted where they are text."""
        tables = self._tables()
        names = [class_names(table.features.get(self.label_column)) for table in tables.values()]
        if not self.label_column:
            return []
        if all(names):
            if any(other != names[0] for other in names):
                raise DataError(f"{self.location}: the splits have different classes in {self.label_column!r}")
            return list(names[0])
        values: set[str] = set()
        for table in tables.values():
            for value in table[self.label_column]:
                values.update(_labels(value, None))
        return sorted(values)

    def tracks(self) -> datasets.Dataset:
        """Return the rows of all splits in their order."""
        parts = []
        for name, table in self._tables().items():
            keep = [column for column in self._columns() if column]
            table = table.select_columns(keep)
            parts.append(
                cached_map(
                    table,
                    _as_track,
                    ("tables",),
                    with_indices=True,
                    fn_kwargs={
                        "columns": {
                            option: getattr(self, option) for option in ("audio_column", "label_column", *_OPTIONAL)
                        },
                        "part": name,
                        "classes": class_names(table.features.get(self.label_column)),
                        "where": self.location,
                    },
                    features=TRACK_FEATURES,
                    remove_columns=table.column_names,
                    writer_batch_size=32,
                    desc=f"{self.location}: naming tracks",
                )
            )
        tracks = datasets.concatenate_datasets(parts)
        check_unique(tracks["track_id"], self.location)
        return tracks

    def _columns(self) -> list[str]:
        columns = [self.audio_column, self.label_column, self.artist_column, self.id_column, self.split_column]
        return list(dict.fromkeys(columns))

    def _tables(self) -> dict[str, datasets.Dataset]:
        tables = load_tables(
            "the dataset",
            self.repository,
            revision=self.revision,
            config=self.config,
            audio_column=self.audio_column,
            way_out="name a copy on disk as repository",
        )
        wanted = [name.strip() for name in self.splits.split(",") if name.strip()] or list(tables)
        for name in wanted:
            if name not in tables:
                raise ConfigError(f"{self.location} has no split {name!r}{nearest(name, tables)}")
        for option in ("label_column", *_OPTIONAL):
            column = getattr(self, option)
            for name in wanted:
                if column and column not in tables[name].column_names:
                    raise DataError(
                        f"{self.location} has no column {column!r}{nearest(column, tables[name].column_names)}: name "
                        f"another with data_options {{{option}: ...}}"
                    )
        return {name: tables[name] for name in wanted}


def _labels(value: Any, classes: list[str] | None) -> list[str]:
    values = value if isinstance(value, list) else [value]
    named = [class_of(one, classes) if classes and isinstance(one, int) else one for one in values]
    return [str(one) for one in named if one is not None and one != ""]


def _as_track(
    row: dict, index: int, columns: dict[str, str], part: str, classes: list[str] | None, where: str
) -> dict[str, Any]:
    place = f"{where}, row {index} of split {part!r}"
    path, content = audio_fields(row[columns["audio_column"]], place)
    labels = []
    if columns["label_column"]:
        if not classes:
            refuse_other_than_text(row[columns["label_column"]], f"{place}, {columns['label_column']!r}")
        labels = _labels(row[columns["label_column"]], classes)
    artist = row[columns["artist_column"]] if columns["artist_column"] else ""
    named = row[columns["id_column"]] if columns["id_column"] else None
    track_id = f"{part}/{index:06d}" if named is None else str(named)
    if columns["split_column"]:
        side = side_of(str(row[columns["split_column"]] or ""), place)
    else:
        side = SIDE_NAMES.get(part.lower(), "")
    return track_row(
        track_id,
        next(iter(labels), ""),
        path=path,
        audio=content,
        genres=labels,
        artist="" if artist is None else str(artist),
        split=side,
    )
