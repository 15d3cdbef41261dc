"""Training examples: random by (seed, epoch, track) and by nothing else."""

import random

import datasets
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from transformers import TrainerControl, TrainerState, TrainingArguments

from hfmgc.data.augmentation.report import FreshAugmentation, augment
from hfmgc.data.collation import TrackCollator
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.features import TrackWindows, extract_features
from hfmgc.data.sources import open_source
from hfmgc.features.feature_extraction_ast import HfmgcASTFeatureExtractor
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.features.feature_extraction_windowed import WindowedFeatureExtractor
from hfmgc.randomness import example_generator
from hfmgc.training.examples import FixedExamples, TrainingExamples, augment_offline
from hfmgc.training.spectrogram_augmentation import SpecAugment, WindowAugmentation
from hfmgc.training.trainer import EpochCallback


EXTRACTOR = HfmgcASTFeatureExtractor(max_length=64)


@pytest.fixture
def tracks(music_folder):
    folder = music_folder({"blues": 2, "pop": 2}, seconds=2.5)
    return decode_corpus(open_source(str(folder)), 16000).tracks


def examples(tracks, *, seed: int = 0, epoch: int = 0, fresh: bool = True, **more) -> TrainingExamples:
    made = TrainingExamples(tracks, EXTRACTOR, seed=seed, augmentation=FreshAugmentation() if fresh else None, **more)
    made.set_epoch(epoch)
    return made


def values(made: TrainingExamples) -> list[np.ndarray]:
    return [made[index]["input_values"] for index in range(len(made))]


def some_differ(one: list, other: list) -> bool:
    return any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_example_is_one_window_with_its_genre(tracks):
    made = examples(tracks)
    assert len(made) == 4
    assert made[0]["input_values"].shape == (64, 128)
    assert made[0]["input_values"].dtype == np.float32
    assert [made[index]["genre"] for index in range(4)] == ["blues", "blues", "pop", "pop"]


def test_equal_addresses_give_equal_examples_in_any_order(tracks):
    forward = values(examples(tracks))
    again = examples(tracks)
    backward = {index: again[index]["input_values"] for index in reversed(range(4))}
    for index, value in enumerate(forward):
        np.testing.assert_array_equal(value, backward[index])


def test_an_example_does_not_depend_on_the_other_tracks(tracks):
    whole = values(examples(tracks))
    part = values(examples(tracks.select([3, 1])))
    np.testing.assert_array_equal(part[0], whole[3])
    np.testing.assert_array_equal(part[1], whole[1])


@pytest.mark.parametrize("fresh", [False, True])
def test_other_epochs_and_seeds_give_other_windows(tracks, fresh):
    first = values(examples(tracks, fresh=fresh))
    for other in (examples(tracks, epoch=1, fresh=fresh), examples(tracks, seed=1, fresh=fresh)):
        assert all(not np.array_equal(a, b) for a, b in zip(first, values(other), strict=True))


def test_going_back_to_an_epoch_gives_its_examples_again(tracks):
    made = examples(tracks, epoch=3)
    before = values(made)
    made.set_epoch(4)
    values(made)
    made.set_epoch(3)
    assert not some_differ(before, values(made))


def test_several_windows_of_a_track_are_drawn_each_on_its_own(tracks):
    made = examples(tracks, windows_per_track=3, fresh=False)
    assert len(made) == 12
    assert [made[index]["genre"] for index in range(12)] == ["blues"] * 6 + ["pop"] * 6
    drawn = values(made)
    assert all(not np.array_equal(drawn[i], drawn[j]) for i in range(3) for j in range(i))
    np.testing.assert_array_equal(drawn[0], values(examples(tracks, fresh=False))[0])


class Samples(WindowedFeatureExtractor):
    """Has single samples for frames, so that a window shows where it comes from."""

    def __init__(self, normalize_over: str = "window"):
        super().__init__(feature_size=1, sampling_rate=16000)
        self.normalize_over = normalize_over

    cut_frames = window_samples = 2000
    window_shape = (2000, 1)

    def count_frames(self, num_samples):
        return num_samples

    def transform(self, waveform):
        return waveform[:, None]

    def frame_span(self, first, count):
        return None if self.normalize_over == "track" else (first, first + count, 0)

    def normalize_track(self, features):
        return features / features.max() if self.normalize_over == "track" else features


