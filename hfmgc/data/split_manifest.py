"""The record of a split: which tracks are on which side, and how the split was made."""

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
    """A split that can be repeated exactly and compared with other splits.

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
    # A note on missing tracks of a published split.
    incomplete: str | None = None
    genres: list[str] = field(default_factory=list)
    # What is on two sides (`leaks.Leak`), if the leak guard was overridden.
    leaks: list[dict[str, Any]] = field(default_factory=list)
    # Track id -> `identity.TrackIdentity.to_json`. Empty in manifests of older versions.
    identities: dict[str, dict[str, str]] = field(default_factory=dict)
    # Version of the fingerprints (`caching.COMPUTATIONS`). Fingerprints of different versions cannot be compared.
    fingerprint_version: int | None = None

    @property
    def digest(self) -> str:
        """Digest of the sides."""
        sides = {side: sorted(self.sides.get(side, [])) for side in SIDES}
        return "sha256:" + hashlib.sha256(json.dumps(sides, sort_keys=True).encode()).hexdigest()

    @property
    def identities_digest(self) -> str:
        """Digest of the identities."""
        return "sha256:" + hashlib.sha256(json.dumps(self.identities, sort_keys=True).encode()).hexdigest()

    @property
    def evaluation_side(self) -> str:
        """The side that results are reported for: test, or validation in a split without a test side."""
        return "test" if self.sides.get("test") else "validation"

    def notes(self) -> list[str]:
        """Return the notes that results with this split need."""
        notes = [note for note in (self.incomplete, self.comparable_note) if note]
        if self.leaks:
            kinds = Counter(leak["kind"] for leak in self.leaks)
            text = ", ".join(f"{count} by {kind}" for kind, count in kinds.items())
            notes.append(f"the leak guard was overridden: leaks between sides ({text}), so results are optimistic")
        return notes

    def counts(self) -> dict[str, int]:
        """Return the number of tracks on each side."""
        return {side: len(self.sides.get(side, [])) for side in SIDES}

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `split.json`."""
        digests = {"digest": self.digest, "identities_digest": self.identities_digest}
        return {**vars(self), **digests, "counts": self.counts()}

    def save(self, path: str | Path) -> None:
        """Write the manifest as JSON."""
        write_text(Path(path), json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "SplitManifest":
        """Read a manifest.

        Raises:
            SplitError: If it is missing or not a manifest, or its tracks were edited.
        """
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
            raise SplitError(f"{path}: not a split manifest of hfmgc ({error})") from error
        if not matches:
            raise SplitError(f"{path}: its tracks do not match its digests: use the unedited file")
        return manifest
