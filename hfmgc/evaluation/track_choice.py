"""Choose the tracks on which a checkpoint is evaluated; its training tracks are recognised by content, under any name."""

from collections.abc import Mapping

from ..data.caching import COMPUTATIONS
from ..data.corpus import Corpus
from ..data.identity import KnownTrack, TrackIdentity, find_known, identify_tracks
from ..data.split_manifest import SIDES, SplitManifest
from ..errors import ConfigError, SplitError
from ..features.feature_extraction_windowed import WindowedFeatureExtractor


MAX_NAMES = 3  # recognised tracks that a note names
ONLY_COPIES = (
    "the checkpoint was trained on a table of features, whose rows are recognised only by equal values: other versions of "
    "its training tracks, such as their audio, can be among the evaluated tracks"
)


def choose_tracks(
    corpus: Corpus,
    manifest: SplitManifest | None,
    side: str,
    extractor: WindowedFeatureExtractor,
    *,
    num_proc: int | None = None,
) -> tuple[str, list[str], list[str]]:
    """Return the name of the evaluated side (see `evaluate_checkpoint`), its track ids, and notes for the report.

    Raises:
        ConfigError: If no track is left, or the checkpoint does not record its training tracks.
        SplitError: If the record of the split is damaged.
    """
    available = corpus.tracks["track_id"][:]
    comparable = manifest is not None and manifest.fingerprint_version == COMPUTATIONS["fingerprints"].version
    if not comparable or not manifest.identities:
        if side not in ("auto", "all"):
            raise ConfigError(
                f"--side {side}: the checkpoint does not record its training tracks (split.json is missing, or "
                "another version of hfmgc wrote it): use --side all"
            )
        reason = "is from another version of hfmgc" if manifest else "is missing"
        return "all", available, [f"training tracks cannot be recognised: the checkpoint's split.json {reason}"]
    matches = _match_tracks(corpus, manifest, extractor, num_proc)
    chosen = manifest.evaluation_side if side == "auto" else side
    on_side = {track_id: sides[chosen] for track_id, sides in matches.items() if chosen in sides}
    # Copies of a track that the data hold under its own name are excluded: the track would count several times.
    originals = {track_id for track_id, match in on_side.items() if match.track_id == track_id}
    copies = {track_id for track_id, match in on_side.items() if match.track_id in originals} - originals
    on_side = {track_id: match for track_id, match in on_side.items() if track_id not in copies}
    size, present = len(manifest.sides.get(chosen, [])), len({match.track_id for match in on_side.values()})
    if side == "auto" and 2 * present < max(size, 1):
        chosen = "unseen"
    if chosen not in SIDES:
        return _choose_unseen(available, matches, manifest, side)
    if not on_side:
        raise ConfigError(
            f"--side {chosen}: none of the {len(available)} tracks is on that side of the checkpoint's split: use "
            "--side unseen or --side all"
        )
    notes = [f"evaluated on the {chosen} side of the checkpoint's split, {manifest.digest[:19]}"]
    if side == "auto":
        notes[0] += " (--side unseen: all tracks outside its training; --side all: all tracks)"
    if present < size:
        notes.append(f"{size - present} of the {size} tracks of that side are missing or unusable in these data")
    renamed = {track_id: match for track_id, match in on_side.items() if match.track_id != track_id}
    if renamed:
        notes.append(f"{len(renamed)} of them have other names in these data, such as {_names(renamed)}")
    outside = len(available) - len(matches) + len(copies)
    if outside:
        notes.append(f"{outside} tracks that are not in the split are excluded")
    return chosen, list(on_side), notes + manifest.notes()


def _choose_unseen(
    available: list[str], matches: Mapping[str, Mapping[str, KnownTrack]], manifest: SplitManifest, side: str
) -> tuple[str, list[str], list[str]]:
    """Return what `choose_tracks` returns, without the tracks known from training unless `side` is `all`."""
    seen = {
        track_id: sides.get("train") or sides["validation"]
        for track_id, sides in matches.items()
        if "train" in sides or "validation" in sides
    }
    exact_only = not any(item.keys() & {"sound", "features"} for item in manifest.identities.values())
    notes = [ONLY_COPIES] if exact_only else []
    if not seen:
        return ("unseen" if side == "unseen" else "all"), available, notes
    trained = sum("train" in matches[track_id] for track_id in seen)
    note = (
        f"{len(seen)} of the {len(available)} tracks are known from training ({trained} from the training side, "
        f"{len(seen) - trained} from the validation side): {_names(seen)}"
    )
    if side == "all":
        return "all", available, [f"{note}: not a measure of the model's quality on new music", *notes]
    unseen = [track_id for track_id in available if track_id not in seen]
    if not unseen:
        raise ConfigError(f"{note}: no track is left: use --side all to evaluate all of them")
    return "unseen", unseen, [f"{note}: excluded (--side all includes them)", *notes]


def note_earlier_training(manifest: SplitManifest, earlier: SplitManifest, name: str) -> list[str]:
    """Return a note if evaluation tracks of a split were on the training side of `earlier`, the split of checkpoint `name`.

    Splits with another version of the fingerprints cannot be compared.
    """
    if manifest.digest == earlier.digest or manifest.fingerprint_version != earlier.fingerprint_version:
        return []
    evaluated, trained = (
        {
            track_id: TrackIdentity.from_json(split.identities[track_id])
            for track_id in split.sides.get(side, [])
            if track_id in split.identities
        }
        for split, side in ((manifest, manifest.evaluation_side), (earlier, "train"))
    )
    matches = find_known(evaluated, trained)
    if not matches:
        return []
    return [
        f"{len(matches)} of the {len(evaluated)} {manifest.evaluation_side} tracks were on the training side of {name}, from "
        f"which this run started ({_names({track_id: found[0] for track_id, found in matches.items()})}), so the result may be "
        "optimistic: split_manifest repeats the split of an earlier run"
    ]


def _match_tracks(
    corpus: Corpus, manifest: SplitManifest, extractor: WindowedFeatureExtractor, num_proc: int | None
) -> dict[str, dict[str, KnownTrack]]:
    """Return track id -> side -> matching track of the split, for the tracks that match one, in the order of the corpus."""
    side_of = {track_id: side for side in reversed(SIDES) for track_id in manifest.sides.get(side, [])}
    try:
        known = {
            track_id: TrackIdentity.from_json(item)
            for track_id, item in manifest.identities.items()
            if track_id in side_of
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SplitError(f"split.json: the identities of tracks are damaged ({error}): restore the file") from error
    # Features of audio are computed only if the split identifies its tracks by features.
    needs_features = not any(identity.sound.any() for identity in known.values())
    tracks = identify_tracks(
        corpus.tracks, corpus.sampling_rate, extractor=extractor if needs_features else None, num_proc=num_proc
    )
    candidates = find_known(tracks, known)
    matches: dict[str, dict[str, KnownTrack]] = {}
    for track_id in tracks:
        # If a side has several candidates, the same name comes first, then equal content. A copy can be on several sides.
        for match in sorted(
            candidates.get(track_id, []), key=lambda item: (item.track_id != track_id, not item.equal)
        ):
            matches.setdefault(track_id, {}).setdefault(side_of[match.track_id], match)
    return matches


def _names(matches: Mapping[str, KnownTrack]) -> str:
    """Return the first track ids, with those in the split where they differ."""
    names = [
        track_id if track_id == match.track_id else f"{track_id} is {match.track_id}"
        for track_id, match in list(matches.items())[:MAX_NAMES]
    ]
    return ", ".join([*names, *(["..."] if len(matches) > MAX_NAMES else [])])
