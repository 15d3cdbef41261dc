"""The genres of tracks."""

import datasets


def genres_of(tracks: datasets.Dataset) -> list[list[str]]:
    """Return all genres of each track; without a column `genres`, its one genre."""
    if "genres" in tracks.column_names:
        return [list(genres) for genres in tracks["genres"]]
    return [[genre] for genre in tracks["genre"]]
