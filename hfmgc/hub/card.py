"""The model card of a finished run, written from nothing but the files in its folder."""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.utils import validate_repo_id

from ..errors import HfmgcError, SaveError
from ..evaluation.task import MULTI_LABEL
from ..settings_values import load_json, load_yaml


TEMPLATE = "model_card_template.md.j2"
REFERENCES = "references.bib"
CARD_NAME = "README.md"
PICTURES = ("confusion_matrix.png", "average_precision.png")
TRAINING_CURVE = "training_curve.png"

# (key in results.json, name in the table, metric of the model-index, name there)
METRICS = (
    ("accuracy", "Accuracy of tracks", "accuracy", "Accuracy (tracks)"),
    ("window_accuracy", "Accuracy of single windows", None, None),
    ("macro_precision", "Precision, macro", "precision", "Precision (macro)"),
    ("macro_recall", "Recall, macro", "recall", "Recall (macro)"),
    ("macro_f1", "F1, macro", "f1", "F1 (macro)"),
    ("ovr_accuracy", "One-vs-rest accuracy of tracks, mean of genres", None, None),
    ("window_ovr_accuracy", "One-vs-rest accuracy of single windows, mean of genres", None, None),
)
MULTI_LABEL_METRICS = (
    ("macro_map", "Average precision, mean of genres", "average_precision", "Mean average precision (macro)"),
    ("micro_map", "Average precision, all decisions together", None, None),
    ("macro_roc_auc", "ROC-AUC, mean of genres", "roc_auc", "ROC-AUC (macro)"),
    ("macro_f1", "F1, macro", "f1", "F1 (macro)"),
    ("micro_f1", "F1, micro", None, None),
    ("exact_match", "Tracks with all genres right", None, None),
)
PRETTY_NAMES = {"gtzan": "GTZAN", "synthetic": "Synthetic music (made by hfmgc)", "folder": "A folder of audio files"}
VOTING_IN_WORDS = {
    "mean": "the mean of the windows' probabilities",
    "majority": "the answer of most windows; its probability is its mean over the windows that gave it",
}
MULTI_LABEL_VOTING_IN_WORDS = {
    "mean": "for each genre the mean of the windows' probabilities",
    "majority": "for each genre the answer of most windows; its probability is its mean over the windows that gave it",
}
WINDOWS_IN_WORDS = {
    "even": "evenly spaced from its first sample to its last",
    "all": "at a fixed hop over all of its length",
    "random": "at random places (the same each time for the same track)",
}


# What Markdown, HTML and formulas begin with; an underscore within a word is none of it.
_MARKUP = re.compile(
    r"[\\`*\[\]<>|~$]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)|^[-+#](?=\s|#|$)|(?<=^\d)[.)](?=\s)|^[-=]+$"
)


class CardError(HfmgcError):
    """A card that cannot be written: a file of the run is missing or cannot be read."""


