"""From a track of a corpus to its features and windows, for audio and stored features alike."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import datasets
import numpy as np

from ..errors import DataError
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from .augmentation.report import source_samples_needed
from .caching import cached_map
from .sources.contract import TrackSource


Augmentation = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]

# The content of a track, waveform or features, and the columns that identify it.
CONTENT_COLUMNS = ("waveform", "features", "digest", "fingerprint")


def extract_windows(
    tracks: datasets.Dataset, extractor: WindowedFeatureExtractor, *, num_proc: int | None = None
) -> datasets.Dataset:
    """Extract the windows of each track, as evaluation and use hear them.

    Args:
        tracks: Tracks of a `Corpus`, decoded at the extractor's rate, or with stored features.
        extractor: A feature extractor of ours.
        num_proc: Processes that extract.

    Returns:
        The columns of `tracks` with input_values (float32 [windows, frames, bins]) in place of the waveform or features.
    """
    kind = datasets.LargeList(datasets.List(datasets.List(datasets.Value("float32"))))
    return _extract(tracks, extractor, _extract_windows, "input_values", kind, num_proc)


def extract_features(
    tracks: datasets.Dataset, extractor: WindowedFeatureExtractor, *, num_proc: int | None = None
) -> datasets.Dataset:
    """Return decoded tracks with their un-normalised features (float32 [frames, bins]) in place of the waveform."""
    kind = datasets.LargeList(datasets.List(datasets.Value("float32")))
    return _extract(tracks, extractor, _extract_features, "features", kind, num_proc)


def _extract(
    tracks: datasets.Dataset,
    extractor: WindowedFeatureExtractor,
    function: Callable,
    column: str,
    kind: Any,
    num_proc: int | None,
) -> datasets.Dataset:
    kept = {name: tracks.features[name] for name in tracks.features if name not in CONTENT_COLUMNS}
    extracted = cached_map(
        tracks,
        function,
        ("features",),
        fn_kwargs={"extractor": extractor},
        features=datasets.Features({**kept, column: kind}),
        remove_columns=[name for name in CONTENT_COLUMNS if name in tracks.column_names],
        num_proc=num_proc,
        desc="extracting features",
    )
    return extracted.with_format("numpy", columns=[column], output_all_columns=True)


def check_front_end(source: TrackSource, extractor: WindowedFeatureExtractor) -> None:
    """Refuse stored features that another front end made, where it is known which one did.

    How they are cut and normalised is free: that happens later.

    Raises:
        DataError: Naming the fields that differ.
    """
    made = source.front_end()
    if made is None:
        return
    asked = extractor.to_dict()
    different = [name for name in extractor.feature_fields if made.get(name) != asked.get(name)]
    if different:
        fields = ", ".join(f"{name} {made.get(name)!r}, not {asked.get(name)!r}" for name in different)
        raise DataError(
            f"{source.location}: these features were made by another front end ({fields}): extract them with this one, "
            "or use a model that was trained on theirs"
        )


def window_counts(tracks: datasets.Dataset) -> list[int]:
    """Return how many windows each of the extracted tracks has, without reading a feature."""
    column = tracks.with_format("arrow").select_columns(["input_values"])
    return [
        length.as_py()
        for batch in column.iter(batch_size=1000)
        for length in batch["input_values"].combine_chunks().value_lengths()
    ]


class ExtractedWindows:
    """The windows of extracted tracks (`extract_windows`) one after the other, each taken out of its track's stack.

    A window is read as it lies in the file: reading the whole stack takes many times longer.
    """

    def __init__(self, tracks: datasets.Dataset):
        self._stacks = tracks.with_format("arrow").select_columns(["input_values"])
        self.ends = np.cumsum(window_counts(tracks))
        self._digest: str | None = None

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def place(self, index: int) -> tuple[int, int]:
        """Return the row of a window's track, and which of the track's windows it is."""
        row = int(np.searchsorted(self.ends, index, side="right"))
        return row, index - self.first(row)

    def first(self, row: int) -> int:
        """Return the first window of the track in a row."""
        return int(self.ends[row - 1]) if row else 0

    def __getitem__(self, index: int) -> np.ndarray:
        """Return a window, float32 [frames, bins], read-only."""
        row, number = self.place(index)
        stack = self._stacks[row]["input_values"].combine_chunks().flatten()  # a list of frames for each window
        frames = stack.slice(number, 1).flatten()
        return frames.flatten().to_numpy().reshape(len(frames), -1)

    def digest(self) -> str:
        """Return a digest of all windows and of which track each belongs to: of what was extracted, however it came about.

        All of them are read for it, once.
        """
        if self._digest is not None:
            return self._digest
        digest = hashlib.sha256(self.ends.tobytes())
        for row in range(len(self.ends)):
            stack = self._stacks[row]["input_values"].combine_chunks().flatten()
            digest.update(f"{len(stack)} {len(stack.flatten())}".encode())
            digest.update(stack.flatten().flatten().to_numpy().data)
        self._digest = digest.hexdigest()
        return self._digest


def track_windows(track: Mapping[str, Any], extractor: WindowedFeatureExtractor) -> np.ndarray:
    """Return all windows of a track of a `Corpus`, as evaluation hears it, float32 [windows, frames, bins]."""
    if "features" not in track:
        return extractor(track["waveform"], sampling_rate=extractor.sampling_rate)["input_values"][0]
    stored = np.asarray(track["features"])
    if stored.ndim == 3:
        return _slices(track, stored, extractor)
    return extractor.cut_features(track_features(track, extractor))


def track_features(track: Mapping[str, Any], extractor: WindowedFeatureExtractor) -> np.ndarray:
    """Return the un-normalised features of a track of a `Corpus`, float32 [frames, bins].

    Raises:
        DataError: If stored features do not fit the front end, naming the track.
    """
    if "features" not in track:
        return extractor.track_features(np.asarray(track["waveform"]))
    try:
        return extractor.as_features(np.asarray(track["features"]))
    except ValueError as error:
        raise DataError(
            f"{track['track_id']}: the stored features do not fit the front end ({error}): name the one that they were "
            "made with, such as front_end: {preset: gtzan_decimated}"
        ) from error


def training_window(
    track: Mapping[str, Any],
    extractor: WindowedFeatureExtractor,
    generator: np.random.Generator,
    augmentation: Augmentation | None = None,
) -> np.ndarray:
    """Return one window of a track of a `Corpus` from a uniformly random place, float32 [frames, bins].

    With audio and stored features it is the same window, and with an augmentation, which needs audio, one from the same
    place of the augmented track.
    """
    place = generator.random()
    if "features" in track:
        stored = np.asarray(track["features"])
        if stored.ndim == 3:
            slices = _slices(track, stored, extractor)
            return slices[int(place * len(slices))]
        return extractor.feature_window(track_features(track, extractor), place)
    waveform = extractor.prepare(track["waveform"])
    if augmentation is not None:
        waveform = augmentation(_segment(waveform, extractor, place), extractor.sampling_rate, generator)
    return extractor.audio_window(waveform, place)


def _segment(waveform: np.ndarray, extractor: WindowedFeatureExtractor, place: float) -> np.ndarray:
    """Return the part of a track [samples] that the fastest tempo needs for one window, so that no more is augmented.

    The segment starts at `place` of its possible starts, and the window at the same `place` of the starts that the
    augmented segment has. With a tempo r, the window then starts at `place` of the `len(waveform) - r * window` samples
    where it can start in the track: uniformly, whatever the tempo.
    """
    if extractor.frame_span(0, 1) is None:
        return waveform
    # Its outer frames hear a little more than the window.
    first, stop, _ = extractor.frame_span(extractor.cut_frames, extractor.cut_frames)
    needed = source_samples_needed(max(stop - first, extractor.window_samples))
    start = round(place * max(0, len(waveform) - needed))
    return waveform[start : start + needed]


def _slices(track: Mapping[str, Any], stored: np.ndarray, extractor: WindowedFeatureExtractor) -> np.ndarray:
    """Return stored slices [slices, frames, bins] if the front end makes such windows."""
    if stored.shape[1:] != extractor.window_shape:
        raise DataError(
            f"{track['track_id']}: stored slices of {stored.shape[1]} frames and {stored.shape[2]} bins, the front end "
            f"makes {extractor.window_shape[0]} and {extractor.window_shape[1]}: use the front end they were made with"
        )
    return stored.astype(np.float32, copy=False)


def _extract_windows(track: dict, extractor: WindowedFeatureExtractor) -> dict:
    return {"input_values": track_windows(track, extractor)}


def _extract_features(track: dict, extractor: WindowedFeatureExtractor) -> dict:
    return {"features": track_features(track, extractor)}
