"""What training sees: one window of a track at a time, drawn from (seed, epoch, track)."""

import datasets
import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..data.augmentation.report import FreshAugmentation, offline_variants
from ..data.corpus import WRITER_BATCH_SIZE
from ..data.features import Augmentation, training_window
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from ..randomness import example_generator


class TrainingExamples(torch.utils.data.Dataset):
    """Random windows of each track in an epoch, augmented, as `input_values` [frames, bins] and `genre`.

    Args:
        tracks: Decoded tracks (`Corpus.tracks`, or `augment_offline` of them).
        extractor: Makes the features.
        seed: With the epoch and the track's id it determines everything that is random.
        augmentation: Applied to the waveform before a window is cut from it.
        windows_per_track: Windows of each track in an epoch, each drawn and augmented on its own.
    """

    def __init__(
        self,
        tracks: datasets.Dataset,
        extractor: WindowedFeatureExtractor,
        *,
        seed: int,
        augmentation: Augmentation | None = None,
        windows_per_track: int = 1,
    ):
        self.tracks = tracks
        self.extractor = extractor
        self.seed = seed
        self.augmentation = augmentation
        self.windows_per_track = windows_per_track
        # In shared memory, so that workers that live longer than an epoch see it change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose the windows and augmentations of another epoch."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.tracks) * self.windows_per_track

    def __getitem__(self, index: int) -> dict[str, np.ndarray | str]:
        row, draw = divmod(index, self.windows_per_track)
        track = self.tracks[row]
        generator = example_generator(self.seed, int(self._epoch), track["track_id"], track.get("variant", ""), draw)
        window = training_window(track, self.extractor, generator, self.augmentation)
        return {"input_values": window, "genre": track["genre"]}


class EpochCallback(TrainerCallback):
    """Tells the examples which epoch it is (accelerate does so only for some samplers)."""

    def __init__(self, examples: TrainingExamples):
        self.examples = examples

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        """Set the epoch; after a resume in mid-epoch `state.epoch` is a fraction within it."""
        self.examples.set_epoch(int(state.epoch or 0))


def make_augmentation(kind: str, probability: float | None) -> Augmentation | None:
    """Return what is applied to each example: the report's effects drawn afresh, or nothing."""
    return FreshAugmentation(probability=probability) if kind == "fresh" else None


def augment_offline(
    tracks: datasets.Dataset, sampling_rate: int, *, seed: int, num_proc: int | None = None
) -> datasets.Dataset:
    """Return each track and its six variants (AST report, section 3.1), with a column `variant`; cached on disk."""
    features = datasets.Features({**tracks.features, "variant": datasets.Value("string")})
    augmented = tracks.map(
        _track_variants,
        fn_kwargs={"sampling_rate": sampling_rate, "seed": seed},
        batched=True,
        batch_size=1,
        features=features,
        num_proc=num_proc if num_proc and num_proc > 1 else None,
        writer_batch_size=WRITER_BATCH_SIZE,
        desc="augmenting x7",
    )
    return augmented.with_format("numpy", columns=["waveform"], output_all_columns=True)


def _track_variants(batch: dict, sampling_rate: int, seed: int) -> dict:
    track_id = batch["track_id"][0]
    waveforms = offline_variants(
        np.asarray(batch["waveform"][0], dtype=np.float32),
        sampling_rate,
        lambda variant: example_generator(seed, "offline", track_id, variant),
    )
    repeated = {name: [values[0]] * len(waveforms) for name, values in batch.items() if name != "waveform"}
    return {**repeated, "waveform": list(waveforms.values()), "variant": list(waveforms)}
