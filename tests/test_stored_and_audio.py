"""Stored features and audio are one and the same: a model trained on the former gives its answers for the latter."""

import datasets
import numpy as np
import pytest
import torch
from conftest import tone

from hfmgc.data.features import extract_features, extract_windows, training_window
from hfmgc.features.feature_extraction_ast import HfmgcASTFeatureExtractor
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.features.spectrogram_presets import PRESETS
from hfmgc.models.configuration_recurrent import RecurrentConfig
from hfmgc.models.modeling_recurrent import RecurrentForAudioClassification


SHORT = {"window_seconds": 1.0}
NORMALIZATIONS = ["none", "min_max", "z_score", "affine", "statistics"]
FRONT_ENDS = {
    **{name: lambda name=name: SpectrogramFeatureExtractor(preset=name, **SHORT) for name in PRESETS},
    "ts_resformer": lambda: SpectrogramFeatureExtractor(preset="ts_resformer", **SHORT, crop=[128, 40]),
    **{
        f"{normalization} over {over}": lambda over=over, normalization=normalization: SpectrogramFeatureExtractor(
            num_bins=32, normalization=normalization, normalize_over=over, mean=-30.0, std=10.0, **SHORT
        )
        for normalization in NORMALIZATIONS
        for over in ("window", "track")
    },
    **{
        f"padded, over {over}": lambda over=over: SpectrogramFeatureExtractor(
            num_bins=32, normalization="min_max", normalize_over=over, short_tracks="pad", **SHORT
        )
        for over in ("window", "track")
    },
    "mfcc": lambda: SpectrogramFeatureExtractor(representation="mfcc", normalization="z_score", **SHORT),
    "ast": lambda: HfmgcASTFeatureExtractor(max_length=64),
    "ast, random windows": lambda: HfmgcASTFeatureExtractor(max_length=64, window_policy="random", max_windows=3),
    "ast, other statistics": lambda: HfmgcASTFeatureExtractor(max_length=64, mean=-7.0, std=2.0),
}


def music(sampling_rate: int) -> datasets.Dataset:
    """Six decoded tracks of two genres, one of them shorter than a window, and their levels far apart."""
    rows = []
    for number, seconds in enumerate((0.6, 2.2, 3.1)):
        for genre, frequency in (("blues", 220.0), ("pop", 1760.0)):
            waveform = tone(number, seconds=seconds, frequency=frequency, sampling_rate=sampling_rate)
            loudness = np.geomspace(0.02, 1, len(waveform), dtype=np.float32) * 10.0**-number
            rows.append({"track_id": f"{genre}.{number}", "genre": genre, "waveform": waveform * loudness})
    table = datasets.Dataset.from_list(rows)
    return table.with_format("numpy", columns=["waveform"], output_all_columns=True)


def trained_on(windows: datasets.Dataset, bins: int) -> torch.nn.Module:
    """Return a small model that has learnt the genres of these windows by heart."""
    torch.manual_seed(0)
    config = RecurrentConfig(num_bins=bins, hidden_size=16, num_layers=1, cell="gru", num_labels=2, dropout=0.0)
    model = RecurrentForAudioClassification(config)
    values = torch.from_numpy(np.concatenate(list(windows["input_values"])))
    labels = torch.tensor([row["genre"] == "pop" for row in windows for _ in row["input_values"]]).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(16):
        optimizer.zero_grad()
        model(values, labels=labels).loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_a_model_trained_on_stored_features_gives_the_same_answers_for_audio(name):
    extractor = FRONT_ENDS[name]()
    tracks = music(extractor.sampling_rate)
    stored = extract_windows(extract_features(tracks, extractor), extractor)
    model = trained_on(stored, extractor.window_shape[1])
    for row, track in zip(stored, tracks, strict=True):
        of_audio = extractor(track["waveform"], sampling_rate=extractor.sampling_rate, return_tensors="pt")
        np.testing.assert_allclose(of_audio["input_values"][0], row["input_values"], rtol=1e-4, atol=1e-4)
        with torch.no_grad():
            expected = model(torch.from_numpy(row["input_values"])[None]).logits
            answer = model(**of_audio).logits
        torch.testing.assert_close(answer, expected, rtol=1e-3, atol=1e-3)
        assert answer.argmax() == (track["genre"] == "pop")


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_training_hears_the_same_windows_of_stored_features_and_audio(name):
    extractor = FRONT_ENDS[name]()
    tracks = music(extractor.sampling_rate)
    for row, track in zip(extract_features(tracks, extractor), tracks, strict=True):
        one, other = (training_window(source, extractor, np.random.default_rng(3)) for source in (row, track))
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
