"""Features and windows of the tracks of a corpus, from audio or stored features."""

import hashlib
import reprlib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch

from ..errors import DataError
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from .augmentation.report import source_samples_needed
from .caching import cached_map
from .sources.contract import TrackSource
from .sources.features import FeatureSet


Augmentation = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]

# Columns with the content of a track (waveform or features) and its identity.
CONTENT_COLUMNS = ("waveform", "features", "digest", "fingerprint")
# Tables of features up to this size are kept in memory.
SMALL_TABLE_BYTES = 2**28
FEATURES = datasets.LargeList(datasets.List(datasets.Value("float32")))


def extract_features(
    tracks: datasets.Dataset, extractor: WindowedFeatureExtractor, *, num_proc: int | None = None
) -> datasets.Dataset:
    """Return tracks with un-normalised features (float32 [frames, bins]) in place of their waveforms.

    The cache key is the table of tracks and `front_end_fields`, which exclude windows and normalisation. So extract a whole
    corpus first, then split it. Stored features are returned unchanged.
    """
    if "waveform" not in tracks.column_names:
        return tracks
    labels = {name: kind for name, kind in tracks.features.items() if name != "waveform"}
    extracted = cached_map(
        tracks,
        _extract,
        ("features",),
        fn_kwargs={"extractor": extractor},
        key=front_end_fields(extractor),
        features=datasets.Features({**labels, "features": FEATURES}),
        remove_columns=["waveform"],
        num_proc=num_proc,
        desc="extracting features",
    )
    return extracted.with_format("numpy", columns=["features"], output_all_columns=True)


def _extract(track: dict, extractor: WindowedFeatureExtractor) -> dict:
    return {"features": track_features(track, extractor)}


def front_end_fields(extractor: WindowedFeatureExtractor) -> dict[str, Any]:
    """Return the fields of a front end that affect `track_features`."""
    fields = extractor.to_dict()
    return {name: fields[name] for name in extractor.feature_fields}


def check_front_end(source: TrackSource, extractor: WindowedFeatureExtractor) -> None:
    """Check that a source has audio or features for a front end.

    Raises:
        DataError: If another front end extracted the stored features, or the front end needs a table and the source has
            audio.
    """
    recorded = source.front_end()
    if recorded is None:
        if not extractor.takes_audio and not isinstance(source, FeatureSet):
            raise DataError(
                f"{source.location}: front_end.layout {extractor.layout!r} cannot be computed from audio: use a table with "
                "its columns"
            )
        return
    expected = front_end_fields(extractor)
    if different := [name for name in expected if recorded.get(name) != expected[name]]:
        short = reprlib.repr  # a list of columns is long
        fields = ", ".join(f"{name} {short(recorded.get(name))}, not {short(expected[name])}" for name in different)
        raise DataError(
            f"{source.location}: another front end extracted these features ({fields}): extract them again with this front "
            "end, or use a model that was trained with the other"
        )


class TrackWindows(torch.utils.data.Dataset):
    """Tracks as stacks of windows, which are cut and normalised when a row is read.

    A row has the columns of the tracks, with `input_values` (float32 [windows, frames, bins]) in place of the content.

    Args:
        tracks: Tracks with the column `features`.
        extractor: The front end that cuts and normalises the windows.
    """

    def __init__(self, tracks: datasets.Dataset, extractor: WindowedFeatureExtractor):
        self.tracks = tracks.remove_columns([name for name in CONTENT_COLUMNS if name in tracks.column_names])
        self.extractor = extractor
        self._features = tracks.with_format("arrow").select_columns(["features"])
        self.column_names = [*self.tracks.column_names, "input_values"]
        self._rows: dict[int, dict[str, Any]] = {}
        self._is_small = self._features.data.nbytes <= SMALL_TABLE_BYTES

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return self.tracks[key]
        track = self.track(key)
        stack = track_windows(track, self.extractor)
        return {**{name: track[name] for name in self.tracks.column_names}, "input_values": stack}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[row] for row in range(len(self)))

    @cached_property
    def frames(self) -> list[int | None]:
        """The number of frames of each track; None for stored slices."""
        return [None if slices else frames for slices, frames in self._lengths]

    @cached_property
    def counts(self) -> list[int]:
        """The number of windows of each track."""
        return [slices or self.extractor.count_windows(frames) for slices, frames in self._lengths]

    @cached_property
    def _lengths(self) -> list[tuple[int, int]]:
        """The number of stored slices (0 if there are none) and of frames of each track."""
        lengths = []
        for batch in self._features.iter(batch_size=100):
            for row in range(len(batch)):
                values = features_array(batch.slice(row, 1))
                # Slices are [slices, frames, bins], features [frames, bins], integer levels [bins, frames].
                if values.ndim == 3:
                    lengths.append(values.shape[:2])
                else:
                    lengths.append((0, values.shape[0 if values.dtype.kind == "f" else 1]))
        return lengths

    def stack(self, row: int, selection: slice = slice(None)) -> np.ndarray:
        """Return windows of the track in a row, all by default, float32 [windows, frames, bins]."""
        return track_windows(self.track(row), self.extractor, selection)

    def track(self, row: int) -> dict[str, Any]:
        """Return a row of the tracks with its features (read-only).

        Reading from Arrow is ten times as fast as the nested lists of `datasets`. Rows of small tables stay in memory:
        reading a feature vector would take longer than training on it.
        """
        if row in self._rows:
            return self._rows[row]
        track = {**self.tracks[row], "features": features_array(self._features[row])}
        if self._is_small:
            self._rows[row] = track
        return track


