"""Tables of hand-made features, computed from decoded tracks."""

import datasets
import numpy as np

from ..features.handmade_features import extract_handmade_features, extract_summary_features
from .caching import cached_map
from .corpus import SkippedTrack


FEATURES = datasets.List(datasets.Value("float32"))


def extract_handmade(
    tracks: datasets.Dataset,
    sampling_rate: int,
    *,
    kind: str = "fma",
    quirk: bool = False,
    num_proc: int | None = None,
) -> tuple[datasets.Dataset, list[SkippedTrack]]:
    """Extract the hand-made features of each decoded track of a `Corpus`, cached.

    `kind` is `fma` for FMA's 518 (`column_names()`) or `summary` for GTZAN's 57 (`GTZAN_SUMMARY_COLUMNS`). With `quirk`, FMA's
    assume 22,050 Hz as the authors did (`QUIRK_FEATURES`).

    Returns:
        The columns of `tracks` with `features`, float32 [518] or [57], in place of the waveform; and the skipped tracks,
        such as those shorter than a frame.
    """
    kept = {name: kind for name, kind in tracks.features.items() if name != "waveform"}
    extracted = cached_map(
        tracks,
        _extract_track,
        ("handmade features",),
        fn_kwargs={"sampling_rate": sampling_rate, "kind": kind, "quirk": quirk},
        features=datasets.Features({**kept, "features": FEATURES, "problem": datasets.Value("string")}),
        remove_columns=["waveform"],
        num_proc=num_proc,
        desc=f"hand-made features ({kind})",
    )
    problems = list(extracted["problem"])
    pairs = zip(extracted["track_id"], problems, strict=True)
    skipped = [SkippedTrack(track_id, problem) for track_id, problem in pairs if problem]
    usable = extracted.select([row for row, problem in enumerate(problems) if not problem]).remove_columns("problem")
    return usable.with_format("numpy", columns=["features"], output_all_columns=True), skipped


def _extract_track(track: dict, sampling_rate: int, kind: str, quirk: bool) -> dict:
    try:
        if kind == "summary":
            features = extract_summary_features(track["waveform"], sampling_rate)
        else:
            features = extract_handmade_features(track["waveform"], sampling_rate, fma_sampling_rate_quirk=quirk)
    except ValueError as error:
        # Returned, because an exception would end the map.
        return {"features": np.zeros(0, np.float32), "problem": str(error)}
    return {"features": features, "problem": ""}
