"""`hfmgc check`: decode all tracks and report broken, truncated, short, silent, clipped and duplicate tracks.

A check changes nothing. Runs exclude the reported duplicates and short tracks only if they are given
`CheckReport.exclusions` as an exclusion list.
"""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import datasets
import numpy as np

from ..errors import AudioError
from .audio import SHORTEST_SECONDS, decode_audio
from .caching import cached_map, reading_cache
from .corpus import reasons_to_skip
from .identity import TrackIdentity, identify_tracks, track_identity
from .leaks import find_copies
from .names import distinct_names, genres_of, one_spelling, spelling_note
from .sources.contract import TrackSource
from .sources.feature_rows import feature_problems


# Hz; enough for fingerprints and the other measures.
CHECK_RATE = 16000
# Share of samples at full scale with a neighbour at full scale: clipping causes runs of them, a limiter only single ones.
CLIPPED_SHARE = 0.005
# Lines for each kind of finding in the text.
MAX_LINES = 50

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
# Values of a track without decoded audio.
_NO_AUDIO = {"problem": "", "truncation": "", "seconds": 0.0, "rate": 0, "clipped": 0.0}


@dataclass(frozen=True)
class Finding:
    """A problem of a track."""

    track_id: str
    kind: str
    detail: str
    exclude: bool  # whether the check recommends excluding the track


@dataclass(frozen=True)
class CheckReport:
    """The result of `hfmgc check`."""

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
        """Return the report as plain values for JSON."""
        return asdict(self)

    def exclusions(self) -> list[tuple[str, str]]:
        """Return track id and reason of the recommended exclusions; every run skips unusable tracks by itself."""
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
            + (f", {_format_duration(self.total_seconds)}; {rates}" if rates else ""),
            *(f"  {genre:<24}{count:>8} usable" for genre, count in self.genres.items()),
            *(f"  {genre:<24}{'no tracks':>8}" for genre in self.empty_genres),
            *(["no genres: for pre-training only"] if not (self.genres or self.empty_genres) else []),
            *(f"note: {note}" for note in self.notes),
            "nothing to report" if not kinds else ", ".join(f"{count} {kind}" for kind, count in kinds.items()),
        ]
        for kind in kinds:
            findings = [finding for finding in self.findings if finding.kind == kind]
            exclude = "exclusion recommended: --write_exclusions FILE lists them" if findings[0].exclude else "usable"
            lines.append(f"{kind} ({'skipped by every run' if kind == 'unusable' else exclude}):")
            if kind == "unexpected rate":  # one line per rate, not per track
                first = {finding.detail: finding.track_id for finding in reversed(findings)}
                for detail, count in Counter(finding.detail for finding in findings).items():
                    tracks = f"{count} tracks, the first " if count > 1 else ""
                    lines.append(f"  {tracks}{first[detail]}: {detail}")
                continue
            lines += [f"  {finding.track_id}: {finding.detail}" for finding in findings[:MAX_LINES]]
            if len(findings) > MAX_LINES:
                lines.append(f"  and {len(findings) - MAX_LINES} more, all in the JSON report")
        return "\n".join(lines)


def _format_duration(seconds: float) -> str:
    """Return a duration in hours, minutes or seconds."""
    if seconds >= 3600:
        return f"{seconds / 3600:.2f} hours"
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.1f} seconds"


@reading_cache()
def check_source(
    source: TrackSource, *, num_proc: int | None = None, shortest_seconds: float = SHORTEST_SECONDS
) -> CheckReport:
    """Decode all tracks of a source with `num_proc` processes, and report their problems.

    If a recording has several copies, the first (by id) is usable and the others are duplicates. Clipped and truncated
    tracks are usable, and so are tracks with an unusual sampling rate.
    """
    tracks = source.tracks()
    is_audio = "features" not in tracks.column_names
    rows = (_check_audio if is_audio else _check_features)(tracks, num_proc)
    spelling = one_spelling(source.genres())
    # Sources without genres are for pre-training, where tracks need none.
    for row, reason in zip(rows, reasons_to_skip(tracks, source, labelled=bool(spelling)), strict=True):
        row["problem"] = reason or row["problem"]
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
    labels = distinct_names(spelling)
    return CheckReport(
        data=source.describe(),
        tracks=len(tracks),
        usable=len(usable_ids),
        genres={genre: counts[genre] for genre in labels if counts[genre]},
        empty_genres=[genre for genre in labels if not counts[genre]] + source.empty_genres(),
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
    """Return the row of `_check_track` for each track, with an `identity` in place of the fingerprint."""
    table = cached_map(
        tracks,
        _check_track,
        ("checks", "decoding", "fingerprints"),
        features=CHECKED_FEATURES,
        remove_columns=[name for name in tracks.column_names if name not in CHECKED_FEATURES],
        num_proc=num_proc,
        desc="checking",
    )
    fingerprints = table.select_columns("fingerprint").with_format("numpy")
    return [
        {**row, "identity": TrackIdentity(row["digest"], fingerprint["fingerprint"])}
        for row, fingerprint in zip(table.remove_columns("fingerprint").to_list(), fingerprints, strict=True)
    ]


def _check_track(track: dict[str, Any]) -> dict[str, Any]:
    audio = track["audio"]
    row = {**_NO_AUDIO, "track_id": track["track_id"], "genre": track["genre"], "digest": ""}
    try:
        decoded = decode_audio(audio["bytes"] or audio["path"], CHECK_RATE, name=track["track_id"])
    except AudioError as error:
        # An array, as in the rows without a problem: datasets cannot write lists and arrays into one column.
        return {**row, "problem": error.reason, "fingerprint": np.zeros(0, np.uint32)}
    waveform = decoded.waveform
    # Clipped peaks stay at full scale after resampling, which overshoots there.
    is_full_scale = np.abs(waveform) >= 0.999
    clipped = float((is_full_scale[1:] & is_full_scale[:-1]).mean()) if len(waveform) > 1 else 0.0
    measures = {"rate": decoded.rate, "seconds": decoded.seconds, "truncation": decoded.truncation, "clipped": clipped}
    return {**row, **measures, **track_identity(waveform, CHECK_RATE)}


def _check_features(tracks: datasets.Dataset, num_proc: int | None) -> list[dict[str, Any]]:
    """Return a row for each track of stored features, as `_check_audio` does; unusable tracks have no `identity`."""
    problems = feature_problems(tracks, num_proc)
    usable = tracks.select([row for row, problem in enumerate(problems) if not problem])
    usable = usable.with_format("numpy", columns=["features"], output_all_columns=True)
    identities = identify_tracks(usable, CHECK_RATE, num_proc=num_proc)
    return [
        {**_NO_AUDIO, "track_id": track_id, "problem": problem, "identity": identities.get(track_id)}
        for track_id, problem in zip(tracks["track_id"][:], problems, strict=True)
    ]
