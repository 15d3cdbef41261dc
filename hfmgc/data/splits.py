"""Split policies, which assign each track to a side; all slices of a track stay on one side."""

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np

from ..errors import ConfigError, SplitError, did_you_mean
from ..randomness import example_generator
from .names import distinct_names, genres_of, normalize_name
from .sources.contract import TrackSource
from .split_manifest import SIDES, SplitManifest


# Policies that draw the sides at random. The sides of the other policies are published (`TrackSource.published_sides`).
DRAWN_POLICIES = ("stratified", "grouped")
POLICIES = (*DRAWN_POLICIES, "official", "fault_filtered", "artist_folds")


def parse_ratios(ratios: str) -> list[int]:
    """Return [train, validation, test] from `8:1:1`, or from `4:1` for a split without a test side.

    Raises:
        ConfigError: If the ratios have another form.
    """
    parts = str(ratios).split(":")
    if len(parts) not in (2, 3) or not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(f'split_ratios: {ratios!r} is not of the form train:validation:test, such as "8:1:1"')
    numbers = [int(part) for part in parts] + [0] * (3 - len(parts))
    if numbers[0] == 0 or numbers[1] == 0:
        raise ConfigError(f"split_ratios: {ratios!r} leaves the training or the validation side empty: use 8:1:1")
    return numbers


def split_corpus(
    tracks: datasets.Dataset,
    source: TrackSource,
    *,
    policy: str,
    ratios: str = "8:1:1",
    seed: int = 0,
    fold: int = 1,
    manifest: str | Path | None = None,
) -> SplitManifest:
    """Split the usable tracks of a source by a policy, or repeat the split of a `manifest`.

    `ratios` and `seed` apply to `DRAWN_POLICIES`. `fold` (from 1) is the test side under `artist_folds`.

    Raises:
        SplitError: If the split cannot be made, or would leave a side empty.
        ConfigError: If the policy, ratios or fold do not exist.
    """
    if manifest:
        return _repeat_split(manifest, tracks, source)
    numbers = check_split(source, policy=policy, ratios=ratios)
    is_drawn = policy in DRAWN_POLICIES
    notes, incomplete = [source.split_note(policy)], None
    if is_drawn:
        _check_genres(tracks, source)
        sides = _draw_sides(tracks, policy, numbers, seed)
        if _has_several_genres(tracks):
            notes.append("tracks with several genres were divided by the first genre of each")
    else:
        sides, incomplete = _published_sides(tracks, source, policy, fold)
    return SplitManifest(
        dataset=source.card.name,
        revision=source.revision,
        policy=policy if policy != "artist_folds" else f"artist_folds, fold {fold}",
        ratios=numbers if is_drawn else [],
        seed=seed if is_drawn else 0,
        sides=sides,
        comparable_note="; ".join(filter(None, notes)) or None,
        incomplete=incomplete,
        genres=distinct_names(source.genres()),
    )


def check_policy(policy: str) -> None:
    """Raise a ConfigError if no dataset has this policy."""
    if policy not in POLICIES:
        raise ConfigError(f"split_policy {policy!r} does not exist{did_you_mean(str(policy), POLICIES)}")


def check_split(source: TrackSource, *, policy: str, ratios: str) -> list[int]:
    """Check the settings of a split before its tracks are read; return the ratios as numbers.

    Raises:
        ConfigError: If the policy does not exist, the source does not have it, or the ratios have another form.
    """
    check_policy(policy)
    if policy not in source.split_policies:
        raise ConfigError(
            f"split_policy: {source.card.name} has no split {policy!r}; choose one of {', '.join(source.split_policies)}"
        )
    return parse_ratios(ratios)


def _draw_sides(tracks: datasets.Dataset, policy: str, ratios: list[int], seed: int) -> dict[str, list[str]]:
    if policy == "grouped":
        return grouped_split(tracks["track_id"], tracks["genre"], tracks["artist"], ratios=ratios, seed=seed)
    strata = _strata(tracks, smallest=sum(ratio > 0 for ratio in ratios))
    return stratified_split(tracks["track_id"], strata, ratios=ratios, seed=seed)


def _strata(tracks: datasets.Dataset, *, smallest: int) -> list[str]:
    """Return the stratum of each track: its genre, or for data with several genres per track the first genre.

    First genres of fewer than `smallest` tracks form one stratum (""), so that data with rare first genres can be split.
    If this stratum is too small as well, its tracks join the largest one.
    """
    genres = tracks["genre"][:]
    if not _has_several_genres(tracks):
        return genres
    counts = Counter(genres)
    strata = [genre if counts[genre] >= smallest else "" for genre in genres]
    if 0 < strata.count("") < smallest:
        largest = min(counts, key=lambda genre: (-counts[genre], genre))
        strata = [genre or largest for genre in strata]
    return strata


