"""`hfmgc project`: pictures of embeddings."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hfmgc.cli import main
from hfmgc.evaluation import plots
from hfmgc.inference import project
from hfmgc.inference.embed import CHECKPOINT, NETWORK


GENRES = ("blues", "rock $1$", "")


def write_embeddings(path: Path, *, tracks: int = 30, hidden: int = 4, broken: bool = False) -> Path:
    """Write a file as `hfmgc embed` does, in which the genres lie apart."""
    labels = np.arange(tracks) % len(GENRES)
    values = np.random.default_rng(0).standard_normal((tracks, hidden)) + 10 * labels[:, None]
    values[0, 0] = np.nan if broken else values[0, 0]
    table = pa.table(
        {
            "track_id": [f"track {row}" for row in range(tracks)],
            "genre": [GENRES[label] for label in labels],
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), pa.float32()), hidden),
        }
    )
    pq.write_table(
        table.replace_schema_metadata({CHECKPOINT: json.dumps(["package:msd", None]), NETWORK: "digest"}), path
    )
    return path


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_genres_that_lie_apart_lie_apart_in_the_picture(tmp_path, monkeypatch, capsys, method):
    drawn = {}

    def draw(points, genres, path, **names):
        drawn.update(points=points, genres=np.array(genres), **names)
        plots.plot_projection(points, genres, path, **names)

    monkeypatch.setattr(project, "plot_projection", draw)
    output = tmp_path / "pictures" / "out.png"
    arguments = ["project", str(write_embeddings(tmp_path / "e.parquet")), str(output)]
    assert main([*arguments, "--method", method, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"points": 30, "genres": 3, "method": method}
    assert output.read_bytes().startswith(b"\x89PNG")
    points, genres = drawn["points"], drawn["genres"]
    assert points.shape == (30, 2)
    centres = {genre: points[genres == genre].mean(axis=0) for genre in set(genres)}
    nearest = [min(centres, key=lambda name: np.linalg.norm(point - centres[name])) for point in points]
    assert nearest == genres.tolist()
    assert project.NO_GENRE in centres
    first = points.copy()
    assert main([*arguments, "--method", method]) == 0
    np.testing.assert_array_equal(drawn["points"], first)


def test_other_files_are_refused(tmp_path, capsys):
    pq.write_table(pa.table({"embedding": [[1.0]]}), tmp_path / "other.parquet")
    write_embeddings(tmp_path / "few.parquet", tracks=3)
    write_embeddings(tmp_path / "narrow.parquet", hidden=1)
    write_embeddings(tmp_path / "broken.parquet", broken=True)
    for name, word in (
        ("other", "hfmgc embed"),
        ("few", "3 rows"),
        ("narrow", "1 values"),
        ("broken", "track 0"),
        ("missing", "missing"),
    ):
        assert main(["project", str(tmp_path / f"{name}.parquet"), str(tmp_path / "out.png")]) == 1
        assert word in capsys.readouterr().err
    assert main(["project", str(tmp_path / "few.parquet"), str(tmp_path / "out.pdf")]) == 1
    assert ".png" in capsys.readouterr().err


def test_more_genres_than_colours_have_other_markers(tmp_path):
    points = np.random.default_rng(0).standard_normal((50, 2))
    names = [f"genre {index % 25}" for index in range(50)]
    plots.plot_projection(points, names, tmp_path / "out.png", title="many", axis_names=["1", "2"])
    assert (tmp_path / "out.png").stat().st_size > 0
