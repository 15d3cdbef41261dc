"""Loading a saved checkpoint of ours, with errors that say what is wrong with it."""

from pathlib import Path

from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification, PreTrainedModel
from transformers.utils import cached_file

from ..errors import CheckpointError, first_line
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from ..registry import ARCHITECTURES
from ..settings_values import load_json, refuse_long_path


def load_checkpoint(
    name_or_path: str, revision: str | None = None
) -> tuple[PreTrainedModel, WindowedFeatureExtractor]:
    """Return the model, in evaluation mode, and the feature extractor of a checkpoint.

    The classes are those of the installed package, never code from the checkpoint.

    Args:
        name_or_path: A folder, or a repository on the Hub.
        revision: Commit of the repository.

    Raises:
        CheckpointError: If it cannot be found, lacks files or weights, or is of an architecture that is not ours.
        ConfigError: If the name is too long to be looked up.
    """
    refuse_long_path("checkpoint", name_or_path)
    folder = Path(name_or_path)
    if folder.is_dir():
        for file in ("config.json", "model.safetensors", "preprocessor_config.json"):
            if not (folder / file).is_file() and not (
                file.endswith("safetensors") and any(folder.glob("*.safetensors"))
            ):
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
        config = AutoConfig.from_pretrained(name_or_path, revision=revision)
        extractor = AutoFeatureExtractor.from_pretrained(name_or_path, revision=revision)
        model, report = AutoModelForAudioClassification.from_pretrained(
            name_or_path, config=config, revision=revision, output_loading_info=True
        )
    except Exception as error:  # a damaged file shows itself in a dozen exceptions of as many libraries
        raise CheckpointError(f"checkpoint {name_or_path!r} cannot be loaded: {first_line(error)}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(
            f"checkpoint {name_or_path!r} lacks {len(missing)} weights, the first is {missing[0]}: it is incomplete"
        )
    return model.eval(), extractor


def _model_type(name_or_path: str, revision: str | None) -> str:
    try:
        path = cached_file(name_or_path, "config.json", revision=revision)
        return str(load_json(Path(path).read_text(encoding="utf-8")).get("model_type"))
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {name_or_path!r}: no such folder, and not to be had from the Hub ({first_line(error)})"
        ) from error
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"checkpoint {name_or_path!r}: config.json is damaged ({error})") from error