def _has_several_genres(tracks: datasets.Dataset) -> bool:
    return any(len(genres) > 1 for genres in genres_of(tracks))


def _published_sides(
    tracks: datasets.Dataset, source: TrackSource, policy: str, fold: int
) -> tuple[dict[str, list[str]], str | None]:
    """Return the available tracks of each side of a published split, and a note on its missing tracks, if any."""
    lists = source.published_sides(policy, fold)
    incomplete = _note_missing(tracks, source, policy, lists)
    _check_genres(tracks, source)
    available = set(tracks["track_id"][:])
    sides = {side: sorted(available.intersection(lists[side])) for side in SIDES}
    if policy == "artist_folds":
        sides |= _draw_validation_artists(tracks, sides["train"], fold)
    for side in SIDES:
        is_optional = side == "test" and not lists["test"]
        if not sides[side] and not is_optional:
            hint = f"none of its listed tracks is in {source.title}"
            if not lists[side]:
                hint = f"{source.title} lists none; choose another split_policy"
            raise SplitError(f"split_policy {policy!r} leaves no track for {side}: {hint}")
    return sides, incomplete


def _note_missing(
    tracks: datasets.Dataset, source: TrackSource, policy: str, lists: dict[str, list[str]]
) -> str | None:
    """Return a note on listed tracks that are missing, or None if there are none.

    Raises:
        SplitError: If the lists are empty, or no listed track is available.
    """
    listed = set().union(*lists.values())
    if not listed:
        raise SplitError(f"{source.title} has no {policy} split: choose another split_policy")
    available = set(tracks["track_id"][:])
    if not available & listed:
        raise SplitError(
            f"the {policy} lists match none of the {len(available)} tracks of {source.location}: the lists have ids like "
            f"{min(listed)!r}, the tracks have ids like {min(available)!r}"
        )
    missing = {side: sorted(set(lists[side]) - available) for side in reversed(SIDES)}
    counts = [f"{len(lists[side]) - len(ids)} of {len(lists[side])} {side}" for side, ids in missing.items() if ids]
    if not counts:
        return None
    reasons = {track_id: source.reason_to_skip(track_id) for ids in missing.values() for track_id in ids}
    details = "; ".join(f"{track_id}: {reason}" for track_id, reason in reasons.items() if reason)
    return f"incomplete: {', '.join(counts)} tracks of the {policy} lists{f' ({details})' if details else ''}"


def _draw_validation_artists(tracks: datasets.Dataset, outside_fold: list[str], fold: int) -> dict[str, list[str]]:
    """Divide the tracks outside the test fold by artist: a fifth for validation, the rest for training."""
    members = set(outside_fold)
    candidates = tracks.select([row for row, track_id in enumerate(tracks["track_id"][:]) if track_id in members])
    try:
        sides = _draw_sides(candidates, "grouped", [4, 1, 0], seed=0)
    except SplitError as error:
        raise SplitError(
            f"split_policy 'artist_folds' cannot choose a validation side among the {len(candidates)} tracks outside fold "
            f"{fold}: it needs at least five artists and a genre with five tracks; add tracks, or use stratified"
        ) from error
    return {side: sides[side] for side in ("train", "validation")}


