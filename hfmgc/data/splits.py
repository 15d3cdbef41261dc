"""Split policies: which track is on which side. Tracks are split, never slices of them."""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from ..errors import ConfigError, SplitError, did_you_mean
from ..randomness import example_generator
from .names import distinct_names, genres_of, normalize_name
from .sources.contract import TrackSource
from .split_manifest import SIDES, SplitManifest


def parse_ratios(ratios: str) -> list[int]:
    """Return [train, validation, test] from `8:1:1`, or `4:1` for a split without a test side.

    Raises:
        ConfigError: If the ratios have another form.
    """
    parts = str(ratios).split(":")
    if len(parts) not in (2, 3) or not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(f'split_ratios must be train:validation:test such as "8:1:1", not {ratios!r}')
    numbers = [int(part) for part in parts] + [0] * (3 - len(parts))
    if numbers[0] == 0 or numbers[1] == 0:
        raise ConfigError(f"split_ratios {ratios!r} leave no tracks for training or none for choosing the checkpoint")
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
    """Split the usable tracks of a source by a policy, or exactly as in a `manifest`.

    `ratios` and `seed` are for `DRAWN_POLICIES`; `fold`, from 1, is the test side under `artist_folds`.

    Raises:
        SplitError: If the split cannot be made, or a side that it should have is empty.
        ConfigError: If the policy, ratios or fold do not exist.
    """
    if manifest:
        return _repeat(SplitManifest.load(manifest), tracks, source, manifest)
    numbers = check_split(source, policy=policy, ratios=ratios)
    drawn = policy in DRAWN_POLICIES
    incomplete = None
    if drawn:
        _check_genres(tracks, source)
        sides, has_test = DRAWN_POLICIES[policy](tracks, numbers, seed), numbers[2] > 0
        hint = "the artists cannot be divided so; choose other split_ratios"
    else:
        lists = source.published_sides(policy, fold)
        incomplete = _incomplete(tracks, source, policy, lists)
        _check_genres(tracks, source)
        sides = {side: sorted(set(lists[side]).intersection(tracks["track_id"][:])) for side in SIDES}
        if policy == "artist_folds":
            sides |= _validation_artists(tracks, sides["train"], fold)
        # A published split may have no test side.
        has_test = bool(lists["test"])
        hint = f"none of its listed tracks is in {source.title}"
    for side in SIDES if has_test else SIDES[:2]:
        if not sides[side]:
            if policy == "official" and not lists[side]:
                hint = f"{source.title} lists none; choose another split_policy"
            raise SplitError(f"split_policy {policy!r} leaves no track for {side}: {hint}")
    notes = [source.split_note(policy)]
    if drawn and _has_several_genres(tracks):
        notes.append("tracks with several genres were divided by the first genre of each (rare ones together)")
    return SplitManifest(
        dataset=source.card.name,
        revision=source.revision,
        policy=policy if policy != "artist_folds" else f"artist_folds, fold {fold}",
        ratios=numbers if drawn else [],
        seed=seed if drawn else 0,
        sides=sides,
        comparable_note="; ".join(filter(None, notes)) or None,
        incomplete=incomplete,
        genres=distinct_names(source.genres()),
    )


def check_split(source: TrackSource, *, policy: str, ratios: str) -> list[int]:
    """Return the ratios as numbers, or refuse a split that no tracks of the source could have, before they are read.

    Raises:
        ConfigError: If the policy does not exist, the source does not have it, or the ratios have another form.
    """
    if policy not in POLICIES:
        raise ConfigError(f"split_policy {policy!r} does not exist{did_you_mean(policy, POLICIES)}")
    if policy not in source.split_policies:
        raise ConfigError(
            f"split_policy: {source.card.name} has no split {policy!r}; choose one of {', '.join(source.split_policies)}"
        )
    return parse_ratios(ratios)


def _strata(tracks: datasets.Dataset, *, needed: int) -> list[str]:
    """Return the genre of each track; of tracks with several, the first, or "" for all first genres of too few tracks.

    A genre that is rare as the first one may be the second of many tracks, so the data are not refused.
    """
    genres = tracks["genre"][:]
    if not _has_several_genres(tracks):
        return genres
    counts = Counter(genres)
    strata = [genre if counts[genre] >= needed else "" for genre in genres]
    if 0 < strata.count("") < needed:
        largest = min(counts, key=lambda genre: (-counts[genre], genre))
        strata = [genre or largest for genre in strata]
    return strata


def _has_several_genres(tracks: datasets.Dataset) -> bool:
    return any(len(genres) > 1 for genres in genres_of(tracks))


# Policies that draw the sides, from tracks, ratios and seed.
DRAWN_POLICIES: dict[str, Callable[[datasets.Dataset, list[int], int], dict[str, list[str]]]] = {
    "stratified": lambda tracks, ratios, seed: stratified_split(
        tracks["track_id"], _strata(tracks, needed=sum(ratio > 0 for ratio in ratios)), ratios=ratios, seed=seed
    ),
    "grouped": lambda tracks, ratios, seed: grouped_split(
        tracks["track_id"], tracks["genre"], tracks["artist"], ratios=ratios, seed=seed
    ),
}
# The sides of the others are published: see `TrackSource.published_sides`.
POLICIES = (*DRAWN_POLICIES, "official", "fault_filtered", "artist_folds")


def _validation_artists(tracks: datasets.Dataset, training: list[str], fold: int) -> dict[str, list[str]]:
    """Return a training and a validation side: a fifth of the artists outside the fold choose the checkpoint."""
    members = set(training)
    others = tracks.select([row for row, track_id in enumerate(tracks["track_id"][:]) if track_id in members])
    try:
        sides = DRAWN_POLICIES["grouped"](others, [4, 1, 0], 0)
    except SplitError as error:
        raise SplitError(
            f"split_policy 'artist_folds' cannot choose a validation side among the {len(others)} tracks here outside "
            f"fold {fold}: it needs five artists and a genre of five tracks at least; add tracks, or use stratified"
        ) from error
    return {side: sides[side] for side in ("train", "validation")}


