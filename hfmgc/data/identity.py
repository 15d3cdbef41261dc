"""The identity of a track, independent of its name: a digest of its content and acoustic fingerprints."""

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
from .features import CONTENT_COLUMNS, extract_features, features_array
from .fingerprints import MIN_SHARE_OF_FEATURES, find_matches, fingerprint, stored_fingerprint


# A split manifest stores every fourth word of an audio fingerprint: enough to find 29 of 30 excerpts of 6 s as quiet MP3s.
SOUND_STEP = 4
# A split manifest stores at most this many words of a feature fingerprint; the duration of its frames is unknown.
FEATURE_WORDS = 200
# Larger values in a manifest are damaged and would exhaust memory.
MAX_STEP, MAX_WORDS = 4096, 3_000_000

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
    """The identity of a track. Fingerprints are uint32 [frames], empty if unknown."""

    digest: str  # of the decoded samples or the stored features; 32 hexadecimal digits
    sound: np.ndarray = field(default_factory=_no_words)  # fingerprint of the audio
    features: np.ndarray = field(default_factory=_no_words)  # fingerprint of the features of a front end
    # Distance in frames between the stored words of a fingerprint; the words between are 0.
    sound_step: int = 1
    features_step: int = 1

    def to_json(self) -> dict[str, str]:
        """Return the compact form. Fingerprints are `step:words`: every `step`-th word, little-endian, in base64."""
        encoded = {"digest": self.digest}
        if self.sound.any():
            encoded["sound"] = _encode_words(self.sound, max(SOUND_STEP, self.sound_step))
        if self.features.any():
            step = max(-(-len(self.features) // FEATURE_WORDS), self.features_step)
            encoded["features"] = _encode_words(self.features, step)
        return encoded

    @classmethod
    def from_json(cls, encoded: Mapping[str, str]) -> "TrackIdentity":
        """Read the compact form.

        Raises:
            ValueError: If it is damaged.
        """
        sound, sound_step = _decode_words(encoded.get("sound", "1:"))
        features, features_step = _decode_words(encoded.get("features", "1:"))
        return cls(encoded["digest"], sound, features, sound_step, features_step)


@dataclass(frozen=True)
class KnownTrack:
    """A known track that matches another track."""

    track_id: str
    equal: bool  # whether the content is equal, not just the fingerprint


def content_digest(values: np.ndarray) -> str:
    """Return the digest of decoded samples or of stored feature values."""
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()[:32]


def track_identity(waveform: np.ndarray, sampling_rate: int) -> dict[str, Any]:
    """Return the columns that identify a waveform [samples]: `digest` (str) and `fingerprint` (uint32 [frames])."""
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
    """Return track id -> identity of the tracks of a `Corpus`; cached.

    Stored features can bring the columns of `track_identity`. With an extractor, decoded tracks get fingerprints of its
    features too.
    """
    columns = [name for name in CONTENT_COLUMNS if name in tracks.column_names]
    contents = tracks.select_columns(columns)
    rows = cached_map(
        contents,
        _identify,
        ("fingerprints",),
        fn_kwargs={"sampling_rate": sampling_rate},
        features=_IDENTITY_FEATURES,
        remove_columns=columns,
        num_proc=num_proc,
        desc="fingerprinting",
    ).with_format("numpy")
    identities = {
        track_id: TrackIdentity(str(row["digest"]), row["sound"], row["features"])
        for track_id, row in zip(tracks["track_id"][:], rows, strict=True)
    }
    if extractor is None or "waveform" not in columns:
        return identities
    rows = cached_map(
        extract_features(tracks, extractor, num_proc=num_proc).select_columns(["features"]).with_format("arrow"),
        _fingerprint_features,
        ("fingerprints",),
        features=datasets.Features({"features": _IDENTITY_FEATURES["features"]}),
        num_proc=num_proc,
        desc="fingerprinting the features",
    ).with_format("numpy")
    return {
        track_id: replace(identity, features=row["features"])
        for (track_id, identity), row in zip(identities.items(), rows, strict=True)
    }


def find_known(tracks: Mapping[str, TrackIdentity], known: Mapping[str, TrackIdentity]) -> dict[str, list[KnownTrack]]:
    """Map each track to the known tracks with equal content or a matching fingerprint.

    Fingerprints of audio take precedence: fingerprints of features are compared only for tracks without audio, or if no
    known track has audio.
    """
    by_digest: dict[str, list[str]] = {}
    for known_id, identity in known.items():
        by_digest.setdefault(identity.digest, []).append(known_id)
    # Track id -> known id -> whether their content is equal.
    matches_of = {
        track_id: dict.fromkeys(by_digest.get(identity.digest, ()), True) for track_id, identity in tracks.items()
    }
    remaining = dict(tracks)
    for kind, min_share in (("sound", 0.0), ("features", MIN_SHARE_OF_FEATURES)):
        references, candidates = (
            {track_id: identity for track_id, identity in identities.items() if getattr(identity, kind).any()}
            for identities in (known, remaining)
        )
        ids, identities = [*references, *candidates], [*references.values(), *candidates.values()]
        for match in find_matches(
            [getattr(identity, kind) for identity in identities],
            [0] * len(references) + [1] * len(candidates),
            min_share=min_share,
            steps=[getattr(identity, f"{kind}_step") for identity in identities],
        ):
            matches_of[ids[match.second]].setdefault(ids[match.first], False)
        if references:
            remaining = {track_id: item for track_id, item in remaining.items() if track_id not in candidates}
    return {
        track_id: [KnownTrack(*item) for item in matches.items()]
        for track_id, matches in matches_of.items()
        if matches
    }


def _identify(track: dict[str, Any], sampling_rate: int) -> dict[str, Any]:
    if "waveform" in track:
        columns = track_identity(track["waveform"], sampling_rate)
        return {"digest": columns["digest"], "sound": columns["fingerprint"], "features": _no_words()}
    values = np.asarray(track["features"])
    stored = track.get("fingerprint")
    return {
        "digest": track.get("digest") or content_digest(values),
        "sound": _no_words() if stored is None else np.asarray(stored, np.uint32),
        "features": stored_fingerprint(values),
    }


def _fingerprint_features(row: pa.Table) -> pa.Table:
    return pa.table({"features": [stored_fingerprint(features_array(row))]})


def _encode_words(words: np.ndarray, step: int) -> str:
    return f"{step}:{base64.b64encode(words[::step].astype('<u4').tobytes()).decode()}"


def _decode_words(text: str) -> tuple[np.ndarray, int]:
    """Return a fingerprint with 0 between the stored words, and its step."""
    step, colon, content = text.partition(":")
    words = np.frombuffer(base64.b64decode(content, validate=True), "<u4")
    if not colon or not 1 <= int(step) <= MAX_STEP or len(words) > MAX_WORDS:
        raise ValueError(f"a fingerprint of {len(words)} words with step {step}")
    fingerprint_words = np.zeros(max(0, (len(words) - 1) * int(step) + 1), np.uint32)
    fingerprint_words[:: int(step)] = words
    return fingerprint_words, int(step)