def stretched(waveform, sampling_rate, generator):
    """Change the tempo as the report's effects do, 0.6 to 1.9 times, and nothing else."""
    tempo = generator.uniform(0.6, 1.9)
    return np.interp(np.arange(0, len(waveform) - 1, tempo), np.arange(len(waveform)), waveform).astype(np.float32)


@pytest.mark.parametrize("seconds", [0.3, 2.0])
@pytest.mark.parametrize("over", ["window", "track"])
@pytest.mark.parametrize("augmentation", [None, stretched])
def test_windows_come_uniformly_from_all_over_a_track(augmentation, over, seconds):
    """A sixth of the windows starts in each sixth of where they can start, whatever the tempo."""
    length = round(16000 * seconds)
    position = np.arange(1, length + 1, dtype=np.float32)
    row = {"track_id": ["a"], "genre": ["pop"], "waveform": [position]}
    table = datasets.Dataset.from_dict(row).with_format("numpy", columns=["waveform"], output_all_columns=True)
    made = TrainingExamples(table, Samples(over), seed=0, augmentation=augmentation, windows_per_track=1500)
    starts = []
    for index in range(1500):
        window = made[index]["input_values"][:, 0] * (length if over == "track" else 1)
        taken = (window[-1] - window[0]) * 2000 / 1999  # of the source, more or less with the tempo
        if taken < 0.95 * length:
            starts.append((window[0] - 1) / (length - taken))
    assert len(starts) > 1000
    shares = np.histogram(starts, bins=6, range=(-0.01, 1.01))[0] / len(starts)
    np.testing.assert_allclose(shares, 1 / 6, atol=0.03)


def test_an_augmented_window_is_normalised_over_its_track(tracks):
    """A front end that normalises over the track does so over all of it, not over the part that is augmented."""
    fields = {"sampling_rate": 16000, "num_bins": 32, "window_frames": 16, "normalization": "min_max"}
    extractor = SpectrogramFeatureExtractor(**fields, normalize_over="track")
    unchanged = lambda waveform, rate, generator: waveform  # noqa: E731
    quiet_then_loud = tracks.select([0]).map(lambda row: {"waveform": row["waveform"] * np.linspace(0.001, 1, 40000)})
    for one, other in zip(
        values(TrainingExamples(quiet_then_loud, extractor, seed=0, windows_per_track=20)),
        values(TrainingExamples(quiet_then_loud, extractor, seed=0, windows_per_track=20, augmentation=unchanged)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_waveform_is_augmented_before_it_is_standardised_over_its_track(tracks):
    """As offline: the echo clips at full scale, far below the peaks of a standardised waveform."""
    fields = {"sampling_rate": 16000, "num_bins": 32, "window_frames": 16, "waveform_normalization": "z_score"}
    extractor = SpectrogramFeatureExtractor(**fields, db_reference=1.0)
    echo = lambda waveform, rate, generator: augment(waveform, rate, "echo", np.random.default_rng(0))  # noqa: E731
    track = tracks.select([0])
    made = TrainingExamples(track, extractor, seed=0, augmentation=echo, windows_per_track=5)
    features = extractor.track_features(echo(track[0]["waveform"], 16000, None))
    for draw, window in enumerate(values(made)):
        position = example_generator(0, 0, track[0]["track_id"], "", draw).random()
        np.testing.assert_allclose(window, extractor.feature_window(features, position), atol=1e-4)


def test_global_random_states_are_neither_read_nor_changed(tracks):
    made = examples(tracks)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    first = values(made)
    assert random.getstate() == states[0]
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])
    random.seed(2)
    np.random.seed(2)
    torch.manual_seed(2)
    assert not some_differ(first, values(made))


def test_workers_that_outlive_an_epoch_give_what_one_process_gives(tracks):
    collate = TrackCollator({"blues": 0, "pop": 1})
    made = examples(tracks)
    loader = DataLoader(made, batch_size=2, num_workers=2, persistent_workers=True, collate_fn=collate)
    for epoch in (0, 1, 5):
        made.set_epoch(epoch)
        together = torch.cat([batch["input_values"] for batch in loader])
        np.testing.assert_array_equal(together.numpy(), np.stack(values(examples(tracks, epoch=epoch))))


@pytest.mark.parametrize(("reached", "epoch"), [(None, 0), (0.0, 0), (2.0, 2), (2.75, 2)])
def test_the_trainer_tells_the_epoch_after_a_resume_too(tracks, reached, epoch, tmp_path):
    made = examples(tracks, epoch=9)
    state = TrainerState()
    state.epoch = reached
    EpochCallback(made).on_epoch_begin(
        TrainingArguments(output_dir=str(tmp_path)), state, TrainerControl(), model=torch.nn.Identity()
    )
    assert not some_differ(values(made), values(examples(tracks, epoch=epoch)))


