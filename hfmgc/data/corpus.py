"""A decoded corpus: broken tracks are skipped and reported, the rest is ready for training and evaluation."""

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
# Tracks that a note names at most; `hfmgc check` names all.
NAMED_TRACKS = 20
SAMPLED_HEADERS = 8


@dataclass(frozen=True)
class SkippedTrack:
    """A track that cannot be used, and why."""

    track_id: str
    reason: str


@dataclass(frozen=True)
class Corpus:
    """Decoded tracks of a source.

    `tracks` has the columns track_id, genre, genres, artist, split, and waveform (float32 [samples] at `sampling_rate`)
    or features, as they were stored. `truncated` maps the id of a truncated track to its missing part.
    """

    source: TrackSource
    tracks: datasets.Dataset
    genres: list[str]
    skipped: list[SkippedTrack]
    sampling_rate: int
    truncated: dict[str, str] = field(default_factory=dict)

    def select(self, track_ids: list[str]) -> datasets.Dataset:
        """Return the tracks with these ids, in their order."""
        rows = {track_id: row for row, track_id in enumerate(self.tracks["track_id"][:])}
        if missing := [track_id for track_id in track_ids if track_id not in rows]:
            raise DataError(
                f"{len(missing)} of {len(track_ids)} track ids are not in {self.source.title}, the first is {missing[0]!r}"
            )
        return self.tracks.select([rows[track_id] for track_id in track_ids])

    def skipped_report(self) -> list[dict[str, str]]:
        """Return the skipped tracks as plain rows."""
        return [asdict(track) for track in self.skipped]

    def exclusions(self) -> dict[str, Any] | None:
        """Return the record of the tracks that the user excluded, or None without exclusions."""
        return describe_exclusions(self.source.excluded, [track.track_id for track in self.skipped])

    def notes(self) -> list[str]:
        """Return the notes that results on these tracks need."""
        exclusions = self.exclusions()
        notes = [exclusions_text(exclusions)] if exclusions else []
        notes += filter(None, [spelling_note(self.source.genres())])
        if empty := self.source.empty_genres():
            notes.append(f"genre folders without audio files are skipped: {', '.join(empty)}")
        if self.truncated:
            named = [f"{track_id} ({missing})" for track_id, missing in [*self.truncated.items()][:NAMED_TRACKS]]
            if len(self.truncated) > NAMED_TRACKS:
                named.append(f"{len(self.truncated) - NAMED_TRACKS} more")
            notes.append(f"{len(self.truncated)} tracks are truncated, and used as they are: {', '.join(named)}")
        return notes

    def summary(self) -> str:
        """Return one line on the usable and the skipped tracks."""
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
    """Decode all tracks of a source, cached.

    Tracks are skipped, with a reason, if the user excludes them, if they are known to be broken, if they have no genre
    (unless `labelled` is False), or if they cannot be decoded or are shorter than `shortest_seconds`; stored features, if
    they are empty, ragged, not finite, or differ in size from the rest. `labels` are a checkpoint's genres, whose spelling
    replaces that of the source.

    Raises:
        DataError: If no track can be used.
    """
    tracks = source.tracks()
    spelling = one_spelling([*labels, *source.genres()])
    tracks = _spelled(tracks, spelling)
    pairs = zip(tracks["track_id"][:], tracks["genre"][:], strict=True)
    problems = [
        source.reason_to_skip(track_id) or ("" if genre or not labelled else "no genre") for track_id, genre in pairs
    ]
    usable, skipped = _without(tracks, problems)
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
        usable, broken = _without(usable, problems)
        skipped += broken
    if not len(usable):
        first = f"; the first: {skipped[0].track_id}: {skipped[0].reason}" if skipped else ""
        raise DataError(f"{source.title} has no track that can be used{first}")
    truncated = {}
    if "truncation" in usable.column_names:
        pairs = zip(usable["track_id"], usable["truncation"], strict=True)
        truncated = {track_id: missing for track_id, missing in pairs if missing}
        usable = usable.remove_columns("truncation")
    return Corpus(
        source=source,
        tracks=usable.with_format("numpy", columns=[content], output_all_columns=True),
        genres=list(dict.fromkeys(map(spelling.get, source.genres()))),
        skipped=skipped,
        sampling_rate=sampling_rate,
        truncated=truncated,
    )


def _spelled(tracks: datasets.Dataset, spelling: Mapping[str, str]) -> datasets.Dataset:
    """Return the tracks with one spelling of each genre."""
    if all(written == genre for written, genre in spelling.items()):
        return tracks
    spelled = {
        "genre": [spelling.get(genre, genre) for genre in tracks["genre"][:]],
        "genres": [list(dict.fromkeys(spelling.get(name, name) for name in names)) for names in tracks["genres"][:]],
    }
    for name, column in spelled.items():
        tracks = tracks.remove_columns(name).add_column(name, column, feature=LABEL_FEATURES[name])
    return tracks


def _without(tracks: datasets.Dataset, problems: list[str]) -> tuple[datasets.Dataset, list[SkippedTrack]]:
    """Return the tracks without a problem, and the others."""
    pairs = zip(tracks["track_id"][:], problems, strict=True)
    skipped = [SkippedTrack(track_id, problem) for track_id, problem in pairs if problem]
    if not skipped:
        return tracks, skipped
    # As slices of the table: after `select` with a list of rows, adding a column would copy the table.
    breaks = np.flatnonzero(np.diff([True, *map(bool, problems), True]))
    slices = [tracks.select(range(start, end)) for start, end in zip(breaks[::2], breaks[1::2], strict=True)]
    return datasets.concatenate_datasets(slices or [tracks.select([])]), skipped


def decode_track(track: dict, sampling_rate: int, shortest_seconds: float = 0.0) -> dict:
    """Return the waveform of a track or its problem (one of the two is empty), and how far it is truncated."""
    audio, options = track["audio"], {"name": track["track_id"], "shortest_seconds": shortest_seconds}
    try:
        decoded = decode_audio(audio["bytes"] or audio["path"], sampling_rate, **options)
    except AudioError as error:
        return {"waveform": np.zeros(0, np.float32), "problem": error.reason, "truncation": ""}
    return {"waveform": decoded.waveform, "problem": "", "truncation": decoded.truncation}


def cache_forecast(source: TrackSource, extractor: WindowedFeatureExtractor) -> str:
    """Return one line on the space that decoded audio and features take in the cache, estimated from a few headers.

    "" for stored features, which are not copied, and if no header can be read.
    """
    tracks = source.tracks()
    if "features" in tracks.column_names or not len(tracks):
        return ""
    rows = np.linspace(0, len(tracks) - 1, min(SAMPLED_HEADERS, len(tracks))).astype(int)
    seconds = [length for row in rows if (length := _seconds(tracks[int(row)]["audio"]))]
    if not seconds:
        return ""
    samples = round(np.mean(seconds) * extractor.sampling_rate)
    sound = len(tracks) * samples * 2
    extracted = len(tracks) * extractor.count_frames(samples) * extractor.feature_bins * 4
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    free = shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.exists())).free
    advice = f"; only {format_size(free)} are free: set HF_DATASETS_CACHE to a folder on a larger disk"
    return (
        f"cache: decoded audio of {len(tracks):,} tracks about {format_size(sound)}, features about {format_size(extracted)} in "
        f"{cache}, unless they are cached already{advice if free < sound + extracted else ''}"
    )


def _seconds(audio: dict) -> float:
    """Return the length that a file declares; 0 if it cannot be read."""
    try:
        return soundfile.info(io.BytesIO(audio["bytes"]) if audio["bytes"] else audio["path"]).duration
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError):
        return 0.0
