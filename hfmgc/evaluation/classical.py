"""Classical classifiers (scikit-learn pipelines) as models: saving, loading and predictions for tracks.

A pipeline is saved with skops, whose files describe objects instead of running code. Only the types in `TRUSTED_TYPES` are
loaded, although skops accepts more.
"""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import sklearn
import skops.io
import torch
from huggingface_hub.dataclasses import strict
from scipy.special import log_softmax
from sklearn.pipeline import Pipeline
from torch import Tensor, nn

from ..errors import CheckpointError, first_line
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from ..files import atomic_write
from ..models.config_fields import size
from ..models.configuration_windowed import WindowedConfig
from ..models.modeling_windowed import WindowedForAudioClassification, WindowedModel, WindowOutput
from .checkpoints import CLASSICAL, PIPELINE_FILE


TRUSTED_TYPES = frozenset(
    {
        "builtins.dict", "builtins.list", "builtins.str", "builtins.tuple",
        "numpy.float32", "numpy.float64", "numpy.int64", "numpy.ndarray",
        "sklearn.decomposition._truncated_svd.TruncatedSVD",
        "sklearn.naive_bayes.GaussianNB",
        "sklearn.neighbors._classification.KNeighborsClassifier",
        "sklearn.pipeline.Pipeline",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.svm._classes.SVC",
    }
)  # fmt: skip
# The skops nodes that may rebuild the types of each library. None of them calls a function that the file names.
_LOADERS = {
    "builtins": {"DictNode", "JsonNode", "ListNode", "TupleNode", "TypeNode"},
    "numpy": {"NdArrayNode"},
    "sklearn": {"ObjectNode"},
}
# Lower bound of the log-probabilities, and their value for genres without training tracks.
LEAST_LOGIT = -30.0


@strict
class ClassicalConfig(WindowedConfig):
    r"""Config of [`ClassicalForAudioClassification`].

    Args:
        pipeline (`str`): Name of the pipeline, as in `hfmgc.training.classical`.
        num_bins (`int`): Number of bins of a window.
        summary (`str`):
            `"none"`: a window is one vector of features; `"mean_deviation"`: mean and deviation of each bin over time.
        feature_names (`list[str]`): Names of the features in a vector, in order.
        columns (`list[int]`, *optional*): Indices of the features that the pipeline reads; all by default.
        sklearn_version (`str`): Version of scikit-learn that fitted the pipeline.
        kwargs: See [`WindowedConfig`].
    """

    model_type = CLASSICAL
    _auto_class = None  # the code is not saved, because it needs hfmgc

    pipeline: str = ""
    num_bins: int = size(default=1)
    summary: Literal["none", "mean_deviation"] = "none"
    feature_names: list[str] | tuple[str, ...] = ()
    columns: list[int] | tuple[int, ...] | None = None
    sklearn_version: str = sklearn.__version__

    def select_columns(self, vectors: np.ndarray) -> np.ndarray:
        """Return the features that the pipeline reads from vectors [windows, features]."""
        return vectors if self.columns is None else vectors[:, self.columns]


def summarize(windows: Tensor, summary: str) -> Tensor:
    """Summarise windows [windows, frames, bins] as vectors [windows, features]."""
    if summary == "none":
        return windows[:, 0]
    deviation, mean = torch.std_mean(windows, dim=1, correction=0)
    return torch.cat([mean, deviation], dim=-1)


class _OnCPU:
    """Device and dtype, which transformers would look up in parameters: these models have none."""

    device, dtype = torch.device("cpu"), torch.float32


class ClassicalModel(_OnCPU, WindowedModel):
    """The vectors that a classical pipeline reads, as embeddings of windows."""

    config_class = ClassicalConfig

    def __init__(self, config: ClassicalConfig):
        super().__init__(config)
        self.embedding_size = len(config.feature_names)
        self.post_init()

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Summarise windows `input_values` [windows, frames, bins] as [windows, features]."""
        return WindowOutput(embeddings=summarize(input_values.float(), self.config.summary))


class ClassicalForAudioClassification(_OnCPU, WindowedForAudioClassification):
    """A fitted scikit-learn pipeline that classifies each window; the windows of a track then vote.

    The pipeline maps vectors [windows, features] to genre indices; `digest` identifies the pipeline. The logits are
    log-probabilities. An SVM has no probabilities: its logits are decision values up to a constant, so their softmax ranks the
    genres but is not calibrated.
    """

    config_class = ClassicalConfig

    def __init__(self, config: ClassicalConfig, pipeline: Pipeline, digest: bytes = b"\0"):
        super().__init__(config, ClassicalModel(config), classifier=nn.Identity())
        self.pipeline = pipeline
        # The only tensor of the model. Through it, a digest of the weights depends on the pipeline.
        self.register_buffer("digest", torch.frombuffer(bytearray(digest), dtype=torch.uint8))

    def classify_windows(self, embeddings: Tensor) -> tuple[Tensor, None]:
        """Return the log-probabilities of vectors [windows, features]."""
        vectors = self.config.select_columns(embeddings.detach().cpu().numpy())
        logits = log_probabilities(self.pipeline, vectors, self.config.num_labels)
        return torch.from_numpy(logits).float().to(embeddings.device), None

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write `config.json` and the pipeline."""
        del kwargs
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.config.architectures = [type(self).__name__]
        self.config.save_pretrained(folder)
        with atomic_write(folder / PIPELINE_FILE) as temporary:
            skops.io.dump(self.pipeline, temporary)


