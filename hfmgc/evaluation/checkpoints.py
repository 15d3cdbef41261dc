"""Loading a saved checkpoint of ours, with errors that say what is wrong with it.

A checkpoint is data: neither code that comes with it nor a pickle, which can run code as well, is ever loaded.
"""

from pathlib import Path

from transformers import AutoConfig, AutoModelForAudioClassification, PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

from ..errors import CheckpointError, first_line
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from ..registry import ARCHITECTURES, FEATURE_EXTRACTORS, load_class
from ..settings_values import load_json, refuse_long_path


# For everything that loads a config or front end, and for weights.
NO_REMOTE_CODE = {"trust_remote_code": False}
AS_DATA = {**NO_REMOTE_CODE, "use_safetensors": True}


def load_checkpoint(
    name_or_path: str, revision: str | None = None, *, auto_class: type = AutoModelForAudioClassification
) -> tuple[PreTrainedModel, WindowedFeatureExtractor]:
    """Return the model, in evaluation mode, and the feature extractor of a checkpoint.

    The classes are those of the installed package, never code from the checkpoint.

    Args:
        name_or_path: A folder, or a repository on the Hub.
        revision: Commit of the repository.
        auto_class: `AutoModel` for the encoder alone, without the head.

    Raises:
        CheckpointError: If it cannot be found, lacks files or weights, or is of an architecture that is not ours.
        ConfigError: If the name is too long to be looked up.
    """
    refuse_long_path("checkpoint", name_or_path)
    folder = Path(name_or_path)
    if folder.is_dir():
        for file in ("config.json", "preprocessor_config.json"):
            if not (folder / file).is_file():
                raise CheckpointError(
                    f"checkpoint {name_or_path!r} has no {file}: give the folder of a finished run "
                    "(not one of its checkpoint-* or adapter folders)"
                )
    model_type = _model_type(name_or_path, revision)
    if model_type not in ARCHITECTURES:
        raise CheckpointError(
            f"checkpoint {name_or_path!r} is of architecture {model_type!r}; hfmgc reads {', '.join(ARCHITECTURES)}"
        )
    try:
        config = AutoConfig.from_pretrained(name_or_path, revision=revision, **NO_REMOTE_CODE)
        extractor = _extractor_class(name_or_path, revision).from_pretrained(name_or_path, revision=revision)
        require_safetensors("checkpoint", name_or_path, revision)
        model, report = auto_class.from_pretrained(
            name_or_path, config=config, revision=revision, output_loading_info=True, **AS_DATA
        )
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file shows itself in a dozen exceptions of as many libraries
        raise CheckpointError(f"checkpoint {name_or_path!r} cannot be loaded: {first_line(error)}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(
            f"checkpoint {name_or_path!r} lacks {len(missing)} weights, the first is {missing[0]}: it is incomplete"
        )
    return model.eval(), extractor


def require_safetensors(what: str, name_or_path: str, revision: str | None = None) -> None:
    """Raise a CheckpointError, in which a checkpoint is called `what`, unless its weights are in the safetensors format.

    Of those on the Hub transformers would otherwise ask a service for a conversion.
    """
    for file in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME):
        if cached_file(name_or_path, file, revision=revision, _raise_exceptions_for_missing_entries=False):
            return
    raise CheckpointError(
        f"{what} {name_or_path!r} has no {SAFE_WEIGHTS_NAME}: give the folder of a finished run; pickles "
        "(pytorch_model.bin, .pt) are refused because loading one can run code: convert it with transformers' save_pretrained"
    )


def _extractor_class(name_or_path: str, revision: str | None) -> type[WindowedFeatureExtractor]:
    """Return the class of ours that a checkpoint's preprocessor_config.json names."""
    fields, _ = WindowedFeatureExtractor.get_feature_extractor_dict(name_or_path, revision=revision)
    name = fields.get("feature_extractor_type")
    for address in (*FEATURE_EXTRACTORS.values(), *(one.feature_extractor for one in ARCHITECTURES.values())):
        if address.endswith(f":{name}"):
            return load_class(address)
    raise CheckpointError(
        f"checkpoint {name_or_path!r}: its feature extractor {name!r} needs code of its own, which hfmgc never runs: use a "
        "checkpoint of an architecture that `hfmgc list` names, or load it with transformers once you have read its code"
    )


def _model_type(name_or_path: str, revision: str | None) -> str:
    try:
        path = cached_file(name_or_path, "config.json", revision=revision)
        return str(load_json(Path(path).read_text(encoding="utf-8")).get("model_type"))
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {name_or_path!r}: no such folder, and it could not be loaded from the Hub ({first_line(error)})"
        ) from error
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"checkpoint {name_or_path!r}: config.json is damaged ({error})") from error
