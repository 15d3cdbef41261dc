"""The identity of a track, independent of its name: a digest of its content, and its acoustic fingerprints."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from .caching import cached_map, reading_cache
from .features import extract_features, features_array
from .fingerprints import LEAST_SHARE_OF_FEATURES, find_matches, fingerprint, stored_fingerprint


# The record of a split has every fourth word of the sound: enough to find 29 of 30 excerpts of 6 s as quiet MP3s.
SOUND_STEP = 4
# The most words that it has of a track's features, whose frame rate is unknown.
FEATURE_WORDS = 200
# Larger values in a record are damaged, and would fill the memory.
LARGEST_STEP, LARGEST_WORDS = 4096, 3_000_000

_IDENTITY_FEATURES = datasets.Features(
    {
        "digest": datasets.Value("string"),
        "sound": datasets.List(datasets.Value("uint32")),
        "features": datasets.List(datasets.Value("uint32")),
    }
)


def _no_words() -> np.ndarray:
    return np.zeros(0, np.uint32)


@dataclass(frozen=True)
class TrackIdentity:
    """The identity of a track: a digest, and fingerprints of uint32 [frames], empty if unknown."""

    digest: str  # of the decoded samples, or of stored features; 32 hexadecimal digits
    sound: np.ndarray = field(default_factory=_no_words)
    features: np.ndarray = field(default_factory=_no_words)  # of the features of a front end
    # Frames from one word to the next; the words between are 0.
    sound_step: int = 1
    features_step: int = 1

    def to_json(self) -> dict[str, str]:
        """Return the compact form: `step:words`, every `step`-th word, little-endian in base64."""
        encoded = {"digest": self.digest}
        if self.sound.any():
            encoded["sound"] = _encoded(self.sound, max(SOUND_STEP, self.sound_step))
        if self.features.any():
            encoded["features"] = _encoded(
                self.features, max(-(-len(self.features) // FEATURE_WORDS), self.features_step)
            )
        return encoded

    @classmethod
    def from_json(cls, encoded: Mapping[str, str]) -> "TrackIdentity":
        """Read the compact form.

        Raises:
            ValueError: If it is damaged.
        """
        sound, sound_step = _decoded(encoded.get("sound", "1:"))
        features, features_step = _decoded(encoded.get("features", "1:"))
        return cls(encoded["digest"], sound, features, sound_step, features_step)


@dataclass(frozen=True)
class KnownTrack:
    """A known track with equal content (samples or values), or the same sound."""

    track_id: str
    equal: bool


def content_digest(values: np.ndarray) -> str:
    """Return the digest of decoded samples or of stored feature values."""
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()[:32]


def track_identity(waveform: np.ndarray, sampling_rate: int) -> dict[str, Any]:
    """Return the columns that identify a decoded track [samples]: `digest` (str) and `fingerprint` (uint32 [frames])."""
    waveform = np.asarray(waveform, dtype=np.float32)
    return {"digest": content_digest(waveform), "fingerprint": fingerprint(waveform, sampling_rate)}


@reading_cache()
def identify_tracks(
    tracks: datasets.Dataset,
    sampling_rate: int,
    *,
    extractor: WindowedFeatureExtractor | None = None,
    num_proc: int | None = None,
) -> dict[str, TrackIdentity]:
    """Return the identity of each track of a `Corpus` by its id, cached.

    Stored features may have the columns of `track_identity`. With an extractor, its features of decoded tracks are
    fingerprinted too.
    """
    wanted = [name for name in ("waveform", "features", "digest", "fingerprint") if name in tracks.column_names]
    contents = tracks.select_columns(wanted)
    rows = cached_map(
        contents,
        _identify,
        ("fingerprints",),
        fn_kwargs={"sampling_rate": sampling_rate},
        features=_IDENTITY_FEATURES,
        remove_columns=wanted,
        num_proc=num_proc,
        desc="fingerprinting",
    ).with_format("numpy")
    identities = {
        track_id: TrackIdentity(str(row["digest"]), row["sound"], row["features"])
        for track_id, row in zip(tracks["track_id"][:], rows, strict=True)
    }
    if extractor is None or "waveform" not in wanted:
        return identities
    made = cached_map(
        extract_features(tracks, extractor, num_proc=num_proc).select_columns(["features"]).with_format("arrow"),
        _fingerprint_features,
        ("fingerprints",),
        features=datasets.Features({"features": _IDENTITY_FEATURES["features"]}),
        num_proc=num_proc,
        desc="fingerprinting the features",
    ).with_format("numpy")
    return {
        track_id: replace(identity, features=row["features"])
        for (track_id, identity), row in zip(identities.items(), made, strict=True)
    }


def find_known(tracks: Mapping[str, TrackIdentity], known: Mapping[str, TrackIdentity]) -> dict[str, list[KnownTrack]]:
    """Map each track to the known tracks with equal content or a matching fingerprint.

    Sound is compared with sound. Features are compared for tracks without sound, or if no known track has sound.
    """
    by_digest: dict[str, list[str]] = {}
    for known_id, identity in known.items():
        by_digest.setdefault(identity.digest, []).append(known_id)
    # Track id -> known id -> whether their content is equal.
    found = {track_id: dict.fromkeys(by_digest.get(tracks[track_id].digest, ()), True) for track_id in tracks}
    left = dict(tracks)
    for kind, least_share in (("sound", 0.0), ("features", LEAST_SHARE_OF_FEATURES)):
        theirs, ours = (
            {track_id: identity for track_id, identity in identities.items() if getattr(identity, kind).any()}
            for identities in (known, left)
        )
        ids, both = [*theirs, *ours], [*theirs.values(), *ours.values()]
        for match in find_matches(
            [getattr(identity, kind) for identity in both],
            [0] * len(theirs) + [1] * len(ours),
            least_share=least_share,
            steps=[getattr(identity, f"{kind}_step") for identity in both],
        ):
            found[ids[match.second]].setdefault(ids[match.first], False)
        if theirs:
            left = {track_id: identity for track_id, identity in left.items() if track_id not in ours}
    return {
        track_id: [KnownTrack(*item) for item in matches.items()] for track_id, matches in found.items() if matches
    }


def _identify(track: dict[str, Any], sampling_rate: int) -> dict[str, Any]:
    if "waveform" in track:
        sound = track_identity(track["waveform"], sampling_rate)
        return {"digest": sound["digest"], "sound": sound["fingerprint"], "features": _no_words()}
    values = np.asarray(track["features"])
    known = track.get("fingerprint")
    return {
        "digest": track.get("digest") or content_digest(values),
        "sound": _no_words() if known is None else np.asarray(known, np.uint32),
        "features": stored_fingerprint(values),
    }


def _fingerprint_features(row: pa.Table) -> pa.Table:
    return pa.table({"features": [stored_fingerprint(features_array(row))]})


def _encoded(words: np.ndarray, step: int) -> str:
    return f"{step}:{base64.b64encode(words[::step].astype('<u4').tobytes()).decode()}"


def _decoded(text: str) -> tuple[np.ndarray, int]:
    """Return the words at their frames, with 0 between, and their step."""
    step, colon, content = text.partition(":")
    words = np.frombuffer(base64.b64decode(content, validate=True), "<u4")
    if not colon or not 1 <= int(step) <= LARGEST_STEP or len(words) > LARGEST_WORDS:
        raise ValueError(f"step {step} of {len(words)} words")
    placed = np.zeros(max(0, (len(words) - 1) * int(step) + 1), np.uint32)
    placed[:: int(step)] = words
    return placed, int(step)
