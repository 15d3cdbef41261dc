"""Write the model card of a finished run from the files in its folder."""

import json
import math
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.utils import validate_repo_id

from ..errors import HfmgcError, saving_to
from ..evaluation.checkpoints import CLASSICAL
from ..evaluation.plots import IMPORTANCES, TRAINING_CURVE
from ..evaluation.task import Task, task_of
from ..files import write_text
from ..settings import load_json, load_yaml
from ..text import one_line


CARD_NAME = "README.md"
TEMPLATE, PRETRAINING_TEMPLATE = "model_card_template.md.j2", "pretraining_card_template.md.j2"
REFERENCES = "references.bib"
PRETTY_NAMES = {
    "gtzan": "GTZAN",
    "fma": "FMA",
    "synthetic": "Synthetic music (made by hfmgc)",
    "folder": "A folder of audio files",
}

# Characters that begin markup in Markdown, HTML or formulas; an underscore within a word does not.
_MARKUP = re.compile(
    r"[\\`*\[\]<>|~$]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)|^[-+#](?=\s|#|$)|(?<=^\d)[.)](?=\s)|^[-=]+$"
)


class CardError(HfmgcError):
    """A file of the run is missing or unreadable, so the card cannot be written."""


def write_model_card(folder: Path, *, hub_model_id: str | None = None, licence: str | None = None) -> Path:
    """Write or replace `README.md` in the folder of a finished run; return its path.

    Args:
        folder: The run's folder. Sections without their file are omitted.
        hub_model_id: The name (`user/name`) that the card's code loads; by default the folder's name.
        licence: The checkpoint's licence, one of the Hub's identifiers (`apache-2.0`, `cc-by-nc-4.0`, ...).

    Raises:
        CardError: If `config.json` or `results.json` is missing, or a file is unreadable.
        SaveError: If the card cannot be written.
    """
    run = _read_run(folder)
    data, model, model_type = run["data"], run["model"], run["model_type"]
    name = hub_model_id or folder.resolve().name
    task = task_of(run["config"].get("problem_type"))
    backbone, location = model.get("backbone"), data.get("location")
    results = _evaluation_results(run, task)
    tags = ["audio", "music", "music-genre-classification", "hfmgc"]
    tags += ["peft"] * bool(model.get("adapter")) + ["synthetic-data"] * run["is_synthetic"]
    metadata = ModelCardData(
        license=licence,
        library_name="sklearn" if model_type == CLASSICAL else "transformers",
        pipeline_tag="audio-classification",
        base_model=backbone if _is_hub_id(backbone) else None,
        datasets=[location] if _is_hub_id(location) else None,
        metrics=sorted(result.metric_type for result in results),
        tags=tags,
        model_name=name.split("/")[-1],
        eval_results=results or None,
    )
    return _write(
        folder,
        TEMPLATE,
        metadata,
        name=name,
        licence=licence,
        # The path of a local folder means nothing to others, so the card gives only its name.
        backbone=_address(backbone) or (Path(backbone).name if backbone else None),
        run=run,
        task=task,
        references=references(model_type, data.get("name"), backbone),
        data_name=PRETTY_NAMES.get(data.get("name"), data.get("name")),
        data_source=_address(location) or (location if run["is_synthetic"] else None),
        pictures=[name for name in (task.picture, TRAINING_CURVE, IMPORTANCES) if (folder / name).is_file()],
        training_curve=TRAINING_CURVE,
        importances=IMPORTANCES,
        classical=model_type == CLASSICAL,
    )


def write_pretraining_card(folder: Path, *, hub_model_id: str | None = None, licence: str | None = None) -> Path:
    """Write the card of a finished pre-training run from `config.json` and `run.yaml`; see `write_model_card`."""
    tags = ["audio", "music", "hfmgc", "self-supervised"]
    return _write(
        folder,
        PRETRAINING_TEMPLATE,
        ModelCardData(license=licence, library_name="transformers", tags=tags),
        name=hub_model_id or folder.resolve().name,
        licence=licence,
        config=_read(folder, "config.json", required=True),
        run=_read(folder, "run.yaml", required=True),
        pictures=sorted((path.name for path in folder.glob("*.png")), key=lambda name: (name != TRAINING_CURVE, name)),
    )