def _incomplete(tracks: datasets.Dataset, source: TrackSource, policy: str, lists: dict[str, list[str]]) -> str | None:
    """Return how many listed tracks are available, the test side first; None for all. Refuse lists without any."""
    if not any(lists.values()):
        raise SplitError(f"{source.title} has no {policy} split")
    available = set(tracks["track_id"][:])
    missing = {side: sorted(set(lists[side]) - available) for side in reversed(SIDES)}
    if not available & set().union(*lists.values()):
        raise SplitError(
            f"the {policy} lists match none of the {len(available)} tracks of {source.location}: their ids look like "
            f"{next(track_id for ids in lists.values() for track_id in ids)!r}, the tracks' like {min(available)!r}"
        )
    counts = [f"{len(lists[side]) - len(ids)} of {len(lists[side])} {side}" for side, ids in missing.items() if ids]
    if not counts:
        return None
    reasons = {track_id: source.reason_to_skip(track_id) for ids in missing.values() for track_id in ids}
    known = "; ".join(f"{track_id}: {reason}" for track_id, reason in reasons.items() if reason)
    return f"incomplete: {', '.join(counts)} tracks of the {policy} lists{f' ({known})' if known else ''}"


def grouped_split(
    track_ids: Sequence[str], genres: Sequence[str], artists: Sequence[str], *, ratios: Sequence[int], seed: int
) -> dict[str, list[str]]:
    """Split tracks by artist, genres in the given ratios as nearly as whole artists allow.

    The tracks are divided into as many stratified group folds (scikit-learn) as the ratios add up to, and each side gets
    its number of folds. Spellings of a name are one artist; a track without a known artist is a group alone.

    Raises:
        SplitError: If no artist is known, or there are fewer artists, or fewer tracks of each genre, than folds.
    """
    if not any(map(normalize_name, artists)):
        raise SplitError("split_policy 'grouped' needs artists, and none is known here: use stratified")
    rows = sorted(zip(track_ids, genres, artists, strict=True))
    groups = [normalize_name(artist) or f"track {track_id}" for track_id, _, artist in rows]
    ratios = [ratio // math.gcd(*ratios) for ratio in ratios]  # 80:10:10 needs no more artists than 8:1:1
    folds, largest = sum(ratios), max(Counter(genre for _, genre, _ in rows).values())
    needs = f"split_policy 'grouped' with ratios {':'.join(map(str, ratios))} needs"
    if len(set(groups)) < folds:
        raise SplitError(f"{needs} {folds} artists at least, there are {len(set(groups))}: choose smaller numbers")
    if largest < folds:
        raise SplitError(
            f"{needs} a genre of {folds} tracks at least, the largest has {largest}: choose smaller numbers or add tracks"
        )
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=UserWarning)  # rare genres may have fewer tracks than folds
        parts = [fold for _, fold in splitter.split(rows, [genre for _, genre, _ in rows], groups)]
    side_of_fold = np.repeat(SIDES, ratios)
    return {
        side: sorted(rows[row][0] for fold in np.flatnonzero(side_of_fold == side) for row in parts[fold])
        for side in SIDES
    }


def _check_genres(tracks: datasets.Dataset, source: TrackSource) -> None:
    """Refuse genres without tracks, and data with a single genre."""
    counts = Counter(genre for genres in genres_of(tracks) for genre in genres)
    for genre in distinct_names(source.genres()):
        if not counts[genre]:
            raise SplitError(
                f"genre {genre!r} of {source.title} has 0 usable tracks: add tracks (hfmgc check "
                "reports what is wrong with its files), or remove the genre"
            )
    if len(counts) < 2:
        raise SplitError(f"{source.title} has one genre only: classification needs two")


def _repeat(manifest: SplitManifest, tracks: datasets.Dataset, source: TrackSource, path: str | Path) -> SplitManifest:
    """Return a manifest for these data, refusing it if a track is missing."""
    available = set(tracks["track_id"][:])
    if missing := sorted(set().union(*manifest.sides.values()) - available):
        raise SplitError(
            f"{path}: {len(missing)} of its tracks are not in {source.title}, or cannot be "
            f"used; the first is {missing[0]!r}"
        )
    return replace(
        manifest, dataset=source.card.name, revision=source.revision, genres=distinct_names(source.genres())
    )


def stratified_split(
    track_ids: Sequence[str], genres: Sequence[str], *, ratios: Sequence[int], seed: int
) -> dict[str, list[str]]:
    """Split tracks at random, genre by genre, in the given ratios.

    The sorted ids of each side depend on the ids and the seed alone, not on their order. Each side with a ratio gets at
    least one track of each genre; the tracks that remain after rounding down go to the largest remainders.

    Raises:
        SplitError: If a genre has fewer tracks than sides, naming it.
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
                f"genre {genre!r} has {len(members)} usable track{'s' if len(members) != 1 else ''}, a split into "
                f"{needed} sides needs at least {needed}: add tracks, leave the genre out, or choose other split_ratios"
            )
        order = example_generator("stratified", seed, genre).permutation(len(members))
        parts = np.split(order, np.cumsum(_allot(len(members), ratios))[:-1])
        for side, part in zip(SIDES, parts, strict=True):
            sides[side] += [members[i] for i in part]
    return {side: sorted(members) for side, members in sides.items()}


def _allot(total: int, ratios: Sequence[int]) -> list[int]:
    """Divide `total` tracks by the ratios: largest remainders, and one at least for each ratio above 0."""
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
