"""Classical baselines: pipelines of scikit-learn on one vector per track or window, compared in a table.

The pipelines are those of the Divide and Conquer paper (section III-A) and of LGNet (Table 1). Settings that the papers do
not give are scikit-learn's defaults (ours).
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
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
from ..evaluation.plots import IMPORTANCES, plot_importances
from ..evaluation.predictions import TrackPredictions
from ..evaluation.task import SINGLE_LABEL
from ..features.feature_extraction_handmade import HandmadeFeatureExtractor
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from ..registry import SPECTROGRAM_FEATURE_EXTRACTOR, load_class
from ..settings import known_fields, with_fields
from .arguments import DataArguments, RunArguments, changed_fields, check_fields_of, require_settings, setting
from .comparison import ComparedRow
from .preparation import PreparedData, check_source
from .probe_heads import Representations
from .run_folder import RunRecord, check_output_folder
from .stages import make_report, record_start, save_results


# Pipelines that reduce the features to a number of dimensions; they depend on the seed.
REDUCING = ("svd_svm", "forest_svm")
PIPELINES = (*REDUCING, "svm", "naive_bayes", "knn")
# Fields of DataArguments and RunArguments that have an effect on classical pipelines.
_DATA_FIELDS = {
    "data", "data_options", "exclude", "shortest_seconds", "split_policy", "split_ratios", "split_seed", "split_fold",
    "split_manifest", "allow_leaks", "fit_statistics", "preprocessing_num_proc", "training_windows", "augmentation",
}  # fmt: skip
_RUN_FIELDS = {"output_dir", "overwrite", "license", "disable_tqdm", "use_cpu"}
# Vectors of fixed windows; nothing is drawn or augmented.
CLASSICAL_SETTINGS = {"training_windows": "fixed", "augmentation": "none"}


@dataclass
class ClassicalArguments:
    """The classical pipelines to compare, and their features."""

    pipelines: list[str] = setting(
        lambda: ["svm", "naive_bayes", "knn"],
        "svd_svm: truncated SVD and an SVM; forest_svm: the most important features of a random forest and an SVM; svm "
        "(RBF kernel), naive_bayes (Gaussian) or knn, on all features.",
    )
    dimensions: list[int] = setting(list, "Dimensions that svd_svm and forest_svm reduce the features to.")
    seeds: list[int] = setting(lambda: [0, 1, 2], "Seeds of svd_svm and forest_svm; the other pipelines need none.")
    svm_strength: float = setting(
        1.0, "scikit-learn's C of the SVMs; small values regularise more.", limits="(0, inf)"
    )
    svm_gamma: float = setting(0.0, "gamma of the SVMs' RBF kernel; 0: scikit-learn's `scale`.", limits="[0, inf)")
    front_end: dict[str, Any] = setting(
        dict,
        "Fields of the feature extractor. With preset or representation: spectrograms, summarised by mean and deviation of "
        "each bin over time. Otherwise: hand-made features, by default the table's own, or fma_518 for audio.",
    )

    def __post_init__(self):
        check_fields_of(self)
        if not self.pipelines or not set(self.pipelines) <= set(PIPELINES):
            raise ValueError(f"pipelines {self.pipelines}: choose among {', '.join(PIPELINES)}")
        if not self.seeds:
            raise ValueError("seeds is empty: give at least one number")
        if set(self.pipelines) & set(REDUCING) and (not self.dimensions or min(self.dimensions) < 1):
            raise ValueError(f"dimensions must be positive numbers for {', '.join(REDUCING)}, not {self.dimensions}")

    def rows(self) -> list["ClassicalArguments"]:
        """Return separate settings for each row of the table."""
        rows = []
        for name in dict.fromkeys(self.pipelines):
            if name in REDUCING:
                rows += [replace(self, pipelines=[name], dimensions=[size]) for size in dict.fromkeys(self.dimensions)]
            else:
                rows.append(replace(self, pipelines=[name], dimensions=[], seeds=self.seeds[:1]))
        return rows

    @property
    def pipeline(self) -> tuple[str, int | None]:
        """Pipeline and dimensions of a row; the dimensions are None for all features."""
        return self.pipelines[0], next(iter(self.dimensions), None)

    @property
    def label(self) -> str:
        """Name of a row and of its folder."""
        return "_".join([self.pipelines[0], *map(str, self.dimensions)])


def check_baselines(classical: ClassicalArguments, data: DataArguments, run: RunArguments) -> WindowedFeatureExtractor:
    """Check the settings before the data are read, and return the front end.

    Raises:
        ConfigError: If a field does not fit the others, or has no effect on classical pipelines.
        DataError: If the data do not exist or have other features.
    """
    check_output_folder("output_dir", Path(run.output_dir), data.data)
    ignored = sorted((set(changed_fields(data)) - _DATA_FIELDS) | (set(run.changed) - _RUN_FIELDS))
    if ignored:
        raise ConfigError(f"{', '.join(ignored)}: no effect on classical pipelines: leave out")
    if run.world_size > 1:
        raise ConfigError("classical pipelines are fitted in one process: start the recipe with python")
    require_settings((data,), CLASSICAL_SETTINGS, "for classical pipelines: leave it out")
    if "preset" in classical.front_end or "representation" in classical.front_end:
        extractor_class, fields = load_class(SPECTROGRAM_FEATURE_EXTRACTOR), classical.front_end
    else:
        stored = open_source(data.data, data.data_options).front_end() or {}
        known = known_fields(HandmadeFeatureExtractor)
        fields = {name: value for name, value in stored.items() if name in known} | classical.front_end
        extractor_class = HandmadeFeatureExtractor
    extractor = with_fields(extractor_class, fields, "front_end")
    check_source(data, extractor)
    _, names = vector_names(extractor)
    if classical.dimensions and max(classical.dimensions) > len(names):
        raise ConfigError(
            f"dimensions: {max(classical.dimensions)}: choose at most the {len(names)} features of the front end"
        )
    return extractor


class FittedPipeline(NamedTuple):
    """A fitted pipeline.

    Args:
        pipeline: The pipeline.
        columns: The features that it reads, the most important first; None for all features.
        importances: The importance of all features to the random forest, if there is one.
        seconds: Processor time of the fit.
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
        strength, gamma: C and gamma of the SVMs; a gamma of 0 is scikit-learn's `scale`.

    Raises:
        DataError: If all vectors have one genre.
    """

    def __init__(self, vectors: np.ndarray, targets: np.ndarray, *, strength: float = 1.0, gamma: float = 0.0):
        self.vectors, self.targets = vectors, targets
        self.strength, self.gamma = strength, gamma or "scale"
        self._forests: dict[int, tuple[np.ndarray, float]] = {}
        if len(np.unique(targets)) < 2:
            raise DataError("the training side has only one genre: add tracks of others, or change the split")

    def check(self, name: str, dimensions: int | None = None) -> None:
        """Raise a DataError if a pipeline needs more training examples than there are."""
        examples = len(self.vectors)
        needed = {"svd_svm": dimensions, "knn": KNeighborsClassifier().n_neighbors}.get(name, 0)
        if needed > examples:
            unit = "dimensions" if name == "svd_svm" else "neighbours"
            raise DataError(
                f"{name}: {needed} {unit} need as many training examples, but there are {examples}: leave it out, or add tracks"
            )

    def fit(self, name: str, dimensions: int | None = None, seed: int = 0) -> FittedPipeline:
        """Fit a pipeline that `check` accepts."""
        columns, importances, seconds, vectors = None, None, 0.0, self.vectors
        start = time.process_time()
        if name == "forest_svm":
            if seed not in self._forests:  # all dimensions share a forest
                forest = RandomForestClassifier(random_state=seed).fit(self.vectors, self.targets)
                self._forests[seed] = forest.feature_importances_, time.process_time() - start
            importances, seconds = self._forests[seed]
            columns = np.argsort(-importances, kind="stable")[:dimensions].tolist()
            vectors = vectors[:, columns]
            start = time.process_time()
        # With `break_ties`, `predict` agrees with the largest of our logits.
        svm = SVC(C=self.strength, kernel="rbf", gamma=self.gamma, break_ties=True)
        steps = {
            "naive_bayes": [GaussianNB()],
            # Search trees are slower with so many features, and skops cannot save them.
            "knn": [KNeighborsClassifier(algorithm="brute")],
            "svd_svm": [TruncatedSVD(dimensions, random_state=seed), svm],
        }
        pipeline = make_pipeline(StandardScaler(), *steps.get(name, [svm])).fit(vectors, self.targets)
        return FittedPipeline(pipeline, columns, importances, seconds + time.process_time() - start)


class Baselines:
    """Fits and evaluates the rows of the table.

    Args:
        data: The data, prepared with `extractor`.
        extractor: The front end that `check_baselines` returned.
        classical: Settings with `svm_strength` and `svm_gamma`.
    """

    def __init__(self, data: PreparedData, extractor: WindowedFeatureExtractor, classical: ClassicalArguments):
        self.data, self.extractor = data, extractor
        summary, names = vector_names(extractor)
        genres = data.corpus.genres
        self.config = ClassicalConfig(
            num_bins=extractor.window_shape[1],
            summary=summary,
            feature_names=names,
            id2label=dict(enumerate(genres)),
            label2id={genre: index for index, genre in enumerate(genres)},
        )
        train, self.held_out = self._vectors(data.train.windows.tracks), self._vectors(data.test)
        self.fitter = PipelineFitter(
            np.concatenate(train.windows),
            train.window_targets,
            strength=classical.svm_strength,
            gamma=classical.svm_gamma,
        )

    def _vectors(self, tracks: TrackWindows) -> Representations:
        """Summarise the windows of tracks as vectors."""
        SINGLE_LABEL.check_targets(genres_of(tracks.tracks), where="the data")
        stacks = []
        for row, track_id in enumerate(tracks["track_id"]):
            windows = torch.tensor(tracks.stack(row))  # a copy: stored features are read-only
            stacks.append(summarize(windows, self.config.summary).numpy())
            if not np.isfinite(stacks[-1]).all():
                name = self.config.feature_names[int(np.argwhere(~np.isfinite(stacks[-1]))[0][1])]
                raise DataError(f"track {track_id}: feature {name} is NaN or infinite: exclude the track")
        return Representations(stacks, np.array([self.config.label2id[genre] for genre in tracks["genre"]]))

    def run(self, row: ClassicalArguments, run: RunArguments, record: RunRecord) -> ComparedRow:
        """Fit and evaluate a row with each of its seeds, and save the run of the first seed in `run.output_dir`."""
        name, dimensions = row.pipeline
        record_start(run, self.data, record, None)
        correct, train_seconds, predict_seconds = [], [], []
        for seed in row.seeds:
            fitted = self.fitter.fit(name, dimensions, seed)
            config = ClassicalConfig(**self.config.to_dict() | {"pipeline": name, "columns": fitted.columns})
            model = ClassicalForAudioClassification(config, fitted.pipeline).eval()
            start = time.process_time()
            predictions = self._predict(model)
            predict_seconds.append(time.process_time() - start)
            train_seconds.append(fitted.seconds)
            correct.append(predictions.logits.argmax(axis=1) == predictions.references)
            if seed == row.seeds[0]:
                training = {
                    "pipeline": name,
                    "dimensions": dimensions,
                    "features": len(config.feature_names),
                    "examples": len(self.fitter.targets),
                    "train_seconds": round(fitted.seconds, 3),
                    "predict_seconds": round(predict_seconds[0], 3),
                }
                self._save(model, fitted, predictions, run, record, training)
        return ComparedRow(
            settings={"pipeline": name, "dimensions": "" if dimensions is None else dimensions},
            line=name,
            size=dimensions,
            correct=np.stack(correct),
            train_seconds=float(np.mean(train_seconds)),
            predict_seconds=float(np.mean(predict_seconds)),
        )

    @torch.inference_mode()
    def _predict(self, model: ClassicalForAudioClassification) -> TrackPredictions:
        """Return the predictions for the held-out tracks, as `hfmgc evaluate` computes them."""
        windows = torch.from_numpy(np.concatenate(self.held_out.windows))
        logits = model.classify_windows(windows)[0].split([len(stack) for stack in self.held_out.windows])
        return self.held_out.predictions(self.data.test["track_id"], logits, rule=model.config.voting)

    def _save(
        self,
        model: ClassicalForAudioClassification,
        fitted: FittedPipeline,
        predictions: TrackPredictions,
        run: RunArguments,
        record: RunRecord,
        training: dict[str, Any],
    ) -> None:
        trained, notes = set(self.fitter.targets.tolist()), []
        if absent := [genre for genre, index in model.config.label2id.items() if index not in trained]:
            notes.append(f"genres without training tracks are never predicted: {', '.join(absent)}")
        report = make_report(predictions, self.data, run, SINGLE_LABEL, notes=notes, model_type=CLASSICAL)
        folder = Path(run.output_dir)
        with saving_to(folder):
            model.save_pretrained(folder)
            if fitted.importances is not None:
                title = f"{report.heading}: features of highest importance (random forest)"
                plot_importances(model.config.feature_names, fitted.importances, folder / IMPORTANCES, title=title)
            entries = {"model": {"model_type": CLASSICAL}, "training": training}
            save_results(run, self.extractor, self.data, report, record, **entries)