def _write(folder: Path, template: str, metadata: ModelCardData, **values: Any) -> Path:
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.ChainableUndefined
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.1f} %" if _is_number(value) else "not known"
    environment.filters["count"] = lambda value: f"{value:,}" if _is_number(value) else "not known"
    environment.filters |= {"cell": _cell, "code": _code}
    source = files(__package__).joinpath(template).read_text(encoding="utf-8")
    path = folder / CARD_NAME
    with saving_to(path):
        write_text(path, environment.from_string(source).render(metadata=metadata.to_yaml(), **values))
    return path


def references(*names: str | None) -> str:
    """Return the BibTeX entries with one of `names` (an architecture, a dataset or a backbone) in their `keywords`."""
    entries = files(__package__).joinpath(REFERENCES).read_text(encoding="utf-8").strip().split("\n\n")
    matching = []
    for entry in entries:
        keywords = re.search(r"\n  keywords = \{(.*)\},", entry)
        if set(keywords[1].split(", ")) & set(names):
            matching.append(entry.replace(keywords[0], ""))
    return "\n\n".join(matching)


def _evaluation_results(run: dict[str, Any], task: Task) -> list[EvalResult]:
    data, values = run["data"], run["results"].get("metrics", {})
    name = data.get("name", "unknown")
    split = {key: run["split"][key] for key in ("policy", "incomplete", "seed", "digest") if key in run["split"]}
    return [
        EvalResult(
            task_type="audio-classification",
            task_name="Music genre classification",
            dataset_type=data["location"] if _is_hub_id(data.get("location")) else name,
            dataset_name=PRETTY_NAMES.get(name, name),
            dataset_split=run["results"].get("side"),
            dataset_revision=data.get("revision"),
            dataset_args=split or None,
            metric_type=metric,
            metric_name=metric_name,
            metric_value=values[key],
        )
        for key, _, metric, metric_name in task.measures
        if metric is not None and _is_number(values.get(key))
    ]


def _read_run(folder: Path) -> dict[str, Any]:
    """Return the contents of a run's files, and values derived from them, for the template."""
    config = _read(folder, "config.json", required=True)
    results, run = _read(folder, "results.json", required=True), _read(folder, "run.yaml")
    data, model, labels = results.get("data", {}), run.get("model", {}), config.get("id2label", {})
    return {
        "config": config,
        "preprocessor": _read(folder, "preprocessor_config.json"),
        "results": results,
        "split": _read(folder, "split.json"),
        "run": run,
        "data": data,
        "model": model,
        "model_type": model.get("model_type") or config.get("model_type"),
        # In the order of the model's outputs.
        "genres": [labels[key] for key in sorted(labels, key=int)] or results.get("genres", []),
        "is_synthetic": bool(data.get("synthetic", data.get("name") == "synthetic")),
    }


def _read(folder: Path, name: str, *, required: bool = False) -> dict[str, Any]:
    """Return the content of a JSON or YAML file without null values; an empty dict if the file is missing and not required."""
    path = folder / name
    if not path.is_file():
        if required:
            raise CardError(f"{path}: missing, but the model card needs it: finish the run")
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        content = load_yaml(text) if path.suffix == ".yaml" else load_json(text)
    except (OSError, ValueError) as error:
        raise CardError(f"{path}: cannot be read ({one_line(error)}): restore it") from error
    if not isinstance(content, dict):
        raise CardError(f"{path}: must hold names and values, not a {type(content).__name__}: restore it")
    return _drop_nulls(content)


def _drop_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _drop_nulls(item) for key, item in value.items() if item is not None}
    return [_drop_nulls(item) for item in value] if isinstance(value, list) else value


def _is_hub_id(name: Any) -> bool:
    """Return whether `name` is a valid repository name and no local path, which must not appear in the metadata."""
    if not isinstance(name, str) or name.count("/") != 1 or Path(name).exists():
        return False
    try:
        validate_repo_id(name)
    except ValueError:
        return False
    return True


def _address(location: Any) -> str | None:
    """Return `location` if others can reach it: a repository of the Hub or a URL."""
    return location if _is_hub_id(location) or re.match(r"(https?|hf)://", str(location)) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _to_line(value: Any) -> str:
    if isinstance(value, jinja2.Undefined):
        return ""
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return one_line(text)


def _cell(value: Any) -> str:
    """Return `value` in one line with markup escaped, because names of genres and tracks come from file names."""
    return _MARKUP.sub(r"\\\g<0>", _to_line(value))


def _code(value: Any) -> str:
    """Return `value` in one line for use between backticks."""
    return _to_line(value).replace("`", "'").replace("|", "\\|")