def grouped_split(
    track_ids: Sequence[str], genres: Sequence[str], artists: Sequence[str], *, ratios: Sequence[int], seed: int
) -> dict[str, list[str]]:
    """Split tracks by artist; genres follow the ratios as closely as whole artists allow.

    The tracks are divided into stratified group folds (scikit-learn), as many as the sum of the reduced ratios; each side
    gets its share of the folds. Spellings of a name count as one artist, and a track without an artist as a group of its
    own.

    Raises:
        SplitError: If no artist is known, there are too few artists or tracks for the folds, or a side stays empty.
    """
    # Imported here: scikit-learn takes a second to import, and the settings of every recipe import this module.
    from sklearn.model_selection import StratifiedGroupKFold

    if not any(map(normalize_name, artists)):
        raise SplitError("split_policy 'grouped' needs artists, and no artist is known: use stratified")
    rows = sorted(zip(track_ids, genres, artists, strict=True))
    groups = [normalize_name(artist) or f"track {track_id}" for track_id, _, artist in rows]
    ratios = [ratio // math.gcd(*ratios) for ratio in ratios]  # 80:10:10 needs no more artists than 8:1:1
    folds, largest = sum(ratios), max(Counter(genre for _, genre, _ in rows).values())
    needs = f"split_policy 'grouped' with ratios {':'.join(map(str, ratios))} needs"
    if len(set(groups)) < folds:
        raise SplitError(f"{needs} at least {folds} artists, not {len(set(groups))}: choose smaller numbers")
    if largest < folds:
        raise SplitError(
            f"{needs} a genre of at least {folds} tracks; the largest has {largest}: choose smaller numbers or add tracks"
        )
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=UserWarning)  # rare genres may have fewer tracks than folds
        parts = [fold for _, fold in splitter.split(rows, [genre for _, genre, _ in rows], groups)]
    side_of_fold = np.repeat(SIDES, ratios)
    sides = {
        side: sorted(rows[row][0] for fold in np.flatnonzero(side_of_fold == side) for row in parts[fold])
        for side in SIDES
    }
    for side, ratio in zip(SIDES, ratios, strict=True):
        if ratio and not sides[side]:
            raise SplitError(f"split_policy 'grouped' leaves no track for {side}: choose other split_ratios")
    return sides


def _check_genres(tracks: datasets.Dataset, source: TrackSource) -> None:
    """Refuse genres without tracks, and data with a single genre."""
    counts = Counter(genre for genres in genres_of(tracks) for genre in genres)
    for genre in distinct_names(source.genres()):
        if not counts[genre]:
            raise SplitError(
                f"genre {genre!r} of {source.title} has 0 usable tracks: add tracks (hfmgc check lists broken files), or "
                "remove the genre"
            )
    if len(counts) < 2:
        raise SplitError(f"{source.title} has one genre only: classification needs two")


def _repeat_split(path: str | Path, tracks: datasets.Dataset, source: TrackSource) -> SplitManifest:
    """Return the split of a saved manifest for these data; all of its tracks must be available."""
    manifest = SplitManifest.load(path)
    available = set(tracks["track_id"][:])
    if missing := sorted(set().union(*manifest.sides.values()) - available):
        raise SplitError(
            f"{path}: {len(missing)} of its tracks are not in {source.title} or cannot be used; the first is {missing[0]!r}"
        )
    return replace(
        manifest, dataset=source.card.name, revision=source.revision, genres=distinct_names(source.genres())
    )


def stratified_split(
    track_ids: Sequence[str], genres: Sequence[str], *, ratios: Sequence[int], seed: int
) -> dict[str, list[str]]:
    """Split the tracks of each genre at random in the given ratios.

    The sides depend only on the ids and the seed, not on the order of the ids, and are sorted. Each side with a ratio gets
    at least one track of each genre. Tracks that remain after rounding down go to the largest remainders.

    Raises:
        SplitError: If a genre has fewer tracks than there are sides.
    """
    by_genre: dict[str, list[str]] = {}
    for track_id, genre in zip(track_ids, genres, strict=True):
        by_genre.setdefault(genre, []).append(track_id)
    needed = sum(ratio > 0 for ratio in ratios)
    sides: dict[str, list[str]] = {side: [] for side in SIDES}
    for genre in sorted(by_genre):
        members = sorted(by_genre[genre])
        if len(members) < needed:
            raise SplitError(
                f"genre {genre!r} has too few usable tracks ({len(members)}) for {needed} sides: add tracks, leave the "
                "genre out, or choose other split_ratios"
            )
        order = example_generator("stratified", seed, genre).permutation(len(members))
        parts = np.split(order, np.cumsum(_apportion(len(members), ratios))[:-1])
        for side, part in zip(SIDES, parts, strict=True):
            sides[side] += [members[i] for i in part]
    return {side: sorted(members) for side, members in sides.items()}


def _apportion(total: int, ratios: Sequence[int]) -> list[int]:
    """Divide `total` tracks by the ratios: largest remainders, and at least one track for each ratio above 0."""
    shares = [total * ratio / sum(ratios) for ratio in ratios]
    counts = [int(share) for share in shares]
    by_remainder = sorted(range(len(ratios)), key=lambda i: counts[i] - shares[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    for i, ratio in enumerate(ratios):
        if ratio > 0 and counts[i] == 0:
            counts[counts.index(max(counts))] -= 1
            counts[i] = 1
    return counts