def features_array(row: pa.Table) -> np.ndarray:
    """Return the features in a table of one row as a read-only array without copying; nested lists must not be ragged."""
    values = row["features"].combine_chunks()
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    sizes = [1]
    while pa.types.is_nested(values.type):
        values = values.flatten()
        sizes.append(len(values))
    return values.to_numpy(zero_copy_only=False).reshape([size // before for before, size in pairwise(sizes)])


class ExtractedWindows:
    """The windows of all tracks as one sequence."""

    def __init__(self, tracks: TrackWindows):
        self.tracks = tracks
        self.ends = np.cumsum(tracks.counts)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def locate(self, index: int) -> tuple[int, int]:
        """Return the row of the track of a window, and the position of the window in the track."""
        row = int(np.searchsorted(self.ends, index, side="right"))
        return row, index - self.first(row)

    def first(self, row: int) -> int:
        """Return the index of the first window of a track."""
        return int(self.ends[row - 1]) if row else 0

    def __getitem__(self, index: int) -> np.ndarray:
        """Return a window, float32 [frames, bins]."""
        row, position = self.locate(index)
        return self.tracks.stack(row, slice(position, position + 1))[0]

    @cached_property
    def digest(self) -> str:
        """Digest of all windows and of the number of windows per track; reads every window."""
        digest = hashlib.sha256(self.ends.tobytes())
        for row in range(len(self.tracks)):
            stack = self.tracks.stack(row)
            digest.update(str(stack.shape).encode())
            digest.update(np.ascontiguousarray(stack).data)
        return digest.hexdigest()


def track_windows(
    track: Mapping[str, Any], extractor: WindowedFeatureExtractor, selection: slice = slice(None)
) -> np.ndarray:
    """Return windows of a track of a `Corpus` for evaluation, all by default, float32 [windows, frames, bins]."""
    if "features" not in track:
        return extractor(track["waveform"], sampling_rate=extractor.sampling_rate)["input_values"][0][selection]
    stored = np.asarray(track["features"])
    if stored.ndim == 3:
        return _check_slices(track, stored[selection], extractor)
    return extractor.cut_features(track_features(track, extractor), selection)


def track_features(track: Mapping[str, Any], extractor: WindowedFeatureExtractor) -> np.ndarray:
    """Return the un-normalised features of a track of a `Corpus`, float32 [frames, bins].

    Raises:
        DataError: If stored features do not fit the front end.
    """
    if "features" not in track:
        return extractor.track_features(np.asarray(track["waveform"], dtype=np.float32))
    try:
        return extractor.as_features(np.asarray(track["features"]))
    except ValueError as error:
        raise DataError(
            f"{track['track_id']}: the stored features do not fit the front end ({error}): set the front end that "
            "extracted them, such as front_end: {preset: gtzan_decimated}"
        ) from error


def training_window(
    track: Mapping[str, Any],
    extractor: WindowedFeatureExtractor,
    generator: np.random.Generator,
    augmentation: Augmentation | None = None,
) -> np.ndarray:
    """Return one window of a track of a `Corpus` at a uniformly random position, float32 [frames, bins].

    Audio and stored features give the same window. An augmentation needs audio and precedes `prepare`, as in offline
    augmentation; the window then comes from the same relative position of the augmented audio.
    """
    position = generator.random()
    if "features" in track:
        stored = np.asarray(track["features"])
        if stored.ndim == 3:
            slices = _check_slices(track, stored, extractor)
            return slices[int(position * len(slices))]
        return extractor.feature_window(track_features(track, extractor), position)
    waveform = track["waveform"]
    if augmentation is not None:
        waveform = augmentation(_segment(waveform, extractor, position), extractor.sampling_rate, generator)
    return extractor.audio_window(extractor.prepare(waveform), position)


def _segment(waveform: np.ndarray, extractor: WindowedFeatureExtractor, position: float) -> np.ndarray:
    """Return the part of a track [samples] to augment: enough for one window at the fastest tempo.

    If the front end needs the whole track, return all of it. Otherwise `position` chooses the start of the segment, and
    later the start of the window in the augmented segment, so windows start uniformly in the track at any tempo.
    """
    if extractor.frame_span(0, 1) is None or extractor.prepare(waveform) is not waveform:
        return waveform
    # The outer frames cover a few samples outside the window.
    first, stop, _ = extractor.frame_span(extractor.cut_frames, extractor.cut_frames)
    needed = source_samples_needed(max(stop - first, extractor.window_samples))
    start = round(position * max(0, len(waveform) - needed))
    return waveform[start : start + needed]


def _check_slices(track: Mapping[str, Any], slices: np.ndarray, extractor: WindowedFeatureExtractor) -> np.ndarray:
    """Return stored slices as float32 [slices, frames, bins]; they must have the shape of the front end's windows."""
    if slices.shape[1:] != extractor.window_shape:
        raise DataError(
            f"{track['track_id']}: stored slices have {slices.shape[1]} frames and {slices.shape[2]} bins, windows of the "
            f"front end {extractor.window_shape[0]} and {extractor.window_shape[1]}: use the front end that made the slices"
        )
    return slices.astype(np.float32, copy=False)