def test_offline_augmentation_gives_the_original_and_six_variants_of_each_track(tracks):
    augmented = augment_offline(tracks, EXTRACTOR, seed=0)
    assert len(augmented) == 28
    variants = augmented["variant"][:7]
    assert variants == ["original", "faster", "slower", "high_pass", "low_pass", "echo", "bundle"]
    assert augmented["track_id"][::7] == tracks["track_id"][:]
    assert augmented["genre"][::7] == tracks["genre"][:]
    for row in range(4):
        original = EXTRACTOR.track_features(tracks[row]["waveform"])
        np.testing.assert_array_equal(augmented[7 * row]["features"], original)
        others = [augmented[7 * row + variant]["features"] for variant in range(1, 7)]
        assert all(len(other) <= len(original) and np.isfinite(other).all() for other in others)
        assert all(not np.array_equal(other, original[: len(other)]) for other in others)


def test_offline_variants_depend_on_the_seed_and_the_track_alone(tracks):
    whole = augment_offline(tracks, EXTRACTOR, seed=0)
    part = augment_offline(tracks.select([2]), EXTRACTOR, seed=0)
    other = augment_offline(tracks.select([2]), EXTRACTOR, seed=1)
    for variant in range(7):
        np.testing.assert_array_equal(part[variant]["features"], whole[14 + variant]["features"])
        assert variant == 0 or not np.array_equal(part[variant]["features"], other[variant]["features"])


def test_the_same_music_under_another_name_gets_other_variants(tracks):
    twins = tracks.select([0, 0]).remove_columns("track_id").add_column("track_id", ["one", "other"])
    twins = twins.with_format("numpy", columns=["waveform"], output_all_columns=True)
    augmented = augment_offline(twins, EXTRACTOR, seed=0)
    one, other = ([augmented[7 * row + variant]["features"] for variant in range(7)] for row in range(2))
    np.testing.assert_array_equal(one[0], other[0])
    assert all(not np.array_equal(a, b) for a, b in zip(one[1:], other[1:], strict=True))


def test_variants_of_a_track_are_cut_at_places_of_their_own(tracks):
    augmented = augment_offline(tracks.select([0]), EXTRACTOR, seed=0)
    same = augmented.select([0, 0]).remove_columns("variant")
    renamed = same.add_column("variant", ["original", "echo"]).with_format(
        "numpy", columns=["features"], output_all_columns=True
    )
    first, second = values(examples(renamed, fresh=False))
    assert not np.array_equal(first, second)


# Crops, masks and keys


def test_a_crop_is_a_random_part_of_the_window_that_would_be_drawn_anyway(tracks):
    whole = values(examples(tracks, fresh=False))
    cropped = values(examples(tracks, fresh=False, window_augmentation=WindowAugmentation(0.5)))
    starts = []
    for window, part in zip(whole, cropped, strict=True):
        assert part.shape == (32, 128)
        (start,) = [start for start in range(33) if np.array_equal(window[start : start + 32], part)]
        starts.append(start)
    assert len(set(starts)) > 1


def test_masks_come_last_and_are_drawn_anew_in_each_epoch(tracks):
    masks = SpecAugment(time_masks=2, time_mask_frames=10)
    cropped = values(examples(tracks, fresh=False, window_augmentation=WindowAugmentation(0.5)))
    made = examples(tracks, fresh=False, window_augmentation=WindowAugmentation(0.5, masks=masks))
    masked, again = values(made), values(made)
    assert not some_differ(masked, again)
    assert some_differ(masked, cropped)
    for before, after in zip(cropped, masked, strict=True):
        hidden = (before != after).any(axis=1)
        np.testing.assert_allclose(after[hidden], before.mean(), rtol=1e-5)
    made.set_epoch(1)
    assert some_differ(masked, values(made))


def test_mixing_keys_depend_on_seed_epoch_and_track_alone(tracks):
    def keys(made):
        return [made[index]["mixing_key"] for index in range(len(made))]

    first = keys(examples(tracks))
    assert len(set(first)) == 4
    assert keys(examples(tracks)) == first
    assert keys(examples(tracks.select([2]))) == first[2:3]
    assert not set(keys(examples(tracks, epoch=1))) & set(first)
    assert not set(keys(examples(tracks, seed=1))) & set(first)


