"""Load checkpoints that hfmgc saved.

A checkpoint is data. Its code is never run, and its pickles, which could run code too, are never loaded.
"""

import hashlib
import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from transformers import AutoConfig, AutoModel, AutoModelForAudioClassification, PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from ..checkpoints import resolve_checkpoint
from ..errors import CheckpointError, first_line
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from ..models.configuration_windowed import WindowedConfig
from ..registry import AUTO_CLASSES, MODELS, SPECTROGRAM_FEATURE_EXTRACTOR, load_class
from ..settings import check_path_length, load_json


# Model type and file of scikit-learn pipelines, see `classical.py`.
CLASSICAL, PIPELINE_FILE = "hfmgc-classical", "pipeline.skops"
# Arguments of `from_pretrained`: for configs and front ends, and for models.
NO_REMOTE_CODE = {"trust_remote_code": False}
AS_DATA = {**NO_REMOTE_CODE, "use_safetensors": True}


def load_checkpoint(
    name_or_path: str, revision: str | None = None, *, auto_class: type | None = AutoModelForAudioClassification
) -> tuple[PreTrainedModel, WindowedFeatureExtractor]:
    """Return the model, in evaluation mode, and the feature extractor of a checkpoint.

    The classes come from the installed package, never from code in the checkpoint.

    Args:
        name_or_path: A folder, a repository on the Hub, or `package:NAME` for a checkpoint of the package.
        revision: Commit of the repository.
        auto_class: `AutoModel` for the encoder without the head; `AutoModelForPreTraining` for a model that was
            pre-trained without genres; None for the class with which the checkpoint was saved.

    Raises:
        CheckpointError: If the checkpoint cannot be found, lacks files or weights, or has an unknown architecture.
        ConfigError: If the name is too long for a path.
    """
    check_path_length("checkpoint", name_or_path)
    name_or_path = resolve_checkpoint(name_or_path)
    folder = Path(name_or_path)
    if folder.is_dir():
        for file in ("config.json", "preprocessor_config.json"):
            if not (folder / file).is_file():
                raise CheckpointError(
                    f"checkpoint {name_or_path!r} has no {file}: give the folder of a finished run, "
                    "not a checkpoint-* or adapter folder inside it"
                )
    fields = _read_config(name_or_path, revision)
    model_type = str(fields.get("model_type"))
    saved_role = _role_of(fields)
    if auto_class is None:
        auto_class = getattr(transformers, AUTO_CLASSES[saved_role])
    role = next(role for role, name in AUTO_CLASSES.items() if name == auto_class.__name__)
    supported = [name for name, architecture in MODELS.items() if role in architecture.classes]
    if role != "pretraining_model":
        supported.append(CLASSICAL)
    if model_type not in supported:
        raise CheckpointError(
            f"checkpoint {name_or_path!r} has the architecture {model_type!r}: use one of {', '.join(supported)}"
        )
    if role == "model" and saved_role != "model":
        raise CheckpointError(
            f"checkpoint {name_or_path!r} has no head, because it was trained or adapted without genres: fine-tune it "
            "(recipes/train_classifier.py --model_name_or_path) or probe it (recipes/probe.py) first"
        )
    try:
        extractor = _load_extractor(name_or_path, revision)
        if model_type == CLASSICAL:
            from .classical import load_classical  # importing skops and scikit-learn takes a second

            files = (checkpoint_file(name_or_path, file, revision) for file in ("config.json", PIPELINE_FILE))
            classifier = load_classical(name_or_path, extractor, *files)
            return (classifier.model if auto_class is AutoModel else classifier), extractor
        config = AutoConfig.from_pretrained(name_or_path, revision=revision, **NO_REMOTE_CODE)
        require_safetensors("checkpoint", name_or_path, revision)
        model, report = auto_class.from_pretrained(
            name_or_path, config=config, revision=revision, output_loading_info=True, **AS_DATA
        )
    except CheckpointError:
        raise
    except Exception as error:  # damaged files raise the exceptions of a dozen libraries
        raise CheckpointError(f"checkpoint {name_or_path!r} cannot be loaded: {first_line(error)}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(
            f"checkpoint {name_or_path!r} lacks {len(missing)} weights, such as {missing[0]}: restore the file"
        )
    return model.eval(), extractor


