"""Lists of tracks to exclude from a run, written by `hfmgc check --write_exclusions` or by hand."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ...errors import DataError, saving_to
from ...files import write_text
from .tables import read_rows


def read_exclusions(path: str | Path) -> dict[str, str]:
    """Read a list of tracks to exclude; return track id -> reason.

    The list is a `.txt` with one track id per line, or a CSV, TSV, JSON or JSON Lines file with the field `track_id`
    and optionally `reason`, in UTF-8.

    Raises:
        DataError: If the list cannot be read, or a row has no track id.
        ConfigError: If the suffix is unknown.
    """
    excluded = {}
    for place, row in read_rows(Path(path), line_field="track_id"):
        track_id = "" if row.get("track_id") is None else str(row["track_id"])
        if not track_id.strip():
            raise DataError(f"{Path(path).name}, {place}: no track_id: fill it, or delete the row")
        excluded[track_id] = str(row.get("reason") or "").strip() or "no reason given"
    return excluded


def write_exclusions(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    """Write pairs of track id and reason to a CSV for `read_exclusions`."""
    table = pd.DataFrame(rows, columns=["track_id", "reason"])
    with saving_to(path):
        write_text(path, table.to_csv(index=False, lineterminator="\n"))


def describe_exclusions(excluded: Mapping[str, str], track_ids: Iterable[str]) -> dict[str, Any] | None:
    """Return a summary of the excluded tracks (id -> reason) for results, or None if no track is excluded.

    It counts the reasons by their text before the first colon. The digest covers the excluded ids that are in the
    data.
    """
    if not excluded:
        return None
    found = sorted(set(track_ids).intersection(excluded))
    return {
        "tracks": len(found),
        "reasons": dict(Counter(excluded[track_id].partition(":")[0] for track_id in found).most_common()),
        "not_in_the_data": len(excluded) - len(found),
        "digest": f"sha256:{hashlib.sha256(chr(10).join(found).encode()).hexdigest()}" if found else None,
    }


def exclusions_text(described: Mapping[str, Any] | None) -> str:
    """Return the summary of `describe_exclusions` as one line."""
    if described is None:
        return "no tracks excluded"
    reasons = ", ".join(f"{count} {reason}" for reason, count in described["reasons"].items())
    line = f"{described['tracks']} tracks excluded" + (f" ({reasons})" if reasons else "")
    if described["not_in_the_data"]:
        line += f"; {described['not_in_the_data']} ids of the exclusion list are not in the data"
    return line