@dataclass(frozen=True)
class RunFiles:
    """What the files of a run say; null values and absent files are absent keys."""

    config: dict[str, Any]
    preprocessor: dict[str, Any]
    results: dict[str, Any]
    split: dict[str, Any]
    run: dict[str, Any]
    picture: str | None
    has_training_curve: bool

    @classmethod
    def read(cls, folder: Path) -> "RunFiles":
        """Read the files of `folder`.

        Raises:
            CardError: `config.json` or `results.json` is missing, or a file cannot be read as what it should be.
        """
        return cls(
            config=_read(folder, "config.json", "let the training save the model"),
            preprocessor=_read(folder, "preprocessor_config.json"),
            results=_read(folder, "results.json", "evaluate the run first"),
            split=_read(folder, "split.json"),
            run=_read(folder, "run.yaml"),
            picture=next((name for name in PICTURES if (folder / name).is_file()), None),
            has_training_curve=(folder / TRAINING_CURVE).is_file(),
        )

    @property
    def data(self) -> dict[str, Any]:
        """What the run was trained and evaluated on."""
        return self.results.get("data", {})

    @property
    def model(self) -> dict[str, Any]:
        """What `run.yaml` says about the network."""
        return self.run.get("model", {})

    @property
    def model_type(self) -> str | None:
        """The architecture."""
        return self.model.get("model_type") or self.config.get("model_type")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that differ from their defaults, or all where `run.yaml` does not say which do."""
        settings = self.run.get("settings", {})
        changed = self.run.get("changed_settings", settings)
        return {
            f"{group}.{name}": settings.get(group, {}).get(name, "none")
            for group, names in changed.items()
            for name in names
            if not name.endswith("token")
        }

    @property
    def genres(self) -> list[str]:
        """The genres in the order of the model's outputs."""
        labels = self.config.get("id2label", {})
        return [labels[key] for key in sorted(labels, key=int)] or self.results.get("genres", [])

    @property
    def is_multi_label(self) -> bool:
        """Whether the model names several genres a track."""
        return self.config.get("problem_type") == MULTI_LABEL.problem_type

    @property
    def metrics(self) -> tuple[tuple[str, str, str | None, str | None], ...]:
        """The rows of the table of results, as `METRICS`."""
        return MULTI_LABEL_METRICS if self.is_multi_label else METRICS

    @property
    def is_synthetic(self) -> bool:
        """Whether no real music was involved."""
        return bool(self.data.get("synthetic", self.data.get("name") == "synthetic"))

    @property
    def is_random_split_of_gtzan(self) -> bool:
        """Whether artists and repeated recordings may lie on two sides of the split."""
        names = {str(self.data.get("name", "")).lower(), str(self.split.get("dataset", "")).lower()}
        policy = str(self.split.get("policy", "")).lower()
        return any("gtzan" in name for name in names) and ("random" in policy or "stratified" in policy)


def write_model_card(
    folder: Path,
    *,
    hub_model_id: str | None = None,
    licence: str | None = None,
    backbone_licence: str | None = None,
    language: str | None = None,
    tags: Iterable[str] = (),
) -> Path:
    """Write `README.md` into the folder of a finished run and return its path; what was there is replaced.

    Args:
        folder: The run's folder: `config.json` and `results.json`, and where present `preprocessor_config.json`,
            `split.json`, `run.yaml` and the pictures. A section without its facts is left out.
        hub_model_id: The name (`user/name`) that the card's code loads; the folder's name if not given.
        licence: The checkpoint's licence, one of the Hub's identifiers (`apache-2.0`, `cc-by-nc-4.0`, ...).
        backbone_licence: The licence of the weights that training started from.
        language: Language of lyrics, where the data has one.
        tags: More tags for the Hub.

    Raises:
        CardError: `config.json` or `results.json` is missing, or a file cannot be read as what it should be.
        SaveError: The card cannot be written.
    """
    folder = Path(folder)
    run = RunFiles.read(folder)
    name = hub_model_id or folder.resolve().name
    backbone = run.model.get("backbone")
    metadata = ModelCardData(
        language=language,
        license=licence,
        library_name="transformers",
        pipeline_tag="audio-classification",
        base_model=backbone if _is_hub_id(backbone) else None,
        datasets=[run.data["location"]] if _is_hub_id(run.data.get("location")) else None,
        metrics=sorted(
            {metric for key, _, metric, _ in run.metrics if metric and key in run.results.get("metrics", {})}
        ),
        tags=[*_tags(run), *tags],
        model_name=name.split("/")[-1],
        eval_results=_evaluation_results(run) or None,
    )
    card = _template().render(
        metadata=metadata.to_yaml(),
        name=name,
        licence=licence,
        # A local folder tells a reader nothing but where it lay: its name is enough.
        backbone=_address(backbone) or (Path(backbone).name if backbone else None),
        backbone_licence=backbone_licence or run.model.get("backbone_licence"),
        run=run,
        references=references(run.model_type, run.data.get("name"), backbone),
        metrics=run.metrics,
        labels_of_metrics={key: label for key, label, _, _ in run.metrics},
        data_name=PRETTY_NAMES.get(run.data.get("name"), run.data.get("name")),
        data_source=_address(run.data.get("location")) or (run.data.get("location") if run.is_synthetic else None),
        voting=(MULTI_LABEL_VOTING_IN_WORDS if run.is_multi_label else VOTING_IN_WORDS).get(run.config.get("voting")),
        windows=WINDOWS_IN_WORDS.get(run.preprocessor.get("window_policy")),
    )
    path = folder / CARD_NAME
    try:
        ModelCard(card).save(path)
    except OSError as error:
        raise SaveError(f"{path}: the model card could not be written ({error.strerror}): make room for it") from error
    return path


