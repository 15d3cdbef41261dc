"""From a track of a corpus to the features of its windows."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import datasets
import numpy as np
import torch

from ..errors import ConfigError, DataError
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from .augmentation.report import source_samples_needed
from .caching import reading_cache
from .corpus import WRITER_BATCH_SIZE
from .sources.contract import TrackSource


Augmentation = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]

# What a track is made of: one of the two.
CONTENT_COLUMNS = ("waveform", "features")


@reading_cache()
def extract_windows(
    tracks: datasets.Dataset, extractor: WindowedFeatureExtractor, *, num_proc: int | None = None
) -> datasets.Dataset:
    """Extract the windows of each track, as evaluation and use hear them.

    Args:
        tracks: Tracks of a `Corpus`, decoded at the extractor's rate, or with features as they were stored.
        extractor: A feature extractor of ours.
        num_proc: Processes that extract.

    Returns:
        A table of track_id, genre, artist and input_values (float32 [windows, frames, bins]), cached by the fingerprint
        of the tracks and of the extractor.
    """
    kept = {name: tracks.features[name] for name in tracks.features if name not in CONTENT_COLUMNS}
    features = datasets.Features(
        {**kept, "input_values": datasets.LargeList(datasets.List(datasets.List(datasets.Value("float32"))))}
    )
    extracted = tracks.map(
        _extract_track,
        fn_kwargs={"extractor": extractor, "alone": num_proc is None or num_proc == 1},
        features=features,
        remove_columns=[name for name in CONTENT_COLUMNS if name in tracks.column_names],
        num_proc=num_proc if num_proc and num_proc > 1 else None,
        writer_batch_size=WRITER_BATCH_SIZE,
        desc="extracting features",
    )
    return extracted.with_format("numpy", columns=["input_values"], output_all_columns=True)


@reading_cache()
def extract_spectrograms(
    tracks: datasets.Dataset, extractor: WindowedFeatureExtractor, *, num_proc: int | None = None
) -> datasets.Dataset:
    """Return decoded tracks with `features` [frames, bins] in place of the waveform, from which windows can be cut.

    For front ends that look at the whole track (`normalize_over="track"`), where a random window is the same whether the
    spectrogram was made now or in an earlier epoch.
    """
    kept = {name: tracks.features[name] for name in tracks.features if name not in CONTENT_COLUMNS}
    extracted = tracks.map(
        _extract_spectrogram,
        fn_kwargs={"extractor": extractor, "alone": num_proc is None or num_proc == 1},
        features=datasets.Features({**kept, "features": datasets.LargeList(datasets.List(datasets.Value("float32")))}),
        remove_columns=["waveform"],
        num_proc=num_proc if num_proc and num_proc > 1 else None,
        writer_batch_size=WRITER_BATCH_SIZE,
        desc="extracting spectrograms",
    )
    return extracted.with_format("numpy", columns=["features"], output_all_columns=True)


# What decides how a stored spectrogram sounds; how it is cut into windows and normalised is free.
_SOUND_FIELDS = (
    "feature_extractor_type", "sampling_rate", "representation", "n_fft", "hop_length", "win_length", "window_function",
    "num_bins", "num_mels", "num_mel_bins", "fmin", "fmax", "bins_per_octave", "power", "mel_htk", "mel_norm", "scale",
    "db_reference", "top_db", "log_offset", "frames_per_second", "waveform_normalization", "normalize_over",
)  # fmt: skip


def check_front_end(source: TrackSource, extractor: WindowedFeatureExtractor) -> None:
    """Refuse features kept from before that another front end made, where it is known which one did.

    Raises:
        DataError: Naming the fields that differ.
    """
    made = source.front_end()
    if made is None:
        return
    asked = extractor.to_dict()
    different = [name for name in _SOUND_FIELDS if made.get(name) != asked.get(name)]
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
    spectrogram = _spectrogram(track, stored, extractor)  # refuses an extractor that cannot cut one
    return extractor.cut_features(spectrogram)


def training_window(
    track: Mapping[str, Any],
    extractor: WindowedFeatureExtractor,
    generator: np.random.Generator,
    augmentation: Augmentation | None = None,
) -> np.ndarray:
    """Return one random window of a track of a `Corpus`, float32 [frames, bins], augmented where it is a waveform."""
    if "features" in track:
        stored = np.asarray(track["features"])
        if stored.ndim == 3:
            slices = _slices(track, stored, extractor)
            return slices[int(generator.integers(len(slices)))]
        spectrogram = _spectrogram(track, stored, extractor)
        return extractor.random_feature_window(spectrogram, generator)
    waveform = track["waveform"]
    if augmentation is not None:
        # Only as much of the track as the fastest tempo can use up: augmenting all of it would be thrown away.
        needed = source_samples_needed(extractor.window_samples)
        start = int(generator.integers(0, max(0, len(waveform) - needed) + 1))
        waveform = augmentation(waveform[start : start + needed], extractor.sampling_rate, generator)
    return extractor.training_window(waveform, generator)


def _slices(track: Mapping[str, Any], stored: np.ndarray, extractor: WindowedFeatureExtractor) -> np.ndarray:
    """Return stored slices [slices, frames, bins] if the front end makes such windows."""
    if stored.shape[1:] != extractor.window_shape:
        raise DataError(
            f"{track['track_id']}: stored slices of {stored.shape[1]} frames and {stored.shape[2]} bins, the front end "
            f"makes {extractor.window_shape[0]} and {extractor.window_shape[1]}: use the front end they were made with"
        )
    return stored.astype(np.float32, copy=False)


def _spectrogram(track: Mapping[str, Any], stored: np.ndarray, extractor: WindowedFeatureExtractor) -> np.ndarray:
    """Return a stored spectrogram of a whole track as the extractor's own features [frames, bins]."""
    if not hasattr(extractor, "as_features"):
        raise ConfigError(
            f"{type(extractor).__name__} makes its windows from audio; for spectrograms of whole tracks kept from "
            "before use the front end they were made with, such as front_end: {preset: gtzan_decimated}"
        )
    try:
        return extractor.as_features(stored)
    except ValueError as error:
        raise DataError(f"{track['track_id']}: the stored spectrogram does not fit the front end ({error})") from error


def _extract_track(track: dict, extractor: WindowedFeatureExtractor, alone: bool) -> dict:
    if not alone:  # a process for each core: threads of their own would stand in each other's way
        torch.set_num_threads(1)
    return {"input_values": track_windows(track, extractor)}


def _extract_spectrogram(track: dict, extractor: WindowedFeatureExtractor, alone: bool) -> dict:
    if not alone:
        torch.set_num_threads(1)
    return {"features": extractor.track_features(np.asarray(track["waveform"]))}
