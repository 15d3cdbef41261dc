"""A split that the leak guard has checked, with the identities of its tracks."""

from dataclasses import replace
from pathlib import Path

from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from .caching import COMPUTATIONS
from .corpus import Corpus
from .identity import identify_tracks
from .leaks import find_leaks, leaks_report, refuse_leaks
from .split_manifest import SplitManifest
from .splits import split_corpus


def make_split(
    corpus: Corpus,
    *,
    policy: str = "stratified",
    ratios: str = "8:1:1",
    seed: int = 0,
    fold: int = 1,
    manifest: str | Path | None = None,
    allow_leaks: bool = False,
    extractor: WindowedFeatureExtractor | None = None,
    num_proc: int | None = None,
) -> SplitManifest:
    """Split the usable tracks of a corpus and check the split for leaks.

    Args:
        corpus: Decoded tracks or stored features.
        policy: A name of `splits.POLICIES` that the source supports.
        ratios: train:validation:test, for random policies.
        seed: For random policies.
        fold: Which of the published folds (`artist_folds`), from 1.
        manifest: A saved manifest to repeat exactly, instead of a policy.
        allow_leaks: Record leaks instead of refusing them.
        extractor: A front end, to record fingerprints of its features as well.
        num_proc: Worker processes.

    Raises:
        SplitError: If the split cannot be made or leaks.
        ConfigError: If the policy, ratios or fold do not exist.
    """
    split = split_corpus(
        corpus.tracks,
        corpus.source,
        policy=policy,
        ratios=ratios,
        seed=seed,
        fold=fold,
        manifest=Path(manifest) if manifest else None,
    )
    # Of all tracks, so that other splits find them in the cache.
    identities = identify_tracks(corpus.tracks, corpus.sampling_rate, extractor=extractor, num_proc=num_proc)
    leaks = find_leaks(
        corpus.tracks,
        split.sides,
        sampling_rate=corpus.sampling_rate,
        waived=lambda artist: corpus.source.artist_waiver(split.policy, artist),
        identities=identities,
    )
    if not allow_leaks:
        refuse_leaks(leaks)
    return replace(
        split,
        leaks=leaks_report(leaks),
        identities={
            track_id: identities[track_id].to_json() for members in split.sides.values() for track_id in members
        },
        fingerprint_version=COMPUTATIONS["fingerprints"].version,
    )