# Windows that are extracted once


def test_fixed_windows_are_those_of_evaluation_each_once_in_an_epoch(tracks):
    extracted = TrackWindows(extract_features(tracks, EXTRACTOR), EXTRACTOR)
    made = FixedExamples(extracted, seed=0)
    expected = [(row["genre"], window) for row in extracted for window in row["input_values"]]
    assert len(made) == len(expected) > 4
    for index, (genre, window) in enumerate(expected):
        np.testing.assert_array_equal(made[index]["input_values"], window)
        assert made[index]["input_values"].dtype == np.float32
        assert made[index]["genre"] == genre
    assert len({made[index]["mixing_key"] for index in range(len(made))}) == len(made)
    before = values(made)
    made.set_epoch(1)
    assert not some_differ(before, values(made))
    for index in (len(made), 10**6):
        with pytest.raises(IndexError):
            made[index]


def test_fixed_windows_of_chosen_and_reordered_tracks_stay_with_their_track(tracks):
    extracted = TrackWindows(extract_features(tracks, EXTRACTOR), EXTRACTOR)
    made = FixedExamples(TrackWindows(extract_features(tracks, EXTRACTOR).select([3, 0]), EXTRACTOR), seed=0)
    expected = [window for row in (3, 0) for window in extracted[row]["input_values"]]
    assert not some_differ(values(made), expected)
    assert made[0]["genre"] == "pop"
    assert made[len(made) - 1]["genre"] == "blues"


def test_fixed_windows_are_cropped_masked_and_free_to_change(tracks):
    extracted = TrackWindows(extract_features(tracks, EXTRACTOR), EXTRACTOR)
    masks = SpecAugment(frequency_masks=2, frequency_mask_bins=60)
    made = FixedExamples(extracted, seed=0, window_augmentation=WindowAugmentation(0.25, masks=masks))
    assert made[0]["input_values"].shape == (16, 128)
    FixedExamples(extracted, seed=0)[0]["input_values"][:] = 0  # torch warns of arrays that it may not write
    before = values(made)
    made.set_epoch(1)
    assert some_differ(before, values(made))


def test_stored_slices_serve_as_fixed_windows(tracks):
    slices = np.random.default_rng(0).random((4, 3, 64, 128)).astype(np.float32)
    stored = tracks.remove_columns("waveform").with_format(None).add_column("features", slices.tolist())
    stored = stored.with_format("numpy", columns=["features"], output_all_columns=True)
    made = FixedExamples(TrackWindows(stored, EXTRACTOR), seed=0)
    assert len(made) == 12
    np.testing.assert_array_equal(np.stack(values(made)), slices.reshape(12, 64, 128))


@pytest.mark.parametrize("over", ["window", "track"])
def test_windows_of_stored_features_are_those_of_the_audio(tracks, over):
    fields = {"sampling_rate": 16000, "num_bins": 32, "window_frames": 16, "normalize_over": over}
    extractor = SpectrogramFeatureExtractor(**fields, normalization="min_max")
    extracted = extract_features(tracks, extractor)
    assert "waveform" not in extracted.column_names
    from_audio = TrainingExamples(tracks, extractor, seed=0)
    stored = TrainingExamples(extracted, extractor, seed=0)
    for epoch in range(3):
        stored.set_epoch(epoch)
        from_audio.set_epoch(epoch)
        for one, other in zip(values(stored), values(from_audio), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


# Batches


def test_windows_of_training_are_stacked(tracks):
    made = examples(tracks)
    batch = TrackCollator({"blues": 0, "pop": 1})([made[0], made[3]])
    assert set(batch) == {"input_values", "labels"}
    assert batch["input_values"].shape == (2, 64, 128)
    assert batch["labels"].tolist() == [0, 1]


def test_stacks_of_evaluation_are_filled_up_and_masked():
    collate = TrackCollator({"pop": 4})
    stacks = [np.full((count, 64, 128), count, dtype=np.float32) for count in (1, 3)]
    batch = collate([{"input_values": stack, "genre": "pop"} for stack in stacks])
    assert batch["input_values"].shape == (2, 3, 64, 128)
    assert batch["window_mask"].tolist() == [[True, False, False], [True, True, True]]
    assert batch["input_values"][0, :, 0, 0].tolist() == [1, 0, 0]
    assert batch["labels"].tolist() == [4, 4]
