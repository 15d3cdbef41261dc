"""The leak guard: no track, known artist or recording may be on two sides of a split."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple

import datasets

from ..errors import SplitError
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from .caching import COMPUTATIONS
from .corpus import Corpus
from .fingerprints import MIN_SHARE_OF_FEATURES, find_matches
from .identity import TrackIdentity, identify_tracks
from .names import normalize_name
from .split_manifest import SplitManifest
from .splits import split_corpus


# Leaks of each kind that an error lists.
MAX_EXAMPLES = 5


@dataclass(frozen=True)
class Leak:
    """A track, artist or recording on two sides of a split."""

    kind: str  # "track", "artist" or "recording"
    sides: tuple[str, str]
    ids: tuple[str, str]  # a track of each side
    detail: str

    def __str__(self) -> str:
        return f"{self.ids[0]} ({self.sides[0]}) and {self.ids[1]} ({self.sides[1]}): {self.detail}"


class Copy(NamedTuple):
    """Two tracks with the same content."""

    first: int  # index of a track
    second: int
    what: str  # what is equal, such as "the same recording"
    extent: str = ""  # how long it is, or how many bits differ


def find_leaks(
    tracks: datasets.Dataset,
    sides: Mapping[str, Sequence[str]],
    identities: Mapping[str, TrackIdentity],
    *,
    is_waived: Callable[[str], object] = lambda artist: None,
) -> list[Leak]:
    """Return everything that is on two sides of a split of the tracks of a `Corpus`.

    `is_waived` returns whether the authors of a published split knowingly put an artist on two sides.
    """
    side_of: dict[str, str] = {}
    leaks = []
    for side, members in sides.items():
        for track_id in members:
            first_side = side_of.setdefault(track_id, side)
            if first_side != side:
                leaks.append(Leak("track", (first_side, side), (track_id, track_id), "the same track"))
    split = tracks.select([row for row, track_id in enumerate(tracks["track_id"][:]) if track_id in side_of])
    ids = split["track_id"][:]
    artists = {
        track_id: artist for track_id, artist in zip(ids, split["artist"][:], strict=True) if not is_waived(artist)
    }
    leaks += _artist_leaks(artists, side_of)
    content = "samples" if "waveform" in split.column_names else "features"
    groups = [side_of[track_id] for track_id in ids]
    for copy in find_copies([identities[track_id] for track_id in ids], content, groups):
        first, second = ids[copy.first], ids[copy.second]
        leaks.append(Leak("recording", (side_of[first], side_of[second]), (first, second), copy.what + copy.extent))
    return leaks


def refuse_leaks(leaks: Sequence[Leak]) -> None:
    """Raise a SplitError that lists the first leaks of each kind, if there are any."""
    parts = []
    for kind in dict.fromkeys(leak.kind for leak in leaks):
        lines = [str(leak) for leak in leaks if leak.kind == kind]
        more = f" and {len(lines) - MAX_EXAMPLES} more" if len(lines) > MAX_EXAMPLES else ""
        parts.append(f"{len(lines)} by {kind}: {'; '.join(lines[:MAX_EXAMPLES])}{more}")
    if parts:
        raise SplitError(
            f"the split leaks: {' | '.join(parts)}: choose a split_policy that keeps them together (grouped, "
            "fault_filtered), remove copies (hfmgc check lists them), or set allow_leaks, which is recorded"
        )


def _artist_leaks(artists: Mapping[str, str], side_of: Mapping[str, str]) -> list[Leak]:
    """Return a leak for each artist and pair of sides; spellings of a name count as one artist."""
    first_tracks: dict[str, dict[str, str]] = {}  # artist -> side -> the first track
    for track_id, artist in artists.items():
        if name := normalize_name(artist):
            first_tracks.setdefault(name, {}).setdefault(side_of[track_id], track_id)
    return [
        Leak("artist", pair, (tracks[pair[0]], tracks[pair[1]]), f"artist {artists[tracks[pair[0]]]}")
        for tracks in first_tracks.values()
        for pair in combinations(sorted(tracks), 2)
    ]


def find_copies(identities: Sequence[TrackIdentity], content: str, groups: Sequence[str] | None = None) -> list[Copy]:
    """Return the pairs of tracks with equal content (`content`: samples or features) or matching fingerprints.

    With `groups`, such as the sides of a split, only pairs of different groups are returned.
    """
    first_tracks: dict[str, dict[str, int]] = {}  # digest -> group -> the first track
    copies = []
    for index, identity in enumerate(identities):
        group = "" if groups is None else groups[index]
        equal_tracks = first_tracks.setdefault(identity.digest, {})
        copies += [
            Copy(first, index, f"the same {content}")
            for first_group, first in equal_tracks.items()
            if groups is None or first_group != group
        ]
        equal_tracks.setdefault(group, index)
    if any(identity.sound.any() for identity in identities):
        matches = find_matches([identity.sound for identity in identities], groups)
        what, extent = "the same recording", " for {0.shared_seconds:.1f} s ({0.bit_errors:.0%} of bits differ)"
    else:
        features = [identity.features for identity in identities]
        matches = find_matches(features, groups, min_share=MIN_SHARE_OF_FEATURES)
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

    With `allow_leaks`, leaks are recorded instead of refused. With an extractor, the identities include fingerprints of
    its features.

    Raises:
        SplitError: If the split cannot be made, or has leaks.
        ConfigError: If the policy, ratios or fold do not exist.
    """
    split = split_corpus(corpus.tracks, corpus.source, **split_options)
    # Identify all tracks, not only those in the split: every split then uses the same cached identities.
    identities = identify_tracks(corpus.tracks, corpus.sampling_rate, extractor=extractor, num_proc=num_proc)
    leaks = find_leaks(
        corpus.tracks,
        split.sides,
        identities,
        is_waived=lambda artist: corpus.source.artist_waiver(split.policy, artist),
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
