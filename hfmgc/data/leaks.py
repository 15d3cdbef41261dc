"""The leak guard: no track, no known artist and no recording on two sides of a split."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple

import datasets

from ..errors import SplitError
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from .caching import COMPUTATIONS
from .corpus import Corpus
from .fingerprints import LEAST_SHARE_OF_FEATURES, find_matches
from .identity import TrackIdentity, identify_tracks
from .names import normalize_name
from .split_manifest import SplitManifest
from .splits import split_corpus


SHOWN = 5


@dataclass(frozen=True)
class Leak:
    """A track, artist or recording (`kind`) on two sides, with a track of each side (`ids`)."""

    kind: str
    sides: tuple[str, str]
    ids: tuple[str, str]
    detail: str

    def __str__(self) -> str:
        return f"{self.ids[0]} ({self.sides[0]}) and {self.ids[1]} ({self.sides[1]}): {self.detail}"


class Copy(NamedTuple):
    """Two tracks, by their indices, with the same content: `what` is the same, and its `extent` if known."""

    first: int
    second: int
    what: str
    extent: str = ""


def find_leaks(
    tracks: datasets.Dataset,
    sides: Mapping[str, Sequence[str]],
    *,
    sampling_rate: int,
    waived: Callable[[str], object] = lambda artist: None,
    identities: Mapping[str, TrackIdentity] | None = None,
) -> list[Leak]:
    """Return everything that is on two sides of a split of decoded tracks or stored features.

    `waived` returns whether the authors of a published split knowingly put an artist on two sides. Identities are computed
    if they are not given.
    """
    side_of: dict[str, str] = {}
    leaks = []
    for side, members in sides.items():
        for track_id in members:
            other = side_of.setdefault(track_id, side)
            if other != side:
                leaks.append(Leak("track", (other, side), (track_id, track_id), "the same track"))
    split = tracks.select([row for row, track_id in enumerate(tracks["track_id"][:]) if track_id in side_of])
    ids = split["track_id"][:]
    artists = {
        track_id: artist for track_id, artist in zip(ids, split["artist"][:], strict=True) if not waived(artist)
    }
    leaks += _artist_leaks(artists, side_of)
    if identities is None:
        identities = identify_tracks(split, sampling_rate)
    content, groups = "samples" if "waveform" in split.column_names else "features", [side_of[name] for name in ids]
    for copy in find_copies([identities[track_id] for track_id in ids], content, groups):
        first, second = ids[copy.first], ids[copy.second]
        leaks.append(Leak("recording", (side_of[first], side_of[second]), (first, second), copy.what + copy.extent))
    return leaks


def refuse_leaks(leaks: Sequence[Leak]) -> None:
    """Refuse a split with leaks.

    Raises:
        SplitError: With the first ids of each kind.
    """
    parts = []
    for kind in dict.fromkeys(leak.kind for leak in leaks):
        found = [str(leak) for leak in leaks if leak.kind == kind]
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        parts.append(f"{len(found)} by {kind}: {'; '.join(found[:SHOWN])}{more}")
    if parts:
        raise SplitError(
            f"the split leaks: {' | '.join(parts)}: choose a split_policy that keeps them together (grouped, "
            "fault_filtered), remove copies (hfmgc check lists them), or set allow_leaks, which is recorded"
        )


def _artist_leaks(artists: Mapping[str, str], side_of: Mapping[str, str]) -> list[Leak]:
    """Return a leak for each artist and each pair of sides, with a track of each; spellings of a name are one artist."""
    shown: dict[str, dict[str, str]] = {}  # artist -> side -> the first track
    for track_id, artist in artists.items():
        if normalize_name(artist):
            shown.setdefault(normalize_name(artist), {}).setdefault(side_of[track_id], track_id)
    return [
        Leak("artist", (one, other), (tracks[one], tracks[other]), f"artist {artists[tracks[one]]}")
        for tracks in shown.values()
        for one, other in combinations(sorted(tracks), 2)
    ]


def find_copies(identities: Sequence[TrackIdentity], content: str, groups: Sequence[str] | None = None) -> list[Copy]:
    """Return the pairs of tracks with equal content (samples or features) or matching fingerprints.

    With `groups`, the sides of a split, only pairs of different groups are returned.
    """
    first: dict[str, dict[str, int]] = {}  # digest -> group -> its first track
    copies = []
    for index, identity in enumerate(identities):
        group = "" if groups is None else groups[index]
        same = first.setdefault(identity.digest, {})
        copies += [
            Copy(other, index, f"the same {content}") for name, other in same.items() if not groups or name != group
        ]
        same.setdefault(group, index)
    if any(identity.sound.any() for identity in identities):
        matches = find_matches([identity.sound for identity in identities], groups)
        what, extent = "the same recording", " for {0.shared_seconds:.1f} s ({0.bit_errors:.0%} of bits differ)"
    else:
        features = [identity.features for identity in identities]
        matches = find_matches(features, groups, least_share=LEAST_SHARE_OF_FEATURES)
        what, extent = "nearly the same features", " ({0.bit_errors:.0%} of the bits of their fingerprints differ)"
    return copies + [
        Copy(match.first, match.second, what, extent.format(match))
        for match in matches
        if identities[match.first].digest != identities[match.second].digest
    ]


def make_split(
    corpus: Corpus,
    *,
    allow_leaks: bool = False,
    extractor: WindowedFeatureExtractor | None = None,
    num_proc: int | None = None,
    **split_options: Any,
) -> SplitManifest:
    """Split the usable tracks of a corpus (`split_corpus`), check the split for leaks and record the tracks' identities.

    With `allow_leaks`, leaks are recorded instead of refused. With an extractor, identities include fingerprints of its
    features.

    Raises:
        SplitError: If the split cannot be made or leaks.
        ConfigError: If the policy, ratios or fold do not exist.
    """
    split = split_corpus(corpus.tracks, corpus.source, **split_options)
    # Of all tracks: the cached identities serve every split.
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
        leaks=[asdict(leak) for leak in leaks],
        identities={
            track_id: identities[track_id].to_json() for members in split.sides.values() for track_id in members
        },
        fingerprint_version=COMPUTATIONS["fingerprints"].version,
    )
