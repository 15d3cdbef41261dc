"""Classical baselines: pipelines of scikit-learn on one vector per track or window, and their table.

The pipelines are those of the Divide and Conquer paper (section III-A) and of LGNet (Table 1). Where the papers are silent,
scikit-learn's defaults are used (ours).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import RandomForestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ..data.features import TrackWindows
from ..data.names import genres_of
from ..data.sources import open_source
from ..errors import ConfigError, DataError, saving_to
from ..evaluation.checkpoints import CLASSICAL
from ..evaluation.classical import ClassicalConfig, ClassicalForAudioClassification, summarize, vector_names
from ..evaluation.metrics import interval_of_shares
from ..evaluation.plots import IMPORTANCES, plot_accuracy_by_size, plot_importances
from ..evaluation.predictions import TrackPredictions
from ..evaluation.task import SINGLE_LABEL
from ..features.feature_extraction_handmade import HandmadeFeatureExtractor
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from ..files import write_text
from ..hub.card import write_model_card
from ..models.voting import vote
from ..registry import SPECTROGRAM_FEATURE_EXTRACTOR, load_class
from ..settings import known_fields, with_fields
from .arguments import DataArguments, RunArguments, changed_fields, check_fields_of, setting
from .preparation import PreparedData, check_source
from .run_folder import RunRecord, refuse_folder
from .stages import make_report, record_start


# Pipelines that reduce the features to a number of dimensions; both are random.
REDUCING = ("svd_svm", "forest_svm")
PIPELINES = (*REDUCING, "svm", "naive_bayes", "knn")
TABLE = "table"
# Settings of the other groups that have an effect here.
_DATA_FIELDS = {
    "data", "data_options", "exclude", "shortest_seconds", "split_policy", "split_ratios", "split_seed", "split_fold",
    "split_manifest", "allow_leaks", "fit_statistics", "preprocessing_num_proc", "training_windows", "augmentation",
}  # fmt: skip
_RUN_FIELDS = {"output_dir", "overwrite", "license", "disable_tqdm", "use_cpu"}
# Tracks are vectors: nothing is drawn or augmented.
CLASSICAL_SETTINGS = {"training_windows": "fixed", "augmentation": "none"}


@dataclass
class ClassicalArguments:
    """Which classical pipelines are compared, and what they read."""

    pipelines: list[str] = setting(
        lambda: ["svm", "naive_bayes", "knn"],
        "svd_svm: truncated SVD and an SVM; forest_svm: the most important features of a random forest and an SVM; svm "
        "(RBF kernel), naive_bayes (Gaussian) or knn, on all features.",
    )
    dimensions: list[int] = setting(list, "Dimensions that svd_svm and forest_svm reduce the features to.")
    seeds: list[int] = setting(lambda: [0, 1, 2], "Seeds of svd_svm and forest_svm; the other pipelines draw nothing.")
    front_end: dict[str, Any] = setting(
        dict,
        "Fields of the feature extractor: of spectrograms with preset or representation, which are summarised by mean and "
        "deviation of each bin over time, otherwise of hand-made features. By default that of a table, or fma_518.",
    )

    def __post_init__(self):
        check_fields_of(self)
        for name in self.pipelines:
            if name not in PIPELINES:
                raise ValueError(f"pipelines: no pipeline {name!r}: choose among {', '.join(PIPELINES)}")
        for name in ("pipelines", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty")
        if set(self.pipelines) & set(REDUCING) and (not self.dimensions or min(self.dimensions) < 1):
            raise ValueError(f"dimensions must be numbers from 1 on for {', '.join(REDUCING)}, not {self.dimensions}")

    def rows(self) -> list["ClassicalArguments"]:
        """Return the settings of each row of the table alone."""
        rows = []
        for name in dict.fromkeys(self.pipelines):
            if name in REDUCING:
                rows += [replace(self, pipelines=[name], dimensions=[size]) for size in dict.fromkeys(self.dimensions)]
            else:
                rows.append(replace(self, pipelines=[name], dimensions=[], seeds=self.seeds[:1]))
        return rows

    @property
    def pipeline(self) -> tuple[str, int | None]:
        """Pipeline and dimensions of a row; None for all features."""
        return self.pipelines[0], next(iter(self.dimensions), None)

    @property
    def label(self) -> str:
        """Name of a row, also that of its folder."""
        return "_".join([self.pipelines[0], *map(str, self.dimensions)])


def check_baselines(classical: ClassicalArguments, data: DataArguments, run: RunArguments) -> WindowedFeatureExtractor:
    """Return the front end, or refuse settings before the data are read.

    Raises:
        ConfigError: If a field does not fit the others or has no effect here.
        DataError: If the data do not exist or have other features.
    """
    refuse_folder("output_dir", Path(run.output_dir), data.data)
    idle = sorted((set(changed_fields(data)) - _DATA_FIELDS) | (set(run.changed) - _RUN_FIELDS))
    if idle:
        raise ConfigError(f"{', '.join(idle)}: without effect on classical pipelines: leave out")
    if run.world_size > 1:
        raise ConfigError("classical pipelines are fitted in one process: start the recipe with python")
    for name, value in CLASSICAL_SETTINGS.items():
        if getattr(data, name) != value:
            raise ConfigError(f"{name} must be {value} for classical pipelines: leave it out")
    if "preset" in classical.front_end or "representation" in classical.front_end:
        extractor_class, fields = load_class(SPECTROGRAM_FEATURE_EXTRACTOR), classical.front_end
    else:
        made = open_source(data.data, data.data_options).front_end() or {}
        known = known_fields(HandmadeFeatureExtractor)
        fields = {name: value for name, value in made.items() if name in known} | classical.front_end
        extractor_class = HandmadeFeatureExtractor
    extractor = with_fields(extractor_class, fields, "front_end")
    check_source(data, extractor)
    _, names = vector_names(extractor)
    if classical.dimensions and max(classical.dimensions) > len(names):
        raise ConfigError(f"dimensions: {max(classical.dimensions)}, but the front end gives {len(names)} features")
    return extractor


@dataclass(frozen=True)
class Vectors:
    """Tracks as vectors.

    Args:
        track_ids: Identifiers [tracks].
        values: float32 [windows, features], the windows of one track after the other.
        counts: Number of windows of each track [tracks].
        targets: Genre indices [tracks].
    """

    track_ids: list[str]
    values: np.ndarray
    counts: np.ndarray
    targets: np.ndarray

    @classmethod
    def from_tracks(cls, tracks: TrackWindows, config: ClassicalConfig) -> "Vectors":
        """Compute the vectors of all tracks of a side.

        Raises:
            DataError: If a track has several genres, or a vector has NaN or infinite values.
        """
        SINGLE_LABEL.check_targets(genres_of(tracks.tracks), where="the data")
        stacks = [
            summarize(torch.tensor(tracks.stack(row)), config.summary).numpy()  # a copy: stored features are read-only
            for row in range(len(tracks))
        ]
        ids = list(tracks["track_id"])
        for track_id, stack in zip(ids, stacks, strict=True):
            if not np.isfinite(stack).all():
                name = config.feature_names[int(np.argwhere(~np.isfinite(stack))[0][1])]
                raise DataError(f"track {track_id}: feature {name} is NaN or infinite: exclude the track")
        return cls(
            track_ids=ids,
            values=np.concatenate(stacks),
            counts=np.array([len(stack) for stack in stacks]),
            targets=np.array([config.label2id[genre] for genre in tracks["genre"]]),
        )


@dataclass(frozen=True)
class Fitted:
    """A fitted pipeline.

    Args:
        pipeline: It reads the features in `columns`, or all of them.
        columns: Indices of the most important features, the most important first.
        importances: Of all features, by the random forest.
        seconds: Processor time of the fit, with that of the forest.
    """

    pipeline: Pipeline
    columns: list[int] | None
    importances: np.ndarray | None
    seconds: float


class PipelineFitter:
    """Fits pipelines to the training side.

    Args:
        vectors: float32 [vectors, features].
        targets: Genre indices [vectors].

    Raises:
        DataError: If all tracks have one genre.
    """

    def __init__(self, vectors: np.ndarray, targets: np.ndarray):
        self.vectors, self.targets = vectors, targets
        self._forests: dict[int, tuple[np.ndarray, float]] = {}
        if len(np.unique(targets)) < 2:
            raise DataError("the training side has one genre only: classification needs two")

    def check(self, name: str, dimensions: int | None = None) -> None:
        """Refuse a pipeline that cannot be fitted.

        Raises:
            DataError: If it needs more training tracks or features than there are.
        """
        samples, features = self.vectors.shape
        needed = {"svd_svm": dimensions, "knn": KNeighborsClassifier().n_neighbors}.get(name)
        if needed and needed > samples:
            what = f"{needed} dimensions" if name == "svd_svm" else f"{needed} neighbours"
            raise DataError(
                f"{name}: {what} need as many training examples, there are {samples}: leave it out, or add tracks"
            )
        if dimensions and dimensions > features:
            raise DataError(f"{name}: {dimensions} dimensions, and the tracks have {features} features: lower it")

    def fit(self, name: str, dimensions: int | None = None, seed: int = 0) -> Fitted:
        """Fit a pipeline that `check` accepts."""
        self.check(name, dimensions)
        columns, importances, seconds, vectors = None, None, 0.0, self.vectors
        if name == "forest_svm":
            importances, seconds = self._forest(seed)
            columns = np.argsort(-importances, kind="stable")[:dimensions].tolist()
            vectors = vectors[:, columns]
        start = time.process_time()
        pipeline = make_pipeline(StandardScaler(), *_steps(name, dimensions, seed)).fit(vectors, self.targets)
        return Fitted(pipeline, columns, importances, seconds + time.process_time() - start)

    def _forest(self, seed: int) -> tuple[np.ndarray, float]:
        """Return the importances by a random forest and the time that it took; one forest serves all dimensions."""
        if seed not in self._forests:
            start = time.process_time()
            forest = RandomForestClassifier(random_state=seed).fit(self.vectors, self.targets)
            self._forests[seed] = forest.feature_importances_, time.process_time() - start
        return self._forests[seed]


def _steps(name: str, dimensions: int | None, seed: int) -> list[Any]:
    """Return the steps of a pipeline after the standardisation."""
    if name == "naive_bayes":
        return [GaussianNB()]
    if name == "knn":
        # Trees would be slower with so many features, and could not be saved.
        return [KNeighborsClassifier(algorithm="brute")]
    svm = SVC(kernel="rbf", break_ties=True)  # `predict` then is the likeliest genre of our logits
    return [TruncatedSVD(dimensions, random_state=seed), svm] if name == "svd_svm" else [svm]


@dataclass(frozen=True)
class BaselineRow:
    """A row of the table.

    Args:
        pipeline, dimensions: What was fitted; `dimensions` is None where all features are used.
        correct: Which tracks were classified correctly with each seed, bool [seeds, tracks].
        train_seconds, predict_seconds: Processor time, mean over the seeds; of the fit, and of the prediction of all tracks.
    """

    pipeline: str
    dimensions: int | None
    correct: np.ndarray
    train_seconds: float
    predict_seconds: float

    @property
    def accuracy(self) -> float:
        """Mean over tracks and seeds."""
        return float(self.correct.mean())

    def to_dict(self) -> dict[str, Any]:
        """Return the row of the CSV. The interval is that of the mean over the seeds, by bootstrap over tracks."""
        low, high, _ = interval_of_shares(self.correct.mean(axis=0))
        return {
            "pipeline": self.pipeline,
            "dimensions": "" if self.dimensions is None else self.dimensions,
            "accuracy": round(self.accuracy, 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "accuracy_by_seed": " ".join(f"{one:.4f}" for one in self.correct.mean(axis=1)),
            "tracks": self.correct.shape[1],
            "train_seconds": round(self.train_seconds, 3),
            "predict_seconds": round(self.predict_seconds, 3),
        }


def run_row(
    row: ClassicalArguments,
    fitter: PipelineFitter,
    held_out: Vectors,
    config: ClassicalConfig,
    extractor: WindowedFeatureExtractor,
    data: PreparedData,
    run: RunArguments,
    record: RunRecord,
) -> BaselineRow:
    """Fit and evaluate a row of the table with each of its seeds; the first one's run is saved in `run.output_dir`."""
    name, dimensions = row.pipeline
    record_start(run, data, record, None)
    correct, train_seconds, predict_seconds = [], [], []
    for seed in row.seeds:
        fitted = fitter.fit(name, dimensions, seed)
        row_config = ClassicalConfig(**config.to_dict() | {"pipeline": name, "columns": fitted.columns})
        model = ClassicalForAudioClassification(row_config, fitted.pipeline).eval()
        start = time.process_time()
        predictions = predict_vectors(model, held_out)
        predict_seconds.append(time.process_time() - start)
        train_seconds.append(fitted.seconds)
        correct.append(predictions.logits.argmax(axis=1) == held_out.targets)
        if seed == row.seeds[0]:
            first = model, fitted, predictions
    model, fitted, predictions = first
    report = make_report(
        predictions, data, run, SINGLE_LABEL, notes=_notes(fitter, config, data), model_type=CLASSICAL
    )
    training = {
        "pipeline": name,
        "dimensions": dimensions,
        "features": len(config.feature_names),
        "examples": len(fitter.targets),
        "train_seconds": round(train_seconds[0], 3),
        "predict_seconds": round(predict_seconds[0], 3),
    }
    folder = Path(run.output_dir)
    with saving_to(folder):
        model.save_pretrained(folder)
        extractor.save_pretrained(folder)
        report.save(folder)
        if fitted.importances is not None:
            title = f"{report.heading}: features of highest importance (random forest)"
            plot_importances(config.feature_names, fitted.importances, folder / IMPORTANCES, title=title)
        record.save(folder, exclusions=data.corpus.exclusions(), model={"model_type": CLASSICAL}, training=training)
        write_model_card(folder, licence=run.license)
    return BaselineRow(
        name, dimensions, np.stack(correct), float(np.mean(train_seconds)), float(np.mean(predict_seconds))
    )


