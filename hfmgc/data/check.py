"""`hfmgc check`: decode everything and report broken, truncated, short, silent, clipped and duplicate tracks.

A check changes nothing. A run excludes duplicates and short tracks if it is given the list of `CheckReport.exclusions`.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np

from ..errors import AudioError
from .audio import SHORTEST_SECONDS, decode_audio
from .caching import cached_map, reading_cache
from .identity import TrackIdentity, identify_tracks, track_identity
from .leaks import find_copies
from .names import distinct_names, genres_of, one_spelling, spelling_note
from .sources.contract import TrackSource
from .sources.feature_rows import feature_problems


# In Hz: enough for fingerprints and the other measures, and the same for all tracks.
CHECK_RATE = 16000
# Share of samples at full scale whose neighbour is too: a limiter leaves single ones, overdriven recordings runs.
CLIPPED_SHARE = 0.005

CHECKED_FEATURES = datasets.Features(
    {
        "track_id": datasets.Value("string"),
        "genre": datasets.Value("string"),
        "problem": datasets.Value("string"),
        "truncation": datasets.Value("string"),
        "seconds": datasets.Value("float64"),
        "rate": datasets.Value("int64"),
        "clipped": datasets.Value("float64"),
        "digest": datasets.Value("string"),
        "fingerprint": datasets.List(datasets.Value("uint32")),
    }
)
# Of a track whose sound is unknown.
_NOTHING = {"problem": "", "truncation": "", "seconds": 0.0, "rate": 0, "clipped": 0.0}


@dataclass(frozen=True)
class Finding:
    """A problem of a track. `exclude`: excluding the track is recommended."""

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
    notes: list[str] = field(default_factory=list)
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
        """Return the report as text."""
        kinds = Counter(finding.kind for finding in self.findings)
        rates = ", ".join(f"{count} at {rate} Hz" for rate, count in self.rates.items())
        lines = [
            f"{self.data['name']} ({self.data['location']}): {self.tracks} tracks, {self.usable} usable"
            + (f", {_length(self.total_seconds)}; {rates}" if rates else ""),
            *(f"  {genre:<24}{count:>8} usable" for genre, count in self.genres.items()),
            *(f"  {genre:<24}{'no tracks':>8}" for genre in self.empty_genres),
            *(["no genres: for pre-training alone"] if not (self.genres or self.empty_genres) else []),
            *(f"note: {note}" for note in self.notes),
            "nothing to report" if not kinds else ", ".join(f"{count} {kind}" for kind, count in kinds.items()),
        ]
        for kind in kinds:
            found = [finding for finding in self.findings if finding.kind == kind]
            exclude = "exclusion recommended: --write_exclusions FILE lists them" if found[0].exclude else "usable"
            lines.append(f"{kind} ({'skipped by every run' if kind == 'unusable' else exclude}):")
            if kind == "unexpected rate":  # a corpus of mixed rates has a line for each rate, not for each track
                first = {finding.detail: finding.track_id for finding in reversed(found)}
                for detail, count in Counter(finding.detail for finding in found).items():
                    tracks = f"{count} tracks, the first " if count > 1 else ""
                    lines.append(f"  {tracks}{first[detail]}: {detail}")
                continue
            lines += [f"  {finding.track_id}: {finding.detail}" for finding in found[:50]]
            if len(found) > 50:
                lines.append(f"  and {len(found) - 50} more, all in the JSON report")
        return "\n".join(lines)


def _length(seconds: float) -> str:
    """Return a duration in hours, minutes or seconds."""
    if seconds >= 3600:
        return f"{seconds / 3600:.2f} hours"
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.1f} seconds"


@reading_cache()
def check_source(
    source: TrackSource, *, num_proc: int | None = None, shortest_seconds: float = SHORTEST_SECONDS
) -> CheckReport:
    """Decode all tracks of a source, in parallel and with progress, and report their problems.

    Of several copies of a recording the first (by id) is usable, the others are duplicates. Clipped and truncated tracks
    and those of an unusual rate are usable.
    """
    tracks = source.tracks()
    is_audio = "features" not in tracks.column_names
    rows = (_check_audio if is_audio else _check_features)(tracks, num_proc)
    spelling = one_spelling(source.genres())
    for row in rows:
        # In the order of decode_corpus; data without any genres, for pre-training, lack none.
        without = "no genre" if spelling and not row["genre"] else ""
        row["problem"] = source.reason_to_skip(row["track_id"]) or row["problem"] or without
    findings = [Finding(row["track_id"], "unusable", row["problem"], True) for row in rows if row["problem"]]
    rows = [row for row in rows if not row["problem"]]
    rates = Counter(row["rate"] for row in rows if row["rate"])
    usual = rates.most_common(1)[0][0] if rates else 0
    for row in rows:
        track_id = row["track_id"]
        if is_audio and row["seconds"] < shortest_seconds:
            findings.append(Finding(track_id, "too short", f"{row['seconds']:.2f} s", True))
        if row["truncation"]:
            findings.append(Finding(track_id, "truncated", row["truncation"], False))
        if row["clipped"] > CLIPPED_SHARE:
            findings.append(Finding(track_id, "clipped", f"{row['clipped']:.1%} of samples", False))
        if row["rate"] != usual:
            findings.append(Finding(track_id, "unexpected rate", f"{row['rate']} Hz, most have {usual} Hz", False))
    excluded = {finding.track_id for finding in findings if finding.exclude}
    candidates = {row["track_id"]: row["identity"] for row in rows if row["track_id"] not in excluded}
    duplicates = _duplicates(dict(sorted(candidates.items())), "samples" if is_audio else "features")
    usable_ids = candidates.keys() - {finding.track_id for finding in duplicates}
    counts = Counter(
        genre
        for track_id, genres in zip(tracks["track_id"][:], genres_of(tracks), strict=True)
        if track_id in usable_ids
        for genre in {spelling.get(genre, genre) for genre in genres}
    )
    known = distinct_names(spelling)
    return CheckReport(
        data=source.describe(),
        tracks=len(tracks),
        usable=len(usable_ids),
        genres={genre: counts[genre] for genre in known if counts[genre]},
        empty_genres=[genre for genre in known if not counts[genre]] + source.empty_genres(),
        total_seconds=sum(row["seconds"] for row in rows if row["track_id"] in usable_ids),
        rates={str(rate): count for rate, count in rates.most_common()},
        notes=list(filter(None, [spelling_note(spelling)])),
        findings=findings + duplicates,
    )


def _duplicates(tracks: dict[str, TrackIdentity], content: str) -> list[Finding]:
    """Return a finding for each track that is a copy of an earlier one."""
    ids, details = list(tracks), {}
    for copy in find_copies(list(tracks.values()), content):
        details.setdefault(ids[copy.second], f"{copy.what} as {ids[copy.first]}{copy.extent}")
    return [Finding(track_id, "duplicate", detail, True) for track_id, detail in details.items()]


def _check_audio(tracks: datasets.Dataset, num_proc: int | None) -> list[dict[str, Any]]:
    """Return the findings of `_check_track` for each track, and its `identity`."""
    checked = cached_map(
        tracks,
        _check_track,
        ("checks", "decoding", "fingerprints"),
        features=CHECKED_FEATURES,
        remove_columns=[name for name in tracks.column_names if name not in CHECKED_FEATURES],
        num_proc=num_proc,
        desc="checking",
    )
    words = checked.select_columns("fingerprint").with_format("numpy")
    return [
        {**row, "identity": TrackIdentity(row["digest"], word["fingerprint"])}
        for row, word in zip(checked.remove_columns("fingerprint").to_list(), words, strict=True)
    ]


def _check_track(track: dict[str, Any]) -> dict[str, Any]:
    audio = track["audio"]
    row = {**_NOTHING, "track_id": track["track_id"], "genre": track["genre"], "digest": ""}
    try:
        decoded = decode_audio(audio["bytes"] or audio["path"], CHECK_RATE, name=track["track_id"])
    except AudioError as error:
        # An array as in the other rows: datasets cannot write a mixture of lists and arrays.
        return {**row, "problem": error.reason, "fingerprint": np.zeros(0, np.uint32)}
    waveform = decoded.waveform
    # Resampling overshoots at clipped peaks, so they still reach full scale.
    full_scale = np.abs(waveform) >= 0.999
    clipped = float((full_scale[1:] & full_scale[:-1]).mean()) if len(waveform) > 1 else 0.0
    measures = {"rate": decoded.rate, "seconds": decoded.seconds, "truncation": decoded.truncation, "clipped": clipped}
    return {**row, **measures, **track_identity(waveform, CHECK_RATE)}


def _check_features(tracks: datasets.Dataset, num_proc: int | None) -> list[dict[str, Any]]:
    """Return the problem of each track of stored features, and the `identity` of the usable ones."""
    problems = feature_problems(tracks, num_proc)
    usable = tracks.select([row for row, problem in enumerate(problems) if not problem])
    usable = usable.with_format("numpy", columns=["features"], output_all_columns=True)
    identities = identify_tracks(usable, CHECK_RATE, num_proc=num_proc)
    return [
        {**_NOTHING, "track_id": name, "genre": genre, "problem": problem, "identity": identities.get(name)}
        for name, genre, problem in zip(tracks["track_id"][:], tracks["genre"][:], problems, strict=True)
    ]
