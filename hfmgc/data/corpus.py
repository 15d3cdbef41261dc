"""Decoding a corpus for training and evaluation; broken tracks are skipped and reported."""

import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import soundfile

from ..errors import AudioError, DataError
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from ..text import format_size
from .audio import decode_audio
from .caching import cached_map, reading_cache
from .names import genres_of, one_spelling, spelling_note
from .sources.contract import LABEL_FEATURES, TrackSource
from .sources.exclusions import describe_exclusions, exclusions_text
from .sources.feature_rows import feature_problems
from .waveform import WAVEFORM


DECODED_FEATURES = datasets.Features(
    LABEL_FEATURES
    | {"waveform": WAVEFORM, "problem": datasets.Value("string"), "truncation": datasets.Value("string")}
)
# A note names at most this many tracks; `hfmgc check` names all.
NAMED_TRACKS = 20
# Headers from which the length of all tracks is estimated.
SAMPLED_HEADERS = 8


@dataclass(frozen=True)
class SkippedTrack:
    """A track that cannot be used, and why."""

    track_id: str
    reason: str


@dataclass(frozen=True)
class Corpus:
    """The usable tracks of a source, decoded.

    `tracks` has the columns track_id, genre, genres, artist, split, and either waveform (float32 [samples] at
    `sampling_rate`) or stored features, unchanged. `truncated`: track id -> how much of a truncated track is left.
    """

    source: TrackSource
    tracks: datasets.Dataset
    genres: list[str]
    skipped: list[SkippedTrack]
    sampling_rate: int
    truncated: dict[str, str] = field(default_factory=dict)

    def select(self, track_ids: list[str]) -> datasets.Dataset:
        """Return the tracks with these ids, in the order of the ids."""
        rows = {track_id: row for row, track_id in enumerate(self.tracks["track_id"][:])}
        if missing := [track_id for track_id in track_ids if track_id not in rows]:
            raise DataError(
                f"{len(missing)} of {len(track_ids)} track ids are not in {self.source.title}; the first is {missing[0]!r}"
            )
        return self.tracks.select([rows[track_id] for track_id in track_ids])

    def skipped_report(self) -> list[dict[str, str]]:
        """Return the skipped tracks as dictionaries."""
        return [asdict(track) for track in self.skipped]

    def exclusions(self) -> dict[str, Any] | None:
        """Return the record of the tracks that the user excluded, or None if there are none."""
        return describe_exclusions(self.source.excluded, [track.track_id for track in self.skipped])

    def notes(self) -> list[str]:
        """Return the notes to publish with results on these tracks."""
        exclusions = self.exclusions()
        notes = [exclusions_text(exclusions)] if exclusions else []
        notes += filter(None, [spelling_note(self.source.genres())])
        if empty := self.source.empty_genres():
            notes.append(f"genre folders without audio files are skipped: {', '.join(empty)}")
        if self.truncated:
            names = [f"{track_id} ({length})" for track_id, length in [*self.truncated.items()][:NAMED_TRACKS]]
            if len(self.truncated) > NAMED_TRACKS:
                names.append(f"{len(self.truncated) - NAMED_TRACKS} more")
            notes.append(f"{len(self.truncated)} truncated tracks are used as they are: {', '.join(names)}")
        return notes

    def summary(self) -> str:
        """Return one line about the usable and the skipped tracks."""
        genres = {genre for names in genres_of(self.tracks) for genre in names}
        line = f"{len(self.tracks)} tracks of {len(genres)} genres from {self.source.title}"
        if self.source.card.synthetic:
            line += ", synthetic"
        if self.skipped:
            first = self.skipped[0]
            line += f"; {len(self.skipped)} skipped (the first: {first.track_id}: {first.reason})"
        return line


@reading_cache()
def decode_corpus(
    source: TrackSource,
    sampling_rate: int,
    *,
    labels: Sequence[str] = (),
    num_proc: int | None = None,
    shortest_seconds: float = 0.0,
    labelled: bool = True,
) -> Corpus:
    """Decode all tracks of a source; cached.

    Tracks are skipped, with a reason, if `reasons_to_skip` gives one, if they cannot be decoded, or if they are shorter than
    `shortest_seconds`. Stored features are skipped if they are empty, ragged, not finite, or of another size than the
    rest. `labels` are genres of a checkpoint, whose spelling replaces that of the source. `labelled`: tracks need a genre.

    Raises:
        DataError: If no track can be used.
    """
    tracks = source.tracks()
    spelling = one_spelling([*labels, *source.genres()])
    tracks = _unify_spelling(tracks, spelling)
    usable, skipped = _drop_problems(tracks, reasons_to_skip(tracks, source, labelled=labelled))
    content = "features" if "features" in tracks.column_names else "waveform"
    if len(usable):
        if content == "features":
            problems = feature_problems(usable, num_proc)
        else:
            usable = cached_map(
                usable,
                decode_track,
                ("decoding",),
                fn_kwargs={"sampling_rate": sampling_rate, "shortest_seconds": shortest_seconds},
                features=DECODED_FEATURES,
                remove_columns=["audio"],
                num_proc=num_proc,
                desc=f"decoding at {sampling_rate} Hz",
            )
            problems = list(usable["problem"])
            usable = usable.remove_columns("problem")
        usable, broken = _drop_problems(usable, problems)
        skipped += broken
    if not len(usable):
        first = f"; the first: {skipped[0].track_id}: {skipped[0].reason}" if skipped else ""
        raise DataError(f"{source.title}: no track can be used{first}")
    truncated = {}
    if "truncation" in usable.column_names:
        pairs = zip(usable["track_id"], usable["truncation"], strict=True)
        truncated = {track_id: length for track_id, length in pairs if length}
        usable = usable.remove_columns("truncation")
    return Corpus(
        source=source,
        tracks=usable.with_format("numpy", columns=[content], output_all_columns=True),
        genres=list(dict.fromkeys(map(spelling.get, source.genres()))),
        skipped=skipped,
        sampling_rate=sampling_rate,
        truncated=truncated,
    )


