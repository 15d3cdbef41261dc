"""The record of a split: which track is on which side, and how that came about."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import SplitError
from ..files import write_text
from ..settings import load_json


SIDES = ("train", "validation", "test")


@dataclass(frozen=True)
class SplitManifest:
    """A split as it was made: enough to repeat it exactly, and to tell whether two results share it.

    Example:

    >>> import hfmgc
    >>> music = hfmgc.load_dataset("music", split_ratios="1:1:1", save_manifest="split.json")
    >>> manifest = hfmgc.SplitManifest.load("split.json")
    >>> manifest.policy, manifest.counts()
    ('stratified', {'train': 3, 'validation': 3, 'test': 3})
    >>> repeated = hfmgc.load_dataset("music", split_manifest="split.json")
    """

    dataset: str
    revision: str | None
    policy: str
    ratios: list[int]
    seed: int
    sides: dict[str, list[str]]
    comparable_note: str | None = None
    # Of a published split: how many of the listed tracks there are, where some are missing.
    incomplete: str | None = None
    genres: list[str] = field(default_factory=list)
    # Where the guard was overridden: what lies on two sides.
    leaks: list[dict[str, Any]] = field(default_factory=list)
    # Of each track by its id (`identity.TrackIdentity.to_json`): how it is recognised under any name. Older versions
    # wrote none.
    identities: dict[str, dict[str, str]] = field(default_factory=dict)
    # The version of the fingerprints (`caching.COMPUTATIONS`): those of another one cannot be compared.
    fingerprint_version: int | None = None

    @property
    def digest(self) -> str:
        """Fingerprint of which track is on which side."""
        sides = {side: sorted(self.sides.get(side, [])) for side in SIDES}
        return "sha256:" + hashlib.sha256(json.dumps(sides, sort_keys=True).encode()).hexdigest()

    @property
    def identities_digest(self) -> str:
        """Digest of how the tracks are recognised."""
        return "sha256:" + hashlib.sha256(json.dumps(self.identities, sort_keys=True).encode()).hexdigest()

    @property
    def evaluation_side(self) -> str:
        """The side that results are reported for: test, or validation where the ratios leave no test side."""
        return "test" if self.sides.get("test") else "validation"

    def notes(self) -> list[str]:
        """Return what a reader of results with this split must be told."""
        notes = [note for note in (self.incomplete, self.comparable_note) if note]
        if self.leaks:
            kinds = Counter(leak["kind"] for leak in self.leaks)
            found = ", ".join(f"{count} by {kind}" for kind, count in kinds.items())
            notes.append(
                f"the leak guard was overridden: tracks on two sides that belong together ({found}): optimistic"
            )
        return notes

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
            "incomplete": self.incomplete,
            "genres": self.genres,
            "leaks": self.leaks,
            "digest": self.digest,
            "counts": self.counts(),
            "sides": self.sides,
            "fingerprint_version": self.fingerprint_version,
            "identities": self.identities,
            "identities_digest": self.identities_digest,
        }

    def save(self, path: Path) -> None:
        """Write the manifest as JSON."""
        write_text(Path(path), json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> "SplitManifest":
        """Read a manifest, refusing one whose ids were changed since it was written."""
        try:
            content = load_json(Path(path).read_text(encoding="utf-8"))
            digest = content.pop("digest")
            content.pop("counts", None)
            identities_digest = content.pop("identities_digest", None)
            manifest = cls(**content)
            matches = manifest.digest == digest and identities_digest in (None, manifest.identities_digest)
        except FileNotFoundError as error:
            raise SplitError(f"{path}: no such split manifest") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SplitError(f"{path} is not a split manifest of hfmgc ({error})") from error
        if not matches:
            raise SplitError(f"{path}: its tracks do not match the digests beside them; use the original file")
        return manifest
