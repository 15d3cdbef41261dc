"""The notebook for newcomers runs from its first cell to its last, as it is published."""

import json
from pathlib import Path


NOTEBOOK = Path(__file__).parent.parent / "recipes" / "notebooks" / "course.ipynb"


def test_the_course_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells), "publish the notebook without outputs"
    names: dict = {"__name__": "__main__"}
    for number, cell in enumerate(cells, 1):
        exec(compile("".join(cell["source"]), f"course.ipynb, code cell {number}", "exec"), names)
    assert len(names["answers"]) == 3
    saved = json.loads(Path("course/test.json").read_text())
    assert saved["test_accuracy"] == names["result"]["test_accuracy"]
    assert saved["split"] == names["manifest"].digest
    assert saved["test_accuracy"] > 0.2, "twice what guessing reaches among ten genres"
