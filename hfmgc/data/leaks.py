"""The leak guard: no track, no known artist and no recording on two sides of a split."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import datasets
import numpy as np

from ..errors import SplitError
from .caching import reading_cache
from .fingerprints import LEAST_SHARE_OF_FEATURES, find_matches, fingerprint, stored_fingerprint


FINGERPRINT_FEATURES = datasets.Features({"fingerprint": datasets.List(datasets.Value("uint32"))})
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
) -> list[Leak]:
    """Look for leaks before a training; return those that were found where they are allowed.

    Args:
        tracks: All tracks of the corpus, decoded (column waveform) or as features (column features).
        sides: Track ids of each side.
        sampling_rate: Of the waveforms in Hz.
        allow: Return the leaks instead of refusing them.
        waived: Says of an artist whether the authors of a published split put them on two sides themselves.
        num_proc: Processes that fingerprint.

    Raises:
        SplitError: If something lies on two sides, with the first ids of each kind.
    """
    leaks = find_leaks(tracks, sides, sampling_rate=sampling_rate, waived=waived, num_proc=num_proc)
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
    if "waveform" in split.column_names:
        leaks += _recording_leaks(split, ids, side_of, sampling_rate, num_proc)
    else:
        leaks += _feature_leaks(split, ids, side_of)
    return leaks


@reading_cache()
def fingerprint_tracks(
    tracks: datasets.Dataset, sampling_rate: int, *, num_proc: int | None = None
) -> list[np.ndarray]:
    """Return the fingerprint of each decoded track; computed once and cached."""
    table = tracks.select_columns(["waveform"]).map(
        _fingerprint_row,
        fn_kwargs={"sampling_rate": sampling_rate},
        features=FINGERPRINT_FEATURES,
        remove_columns=["waveform"],
        num_proc=num_proc if num_proc and num_proc > 1 else None,
        desc="fingerprinting",
    )
    return list(table.with_format("numpy")["fingerprint"])


def leaks_report(leaks: Sequence[Leak]) -> list[dict]:
    """Return leaks as plain rows."""
    return [asdict(leak) for leak in leaks]


def _artist_leaks(ids: list[str], artists: list[str], side_of: Mapping[str, str]) -> list[Leak]:
    """Return one leak for each artist and each pair of sides, shown by a track of each."""
    shown: dict[str, dict[str, str]] = {}  # artist -> side -> a track of theirs
    for track_id, artist in zip(ids, artists, strict=True):
        if artist:
            shown.setdefault(artist, {}).setdefault(side_of[track_id], track_id)
    return [
        Leak("artist", (one, other), (tracks[one], tracks[other]), f"artist {artist}")
        for artist, tracks in shown.items()
        for one, other in combinations(sorted(tracks), 2)
    ]


def _recording_leaks(
    split: datasets.Dataset, ids: list[str], side_of: Mapping[str, str], sampling_rate: int, num_proc: int | None
) -> list[Leak]:
    matches = find_matches(fingerprint_tracks(split, sampling_rate, num_proc=num_proc), _groups(ids, side_of))
    return [
        Leak(
            "recording",
            (side_of[ids[match.first]], side_of[ids[match.second]]),
            (ids[match.first], ids[match.second]),
            f"the same recording for {match.shared_seconds:.1f} s ({match.bit_errors:.0%} of bits differ)",
        )
        for match in matches
    ]


def _feature_leaks(split: datasets.Dataset, ids: list[str], side_of: Mapping[str, str]) -> list[Leak]:
    """Return equal features on two sides, and spectrograms that nearly are: of one recording, encoded again."""
    first: dict[str, dict[str, str]] = {}  # digest -> side -> its first track
    leaks, digests, fingerprints = [], [], []
    for track_id, track in zip(ids, split.select_columns(["features"]), strict=True):
        values = np.asarray(track["features"])
        digests.append(hashlib.sha256(values.tobytes()).hexdigest())
        fingerprints.append(stored_fingerprint(values))
        same = first.setdefault(digests[-1], {})
        side = side_of[track_id]
        leaks += [
            Leak("recording", (other, side), (shown, track_id), "the same features")
            for other, shown in same.items()
            if other != side
        ]
        same.setdefault(side, track_id)
    matches = find_matches(fingerprints, _groups(ids, side_of), least_share=LEAST_SHARE_OF_FEATURES)
    return leaks + [
        Leak(
            "recording",
            (side_of[ids[match.first]], side_of[ids[match.second]]),
            (ids[match.first], ids[match.second]),
            f"nearly the same features ({match.bit_errors:.0%} of the bits of their fingerprints differ)",
        )
        for match in matches
        if digests[match.first] != digests[match.second]
    ]


def _groups(ids: list[str], side_of: Mapping[str, str]) -> list[int]:
    names = sorted(set(side_of.values()))
    return [names.index(side_of[track_id]) for track_id in ids]


def _fingerprint_row(track: dict, sampling_rate: int) -> dict:
    return {"fingerprint": fingerprint(np.asarray(track["waveform"], dtype=np.float32), sampling_rate)}
