"""Which tracks a checkpoint is judged by: what it was trained on is recognised by its content, under any name."""

from collections.abc import Mapping

from ..data.caching import COMPUTATIONS
from ..data.corpus import Corpus
from ..data.identity import KnownTrack, TrackIdentity, find_known, identify_tracks
from ..data.split_manifest import SIDES, SplitManifest
from ..errors import ConfigError, SplitError
from ..features.feature_extraction_windowed import WindowedFeatureExtractor


# How many recognised tracks a note names.
NAMED = 3
# The sides by which a checkpoint came about, the lesser use first.
_SEEN = ("validation", "train")


def choose_tracks(
    corpus: Corpus,
    manifest: SplitManifest | None,
    side: str,
    extractor: WindowedFeatureExtractor,
    *,
    num_proc: int | None = None,
) -> tuple[str, list[str], list[str]]:
    """Choose the tracks of a corpus that a checkpoint is judged by.

    Args:
        corpus: Audio or stored features.
        manifest: The split that the checkpoint was trained with, where it is known.
        side: `auto`, `all`, `unseen` or a side of that split; see `evaluate_checkpoint`.
        extractor: The checkpoint's front end.
        num_proc: Processes that fingerprint.

    Returns:
        The name of the side, its track ids, and what the reader of the result must be told.

    Raises:
        ConfigError: If no track is left to judge, or the checkpoint does not say what it was trained on.
        SplitError: If the record of the split is damaged.
    """
    available = list(corpus.tracks["track_id"])
    comparable = manifest is not None and manifest.fingerprint_version == COMPUTATIONS["fingerprints"].version
    if not comparable or not manifest.identities:
        if side not in ("auto", "all"):
            raise ConfigError(
                f"--side {side}: the checkpoint does not say what it was trained on (split.json is missing, or another "
                "version of hfmgc wrote it): use --side all"
            )
        reason = "is from another version of hfmgc" if manifest else "is missing"
        return "all", available, [f"training tracks cannot be recognised: the checkpoint's split.json {reason}"]
    found = _recognised(corpus, manifest, extractor, num_proc)
    chosen = manifest.evaluation_side if side == "auto" else side
    on_side = {track_id: known[chosen] for track_id, known in found.items() if chosen in known}
    there = len({known.track_id for known in on_side.values()})
    if side == "auto" and 2 * there < max(len(manifest.sides.get(chosen, [])), 1):
        chosen = "unseen"
    if chosen in SIDES:
        if not on_side:
            raise ConfigError(
                f"--side {chosen}: none of the {len(available)} tracks is on that side of the checkpoint's split; use "
                "--side unseen or --side all"
            )
        notes = _notes_of_side(manifest, side, chosen, on_side, there, len(available) - len(found))
        return chosen, list(on_side), notes + manifest.notes()
    seen = {track_id: (used, known[used]) for track_id, known in found.items() for used in _SEEN if used in known}
    if chosen == "all" or not seen:
        warning = "not a measure of how the model does on new music"
        notes = [f"{_said(seen, len(available))}: {warning}"] if seen else []
        return ("unseen" if side == "unseen" else "all"), available, notes
    unseen = [track_id for track_id in available if track_id not in seen]
    if not unseen:
        raise ConfigError(f"{_said(seen, len(available))}: --side all judges them all the same")
    return "unseen", unseen, [f"{_said(seen, len(available))}: excluded (--side all includes them)"]


def _recognised(
    corpus: Corpus, manifest: SplitManifest, extractor: WindowedFeatureExtractor, num_proc: int | None
) -> dict[str, dict[str, KnownTrack]]:
    """Return, for each track that the split's record knows, which track it is on each side where it is, in their order."""
    side_of = {track_id: side for side in reversed(SIDES) for track_id in manifest.sides.get(side, [])}
    try:
        known = {
            track_id: TrackIdentity.from_json(item)
            for track_id, item in manifest.identities.items()
            if track_id in side_of
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SplitError(f"split.json: damaged identities of tracks ({error}); use the original file") from error
    # Features are made of audio only for a model that knows its tracks by nothing else.
    needs_features = not any(identity.sound.any() for identity in known.values())
    tracks = identify_tracks(
        corpus.tracks, corpus.sampling_rate, extractor=extractor if needs_features else None, num_proc=num_proc
    )
    matches = find_known(tracks, known)
    found: dict[str, dict[str, KnownTrack]] = {}
    for track_id in tracks:
        # Of several on a side the one of that name, then one of equal content; a copy can be on several sides.
        for match in sorted(matches.get(track_id, []), key=lambda item: (item.track_id != track_id, not item.equal)):
            found.setdefault(track_id, {}).setdefault(side_of[match.track_id], match)
    return found


def _said(seen: Mapping[str, tuple[str, KnownTrack]], total: int) -> str:
    """Say how many tracks are known from training, and name some."""
    trained = sum(side == "train" for side, _ in seen.values())
    equal = sum(known.equal for _, known in seen.values())
    uses = [
        f"{count} {use}"
        for count, use in ((trained, "trained on"), (len(seen) - trained, "used to choose the checkpoint"))
        if count
    ]
    kinds = [
        f"{count} {kind}"
        for count, kind in ((equal, "by equal content"), (len(seen) - equal, "by how they sound"))
        if count
    ]
    more = ", ..." if len(seen) > NAMED else ""
    named = _named({track_id: known for track_id, (_, known) in seen.items()})
    return (
        f"{len(seen)} of the {total} tracks are known from training ({', '.join(uses)}; recognised "
        f"{', '.join(kinds)}): {named}{more}"
    )


def _named(matches: Mapping[str, KnownTrack]) -> str:
    return ", ".join(
        track_id if track_id == known.track_id else f"{track_id} is {known.track_id}"
        for track_id, known in list(matches.items())[:NAMED]
    )


def _notes_of_side(
    manifest: SplitManifest, asked: str, chosen: str, on_side: Mapping[str, KnownTrack], there: int, new: int
) -> list[str]:
    notes = [f"the {chosen} side of the checkpoint's own split, {manifest.digest[:19]}"]
    if asked == "auto":
        notes = [
            f"these data contain the {chosen} side of the checkpoint's split: only that side is judged (--side unseen: "
            "all tracks that it was not trained on; --side all: all tracks)"
        ]
    missing = len(manifest.sides[chosen]) - there
    if missing:
        notes.append(
            f"{missing} of the {len(manifest.sides[chosen])} tracks of that side are missing or unusable here"
        )
    renamed = {track_id: known for track_id, known in on_side.items() if known.track_id != track_id}
    if renamed:
        notes.append(f"{len(renamed)} of them have other names here, such as {_named(renamed)}")
    if new:
        notes.append(f"{new} tracks that are not in the split are excluded")
    return notes