@torch.inference_mode()
def predict_vectors(model: ClassicalForAudioClassification, tracks: Vectors) -> TrackPredictions:
    """Return the predictions for tracks, as `hfmgc evaluate` computes them."""
    window_logits = model.classify_windows(torch.from_numpy(tracks.values))[0].split(tracks.counts.tolist())
    logits = torch.cat([vote(one[None], rule=model.config.voting) for one in window_logits])
    return TrackPredictions(
        track_ids=tracks.track_ids,
        references=tracks.targets,
        logits=logits.double().numpy(),
        window_logits=[one.numpy() for one in window_logits],
    )


def _notes(fitter: PipelineFitter, config: ClassicalConfig, data: PreparedData) -> list[str]:
    known = set(fitter.targets.tolist())
    absent = [genre for genre, index in config.label2id.items() if index not in known]
    notes = [f"genres without training tracks are never predicted: {', '.join(absent)}"] if absent else []
    if data.manifest.evaluation_side == "validation":
        notes.append("the split has no test side: these are the validation tracks; no setting was chosen on them")
    return notes


def table_text(rows: Sequence[BaselineRow]) -> str:
    """Return the table as text."""
    cells = [row.to_dict() for row in rows]
    table = {
        "pipeline": [row["pipeline"] for row in cells],
        "dimensions": [row["dimensions"] or "all" for row in cells],
        "accuracy": [f"{row['accuracy']:.4f}" for row in cells],
        "95 % interval": [f"{row['low']:.3f} to {row['high']:.3f}" for row in cells],
        "seeds": [len(row.correct) for row in rows],
        "train s": [f"{row.train_seconds:.3g}" for row in rows],
        "predict s": [f"{row.predict_seconds:.3g}" for row in rows],
    }
    return pd.DataFrame(table).to_string(index=False)


def save_table(rows: Sequence[BaselineRow], folder: Path, *, title: str) -> list[Path]:
    """Write the table as CSV and as a picture, and return their paths."""
    csv_file, picture = folder / f"{TABLE}.csv", folder / f"{TABLE}.png"
    points = [
        {"name": row.pipeline, "size": row.dimensions, "accuracies": row.correct.mean(axis=1), **row.to_dict()}
        for row in rows
    ]
    with saving_to(folder):
        write_text(csv_file, pd.DataFrame(row.to_dict() for row in rows).to_csv(index=False, lineterminator="\n"))
        plot_accuracy_by_size(points, picture, label="dimensions (dashed lines: all features)", title=title)
    return [csv_file, picture]
