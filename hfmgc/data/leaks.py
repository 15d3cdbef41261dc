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
    """Something that lies on two sides: `kind` is track, artist or recording; `ids` are tracks, one of each side first."""

    kind: str
    sides: tuple[str, str]
    ids: tuple[str, str]
    detail: str

    def __str__(self) -> str:
        return f"{self.ids[0]} ({self.sides[0]}) and {self.ids[1]} ({self.sides[1]}): {self.detail}"


def check_split(
    tracks: datasets.Dataset,
    sides: Mapping[str, Sequence[str]],
    *,
    sampling_rate: int,
    allow: bool = False,
    waived: Callable[[str], object] = lambda artist: None,
    num_proc: int | None = None,
    identities: Mapping[str, TrackIdentity] | None = None,
) -> list[Leak]:
    """Look for leaks before a training; return those that were found where they are allowed.

    Args:
        tracks: All tracks of the corpus, decoded (column waveform) or as features (column features).
        sides: Track ids of each side.
        sampling_rate: Of the waveforms in Hz.
        allow: Return the leaks instead of refusing them.
        waived: Says of an artist whether the authors of a published split put them on two sides themselves.
        num_proc: Processes that fingerprint.
        identities: Of the tracks of the sides, where they are known already (`identify_tracks`).

    Raises:
        SplitError: If something lies on two sides, with the first ids of each kind.
    """
    leaks = find_leaks(
        tracks, sides, sampling_rate=sampling_rate, waived=waived, num_proc=num_proc, identities=identities
    )
    if leaks and not allow:
        parts = []
        for kind in dict.fromkeys(leak.kind for leak in leaks):
            found = [str(leak) for leak in leaks if leak.kind == kind]
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            parts.append(f"{len(found)} by {kind}: {'; '.join(found[:SHOWN])}{more}")
        raise SplitError(
            f"the split leaks: {' | '.join(parts)}: choose a split_policy that keeps them together (grouped, "
            "fault_filtered), remove copies (hfmgc check lists them), or set allow_leaks, which is recorded"
        )
    return leaks


def find_leaks(
    tracks: datasets.Dataset,
    sides: Mapping[str, Sequence[str]],
    *,
    sampling_rate: int,
    waived: Callable[[str], object] = lambda artist: None,
    num_proc: int | None = None,
    identities: Mapping[str, TrackIdentity] | None = None,
) -> list[Leak]:
    """Return everything that lies on two sides; see `check_split`."""
    side_of: dict[str, str] = {}
    leaks = []
    for side, members in sides.items():
        for track_id in members:
            other = side_of.setdefault(track_id, side)
            if other != side:
                leaks.append(Leak("track", (other, side), (track_id, track_id), "the same track"))
    rows = [row for row, track_id in enumerate(tracks["track_id"]) if track_id in side_of]
    split = tracks.select(rows)
    ids = list(split["track_id"])
    artists = ["" if waived(artist) else artist for artist in split["artist"]]
    leaks += _artist_leaks(ids, artists, side_of)
    if identities is None:
        identities = identify_tracks(split, sampling_rate, num_proc=num_proc)
    content = "samples" if "waveform" in split.column_names else "features"
    return leaks + _recording_leaks([identities[track_id] for track_id in ids], ids, side_of, content)


def leaks_report(leaks: Sequence[Leak]) -> list[dict]:
    """Return leaks as plain rows."""
    return [asdict(leak) for leak in leaks]


def _artist_leaks(ids: list[str], artists: list[str], side_of: Mapping[str, str]) -> list[Leak]:
    """Return one leak for each artist, however the name is written, and each pair of sides, shown by a track of each."""
    shown: dict[str, dict[str, str]] = {}  # artist -> side -> a track of theirs
    for track_id, artist in zip(ids, artists, strict=True):
        if comparable(artist):
            shown.setdefault(comparable(artist), {}).setdefault(side_of[track_id], track_id)
    written = dict(zip(ids, artists, strict=True))
    return [
        Leak("artist", (one, other), (tracks[one], tracks[other]), f"artist {written[tracks[one]]}")
        for tracks in shown.values()
        for one, other in combinations(sorted(tracks), 2)
    ]


def _recording_leaks(
    identities: list[TrackIdentity], ids: list[str], side_of: Mapping[str, str], content: str
) -> list[Leak]:
    """Return equal content on two sides, and content that sounds (or of spectrograms: looks) the same."""
    first: dict[str, dict[str, str]] = {}  # digest -> side -> its first track
    leaks = []
    for track_id, identity in zip(ids, identities, strict=True):
        same = first.setdefault(identity.digest, {})
        side = side_of[track_id]
        leaks += [
            Leak("recording", (other, side), (shown, track_id), f"the same {content}")
            for other, shown in same.items()
            if other != side
        ]
        same.setdefault(side, track_id)
    names = sorted(set(side_of.values()))
    groups = [names.index(side_of[track_id]) for track_id in ids]
    heard = any(identity.sound.any() for identity in identities)
    if heard:
        matches = find_matches([identity.sound for identity in identities], groups)
        detail = "the same recording for {0.shared_seconds:.1f} s ({0.bit_errors:.0%} of bits differ)"
    else:
        features = [identity.features for identity in identities]
        matches = find_matches(features, groups, least_share=LEAST_SHARE_OF_FEATURES)
        detail = "nearly the same features ({0.bit_errors:.0%} of the bits of their fingerprints differ)"
    return leaks + [
        Leak(
            "recording",
            (side_of[ids[match.first]], side_of[ids[match.second]]),
            (ids[match.first], ids[match.second]),
            detail.format(match),
        )
        for match in matches
        if identities[match.first].digest != identities[match.second].digest
    ]
