"""What a model learns of a track and is judged by: its one genre, or all of its genres."""

from typing import Any

import datasets

from ..errors import DataError


MULTI_LABEL = "multi_label_classification"


def is_multi_label(config: Any) -> bool:
    """Return whether a model's config says that a track has several genres."""
    return config.problem_type == MULTI_LABEL


def genres_of(tracks: datasets.Dataset) -> list[list[str]]:
    """Return all genres of each track; its one genre where there is no column `genres`."""
    if "genres" in tracks.column_names:
        return [list(genres) for genres in tracks["genres"]]
    return [[genre] for genre in tracks["genre"]]


def check_targets(genres: list[list[str]], *, multi_label: bool, where: str) -> None:
    """Refuse data with one genre for each track where the model has several, and the reverse.

    Args:
        genres: Of each track.
        multi_label: Whether the model names several genres a track.
        where: What is called so in the message.

    Raises:
        DataError: If they do not fit, naming the way out.
    """
    several = sum(len(names) > 1 for names in genres)
    if multi_label and genres and not several:
        raise DataError(
            f"{where}: each of the {len(genres)} tracks has one genre, and the model names several (problem_type "
            f"{MULTI_LABEL}): give the tracks all of their genres (in a manifest a column genres, of fma labels: all), or "
            "use a model without that problem_type"
        )
    if not multi_label and several:
        raise DataError(
            f"{where}: {several} of {len(genres)} tracks have several genres, and the model names one: use a model with "
            f"problem_type {MULTI_LABEL} (in a recipe model: {{problem_type: {MULTI_LABEL}}}), or give each track one (of "
            "fma labels: top, in a manifest data_options {genres_column: ''})"
        )
