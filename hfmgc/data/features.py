"""Features of whole tracks, extracted once and cached."""

import datasets
from transformers import FeatureExtractionMixin

from .corpus import WRITER_BATCH_SIZE


def extract_windows(
    tracks: datasets.Dataset, extractor: FeatureExtractionMixin, *, num_proc: int | None = None
) -> datasets.Dataset:
    """Extract the windows of each track, as evaluation and use hear them.

    Args:
        tracks: Decoded tracks (`Corpus.tracks`), at the extractor's rate.
        extractor: A feature extractor of ours.
        num_proc: Processes that extract.

    Returns:
        A table of track_id, genre, artist and input_values (float32 [windows, frames, bins]), cached by the fingerprint
        of the tracks and of the extractor.
    """
    kept = {name: tracks.features[name] for name in tracks.features if name != "waveform"}
    features = datasets.Features(
        {**kept, "input_values": datasets.LargeList(datasets.List(datasets.List(datasets.Value("float32"))))}
    )
    extracted = tracks.map(
        _extract_track,
        fn_kwargs={"extractor": extractor},
        features=features,
        remove_columns=["waveform"],
        num_proc=num_proc if num_proc and num_proc > 1 else None,
        writer_batch_size=WRITER_BATCH_SIZE,
        desc="extracting features",
    )
    return extracted.with_format("numpy", columns=["input_values"], output_all_columns=True)


def _extract_track(track: dict, extractor: FeatureExtractionMixin) -> dict:
    batch = extractor(track["waveform"], sampling_rate=extractor.sampling_rate)
    return {"input_values": batch["input_values"][0]}
