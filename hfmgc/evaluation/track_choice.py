"""Which tracks a checkpoint is judged by: what it was trained on is recognised by its content, under any name."""

from collections.abc import Mapping, Sequence

from ..data.caching import COMPUTATIONS
from ..data.corpus import Corpus
from ..data.identity import KnownTrack, TrackIdentity, find_known, identify_tracks
from ..data.split_manifest import SIDES, SplitManifest
from ..errors import ConfigError, SplitError
from ..features.feature_extraction_windowed import WindowedFeatureExtractor


# How many recognised tracks a note names.
NAMED = 3


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
    on_side = [track_id for track_id in available if track_id in found and found[track_id][0] == chosen]
    there = len({found[track_id][1].track_id for track_id in on_side})
    listed = len(manifest.sides.get(chosen, []))
    if side == "auto" and 2 * there < max(listed, 1):
        chosen = "unseen"
    if chosen in SIDES:
        if not on_side:
            raise ConfigError(
                f"--side {chosen}: none of the {len(available)} tracks is on that side of the checkpoint's split; use "
                "--side unseen or --side all"
            )
        return chosen, on_side, _notes_of_side(manifest, side, chosen, on_side, there, found, len(available))
    seen = [track_id for track_id in available if track_id in found and found[track_id][0] != "test"]
    if chosen == "all" or not seen:
        warning = "not a measure of how the model does on new music"
        return "all", available, [f"{_said(seen, found, len(available))}: {warning}"] if seen else []
    unseen = [track_id for track_id in available if track_id not in set(seen)]
    if not unseen:
        raise ConfigError(f"{_said(seen, found, len(available))}: --side all judges them all the same")
    return "unseen", unseen, [f"{_said(seen, found, len(available))}: excluded (--side all includes them)"]


def _recognised(
    corpus: Corpus, manifest: SplitManifest, extractor: WindowedFeatureExtractor, num_proc: int | None
) -> dict[str, tuple[str, KnownTrack]]:
    """Return, for each track that the split's record knows, its side there and the track that it is."""
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
    found = {}
    for track_id, candidates in find_known(tracks, known).items():
        # Of copies on several sides: the track of that name, then what was trained on.
        best = min(candidates, key=lambda item: (item.track_id != track_id, SIDES.index(side_of[item.track_id])))
        found[track_id] = side_of[best.track_id], best
    return found


def _said(track_ids: Sequence[str], found: Mapping[str, tuple[str, KnownTrack]], total: int) -> str:
    """Say how many tracks are known from training, and name some."""
    matches = {track_id: found[track_id] for track_id in track_ids}
    trained = sum(side == "train" for side, _ in matches.values())
    equal = sum(known.equal for _, known in matches.values())
    uses = [
        f"{count} {use}"
        for count, use in ((trained, "trained on"), (len(matches) - trained, "used to choose the checkpoint"))
        if count
    ]
    kinds = [
        f"{count} {kind}"
        for count, kind in ((equal, "by equal content"), (len(matches) - equal, "by how they sound"))
        if count
    ]
    more = ", ..." if len(matches) > NAMED else ""
    return (
        f"{len(matches)} of the {total} tracks are known from training ({', '.join(uses)}; recognised "
        f"{', '.join(kinds)}): {_named(matches)}{more}"
    )


def _named(matches: Mapping[str, tuple[str, KnownTrack]]) -> str:
    return ", ".join(
        track_id if track_id == known.track_id else f"{track_id} is {known.track_id}"
        for track_id, (_, known) in list(matches.items())[:NAMED]
    )


def _notes_of_side(
    manifest: SplitManifest,
    asked: str,
    chosen: str,
    track_ids: Sequence[str],
    there: int,
    found: Mapping[str, tuple[str, KnownTrack]],
    available: int,
) -> list[str]:
    notes = [f"the {chosen} side of the checkpoint's own split, {manifest.digest[:19]}"]
    if asked == "auto":
        notes = [
            f"these data contain the {chosen} side of the checkpoint's split: only that side is judged (--side unseen: "
            "all tracks that it was not trained on; --side all: all tracks)"
        ]
    if manifest.incomplete:
        notes.append(manifest.incomplete)
    missing = len(manifest.sides[chosen]) - there
    if missing:
        notes.append(
            f"{missing} of the {len(manifest.sides[chosen])} tracks of that side are missing or unusable here"
        )
    renamed = {track_id: found[track_id] for track_id in track_ids if found[track_id][1].track_id != track_id}
    if renamed:
        notes.append(f"{len(renamed)} of them have other names here, such as {_named(renamed)}")
    new = available - len(found)
    if new:
        notes.append(f"{new} tracks that are not in the split are excluded")
    return notes