def reasons_to_skip(tracks: datasets.Dataset, source: TrackSource, *, labelled: bool = True) -> list[str]:
    """Return why each track is skipped without being decoded, or "" if it is not. `labelled`: tracks need a genre."""
    return [
        source.reason_to_skip(track_id) or ("no genre" if labelled and not genre else "")
        for track_id, genre in zip(tracks["track_id"][:], tracks["genre"][:], strict=True)
    ]


def _unify_spelling(tracks: datasets.Dataset, spelling: Mapping[str, str]) -> datasets.Dataset:
    """Return the tracks with one spelling of each genre."""
    if all(name == genre for name, genre in spelling.items()):
        return tracks
    columns = {
        "genre": [spelling.get(genre, genre) for genre in tracks["genre"][:]],
        "genres": [list(dict.fromkeys(spelling.get(name, name) for name in names)) for names in tracks["genres"][:]],
    }
    for name, column in columns.items():
        tracks = tracks.remove_columns(name).add_column(name, column, feature=LABEL_FEATURES[name])
    return tracks


def _drop_problems(tracks: datasets.Dataset, problems: list[str]) -> tuple[datasets.Dataset, list[SkippedTrack]]:
    """Divide the tracks into those without a problem and the skipped ones."""
    pairs = zip(tracks["track_id"][:], problems, strict=True)
    skipped = [SkippedTrack(track_id, problem) for track_id, problem in pairs if problem]
    if not skipped:
        return tracks, skipped
    # Select ranges of rows: after `select` with a list of rows, adding a column would copy the table.
    breaks = np.flatnonzero(np.diff([True, *map(bool, problems), True]))
    slices = [tracks.select(range(start, end)) for start, end in zip(breaks[::2], breaks[1::2], strict=True)]
    return datasets.concatenate_datasets(slices or [tracks.select([])]), skipped


def decode_track(track: dict, sampling_rate: int, shortest_seconds: float = 0.0) -> dict:
    """Return the columns `waveform` and `problem`, one of which is empty, and `truncation` of a track."""
    audio, options = track["audio"], {"name": track["track_id"], "shortest_seconds": shortest_seconds}
    try:
        decoded = decode_audio(audio["bytes"] or audio["path"], sampling_rate, **options)
    except AudioError as error:
        return {"waveform": np.zeros(0, np.float32), "problem": error.reason, "truncation": ""}
    return {"waveform": decoded.waveform, "problem": "", "truncation": decoded.truncation}


def cache_forecast(source: TrackSource, extractor: WindowedFeatureExtractor) -> str:
    """Return one line about the space that decoded audio and features need in the cache, estimated from a few headers.

    Return "" for stored features, which are not copied, or if no header can be read.
    """
    tracks = source.tracks()
    if "features" in tracks.column_names or not len(tracks):
        return ""
    rows = np.linspace(0, len(tracks) - 1, min(SAMPLED_HEADERS, len(tracks))).astype(int)
    seconds = [length for row in rows if (length := _seconds(tracks[int(row)]["audio"]))]
    if not seconds:
        return ""
    samples = round(np.mean(seconds) * extractor.sampling_rate)
    audio_bytes = len(tracks) * samples * 2
    feature_bytes = len(tracks) * extractor.count_frames(samples) * extractor.feature_bins * 4
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    free = shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.exists())).free
    advice = f"; only {format_size(free)} are free: set HF_DATASETS_CACHE to a folder on a larger disk"
    return (
        f"cache: decoded audio of {len(tracks):,} tracks about {format_size(audio_bytes)}, features about "
        f"{format_size(feature_bytes)} in {cache}, unless they are cached already"
        f"{advice if free < audio_bytes + feature_bytes else ''}"
    )


def _seconds(audio: dict) -> float:
    """Return the length that the header of a file declares, or 0 if it cannot be read."""
    try:
        return soundfile.info(io.BytesIO(audio["bytes"]) if audio["bytes"] else audio["path"]).duration
    except (RuntimeError, OSError, TypeError):
        return 0.0