def log_probabilities(pipeline: Pipeline, vectors: np.ndarray, num_labels: int) -> np.ndarray:
    """Return log-probabilities [vectors, labels]; `LEAST_LOGIT` for genres without training tracks."""
    if hasattr(pipeline, "predict_proba"):
        with np.errstate(divide="ignore"):
            scores = np.log(pipeline.predict_proba(vectors))
    else:
        scores = pipeline.decision_function(vectors)
        if scores.ndim == 1:  # two genres
            scores = np.stack([-scores, scores], axis=1) / 2
        scores = log_softmax(scores, axis=1)
    logits = np.full((len(vectors), num_labels), LEAST_LOGIT)
    logits[:, pipeline.classes_] = np.maximum(scores, LEAST_LOGIT)
    return logits


def load_classical(
    name: str, extractor: WindowedFeatureExtractor, config_file: Path, pipeline_file: Path | None
) -> ClassicalForAudioClassification:
    """Load the classifier from the files of checkpoint `name`.

    Raises:
        CheckpointError: If a file is missing or damaged, or the pipeline contains a type that is not trusted.
    """
    if pipeline_file is None:
        raise CheckpointError(f"checkpoint {name!r} has no {PIPELINE_FILE}: give the folder of a finished run")
    where, version = f"checkpoint {name!r}: {PIPELINE_FILE}", "unknown"
    try:
        config = ClassicalConfig.from_json_file(config_file)
        version = config.sklearn_version
        if untrusted := untrusted_types(pipeline_file):
            raise CheckpointError(
                f"{where} contains {', '.join(untrusted)}, which could run code: use a file that "
                "recipes/classical_baselines.py wrote"
            )
        pipeline = skops.io.load(pipeline_file, trusted=[])
        if vector_names(extractor) != (config.summary, list(config.feature_names)):
            raise ValueError("config.json and preprocessor_config.json name different features")
        if min(config.columns or [0]) < 0:
            raise ValueError("config.json: columns must not be negative")
        # Fails if the steps do not fit each other, the columns or the genres.
        vectors = config.select_columns(np.zeros((1, len(config.feature_names)), np.float32))
        log_probabilities(pipeline, vectors, config.num_labels)
    except CheckpointError:
        raise
    except Exception as error:  # damaged files raise the exceptions of skops, NumPy and zipfile
        raise CheckpointError(
            f"{where} cannot be loaded ({first_line(error)}): restore the files of the run, or install scikit-learn "
            f"{version}, which wrote them (here: {sklearn.__version__})"
        ) from error
    digest = hashlib.sha256(pipeline_file.read_bytes()).digest()
    return ClassicalForAudioClassification(config, pipeline, digest).eval()


def untrusted_types(file: Path) -> list[str]:
    """Return the types in a skops file that are not in `TRUSTED_TYPES`, or that another node would rebuild."""
    untrusted = set()

    def check(node: dict[str, Any]) -> None:
        name, loader = f"{node.get('__module__')}.{node.get('__class__')}", node.get("__loader__")
        if loader is not None and name not in TRUSTED_TYPES:
            untrusted.add(name)
        elif loader is not None and loader not in _LOADERS[name.partition(".")[0]]:
            untrusted.add(f"{name} ({loader})")

    with zipfile.ZipFile(file) as archive:
        json.loads(archive.read("schema.json"), object_hook=check)
    return sorted(untrusted)


def vector_names(extractor: WindowedFeatureExtractor) -> tuple[str, list[str]]:
    """Return the `summary` for the windows of a front end, and the names of the features in a vector."""
    frames, bins = extractor.window_shape
    names = [f"bin_{index:03d}" for index in range(bins)]
    if frames > 1:
        return "mean_deviation", [f"{statistic}-{name}" for statistic in ("mean", "deviation") for name in names]
    return "none", list(getattr(extractor, "column_names", names))