def require_audio(name_or_path: str | PathLike, extractor: WindowedFeatureExtractor) -> None:
    """Raise a CheckpointError if the front end reads only tables of features."""
    if not extractor.takes_audio:
        raise CheckpointError(
            f"{name_or_path}: its features cannot be computed from audio: use hfmgc evaluate with a table of features"
        )


def _role_of(fields: Mapping[str, Any]) -> str:
    """Return the role (a key of `AUTO_CLASSES`) of the class that a config.json names in `architectures`."""
    architecture = MODELS.get(str(fields.get("model_type")))
    roles = {"pretraining_model", "base_model"} & set(architecture.classes if architecture else ())
    names = fields.get("architectures")
    return next((role for role in roles if names == [architecture.address(role).partition(":")[2]]), "model")


def checkpoint_file(name_or_path: str, file: str, revision: str | None = None) -> Path | None:
    """Return the path of a file of a checkpoint, which may be downloaded from the Hub; None if there is no such file."""
    if Path(name_or_path).is_dir():
        path = Path(name_or_path, file)
        return path if path.is_file() else None
    try:
        return Path(hf_hub_download(name_or_path, file, revision=revision))
    except EntryNotFoundError:
        return None


def network_digest(model: PreTrainedModel, extractor: WindowedFeatureExtractor) -> str:
    """Return a digest of what determines the embedding of a waveform; labels, voting and loss do not."""
    ignored = {*WindowedConfig().to_dict(), "genres"} - {"model_type"}
    fields = {name: value for name, value in model.config.to_dict().items() if name not in ignored}
    return weights_digest([extractor.to_dict(), fields], model.state_dict())


def weights_digest(described: Any, weights: Mapping[str, torch.Tensor] = {}) -> str:
    """Return a digest of a description, which JSON can hold, and of named tensors."""
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
    for name, tensor in weights.items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def require_safetensors(what: str, name_or_path: str, revision: str | None = None) -> None:
    """Raise a CheckpointError unless a checkpoint has safetensors weights; the message calls the checkpoint `what`.

    Otherwise transformers would ask a service of the Hub to convert the weights.
    """
    if not any(checkpoint_file(name_or_path, file, revision) for file in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME)):
        raise CheckpointError(
            f"{what} {name_or_path!r} has no {SAFE_WEIGHTS_NAME}: give the folder of a finished run, or convert the weights "
            "with transformers' save_pretrained; pickles (pytorch_model.bin, .pt) are refused, because they can run code"
        )


def _load_extractor(name_or_path: str, revision: str | None) -> WindowedFeatureExtractor:
    """Return a checkpoint's feature extractor, as the hfmgc class that preprocessor_config.json names."""
    fields, _ = WindowedFeatureExtractor.get_feature_extractor_dict(name_or_path, revision=revision)
    name = fields.get("feature_extractor_type")
    for address in (SPECTROGRAM_FEATURE_EXTRACTOR, *(model.feature_extractor for model in MODELS.values())):
        if address.endswith(f":{name}"):
            return load_class(address).from_pretrained(name_or_path, revision=revision)
    raise CheckpointError(
        f"checkpoint {name_or_path!r}: feature extractor {name!r} is not part of hfmgc, which runs no code of checkpoints: "
        "use an architecture that `hfmgc list` names, or read the code and load the checkpoint with transformers"
    )


def _read_config(name_or_path: str, revision: str | None) -> dict[str, Any]:
    """Return the fields of a checkpoint's config.json."""
    problem = "no config.json"
    try:
        path = checkpoint_file(name_or_path, "config.json", revision)
    except HFValidationError as error:  # not a valid repository name, so it must be a path
        raise CheckpointError(
            f"checkpoint {name_or_path!r}: no such folder: give the folder of a finished run"
        ) from error
    except (OSError, ValueError) as error:
        path, problem = None, first_line(error)
    if path is None:
        raise CheckpointError(
            f"checkpoint {name_or_path!r}: no such folder, and it could not be loaded from the Hub ({problem}): check the name, "
            "the network and HF_HUB_OFFLINE"
        )
    try:
        fields = load_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"checkpoint {name_or_path!r}: config.json is damaged ({error}): restore it") from error
    if not isinstance(fields, dict):
        raise CheckpointError(f"checkpoint {name_or_path!r}: config.json is damaged (not a mapping): restore it")
    return fields
