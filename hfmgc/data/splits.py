"""Which track is on which side: named, seeded policies, and the manifest that records and repeats a split.

Tracks are split, never slices of them.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError, SplitError
from ..randomness import example_generator


SIDES = ("train", "validation", "test")


@dataclass(frozen=True)
class SplitManifest:
    """A split as it was made: enough to repeat it exactly, and to tell whether two results share it."""

    dataset: str
    revision: str | None
    policy: str
    ratios: list[int]
    seed: int
    sides: dict[str, list[str]]
    comparable_note: str | None = None
    genres: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """Fingerprint of which track is on which side."""
        sides = {side: sorted(self.sides.get(side, [])) for side in SIDES}
        return "sha256:" + hashlib.sha256(json.dumps(sides, sort_keys=True).encode()).hexdigest()

    @property
    def evaluation_side(self) -> str:
        """The side that results are reported for: test, or validation where the ratios leave no test side."""
        return "test" if self.sides.get("test") else "validation"

    def counts(self) -> dict[str, int]:
        """Return the number of tracks on each side."""
        return {side: len(self.sides.get(side, [])) for side in SIDES}

    def to_dict(self) -> dict[str, Any]:
        """Return what `split.json` holds."""
        return {
            "dataset": self.dataset,
            "revision": self.revision,
            "policy": self.policy,
            "ratios": self.ratios,
            "seed": self.seed,
            "comparable_note": self.comparable_note,
            "genres": self.genres,
            "digest": self.digest,
            "counts": self.counts(),
            "sides": self.sides,
        }

    def save(self, path: Path) -> None:
        """Write the manifest as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "SplitManifest":
        """Read a manifest, refusing one whose ids were changed since it was written."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            digest = content.pop("digest")
            content.pop("counts", None)
            manifest = cls(**content)
            matches = manifest.digest == digest
        except FileNotFoundError as error:
            raise SplitError(f"{path}: no such split manifest") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SplitError(f"{path} is not a split manifest of hfmgc ({error})") from error
        if not matches:
            raise SplitError(f"{path}: the track ids do not match the digest beside them; use the original file")
        return manifest


def parse_ratios(ratios: str) -> list[int]:
    """Return [train, validation, test] from `8:1:1`, or `4:1` where there is no test side.

    Raises:
        ConfigError: If it is anything else.
    """
    parts = str(ratios).split(":")
    if len(parts) not in (2, 3) or not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(f'split_ratios must be train:validation:test such as "8:1:1", not {ratios!r}')
    numbers = [int(part) for part in parts] + [0] * (3 - len(parts))
    if numbers[0] == 0 or numbers[1] == 0:
        raise ConfigError(f"split_ratios {ratios!r} leave no tracks for training or none for choosing the checkpoint")
    return numbers


def stratified_split(
    track_ids: Sequence[str], genres: Sequence[str], *, ratios: Sequence[int], seed: int
) -> dict[str, list[str]]:
    """Split tracks at random, genre by genre, in the given ratios.

    The result depends on the ids and the seed alone, not on their order. Each side with a ratio gets at least one track
    of each genre; what rounding leaves goes to the largest remainders.

    Returns:
        Sorted track ids of train, validation and test.

    Raises:
        SplitError: If a genre has fewer tracks than sides, naming it.
    """
    if len(set(track_ids)) != len(track_ids):
        repeated = next(track_id for track_id, count in Counter(track_ids).items() if count > 1)
        raise SplitError(f"track id {repeated!r} occurs more than once: it could come to lie on two sides")
    by_genre: dict[str, list[str]] = {}
    for track_id, genre in zip(track_ids, genres, strict=True):
        by_genre.setdefault(genre, []).append(track_id)
    needed = sum(ratio > 0 for ratio in ratios)
    sides: dict[str, list[str]] = {side: [] for side in SIDES}
    for genre in sorted(by_genre):
        members = sorted(by_genre[genre])
        if len(members) < needed:
            raise SplitError(
                f"genre {genre!r} has {len(members)} usable track{'s' if len(members) != 1 else ''}, a split into "
                f"{needed} sides needs at least {needed}: add tracks, leave the genre out, or choose other split_ratios"
            )
        order = example_generator("stratified", seed, genre).permutation(len(members))
        start = 0
        for side, count in zip(SIDES, _allot(len(members), ratios), strict=True):
            sides[side] += [members[i] for i in order[start : start + count]]
            start += count
    return {side: sorted(members) for side, members in sides.items()}


def _allot(total: int, ratios: Sequence[int]) -> list[int]:
    """Divide `total` tracks by the ratios: largest remainders, and one at least for each ratio above 0."""
    shares = [total * ratio / sum(ratios) for ratio in ratios]
    counts = [int(share) for share in shares]
    by_remainder = sorted(range(len(ratios)), key=lambda i: (counts[i] - shares[i], i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    for i, ratio in enumerate(ratios):
        if ratio > 0 and counts[i] == 0:
            counts[counts.index(max(counts))] -= 1
            counts[i] = 1
    return counts
