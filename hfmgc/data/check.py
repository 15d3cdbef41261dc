"""`hfmgc check`: decode everything, and report what is wrong: broken, truncated, short, silent or clipped files, unusual
rates, duplicates.

A report changes nothing. A run leaves out duplicates and short tracks where it is given the list that
`CheckReport.exclusions` makes.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np

from ..errors import AudioError
from .audio import SHORTEST_SECONDS, decode_audio
from .caching import cached_map, reading_cache
from .fingerprints import LEAST_SHARE_OF_FEATURES, find_matches, fingerprint, stored_fingerprint
from .identity import content_digest
from .sources.contract import TrackSource
from .sources.feature_rows import feature_problems
from .targets import genres_of


# Fingerprints and signal measures do not need more, and all tracks are compared at one rate.
CHECK_RATE = 16000
# Runs of samples at full scale: a limiter leaves single ones, an overdriven recording many in a row.
CLIPPED_SHARE = 0.005

CHECKED_FEATURES = datasets.Features(
    {
        "track_id": datasets.Value("string"),
        "genre": datasets.Value("string"),
        "problem": datasets.Value("string"),
        "truncation": datasets.Value("string"),
        "seconds": datasets.Value("float64"),
        "rate": datasets.Value("int64"),
        "channels": datasets.Value("int64"),
        "clipped": datasets.Value("float64"),
        "digest": datasets.Value("string"),
        "fingerprint": datasets.List(datasets.Value("uint32")),
    }
)


@dataclass(frozen=True)
class Finding:
    """One thing that was noticed. `exclude`: excluding the track is recommended."""

    track_id: str
    kind: str
    detail: str
    exclude: bool


@dataclass(frozen=True)
class CheckReport:
    """What `hfmgc check` found in a source."""

    data: dict[str, Any]
    tracks: int
    usable: int
    genres: dict[str, int]
    empty_genres: list[str]
    total_seconds: float
    rates: dict[str, int]
    findings: list[Finding] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**vars(self), "findings": [vars(finding) for finding in self.findings]}

    def exclusions(self) -> list[tuple[str, str]]:
        """Return track id and reason of the recommended exclusions; unusable tracks are skipped without a list."""
        return [
            (finding.track_id, f"{finding.kind}: {finding.detail}")
            for finding in self.findings
            if finding.exclude and finding.kind != "unusable"
        ]

    def to_text(self) -> str:
        """Return the report to read."""
        kinds = Counter(finding.kind for finding in self.findings)
        rates = ", ".join(f"{count} at {rate} Hz" for rate, count in self.rates.items())
        lines = [
            f"{self.data['name']} ({self.data['location']}): {self.tracks} tracks, {self.usable} usable"
            + (f", {_length(self.total_seconds)}; {rates}" if rates else ""),
            *(f"  {genre:<24}{count:>8} usable" for genre, count in self.genres.items()),
            *(f"  {genre:<24}{'no tracks':>8}" for genre in self.empty_genres),
            *(["no genres: for pre-training alone"] if not (self.genres or self.empty_genres) else []),
            "nothing to report" if not kinds else ", ".join(f"{count} {kind}" for kind, count in kinds.items()),
        ]
        for kind in kinds:
            found = [finding for finding in self.findings if finding.kind == kind]
            exclude = "exclusion recommended: --write_exclusions FILE lists them" if found[0].exclude else "usable"
            lines.append(f"{kind} ({'skipped by every run' if kind == 'unusable' else exclude}):")
            if kind == "unexpected rate":  # a corpus of mixed rates has a line for each rate, not for each track
                lines += _by_detail(found)
                continue
            lines += [f"  {finding.track_id}: {finding.detail}" for finding in found[:50]]
            if len(found) > 50:
                lines.append(f"  and {len(found) - 50} more, all in the JSON report")
        return "\n".join(lines)


def _length(seconds: float) -> str:
    """Return a length in the largest unit of which there is one."""
    if seconds >= 3600:
        return f"{seconds / 3600:.2f} hours"
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.1f} seconds"


def _by_detail(findings: list[Finding]) -> list[str]:
    """Return one line for all findings that say the same."""
    ids: dict[str, list[str]] = {}
    for finding in findings:
        ids.setdefault(finding.detail, []).append(finding.track_id)
    return [
        f"  {same[0]}: {detail}" if len(same) == 1 else f"  {len(same)} tracks, the first {same[0]}: {detail}"
        for detail, same in ids.items()
    ]


@reading_cache()
def check_source(
    source: TrackSource, *, num_proc: int | None = None, shortest_seconds: float = SHORTEST_SECONDS
) -> CheckReport:
    """Decode all tracks of a source, with progress and in parallel, and report what is wrong with them.

    Of tracks that are the same recording the first (by id) is usable, the others are duplicates. Clipped tracks and those
    of an unusual rate are usable.
    """
    tracks = source.tracks()
    if "features" in tracks.column_names:
        return _feature_report(source, tracks, num_proc)
    return _audio_report(source, tracks, num_proc, shortest_seconds)


def _audio_report(
    source: TrackSource, tracks: datasets.Dataset, num_proc: int | None, shortest_seconds: float
) -> CheckReport:
    checked = cached_map(
        tracks,
        _check_track,
        ("checks", "decoding", "fingerprints"),
        features=CHECKED_FEATURES,
        remove_columns=[name for name in tracks.column_names if name not in CHECKED_FEATURES],
        num_proc=num_proc,
        desc="checking",
    )
    table = checked.remove_columns("fingerprint").to_list()
    known = source.genres()
    for row in table:
        # In the order in which loading asks. A dataset without any genres is for pre-training, and lacks none.
        row["problem"] = (
            source.reason_to_skip(row["track_id"])
            or row["problem"]
            or ("" if row["genre"] or not known else "no genre")
        )
    findings = [Finding(row["track_id"], "unusable", row["problem"], True) for row in table if row["problem"]]
    sound = [index for index, row in enumerate(table) if not row["problem"]]
    rates = Counter(table[index]["rate"] for index in sound)
    usual = rates.most_common(1)[0][0] if rates else 0
    for index in sound:
        row = table[index]
        if row["seconds"] < shortest_seconds:
            findings.append(Finding(row["track_id"], "too short", f"{row['seconds']:.2f} s", True))
        if row["truncation"]:
            findings.append(Finding(row["track_id"], "truncated", row["truncation"], False))
        if row["clipped"] > CLIPPED_SHARE:
            findings.append(Finding(row["track_id"], "clipped", f"{row['clipped']:.1%} of samples", False))
        if row["rate"] != usual:
            findings.append(
                Finding(row["track_id"], "unexpected rate", f"{row['rate']} Hz, most have {usual} Hz", False)
            )
    short = {finding.track_id for finding in findings if finding.exclude}
    long_enough = [row for row in sound if table[row]["track_id"] not in short]
    findings += _duplicates(
        [table[row]["track_id"] for row in long_enough],
        [table[row]["digest"] for row in long_enough],
        [np.asarray(checked[row]["fingerprint"], dtype=np.uint32) for row in long_enough],
        equal="the same samples as {0}",
        alike="the same recording as {0} for {1.shared_seconds:.1f} s ({1.bit_errors:.0%} of bits differ)",
    )
    left_out = {finding.track_id for finding in findings if finding.exclude}
    usable = [table[index] for index in sound if table[index]["track_id"] not in left_out]
    counts = _genre_counts(tracks, {row["track_id"] for row in usable})
    return CheckReport(
        data=source.describe(),
        tracks=len(table),
        usable=len(usable),
        genres={genre: counts[genre] for genre in [*known, *sorted(set(counts) - set(known))] if counts[genre]},
        empty_genres=[genre for genre in known if not counts[genre]] + source.empty_genres(),
        total_seconds=sum(row["seconds"] for row in usable),
        rates={str(rate): count for rate, count in rates.most_common()},
        findings=findings,
    )


def _genre_counts(tracks: datasets.Dataset, track_ids: set[str]) -> Counter[str]:
    """Return how many of these tracks each genre has; one with several genres counts for each of them."""
    pairs = zip(tracks["track_id"], genres_of(tracks), strict=True)
    return Counter(genre for track_id, genres in pairs if track_id in track_ids for genre in genres)


def _check_track(track: dict[str, Any]) -> dict[str, Any]:
    audio = track["audio"]
    row = {"track_id": track["track_id"], "genre": track["genre"], "problem": "", "truncation": "", "digest": ""}
    # Of the type of the others: datasets writes no mixture of lists and arrays.
    row |= {"seconds": 0.0, "rate": 0, "channels": 0, "clipped": 0.0, "fingerprint": np.zeros(0, np.uint32)}
    try:
        decoded = decode_audio(audio["bytes"] or audio["path"], CHECK_RATE, name=track["track_id"])
        waveform = decoded.waveform
        row |= {"rate": decoded.rate, "channels": decoded.channels, "seconds": decoded.seconds}
        row["truncation"] = decoded.truncation
        # Resampling overshoots where the original is cut off, so the peaks still show it.
        full_scale = np.abs(waveform) >= 0.999
        row["clipped"] = float((full_scale[1:] & full_scale[:-1]).mean()) if len(waveform) > 1 else 0.0
        row["digest"] = content_digest(waveform)
        row["fingerprint"] = fingerprint(waveform, CHECK_RATE)
    except AudioError as error:
        row["problem"] = error.reason
    return row


def _duplicates(
    ids: list[str],
    digests: list[str],
    fingerprints: list[np.ndarray],
    *,
    equal: str,
    alike: str,
    least_share: float = 0.0,
) -> list[Finding]:
    """Return one finding for each track that is the same recording as one with a smaller id.

    `equal` and `alike` word it; {0} is the id of the other track and {1} the `fingerprints.Match`.
    """
    order = sorted(range(len(ids)), key=ids.__getitem__)
    details: dict[str, str] = {}
    first_of: dict[str, str] = {}
    for index in order:
        original = first_of.setdefault(digests[index], ids[index])
        if original != ids[index]:
            details[ids[index]] = equal.format(original)
    for match in find_matches([fingerprints[index] for index in order], least_share=least_share):
        details.setdefault(ids[order[match.second]], alike.format(ids[order[match.first]], match))
    return [Finding(track_id, "duplicate", detail, True) for track_id, detail in details.items()]


def _feature_report(source: TrackSource, tracks: datasets.Dataset, num_proc: int | None) -> CheckReport:
    """Return the report of stored features: counts, what is broken, and duplicates."""
    findings, ids, digests, fingerprints = [], [], [], []
    problems = feature_problems(tracks, num_proc)
    rows = tracks.with_format("numpy", columns=["features"], output_all_columns=True)
    for row, problem in zip(rows, problems, strict=True):
        track_id = row["track_id"]
        problem = source.reason_to_skip(track_id) or problem or ("" if row["genre"] else "no genre")
        if problem:
            findings.append(Finding(track_id, "unusable", problem, True))
            continue
        values = np.asarray(row["features"])
        ids.append(track_id)
        digests.append(content_digest(values))
        fingerprints.append(stored_fingerprint(values))
    findings += _duplicates(
        ids,
        digests,
        fingerprints,
        equal="the same features as {0}",
        alike="nearly the same features as {0} ({1.bit_errors:.0%} of the bits of their fingerprints differ)",
        least_share=LEAST_SHARE_OF_FEATURES,
    )
    left_out = {finding.track_id for finding in findings if finding.exclude}
    kept = [track_id for track_id in tracks["track_id"] if track_id not in left_out]
    counts = _genre_counts(tracks, set(kept))
    return CheckReport(
        data=source.describe(),
        tracks=len(tracks),
        usable=len(kept),
        genres={genre: counts[genre] for genre in source.genres() if counts[genre]},
        empty_genres=[genre for genre in source.genres() if not counts[genre]],
        total_seconds=0.0,
        rates={},
        findings=findings,
    )
