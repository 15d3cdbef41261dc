"""The leak guard: no track, no known artist and no recording on two sides of a split."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import datasets

from ..errors import SplitError
from .fingerprints import LEAST_SHARE_OF_FEATURES, find_matches
from .identity import TrackIdentity, identify_tracks
from .names import comparable


SHOWN = 5


@dataclass(frozen=True)
class Leak:
    """Something on two sides: `kind` is track, artist or recording; `ids` are the tracks, one of each side."""

    kind: str
    sides: tuple[str, str]
    ids: tuple[str, str]
    detail: str

    def __str__(self) -> str:
        return f"{self.ids[0]} ({self.sides[0]}) and {self.ids[1]} ({self.sides[1]}): {self.detail}"


@dataclass(frozen=True)
class Copy:
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
    """Return everything that is on two sides of a split.

    Args:
        tracks: All tracks of the corpus, decoded (column waveform) or as features (column features).
        sides: Track ids of each side.
        sampling_rate: Of the waveforms in Hz.
        waived: Returns whether the authors of a published split knowingly put an artist on two sides.
        identities: Of the tracks of the sides, if they are already known (`identify_tracks`).
    """
    side_of: dict[str, str] = {}
    leaks = []
    for side, members in sides.items():
        for track_id in members:
            other = side_of.setdefault(track_id, side)
            if other != side:
                leaks.append(Leak("track", (other, side), (track_id, track_id), "the same track"))
    split = tracks.select([row for row, track_id in enumerate(tracks["track_id"]) if track_id in side_of])
    ids = list(split["track_id"])
    leaks += _artist_leaks(ids, ["" if waived(artist) else artist for artist in split["artist"]], side_of)
    if identities is None:
        identities = identify_tracks(split, sampling_rate)
    copies = find_copies(
        [identities[track_id] for track_id in ids],
        "samples" if "waveform" in split.column_names else "features",
        [list(sides).index(side_of[track_id]) for track_id in ids],
    )
    for copy in copies:
        first, second = ids[copy.first], ids[copy.second]
        sides_of_copy = (side_of[first], side_of[second])
        leaks.append(Leak("recording", sides_of_copy, (first, second), copy.what + copy.extent))
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


def leaks_report(leaks: Sequence[Leak]) -> list[dict]:
    """Return leaks as plain rows."""
    return [asdict(leak) for leak in leaks]


def _artist_leaks(ids: list[str], artists: list[str], side_of: Mapping[str, str]) -> list[Leak]:
    """Return a leak for each artist and each pair of sides, with a track of each; spellings of a name are one artist."""
    shown: dict[str, dict[str, str]] = {}  # artist -> side -> the first track
    written = dict(zip(ids, artists, strict=True))
    for track_id, artist in written.items():
        if comparable(artist):
            shown.setdefault(comparable(artist), {}).setdefault(side_of[track_id], track_id)
    return [
        Leak("artist", (one, other), (tracks[one], tracks[other]), f"artist {written[tracks[one]]}")
        for tracks in shown.values()
        for one, other in combinations(sorted(tracks), 2)
    ]


def find_copies(identities: Sequence[TrackIdentity], content: str, groups: Sequence[int] | None = None) -> list[Copy]:
    """Return the pairs of tracks with equal content or matching fingerprints.

    Args:
        identities: Of each track.
        content: What the digests were computed of, samples or features.
        groups: If given, only pairs of different groups are returned (the sides of a split).
    """
    first: dict[str, dict[int, int]] = {}  # digest -> group -> its first track
    copies = []
    for index, identity in enumerate(identities):
        same = first.setdefault(identity.digest, {})
        group = 0 if groups is None else groups[index]
        others = same.items() if groups is not None else [(-1, other) for other in same.values()]
        copies += [Copy(other, index, f"the same {content}") for their, other in others if their != group]
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