def references(*names: str | None) -> str:
    """Return the BibTeX entries whose `keywords` name an architecture, a dataset or a backbone of `names`."""
    entries = files(__package__).joinpath(REFERENCES).read_text(encoding="utf-8").strip().split("\n\n")
    chosen = []
    for entry in entries:
        keywords = re.search(r"\n  keywords = \{(.*)\},", entry)
        if set(keywords[1].split(", ")) & set(names):
            chosen.append(entry.replace(keywords[0], ""))
    return "\n\n".join(chosen)


def _evaluation_results(run: RunFiles) -> list[EvalResult]:
    data, values = run.data, run.results.get("metrics", {})
    name = data.get("name", "unknown")
    return [
        EvalResult(
            task_type="audio-classification",
            task_name="Music genre classification",
            dataset_type=data["location"] if _is_hub_id(data.get("location")) else name,
            dataset_name=PRETTY_NAMES.get(name, name),
            dataset_split=run.results.get("side"),
            dataset_revision=data.get("revision"),
            dataset_args={
                key: run.split[key] for key in ("policy", "incomplete", "seed", "digest") if key in run.split
            }
            or None,
            metric_type=metric,
            metric_name=metric_name,
            metric_value=values[key],
        )
        for key, _, metric, metric_name in run.metrics
        if metric is not None and _is_number(values.get(key))
    ]


def _tags(run: RunFiles) -> list[str]:
    tags = ["audio", "music", "music-genre-classification", "hfmgc"]
    return [*tags, *(["peft"] if run.model.get("adapter") else []), *(["synthetic-data"] if run.is_synthetic else [])]


def _read(folder: Path, name: str, remedy: str | None = None) -> dict[str, Any]:
    """Return what a JSON or YAML file says; an empty dict for a missing file, unless there is a `remedy` to name."""
    path = folder / name
    if not path.is_file():
        if remedy is None:
            return {}
        raise CardError(f"{path}: missing, and the model card is written from it: {remedy}")
    try:
        text = path.read_text(encoding="utf-8")
        content = load_yaml(text) if path.suffix == ".yaml" else load_json(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CardError(f"{path}: cannot be read ({' '.join(str(error).split())}): write it again") from error
    if not isinstance(content, dict):
        raise CardError(f"{path}: should hold names and values, not a {type(content).__name__}: write it again")
    return _without_nulls(content)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _is_hub_id(name: Any) -> bool:
    """Whether `name` can only be a repository of the Hub: a folder of this machine must not end up in the metadata."""
    if not isinstance(name, str) or name.count("/") != 1 or Path(name).exists():
        return False
    try:
        validate_repo_id(name)
    except ValueError:
        return False
    return True


def _address(location: Any) -> str | None:
    return location if _is_hub_id(location) or re.match(r"(https?|hf)://", str(location)) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _line(value: Any) -> str:
    if isinstance(value, jinja2.Undefined):
        return ""
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return " ".join(text.split())


def _cell(value: Any) -> str:
    """Return `value` as text without markup, in a table too: names of genres and tracks come from file names."""
    return _MARKUP.sub(r"\\\g<0>", _line(value))


def _code(value: Any) -> str:
    """Return `value` as what stands between backticks, in a table too."""
    return _line(value).replace("`", "'").replace("|", "\\|")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.ChainableUndefined
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.1f} %" if _is_number(value) else "not known"
    environment.filters["count"] = lambda value: f"{value:,}" if _is_number(value) else "not known"
    environment.filters["cell"] = _cell
    environment.filters["code"] = _code
    return environment.from_string(files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8"))
